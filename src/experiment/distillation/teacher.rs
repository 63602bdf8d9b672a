//! Teachers: from a file, from the cache, or trained now and put there.

use super::config::DistillConfig;
use super::lesson::Lesson;
use super::measure;
use crate::continual::Learner;
use crate::data::{ClassOrder, Dataset, Images, TaskStream};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::experiment::metrics::accuracy;
use crate::experiment::results::RunFolder;
use crate::experiment::saved::ModelCard;
use crate::models::{self, Network, Options};
use crate::records::lock::is_in_use;
use crate::records::{create_folder, sealed};
use crate::training::{Listener, Recipe, Trainer};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const WEIGHTS: &str = "teacher.safetensors";
const CARD: &str = "teacher.json";

/// Everything that decides a teacher's weights: its hash names its folder in the cache.
#[derive(Serialize)]
struct Key<'a> {
    version: &'a str,
    data: String,
    augment: crate::data::Augmentation,
    normalize: crate::data::Normalize,
    model: &'a str,
    /// A program may register another model of the same name.
    layers: String,
    width: f32,
    limit: Option<usize>,
    recipe: &'a Recipe,
    seed: u64,
}

/// What a cached teacher knows of itself.
#[derive(Clone, Serialize, Deserialize)]
struct Card {
    accuracy: f64,
    seconds_training: f64,
    /// CRC-32 of the file of weights; older cards have none.
    #[serde(default)]
    weights: Option<String>,
}

/// A teacher and where it comes from.
pub(super) struct Trained {
    pub network: Network,
    pub seconds_training: Option<f64>,
    pub origin: String,
}

/// A network of the configuration, untrained.
pub(super) fn network(name: &str, width: f32, dataset: &Dataset, device: &Device, seed: u64) -> Result<Network> {
    let options = Options { width, ..Options::default() };
    Network::with_options(name, &options, input(dataset), dataset.n_classes(), device, seed)
}

fn input(dataset: &Dataset) -> [usize; 3] {
    let Images { channels, height, width, .. } = *dataset.train;
    [channels, height, width]
}

/// The training images that a limit leaves, balanced over all classes.
pub(super) fn samples(dataset: &Dataset, limit: Option<usize>) -> Result<Vec<u32>> {
    let mut stream = TaskStream::split(dataset, dataset.n_classes(), &ClassOrder::Natural, limit)?;
    Ok(stream.tasks.remove(0).train)
}

/// Reads a teacher's weights. Outputs of a run are in the order in which its classes came; a teacher's must be in that of the data set.
pub(super) fn load_weights(network: &Network, file: &Path) -> Result<Vec<String>> {
    let folder = file.parent().unwrap_or(Path::new(""));
    if file.ends_with("model.safetensors") && folder.join("model.json").is_file() {
        let card = ModelCard::read(folder)?;
        if let Some((output, class)) = (0..).zip(&card.classes).find(|(output, class)| *output != class.class) {
            return Err(Error::file(
                file,
                format!(
                    "output {output} of this run is class {}, as its classes came in another order (--class-order): a teacher's outputs must \
                     be in the order of the data set",
                    class.class
                ),
            ));
        }
    }
    network.load_safetensors(file)
}

