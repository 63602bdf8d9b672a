//! Single steps of a method on the built-in set, for tests that look between them.

use crate::common::runs::{Pairs, config};
use engram::continual::{Batch, Learner, Method, TaskData};
use engram::data::{self, Dataset};
use engram::models::Network;
use engram::optim::Optimizer;
use engram::rng::{Purpose, Rng};
use engram::{Device, Tensor};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

/// The built-in set.
pub static GLYPHS: LazyLock<Dataset> =
    LazyLock::new(|| data::spec("glyphs").unwrap().load(Path::new("unused")).unwrap());

pub fn learner(model: &str, device: &Device) -> Learner {
    let options = engram::models::Options { width: 0.25, ..Default::default() };
    let network = Network::with_options(model, &options, [1, 28, 28], 10, device, 1).unwrap();
    Learner::new(network, device, &GLYPHS).unwrap()
}

pub fn batch(learner: &Learner, samples: &[u32], key: u64, n_old: usize) -> Batch {
    let labels: Vec<u32> = samples.iter().map(|&sample| learner.class_of(sample)).collect();
    let images = learner.batch(samples, &labels, &mut Rng::keyed(1, Purpose::Test, key));
    Batch {
        x: learner.input(&images).unwrap(),
        labels: Tensor::from_u32(&learner.device, [labels.len()], &labels).unwrap(),
        images,
        key,
        first_pass: true,
        n_old,
        n_seen: 10,
    }
}

pub static NEVER: AtomicBool = AtomicBool::new(false);

/// All classes as one task, `n` samples of each.
pub fn task(learner: &Learner, index: usize, n: usize) -> TaskData<'static> {
    let of_class = |class| (0..2000).filter(|&sample| learner.class_of(sample) == class).take(n).collect();
    TaskData {
        index,
        samples: (0..10).map(of_class).collect(),
        n_old: if index == 0 { 0 } else { 10 },
        n_seen: 10,
        label_of_class: (0..10).collect(),
        labels: 0..10,
        is_last: false,
        interrupted: &NEVER,
    }
}

pub fn gradients(learner: &Learner) -> Vec<f32> {
    learner.network.parameters.gradients().unwrap().to_vec().unwrap()
}

pub fn close(a: &[f32], b: &[f64], tolerance: f64) {
    let largest = b.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    assert!(largest > 0.0, "nothing to compare with");
    for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
        assert!((f64::from(a) - b).abs() <= tolerance * largest, "{i}: {a} is not {b} (largest {largest})");
    }
}

/// One step as the runner makes it.
pub fn step(method: &mut dyn Method, learner: &Learner, optimizer: &mut Optimizer, batch: &Batch, lr: f32) {
    let parameters = &learner.network.parameters;
    parameters.backward(&method.observe(learner, batch).unwrap().total().unwrap()).unwrap();
    method.adjust_gradients(learner, batch).unwrap();
    optimizer.step(parameters, lr).unwrap();
    method.after_step(learner, batch).unwrap();
}

pub fn build(name: &str, settings: Pairs) -> Box<dyn Method> {
    let config = config(name, &[("memory", "20")], settings);
    (config.method.build)(&config.values)
}

pub fn vector(method: &mut dyn Method, name: &str) -> Vec<f32> {
    method.state().unwrap().take(name).unwrap()
}
