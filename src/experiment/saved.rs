//! A trained classifier on disk, and back: `model.json` describes it, `model.safetensors` holds the weights and
//! `class_means.safetensors` the class means of nearest-mean classifiers (one tensor per classifier, (classes seen, D),
//! rows of length 1 in order of label; no such file where a method has none).

use super::results::{Metrics, RunFolder};
use super::segmented;
use crate::continual::{Activation, Classifier, Learner, Method, distances_to_means};
use crate::data::{Dataset, Images, Target};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::learner::ImageStore;
use crate::models::export::{Export, Head};
use crate::models::{self, LayerList, ModelSettings, Network};
use crate::records::lock::is_in_use;
use crate::records::sealed::{self, checksum};
use crate::tensor::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The format of `model.json` that this version writes; it reads this and earlier ones.
const FORMAT: u32 = 1;
/// The file that describes a network.
pub const CARD: &str = "model.json";
/// The file of the weights.
pub const WEIGHTS: &str = "model.safetensors";
const MEANS: &str = "class_means.safetensors";
/// Pictures of a forward pass: no more than most trainings take in a step.
const AT_ONCE: usize = 16;
/// The classifier that needs no class means.
const NETWORK: &str = Classifier::NETWORK.name;

/// Larger than any network here, and small enough that nothing is allocated for what a file merely claims.
const MOST_SIDE: usize = 1 << 14;
const MOST_PIXELS: usize = 1 << 20;
const MOST_OUTPUTS: usize = 1 << 17;
const MOST_WIDTH: f32 = 64.0;
const MOST_BYTES: u64 = 1 << 34;

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
    /// The layers, where the model is none of this crate: from a file, or registered by a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<LayerList>,
    /// What it says about an image.
    #[serde(default, skip_serializing_if = "is_class")]
    pub target: Target,
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
    /// Of each class, the first of which is its answer.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub outputs_per_class: usize,
    /// The classes seen, in order of label: entry i is output i and row i of the class means.
    pub classes: Vec<Class>,
    /// The ways to classify by what lies beside this file, the method's own first: none for methods whose statistics are not kept.
    pub classifiers: Vec<String>,
    /// What makes probabilities of the outputs.
    pub activation: Activation,
    /// CRC-32 of the files that belong to this one, in hexadecimal; this one has its own in a last field `checksum`.
    pub checksums: BTreeMap<String, String>,
}

fn one() -> usize {
    1
}

fn is_class(target: &Target) -> bool {
    *target == Target::Class
}

fn is_one(n: &usize) -> bool {
    *n == 1
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
            layers: (!models::is_built_in(&network.name)).then(|| network.list().clone()),
            target: dataset.target(),
            n_tasks: metrics.n_tasks,
            n_tasks_learnt: metrics.memory_bytes.len(),
            input: network.input,
            mean: dataset.mean.clone(),
            std: dataset.std.clone(),
            n_outputs: network.n_outputs,
            outputs_per_class: method.outputs_per_class(),
            classes,
            classifiers: method
                .classifiers()
                .iter()
                .filter(|one| one.by_means || **one == Classifier::NETWORK)
                .map(|classifier| classifier.name.into())
                .collect(),
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
        if path.symlink_metadata().is_err() {
            return Err(Error::usage(format!("{}: {}", folder.display(), what_is_missing(folder))));
        }
        let damaged = |why: &str| Error::file(&path, format!("damaged, or not written by engram: {why}"));
        let card = sealed::read_value(folder, CARD)?;
        // Before the other fields, whose meaning depends on it.
        let format = card["format"].as_u64().unwrap_or(0);
        if format > u64::from(FORMAT) {
            let (theirs, ours) = (&card["version"], env!("CARGO_PKG_VERSION"));
            let message = format!("written by a newer engram ({theirs}, format {format}); this is {ours}: update it");
            return Err(Error::file(&path, message));
        }
        if sealed::is_intact(&card) == Some(false) {
            return Err(damaged("its checksum is another one"));
        }
        let card: ModelCard = serde_json::from_value(card).map_err(|e| damaged(&e.to_string()))?;
        match card.contradiction() {
            Some(what) => Err(damaged(&format!("its numbers contradict each other: {what}"))),
            None => Ok(card),
        }
    }

    /// The network that it describes.
    pub fn model_settings(&self) -> ModelSettings {
        let layers = self.layers.clone().map(Arc::new);
        ModelSettings { model: self.model.clone(), options: self.options, layers }
    }

    /// What no run can have written.
    fn contradiction(&self) -> Option<&'static str> {
        let [channels, height, width] = self.input;
        let sides = [channels, height, width].iter().all(|side| (1..=MOST_SIDE).contains(side));
        if !sides || channels * height * width > MOST_PIXELS {
            return Some("input");
        }
        let (n_means, n_classes) = (self.mean.len(), self.classes.len());
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        let network = |name: &String| name == NETWORK || self.checksums.contains_key(MEANS);
        let checks = [
            (n_classes == 0 || n_classes > self.n_outputs / self.outputs_per_class.max(1), "classes"),
            (self.outputs_per_class == 0, "outputs_per_class"),
            (self.n_outputs > MOST_OUTPUTS, "n_outputs"),
            (n_means != channels && n_means != channels * height * width, "mean"),
            (!finite(&self.mean), "mean"),
            (self.std.len() != channels || !finite(&self.std) || self.std.iter().any(|&std| std <= 0.0), "std"),
            (self.n_tasks_learnt == 0 || self.n_tasks_learnt > self.n_tasks, "n_tasks_learnt"),
            (!self.classifiers.iter().all(network), "classifiers"),
            (!(self.options.width > 0.0 && self.options.width <= MOST_WIDTH), "options"),
            (!self.checksums.contains_key(WEIGHTS), "checksums"),
            (self.checksums.keys().any(|name| ![WEIGHTS, MEANS].contains(&name.as_str())), "checksums"),
        ];
        checks.into_iter().find(|(wrong, _)| *wrong).map(|(_, what)| what)
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
    if std::fs::read_to_string(folder.join("config.json")).is_ok_and(|text| text.contains("\"scheme\"")) {
        return "this is a distillation: its students are compared, and are no model of a run. Its model.safetensors has the weights of \
                the first one"
            .into();
    }
    if folder.join("config.json").is_file() {
        return "this run ended before its first task was learnt, so it has no model.json; run it again".into();
    }
    "no run folder: it has no model.json".into()
}

