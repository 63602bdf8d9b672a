//! Short runs on the built-in set.

use engram::Device;
use engram::continual::{self, MethodSpec};
use engram::data::{self, Dataset, Images};
use engram::experiment::results::{Metrics, RunFolder};
use engram::experiment::sink::{Listener, Progress, Silent, Sink, TaskFinished};
use engram::experiment::{Config, every_row, run};
use engram::settings::{Origin, Values};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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

/// The first images of each domain of shape-city; every `every`th row and column of them.
pub fn shape_city(n_train: usize, n_test: usize, every: usize) -> Dataset {
    let whole = data::spec("shape-city").unwrap().load(Path::new("unused")).unwrap();
    let cut = |images: &Images, per_domain: usize| {
        let (height, width) = (images.height / every, images.width / every);
        let mut cut = Images {
            height,
            width,
            pixels: Vec::new(),
            labels: Vec::new(),
            masks: Vec::new(),
            views: Vec::new(),
            ..*images
        };
        let thinned = |plane: &[u8], kept: &mut Vec<u8>| {
            for row in plane.chunks_exact(images.width).step_by(every).take(height) {
                kept.extend(row.iter().step_by(every).take(width));
            }
        };
        for domain in 0..whole.domains.len() as u32 {
            let own = (0..images.len()).filter(|&i| images.labels[i] == domain);
            for i in own.take(per_domain) {
                images.image(i).chunks_exact(images.height * images.width).for_each(|p| thinned(p, &mut cut.pixels));
                thinned(images.mask(i), &mut cut.masks);
                cut.labels.push(domain);
            }
        }
        Arc::new(cut)
    };
    Dataset { train: cut(&whole.train, n_train), test: cut(&whole.test, n_test), ..whole }
}

/// Settings by name, as a person types them.
pub type Pairs<'a> = &'a [(&'a str, &'a str)];

/// A run of a method: `usual` as far as the method has such settings, under `more`.
pub fn config_of(method: &'static MethodSpec, usual: Pairs, more: Pairs) -> Config {
    try_config(method, usual, more).unwrap()
}

/// The same by name.
pub fn config(method: &str, usual: Pairs, more: Pairs) -> Config {
    config_of(continual::spec(method).unwrap(), usual, more)
}

/// The same, or why not.
pub fn try_config(method: &'static MethodSpec, usual: Pairs, more: Pairs) -> engram::Result<Config> {
    let mut rows = every_row();
    rows.extend(method.options);
    let usual = Values::of(&rows, usual, &Origin::Preset("tests".into()))?;
    Config::resolve(method, Values::of(&rows, more, &Origin::Flag)?.or(usual))
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

/// Interrupts after so many batches and ends of tasks.
pub struct Interrupt<'a>(pub usize, pub &'a AtomicBool);

impl Interrupt<'_> {
    fn count(&mut self) {
        self.0 = self.0.saturating_sub(1);
        self.1.fetch_or(self.0 == 0, Relaxed);
    }
}

impl Sink for Interrupt<'_> {
    fn task_finished(&mut self, _: &TaskFinished) {
        self.count();
    }
}

impl Listener for Interrupt<'_> {
    fn progress(&mut self, _: &Progress) {
        self.count();
    }
}
