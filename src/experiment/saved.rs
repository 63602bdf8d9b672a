//! A trained classifier on disk, and back: `model.json` describes it, `model.safetensors` holds the weights and
//! `class_means.safetensors` the class means of nearest-mean classifiers (one tensor per classifier, (classes seen, D),
//! rows of length 1 in order of label; no such file where a method has none).

use super::results::{Metrics, RunFolder};
use crate::continual::{Activation, Learner, Method, distances_to_means};
use crate::data::{Dataset, Images};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::{self, Network};
use crate::tensor::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The format of `model.json` that this version writes; it reads this and earlier ones.
const FORMAT: u32 = 1;
const CARD: &str = "model.json";
const WEIGHTS: &str = "model.safetensors";
const MEANS: &str = "class_means.safetensors";

/// A class that the model knows.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its number in the data set.
    pub class: u32,
    /// What a person calls it.
    pub name: String,
}

/// The content of `model.json`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ModelCard {
    /// Of this file.
    pub format: u32,
    /// The engram that wrote it.
    pub version: String,
    /// The name of the method.
    pub method: String,
    /// The name of the data set.
    pub dataset: String,
    /// The network's name in the model table.
    pub model: String,
    /// What was changed about it.
    #[serde(default)]
    pub options: models::Options,
    /// Tasks of the stream.
    pub n_tasks: usize,
    /// Less than `n_tasks` if the run was ended early.
    pub n_tasks_learnt: usize,
    /// Channels, height and width of an image.
    pub input: [usize; 3],
    /// A pixel byte p enters the network as (p/255 − mean)/std; one mean per channel or per pixel, one std per channel.
    pub mean: Vec<f32>,
    /// See `mean`.
    pub std: Vec<f32>,
    /// Outputs of the network, those of classes not seen yet included.
    pub n_outputs: usize,
    /// The classes seen, in order of label: entry i is output i and row i of the class means.
    pub classes: Vec<Class>,
    /// The ways to classify, the method's own first.
    pub classifiers: Vec<String>,
    /// What makes probabilities of the outputs.
    pub activation: Activation,
    /// CRC-32 of the files that belong to this one, in hexadecimal.
    pub checksums: BTreeMap<String, String>,
}

impl ModelCard {
    /// Describes a run as it stands; [`write()`] fills in the checksums.
    pub fn new(
        metrics: &Metrics,
        dataset: &Dataset,
        network: &Network,
        method: &dyn Method,
        classes: Vec<Class>,
    ) -> ModelCard {
        ModelCard {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            method: metrics.method.clone(),
            dataset: metrics.dataset.clone(),
            model: metrics.model.clone(),
            options: network.options,
            n_tasks: metrics.n_tasks,
            n_tasks_learnt: metrics.memory_bytes.len(),
            input: network.input,
            mean: dataset.mean.clone(),
            std: dataset.std.clone(),
            n_outputs: network.n_outputs,
            classes,
            classifiers: method.classifiers().iter().map(|name| name.to_string()).collect(),
            activation: method.activation(),
            checksums: BTreeMap::new(),
        }
    }

    /// Reads the card of a run folder.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such run, or none with a finished task; otherwise if the card cannot be read or
    /// is of a later version.
    pub fn read(folder: &Path) -> Result<ModelCard> {
        let path = folder.join(CARD);
        if !path.exists() {
            return Err(Error::usage(format!("{}: {}", folder.display(), what_is_missing(folder))));
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
        let damaged = |e| Error::file(&path, format!("damaged, or not written by engram: {e}"));
        let card: serde_json::Value = serde_json::from_str(&text).map_err(damaged)?;
        // Before the other fields, whose meaning depends on it.
        let format = card["format"].as_u64().unwrap_or(0);
        if format > u64::from(FORMAT) {
            let (theirs, ours) = (&card["version"], env!("CARGO_PKG_VERSION"));
            let message = format!("written by a newer engram ({theirs}, format {format}); this is {ours}: update it");
            return Err(Error::file(&path, message));
        }
        let card: ModelCard = serde_json::from_value(card).map_err(damaged)?;
        let [channels, height, width] = card.input;
        let n_pixels = channels * height * width;
        let consistent = !card.classes.is_empty()
            && card.classes.len() <= card.n_outputs
            && [channels, n_pixels].contains(&card.mean.len())
            && card.std.len() == channels
            && !card.classifiers.is_empty();
        if !consistent {
            return Err(Error::file(&path, "damaged: its numbers contradict each other"));
        }
        Ok(card)
    }
}

fn what_is_missing(folder: &Path) -> String {
    if !folder.is_dir() {
        return "there is no such run folder".into();
    }
    let seeds = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    if let Some(seed) = seeds.filter(|path| path.join(CARD).is_file()).min() {
        return format!("this folder holds runs; choose one, for example {}", seed.display());
    }
    if folder.join("config.json").is_file() {
        return "this run ended before its first task was learnt, so it has no model.json; run it again".into();
    }
    "no run folder: it has no model.json".into()
}

/// Writes the three files, the card last.
pub fn write(folder: &RunFolder, mut card: ModelCard, network: &Network, method: &dyn Method) -> Result<()> {
    let weights = network.to_safetensors()?;
    card.checksums.insert(WEIGHTS.into(), checksum(&weights));
    folder.write_bytes(WEIGHTS, &weights)?;
    let mut means = Vec::new();
    for &classifier in method.classifiers() {
        if let Some(tensor) = method.class_means(classifier) {
            means.push((classifier, tensor.shape().to_vec(), tensor.to_vec()?));
        }
    }
    if !means.is_empty() {
        let views = means.iter().map(|(name, shape, values)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
            (*name, view.expect("bug: class means whose size is not their shape's"))
        });
        let bytes = safetensors::serialize(views, None)
            .map_err(|e| Error::Training(format!("the class means cannot be serialised: {e}")))?;
        card.checksums.insert(MEANS.into(), checksum(&bytes));
        folder.write_bytes(MEANS, &bytes)?;
    }
    folder.write_json(CARD, &card)
}

