//! Short runs on the built-in set.

use engram::Device;
use engram::data::{self, Dataset, Images};
use engram::experiment::results::{Metrics, RunFolder};
use engram::experiment::sink::Silent;
use engram::experiment::{Config, run};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| data::spec("glyphs").unwrap().load(Path::new("unused")).unwrap());

/// The built-in set, cut to its first images: every tenth is of a class.
pub fn glyphs(n_train: usize, n_test: usize) -> Dataset {
    let cut = |images: &Images, n: usize| {
        let mut images = images.clone();
        images.pixels.truncate(n * images.image_bytes());
        images.labels.truncate(n);
        Arc::new(images)
    };
    Dataset { train: cut(&GLYPHS.train, n_train), test: cut(&GLYPHS.test, n_test), ..GLYPHS.clone() }
}

/// Weights and running statistics by name, as bytes.
pub type Weights = BTreeMap<String, Vec<u8>>;

/// A run on the CPU: its metrics, and the weights it ends in.
pub fn trained(config: &Config, dataset: &Dataset) -> (Metrics, Weights) {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&dir.path().join("run"), false).unwrap();
    let metrics = run(config, dataset, &Device::cpu(), Some(&folder), &mut Silent, &AtomicBool::new(false)).unwrap();
    let bytes = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    (metrics, file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect())
}