/// Writes the three files, the card last. Returns the checksum of the weights.
pub fn write(folder: &RunFolder, mut card: ModelCard, network: &Network, method: &dyn Method) -> Result<String> {
    let weights = network.to_safetensors()?;
    let sum = checksum(&weights);
    card.checksums.insert(WEIGHTS.into(), sum.clone());
    folder.write_bytes(WEIGHTS, &weights)?;
    let mut means = Vec::new();
    for classifier in method.classifiers() {
        if let Some(tensor) = method.class_means(classifier) {
            means.push((classifier.name, tensor.shape().to_vec(), tensor.to_vec()?));
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
    folder.write_sealed(CARD, &card)?;
    Ok(sum)
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
        let card = read_whole(folder)?;
        if card.classifiers.is_empty() {
            return Err(Error::usage(format!(
                "{}: {} classifies by statistics that a run folder does not keep. A learner of your own pictures keeps them: engram \
                 learn FILE --from DIR --backbone {}",
                folder.display(),
                card.method,
                folder.display()
            )));
        }
        let of_card = |e: Error| Error::file(folder.join(CARD), e.to_string());
        // What the card claims is not allocated before the weights are known to be there.
        let model = card.model_settings();
        let layers = model.table(card.input, card.n_outputs).map_err(of_card)?;
        let n_bytes = layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(4 * layer.n_parameters as u64));
        let path = folder.join(WEIGHTS);
        if n_bytes > path.metadata().map_err(Error::io(&path, "read"))?.len() {
            return Err(Error::file(path, "damaged: it is too small for the model that model.json describes"));
        }
        let network = model.network(card.input, card.n_outputs, device, 0).map_err(of_card)?;
        network.load_safetensors(&folder.join(WEIGHTS))?;
        let means = match card.checksums.contains_key(MEANS) {
            true => read_means(folder, [card.classes.len(), network.n_features], device)?,
            false => BTreeMap::new(),
        };
        if let Some(name) = card.classifiers.iter().find(|name| *name != NETWORK && !means.contains_key(*name)) {
            return Err(Error::file(folder.join(MEANS), format!("damaged: the class means of '{name}' are missing")));
        }
        let none = Arc::new(ImageStore::new(card.input).images().clone());
        let dataset = Dataset {
            name: card.dataset.clone(),
            class_names: card.classes.iter().map(|class| class.name.clone()).collect(),
            train: none.clone(),
            test: none,
            mean: card.mean.clone(),
            std: card.std.clone(),
            flips: false,
            notes: Vec::new(),
            left_out: Vec::new(),
            domains: Vec::new(),
        };
        let learner = Learner::new(network, device, &dataset)?.trained_by(AT_ONCE);
        Ok(Predictor { learner, card, means })
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
        self.expect_classifier(classifier)?;
        if self.card.target == Target::Mask {
            return Err(Error::usage(
                "this run names the class of every pixel, and gives no answer for a whole picture",
            ));
        }
        let images = self.images(pixels);
        let n = images.len();
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

    /// The class of every pixel of N images as the data set numbers it, H×W bytes each; `pixels` as for [`Predictor::predict`].
    ///
    /// # Errors
    /// [`Error::Usage`] if it is a run that classifies whole images.
    pub fn segment(&self, pixels: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        if self.card.target == Target::Class {
            return Err(Error::usage("this run classifies whole pictures, and says nothing about pixels"));
        }
        let images = self.images(pixels);
        let samples: Vec<u32> = (0..images.len() as u32).collect();
        let class_of_label: Vec<u32> = self.card.classes.iter().map(|class| class.class).collect();
        let mut all = Vec::with_capacity(images.len());
        self.learner.evaluate(&images, &samples, |_, output| {
            let labels = output.logits.argmax_rows(self.card.classes.len())?.to_u32()?;
            all.extend(
                labels.chunks_exact(images.height * images.width).map(|one| segmented::classes(one, &class_of_label)),
            );
            Ok(())
        })?;
        Ok(all)
    }

    /// One of its classifiers, for other programs: the scores are logits of the network, or negative distances to class means.
    ///
    /// # Errors
    /// [`Error::Usage`] if the run has no such classifier, or its network several outputs for a class.
    pub fn export(&self, classifier: &str) -> Result<Export<'_>> {
        self.expect_classifier(classifier)?;
        if self.card.outputs_per_class > 1 {
            return Err(Error::usage(format!(
                "a network with {} outputs for each class, as --rotations makes it, cannot be written for other programs",
                self.card.outputs_per_class
            )));
        }
        let head = match self.class_means(classifier) {
            Some(means) => Head::NearestMean { means: means.to_vec()? },
            None => Head::Network,
        };
        Ok(Export {
            network: &self.learner.network,
            mean: self.card.mean.clone(),
            std: self.card.std.clone(),
            mirrored: false,
            quarters: None,
            unit_length: true,
            head,
            classes: self.card.classes.iter().map(|class| class.name.clone()).collect(),
        })
    }

    /// What the network gets of N images, (N, C, H, W); `pixels` as for [`Predictor::predict`].
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn input(&self, pixels: Vec<u8>) -> Result<Tensor> {
        let images = self.images(pixels);
        self.learner.plain_input_of(&images, &(0..images.len() as u32).collect::<Vec<_>>())
    }

    fn expect_classifier(&self, classifier: &str) -> Result<()> {
        if self.card.classifiers.iter().any(|name| name == classifier) {
            return Ok(());
        }
        let known = self.card.classifiers.join(", ");
        Err(Error::usage(format!("this run has no classifier '{classifier}'; it has {known}")))
    }

    fn images(&self, pixels: Vec<u8>) -> Images {
        let [channels, height, width] = self.card.input;
        let n = pixels.len() / (channels * height * width);
        Images { channels, height, width, pixels, labels: vec![0; n], views: Vec::new(), masks: Vec::new() }
    }

    fn likeliest_first(&self, logits: &[f32]) -> Vec<Prediction> {
        let logits: Vec<f32> =
            logits.iter().step_by(self.card.outputs_per_class).take(self.card.classes.len()).copied().collect();
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

/// The card, once the files that it describes are those in the folder. A run that writes its results just now is waited for.
pub(crate) fn read_whole(folder: &Path) -> Result<ModelCard> {
    const TRIES: usize = 100;
    let mut tries = 0;
    loop {
        let card = ModelCard::read(folder)?;
        let wrong = card.checksums.iter().find_map(|(name, sum)| match sealed::read(folder, name, MOST_BYTES) {
            Ok(bytes) if checksum(&bytes) == *sum => None,
            Ok(_) => {
                let message = "damaged: it is not the file that model.json describes. If the run was interrupted, go on with \
                               it (--resume); else copy the run folder again as a whole, or repeat the run";
                Some(Error::file(folder.join(name), message))
            }
            Err(error) => Some(error),
        });
        match wrong {
            None => return Ok(card),
            Some(_) if tries < TRIES && is_in_use(folder) => std::thread::sleep(Duration::from_millis(50)),
            Some(error) => return Err(error),
        }
        tries += 1;
    }
}

fn read_means(folder: &Path, shape: [usize; 2], device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let (path, bytes) = (&folder.join(MEANS), sealed::read(folder, MEANS, MOST_BYTES)?);
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::file(path, format!("no safetensors file: {e}")))?;
    let mut means = BTreeMap::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 || view.shape() != shape {
            let message = format!("'{name}' holds {:?} {:?}, not F32 {shape:?}", view.dtype(), view.shape());
            return Err(Error::file(path, message));
        }
        let values = bytemuck::pod_collect_to_vec::<u8, f32>(view.data());
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Error::file(path, format!("'{name}' holds numbers that are not finite")));
        }
        means.insert(name, Tensor::from_f32(device, shape, &values)?);
    }
    Ok(means)
}