fn checksum(bytes: &[u8]) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    format!("{:08x}", crc.sum())
}

/// One answer for one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The class's place in [`ModelCard::classes`].
    pub label: usize,
    /// Nearest-mean classifiers: the distance ‖φ(x)/‖φ(x)‖ − μ‖. The network: the probability.
    pub score: f32,
}

/// A trained classifier, read from a run folder.
pub struct Predictor {
    /// What the folder says about it.
    pub card: ModelCard,
    learner: Learner,
    means: BTreeMap<String, Tensor>,
}

impl Predictor {
    /// Reads a run folder.
    ///
    /// # Errors
    /// As [`ModelCard::read`]; if weights or class means are missing, damaged, or not those the card describes.
    pub fn load(folder: &Path, device: &Device) -> Result<Predictor> {
        let card = ModelCard::read(folder)?;
        for (name, expected) in &card.checksums {
            let path = folder.join(name);
            let bytes = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
            if checksum(&bytes) != *expected {
                let message = "damaged: it is not the file that model.json describes. Copy the run folder again as a \
                               whole, or repeat the run";
                return Err(Error::file(path, message));
            }
        }
        let of_card = |e: Error| Error::file(folder.join(CARD), e.to_string());
        let network = Network::with_options(&card.model, &card.options, card.input, card.n_outputs, device, 0);
        let network = network.map_err(of_card)?;
        network.load_safetensors(&folder.join(WEIGHTS))?;
        let means = match card.checksums.contains_key(MEANS) {
            true => read_means(&folder.join(MEANS), [card.classes.len(), network.n_features], device)?,
            false => BTreeMap::new(),
        };
        let [channels, height, width] = card.input;
        let none =
            Arc::new(Images { channels, height, width, pixels: Vec::new(), labels: Vec::new(), views: Vec::new() });
        let dataset = Dataset {
            name: card.dataset.clone(),
            class_names: card.classes.iter().map(|class| class.name.clone()).collect(),
            train: none.clone(),
            test: none,
            mean: card.mean.clone(),
            std: card.std.clone(),
            flips: false,
            notes: Vec::new(),
        };
        Ok(Predictor { learner: Learner::new(network, device, &dataset)?, card, means })
    }

    /// The class means that a classifier goes by, (classes, D); `None` for the network.
    pub fn class_means(&self, classifier: &str) -> Option<&Tensor> {
        self.means.get(classifier)
    }

    /// All classes for each of N images, the best first; `pixels` are N×C×H×W bytes, 0 is dark.
    ///
    /// # Errors
    /// [`Error::Usage`] if the run has no such classifier.
    pub fn predict(&self, pixels: Vec<u8>, classifier: &str) -> Result<Vec<Vec<Prediction>>> {
        if !self.card.classifiers.iter().any(|name| name == classifier) {
            let known = self.card.classifiers.join(", ");
            return Err(Error::usage(format!("this run has no classifier '{classifier}'; it has {known}")));
        }
        let [channels, height, width] = self.card.input;
        let n = pixels.len() / (channels * height * width);
        let images = Images { channels, height, width, pixels, labels: vec![0; n], views: Vec::new() };
        let samples: Vec<u32> = (0..n as u32).collect();
        let mut all = Vec::with_capacity(n);
        self.learner.evaluate(&images, &samples, |_, output| {
            match self.class_means(classifier) {
                Some(means) => {
                    let distances = distances_to_means(&output.features, means)?.to_vec()?;
                    all.extend(distances.chunks_exact(self.card.classes.len()).map(nearest_first));
                }
                None => {
                    let logits = output.logits.to_vec()?;
                    all.extend(logits.chunks_exact(self.card.n_outputs).map(|row| self.likeliest_first(row)));
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    fn likeliest_first(&self, logits: &[f32]) -> Vec<Prediction> {
        let logits = &logits[..self.card.classes.len()];
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|z| (z - largest).exp()).sum();
        let probability = |z: f32| match self.card.activation {
            Activation::Softmax => (z - largest).exp() / sum,
            Activation::Sigmoid => 1.0 / (1.0 + (-z).exp()),
        };
        // By output, not by probability: those of several large outputs may all round to 1.
        let order = ascending(logits.len(), |label| -logits[label]);
        order.into_iter().map(|label| Prediction { label, score: probability(logits[label]) }).collect()
    }
}

fn nearest_first(squared: &[f32]) -> Vec<Prediction> {
    let order = ascending(squared.len(), |label| squared[label]);
    order.into_iter().map(|label| Prediction { label, score: squared[label].sqrt() }).collect()
}

/// 0..n by key; of equals the first one first, as the ops `argmin_rows` and `argmax_rows` have it.
fn ascending(n: usize, key: impl Fn(usize) -> f32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
    order
}

fn read_means(path: &Path, shape: [usize; 2], device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::file(path, format!("no safetensors file: {e}")))?;
    let mut means = BTreeMap::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 || view.shape() != shape {
            let message = format!("'{name}' holds {:?} {:?}, not F32 {shape:?}", view.dtype(), view.shape());
            return Err(Error::file(path, message));
        }
        let values = bytemuck::pod_collect_to_vec::<u8, f32>(view.data());
        means.insert(name, Tensor::from_f32(device, shape, &values)?);
    }
    Ok(means)
}
