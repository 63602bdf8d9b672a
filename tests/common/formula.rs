//! Images, weights and numbers that `tests/golden/make_vdfd.py` computes by the same formula.

use super::runs::{Pairs, config};
use engram::continual::{Batch, Learner, Method, TaskData};
use engram::data::{Dataset, Images};
use engram::models::{Network, Options};
use engram::rng::{Purpose, Rng};
use engram::{Device, Tensor, continual};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

static NEVER: AtomicBool = AtomicBool::new(false);

/// A network of 16 – 8 – 8 – 8, and 48 images of 4 × 4 in two tasks of four classes.
pub struct Formula {
    /// On them.
    pub learner: Learner,
}

/// Numbers that PyTorch has computed.
pub fn golden(file: &str) -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Multiples of 1/1009 in about ±1/2.
pub fn numbers(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| (((i * 37 + salt * 101 + i * i * 13) % 1009) as f64 / 1009.0 - 0.5) as f32).collect()
}

/// A learner that has seen nothing.
pub fn method(name: &str, settings: Pairs) -> Box<dyn Method> {
    let settings = config(name, &[("dataset", "glyphs"), ("class_order", "0,1,2,3,4,5,6,7")], settings).values;
    (continual::spec(name).unwrap().build)(&settings)
}

impl Formula {
    /// On a device.
    pub fn new(device: &Device) -> Formula {
        let options = Options { width: 8.0 / 256.0, ..Default::default() };
        Self::with(Network::with_options("mlp", &options, [1, 4, 4], 8, device, 1).unwrap(), device)
    }

    /// With another network for these images.
    pub fn with(network: Network, device: &Device) -> Formula {
        let pixels: Vec<u8> = (0..16u64 * 48).map(|i| ((i * 29 + i * i * 7) % 256) as u8).collect();
        let labels = (0..48).map(|i| i % 4 + 4 * (i / 24)).collect();
        let images =
            Arc::new(Images { channels: 1, height: 4, width: 4, pixels, labels, views: Vec::new(), masks: Vec::new() });
        let dataset = Dataset {
            name: "formula".into(),
            class_names: (0..8).map(|i: u32| i.to_string()).collect(),
            train: images.clone(),
            test: images,
            mean: vec![0.5],
            std: vec![0.25],
            ..super::runs::glyphs(10, 10)
        };
        let mut learner = Learner::new(network, device, &dataset).unwrap();
        learner.heads = vec![0..4, 4..8];
        Formula { learner }
    }

    /// Of all layers.
    pub fn set_weights(&self, salt: usize) {
        for (k, (name, outputs, inputs)) in [("fc1", 8, 16), ("fc2", 8, 8), ("fc3", 8, 8)].into_iter().enumerate() {
            let parameters = &self.learner.network.parameters;
            let weight = numbers(outputs * inputs, salt + 2 * k);
            parameters.set(&format!("{name}.weight"), &[outputs, inputs], &weight).unwrap();
            parameters.set(&format!("{name}.bias"), &[outputs], &numbers(outputs, salt + 2 * k + 1)).unwrap();
        }
    }

    /// A task of these samples, all of one of the two tasks.
    pub fn task_of(&self, index: usize, samples: std::ops::Range<u32>) -> TaskData<'static> {
        let first = 4 * (samples.start as usize / 24);
        let of =
            |label: usize| samples.clone().filter(|&sample| self.learner.class_of(sample) as usize == label).collect();
        TaskData {
            index,
            samples: (first..first + 4).map(of).collect(),
            n_old: first,
            n_seen: first + 4,
            label_of_class: (0..8).collect(),
            labels: first..first + 4,
            is_last: index == 1,
            interrupted: &NEVER,
        }
    }

    /// All samples of a task.
    pub fn task(&self, index: usize) -> TaskData<'static> {
        self.task_of(index, 24 * index as u32..24 * (index as u32 + 1))
    }

    /// Plain images as a batch.
    pub fn batch(&self, samples: &[u32], key: u64, n_old: usize) -> Batch {
        let labels: Vec<u32> = samples.iter().map(|&sample| self.learner.class_of(sample)).collect();
        let images = self.learner.batch(samples, &labels, &mut Rng::keyed(1, Purpose::Test, key));
        Batch {
            x: self.learner.input(&images).unwrap(),
            labels: Tensor::from_u32(&self.learner.device, [labels.len()], &labels).unwrap(),
            images,
            key,
            first_pass: true,
            n_old,
            n_seen: 8,
        }
    }
}

/// Every gradient against numbers by the parameter's name, to a part of the largest of each.
pub fn check_gradients(learner: &Learner, golden: &serde_json::Value, to: f64) {
    let parameters = &learner.network.parameters;
    let names: Vec<String> = parameters.to_host().unwrap().iter().map(|entry| entry.0.to_string()).collect();
    for (name, gradient) in names.iter().zip(parameters.gradients_to_host().unwrap()) {
        let expected: Vec<f64> = serde_json::from_value(golden[name].clone()).unwrap();
        assert_eq!(gradient.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        for (own, expected) in gradient.iter().zip(&expected) {
            assert!((f64::from(*own) - expected).abs() <= to * largest, "{name}: {own} instead of {expected}");
        }
    }
}
