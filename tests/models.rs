//! Networks: their sizes, and weights on disk.

mod common;

use engram::models::{self, Network};
use engram::rng::{Purpose, Rng};
use engram::{Device, Tensor};
use std::path::PathBuf;

fn devices() -> impl Iterator<Item = Device> {
    [Some(Device::cpu()), common::gpu(false)].into_iter().flatten()
}

fn images(device: &Device, n: usize, side: usize) -> Tensor {
    let mut rng = Rng::keyed(5, Purpose::Test, 0);
    let values: Vec<f32> = (0..n * side * side).map(|_| rng.range(-1.0, 1.0)).collect();
    Tensor::from_f32(device, [n, 1, side, side], &values).unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn models_have_the_sizes_they_should() {
    // By hand for 28×28 grey images and ten classes, weights and biases of each layer.
    let cnn = (9 * 32 + 32) + (9 * 32 * 64 + 64) + (64 * 7 * 7 * 128 + 128) + (128 * 10 + 10);
    let cnn5 = (25 * 32 + 32) + (25 * 32 * 64 + 64) + (64 * 7 * 7 * 256 + 256) + (256 * 10 + 10);
    let mlp = (784 * 256 + 256) + (256 * 256 + 256) + (256 * 10 + 10);
    assert_eq!(cnn, 421_642);
    for (name, n_parameters, n_features) in [("mlp", mlp, 256), ("cnn", cnn, 128), ("cnn5", cnn5, 256)] {
        let network = Network::new(name, [1, 28, 28], 10, &Device::cpu(), 1).unwrap();
        assert_eq!(network.parameters.n_parameters(), n_parameters, "{name}");
        let output = network.forward(&images(&Device::cpu(), 3, 28)).unwrap();
        assert_eq!(
            (&*output.features.shape(), &*output.logits.shape()),
            (&[3, n_features][..], &[3, 10][..]),
            "{name}"
        );
    }
    assert_eq!(models::ALL.len(), 3, "a new model needs its size here");
    // 8.8 GFLOP for a batch of 128, as the issue of the benchmark counts them.
    let cnn5 = Network::new("cnn5", [1, 28, 28], 10, &Device::cpu(), 1).unwrap();
    assert!((cnn5.training_flop() * 128.0 / 1e9 - 8.8).abs() < 0.3, "{}", cnn5.training_flop() * 128.0 / 1e9);
}

#[test]
fn wrong_models_and_images_are_refused() {
    let refuse = |name, input| Network::new(name, input, 10, &Device::cpu(), 1).err().unwrap().to_string();
    let message = refuse("resnet", [1, 28, 28]);
    assert!(message.contains("resnet") && message.contains("cnn5"), "{message}");
    assert!(refuse("cnn", [1, 3, 28]).contains("too small"));
    let network = Network::new("cnn", [1, 28, 28], 10, &Device::cpu(), 1).unwrap();
    assert!(network.forward(&images(&Device::cpu(), 2, 20)).is_err());
}

#[test]
fn initial_values_depend_on_the_seed_alone() {
    for device in devices() {
        let weights = |seed| {
            let network = Network::new("cnn", [1, 8, 8], 4, &device, seed).unwrap();
            network.to_safetensors().unwrap()
        };
        assert_eq!(weights(1), weights(1));
        assert_ne!(weights(1), weights(2));
        let cpu = Network::new("cnn", [1, 8, 8], 4, &Device::cpu(), 1).unwrap();
        assert_eq!(weights(1), cpu.to_safetensors().unwrap());
    }
}

#[test]
fn weights_survive_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    for device in devices() {
        for model in models::ALL {
            let x = images(&device, 3, 12);
            let network = |seed| Network::new(model.name, [1, 12, 12], 5, &device, seed).unwrap();
            let (saved, loaded) = (network(1), network(2));
            let output = |network: &Network| {
                let output = network.forward(&x).unwrap();
                (bits(&output.features), bits(&output.logits))
            };
            assert_ne!(output(&saved), output(&loaded));
            std::fs::write(&path, saved.to_safetensors().unwrap()).unwrap();
            loaded.load_safetensors(&path).unwrap();
            assert_eq!(output(&saved), output(&loaded), "{} on {}", model.name, device.describe());
            // A frozen copy says the same and goes its own way.
            let frozen = saved.snapshot().unwrap();
            assert_eq!(output(&saved), output(&frozen));
            let n = saved.parameters.tensors().last().unwrap().n_elements();
            let last = saved.parameters.to_host().unwrap().last().unwrap().0.to_string();
            saved.parameters.set(&last, &[n], &vec![9.0; n]).unwrap();
            assert_ne!(output(&saved), output(&frozen));
            assert_eq!(output(&loaded), output(&frozen));
        }
    }
}

/// The names and the first layer's layout are PyTorch's: weight (out, in, k, k), and `fc` (out, in).
#[test]
fn the_file_uses_the_names_of_pytorch() {
    let network = Network::new("cnn", [1, 8, 8], 3, &Device::cpu(), 1).unwrap();
    let bytes = network.to_safetensors().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).shape().to_vec();
    assert_eq!(shape("conv1.weight"), [32, 1, 3, 3]);
    assert_eq!(shape("conv1.bias"), [32]);
    assert_eq!(shape("conv2.weight"), [64, 32, 3, 3]);
    assert_eq!(shape("fc1.weight"), [128, 64 * 2 * 2]);
    assert_eq!(shape("fc2.weight"), [3, 128]);
    assert_eq!(file.len(), 8);
}

#[test]
fn a_file_of_another_architecture_is_named_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let network = |name, n_outputs| Network::new(name, [1, 12, 12], n_outputs, &Device::cpu(), 1).unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let cnn = Network::new("cnn", [1, 12, 12], 10, &Device::cpu(), 7).unwrap();
    let before = cnn.to_safetensors().unwrap();
    let whole = network("cnn", 10).to_safetensors().unwrap();
    let cases = [
        (file("mlp", &network("mlp", 10).to_safetensors().unwrap()), "'conv1.weight' is missing"),
        (file("cnn5", &network("cnn5", 10).to_safetensors().unwrap()), "'conv1.weight' has shape [32, 1, 5, 5]"),
        (file("outputs", &network("cnn", 7).to_safetensors().unwrap()), "'fc2.weight' has shape [7, 128]"),
        (file("cut", &whole[..whole.len() - 100]), "no safetensors file"),
        (file("empty", b""), "no safetensors file"),
        (dir.path().join("nowhere"), "cannot read"),
    ];
    for (path, expected) in cases {
        let message = cnn.load_safetensors(&path).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains(&path.display().to_string()), "{message}");
        assert!(cnn.to_safetensors().unwrap() == before, "{}: weights changed", path.display());
    }
}