/// The teacher of this number, trained.
pub(super) fn trained<L: Listener + ?Sized>(
    config: &DistillConfig,
    dataset: &Dataset,
    i: usize,
    trainer: &mut Trainer<L>,
) -> Result<Trained> {
    let (name, device) = (&config.teacher[i], trainer.device);
    let seed = config.teacher_seed + i as u64;
    let network = network(name, config.teacher_width, dataset, device, seed)?;
    if let Some(file) = config.teacher_weights.get(i) {
        let notes = load_weights(&network, file)?;
        let origin = std::iter::once(file.display().to_string()).chain(notes).collect::<Vec<_>>().join(", ");
        return Ok(Trained { network, seconds_training: None, origin });
    }
    let options = Options { width: config.teacher_width, ..Options::default() };
    let layers = models::spec(name)?.layers(input(dataset), dataset.n_classes(), &options)?;
    let key = Key {
        version: env!("CARGO_PKG_VERSION"),
        data: fingerprint(dataset),
        augment: config.data.augment,
        normalize: config.data.normalize,
        model: name,
        layers: format!("{layers:?}"),
        width: config.teacher_width,
        limit: config.teacher_limit,
        recipe: &config.teacher_training,
        seed,
    };
    let json = serde_json::to_vec(&key).expect("bug: the key of a teacher is no JSON");
    let folder = config.teacher_cache.join(format!("{name}-{}", &hex(&json)[..16]));
    if folder.join(CARD).exists() {
        let card: Card = sealed::read_json(&folder, CARD)?;
        let bytes = sealed::read(&folder, WEIGHTS, u64::MAX)?;
        if card.weights.is_some_and(|sum| sum != sealed::checksum(&bytes)) {
            let message = "damaged: its checksum is another one; remove the folder to train again";
            return Err(Error::file(folder.join(WEIGHTS), message));
        }
        network.load_safetensors(&folder.join(WEIGHTS))?;
        let origin = format!("{} (trained before)", folder.display());
        return Ok(Trained { network, seconds_training: Some(card.seconds_training), origin });
    }
    let learner = Learner::new(network, device, dataset)?.trained_by(config.teacher_training.batch_size);
    let lesson = Lesson {
        learner: &learner,
        samples: samples(dataset, config.teacher_limit)?,
        recipe: &config.teacher_training,
        augment: config.data.augment,
        seed,
        companions: None,
        fraction: 1.0,
    };
    let seconds = lesson.learn(&format!("teacher {name}"), "Use a smaller --teacher-lr", trainer)?.seconds;
    let labels = &dataset.test.labels;
    let answers = measure::predictions(&measure::logits(&learner, &dataset.test)?, dataset.n_classes());
    let weights = learner.network.to_safetensors()?;
    let card = Card {
        accuracy: accuracy(labels, &answers),
        seconds_training: seconds,
        weights: Some(sealed::checksum(&weights)),
    };
    // The card last: where it lies the weights lie too.
    create_folder(&folder)?;
    // Who trains the same teacher at the same time writes the same bytes.
    if !is_in_use(&folder) {
        let cache = RunFolder::open(&folder)?;
        cache.write_sealed("key.json", &key)?;
        cache.write_bytes(WEIGHTS, &weights)?;
        cache.write_sealed(CARD, &card)?;
    }
    let origin = folder.display().to_string();
    Ok(Trained { network: learner.subject.network, seconds_training: Some(seconds), origin })
}

/// Changes with any image or label.
fn fingerprint(dataset: &Dataset) -> String {
    let mut digest = Md5::new();
    for images in [&dataset.train, &dataset.test] {
        digest.update(&images.pixels);
        digest.update(bytemuck::cast_slice::<u32, u8>(&images.labels));
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A test image and what the teachers say about it.
pub struct Asked {
    /// Which of the test images.
    pub image: usize,
    /// Its class.
    pub label: u32,
    /// One per class.
    pub logits: Vec<f32>,
    /// Where the weights come from.
    pub origin: PathBuf,
}

/// What the first teacher of a configuration says about a test image; it is trained if need be.
///
/// # Errors
/// If there is no such image, and whatever training refuses.
pub fn ask_teacher<L: Listener + ?Sized>(
    config: &DistillConfig,
    dataset: &Dataset,
    image: usize,
    trainer: &mut Trainer<L>,
) -> Result<Asked> {
    if image >= dataset.test.len() {
        return Err(Error::usage(format!("--image {image}: there are {} test images", dataset.test.len())));
    }
    let Trained { network, origin, .. } = trained(config, dataset, 0, trainer)?;
    let learner = Learner::new(network, trainer.device, dataset)?;
    let mut logits = Vec::new();
    learner.evaluate(&dataset.test, &[image as u32], |_, output| {
        logits = output.logits.to_vec()?;
        Ok(())
    })?;
    Ok(Asked { image, label: dataset.test.labels[image], logits, origin: origin.into() })
}
