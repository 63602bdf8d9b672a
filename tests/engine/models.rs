//! Networks: sizes, and weights on disk.

use crate::common;
use engram::device::Counters;
use engram::models::{self, Network, Options, OutputKind, Shortcut};
use engram::ops::{BatchNorm, Mode};
use engram::optim::{Kind, Optimizer};
use engram::rng::{Purpose, Rng};
use engram::shape::Shape;
use engram::tensor::no_grad;
use engram::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn devices() -> impl Iterator<Item = Device> {
    [Some(Device::cpu()), common::gpu(false)].into_iter().flatten()
}

fn images(device: &Device, n: usize, [c, h, w]: [usize; 3]) -> Tensor {
    let mut rng = Rng::keyed(5, Purpose::Test, 0);
    let values: Vec<f32> = (0..n * c * h * w).map(|_| rng.range(-1.0, 1.0)).collect();
    Tensor::from_f32(device, [n, c, h, w], &values).unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn models_have_the_sizes_they_should() {
    // Small ones by hand, weights and biases of each layer; the others are published numbers. The last column: million
    // multiply–accumulates.
    let cnn = (9 * 32 + 32) + (9 * 32 * 64 + 64) + (64 * 7 * 7 * 128 + 128) + (128 * 10 + 10);
    let cnn5 = (25 * 32 + 32) + (25 * 32 * 64 + 64) + (64 * 7 * 7 * 256 + 256) + (256 * 10 + 10);
    let mlp = (784 * 256 + 256) + (256 * 256 + 256) + (256 * 10 + 10);
    let sizes = [
        ("mlp", mlp, 256, 0.27),
        ("cnn", cnn, 128, 4.24),
        ("cnn5", cnn5, 256, 11.47),
        ("resnet20", 269_722, 64, 40.55),
        ("resnet32", 464_154, 64, 68.86),
        ("resnet44", 658_586, 64, 97.17),
        ("resnet56", 853_018, 64, 125.49),
        ("resnet110", 1_727_962, 64, 252.89),
        ("wrn16-2", 691_674, 128, 101.11),
        ("wrn28-4", 5_849_050, 256, 845.60),
        ("resnet18", 11_173_962, 512, 555.42),
        ("preact-resnet18", 11_172_170, 512, 555.42),
        ("resnet34", 21_282_122, 512, 1159.40),
        ("vgg11", 9_231_114, 512, 152.75),
        ("vgg11-slim", 8_852_874, 500, 137.97),
        ("fcn3", (27 * 16 + 16) + (9 * 16 * 32 + 32) + (32 * 10 + 10), 32, 6.82),
        ("deeplab-lite", 362_730, 64, 105.65),
        ("deeplab-lite-rc", 692_010, 64, 203.95),
        ("deeplab-resnet18", 15_901_258, 256, 322.28),
        ("deeplab-resnet34", 26_009_418, 256, 529.90),
    ];
    assert_eq!(models::ALL.len(), sizes.len(), "a new model needs its size here");
    for (name, n_parameters, n_features, mmac) in sizes {
        let spec = models::spec(name).unwrap();
        let layers = spec.layers(spec.input, 10, &Options::default()).unwrap();
        assert_eq!(layers.iter().map(|layer| layer.n_parameters).sum::<usize>(), n_parameters, "{name}");
        let macs = layers.iter().map(|layer| layer.macs).sum::<u64>();
        assert!((macs as f64 / 1e6 - mmac).abs() < 0.006 * mmac.max(1.0), "{name}: {macs} multiply–accumulates");
        let narrow = Options { width: 0.25, ..Options::default() };
        let network = Network::with_options(name, &narrow, spec.input, 10, &Device::cpu(), 1).unwrap();
        let output = network.forward(&images(&Device::cpu(), 3, spec.input), Mode::Eval).unwrap();
        let shapes = (&*output.features.shape(), &*output.logits.shape());
        match spec.kind {
            OutputKind::Classes => assert_eq!(shapes, (&[3, n_features / 4][..], &[3, 10][..]), "{name}"),
            OutputKind::Pixels => {
                assert_eq!(
                    (shapes.0[..2].to_vec(), shapes.1),
                    (vec![3, n_features / 4], &[3, 10, 64, 64][..]),
                    "{name}"
                );
            }
        }
        assert_eq!(network.kind, spec.kind);
        assert_eq!(network.n_features, n_features / 4);
    }
    // 8.8 GFLOP for a batch of 128, as the issue of the benchmark counts them.
    let cnn5 = Network::new("cnn5", [1, 28, 28], 10, &Device::cpu(), 1).unwrap();
    assert!((cnn5.training_flop() * 128.0 / 1e9 - 8.8).abs() < 0.3, "{}", cnn5.training_flop() * 128.0 / 1e9);
}

/// Numbers from the papers and the usual implementations.
#[test]
fn residual_networks_have_the_published_sizes() {
    let count = |name: &str, n_outputs, shortcut| {
        let options = Options { shortcut, ..Options::default() };
        let layers = models::spec(name).unwrap().layers([3, 32, 32], n_outputs, &options).unwrap();
        layers.iter().map(|layer| layer.n_parameters).sum::<usize>()
    };
    assert_eq!(count("resnet32", 100, None), 470_004);
    assert_eq!(count("resnet32", 100, None) - (64 * 100 + 100), 463_504);
    assert_eq!(count("resnet32", 100, Some(Shortcut::B)) - (64 * 100 + 100), 466_256);
    assert_eq!(count("resnet18", 100, None), 11_220_132);
    assert_eq!(count("resnet34", 100, None), 21_328_292);
    let layers = models::spec("resnet32").unwrap().layers([3, 32, 32], 100, &Options::default()).unwrap();
    let macs = layers.iter().map(|layer| layer.macs).sum::<u64>();
    assert!((macs as f64 / 1e6 - 68.87).abs() < 0.01, "{macs}");
}

#[test]
fn wrong_models_and_images_are_refused() {
    let refuse = |name, input| Network::new(name, input, 10, &Device::cpu(), 1).err().unwrap().to_string();
    let message = refuse("lenet", [1, 28, 28]);
    assert!(message.contains("lenet") && message.contains("cnn5"), "{message}");
    assert!(refuse("cnn", [1, 3, 28]).contains("do not suit"));
    assert!(refuse("vgg11", [3, 28, 28]).contains("1×1 cannot be pooled"));
    let network = Network::new("cnn", [1, 28, 28], 10, &Device::cpu(), 1).unwrap();
    assert!(network.forward(&images(&Device::cpu(), 2, [1, 20, 20]), Mode::Eval).is_err());
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
            let x = images(&device, 3, model.input);
            let narrow = Options { width: 0.125, ..Options::default() };
            let network = |seed| Network::with_options(model.name, &narrow, model.input, 5, &device, seed).unwrap();
            let (saved, loaded) = (network(1), network(2));
            let output = |network: &Network| {
                // Without a history, as a frozen copy never has one.
                let output = no_grad(|| network.forward(&x, Mode::Eval)).unwrap();
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

/// A network for pixels answers for images of any size, the same whatever stands beside them in the batch.
#[test]
fn networks_for_pixels_take_images_of_any_size() {
    for device in devices() {
        for spec in models::ALL.iter().filter(|spec| spec.kind == OutputKind::Pixels) {
            let narrow = Options { width: 0.25, ..Options::default() };
            let network = Network::with_options(spec.name, &narrow, spec.input, 5, &device, 1).unwrap();
            for (h, w) in [(64, 64), (24, 40), (17, 9), (5, 3)] {
                let x = images(&device, 2, [3, h, w]);
                let output = network.forward(&x, Mode::Eval).unwrap();
                assert_eq!(*output.logits.shape(), [2, 5, h, w], "{}", spec.name);
                let features = output.features.shape();
                assert_eq!(features[..2], [2, network.n_features], "{}", spec.name);
                assert!(features[2] < h && features[3] < w, "{}: features {features} of {h}×{w}", spec.name);
                let first = Tensor::from_f32(&device, [1, 3, h, w], &x.to_vec().unwrap()[..3 * h * w]).unwrap();
                let alone = network.forward(&first, Mode::Eval).unwrap().logits.to_vec().unwrap();
                for (alone, beside) in alone.iter().zip(output.logits.to_vec().unwrap()) {
                    assert!((alone - beside).abs() <= 1e-5, "{}: {alone} or {beside}", spec.name);
                }
            }
        }
    }
}

/// The names and the first layer's layout are PyTorch's: weight (out, in, k, k), and `fc` (out, in).
#[test]
fn the_file_uses_the_names_of_pytorch() {
    let network = Network::new("cnn", [1, 8, 8], 3, &Device::cpu(), 1).unwrap();
    let bytes = network.to_safetensors().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
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

/// A narrow network that PyTorch has computed, by the name of its file in `golden/networks`.
fn golden_network(file: &str, device: &Device) -> (Network, SafeTensors<'static>) {
    let path = PathBuf::from(format!("{}/tests/golden/networks/{file}.safetensors", env!("CARGO_MANIFEST_DIR")));
    let bytes: &'static [u8] = std::fs::read(&path).unwrap().leak();
    let golden = SafeTensors::deserialize(bytes).unwrap();
    let (name, width) = match file {
        "resnet20-a" | "resnet20-b" => ("resnet20", 1.0 / 8.0),
        "wrn16-2" | "deeplab-lite" => (file, 1.0 / 8.0),
        _ => (file, 1.0 / 32.0),
    };
    let shortcut = file.ends_with("-b").then_some(Shortcut::B);
    let options = Options { width, shortcut, last_relu: file != "resnet20-a", ..Options::default() };
    let input = golden.tensor("golden.input").unwrap().shape()[1..].try_into().unwrap();
    let network = Network::with_options(name, &options, input, 7, device, 1).unwrap();
    // The weights alone: a file with more than that is refused.
    let weights = golden.tensors().into_iter().filter(|(name, _)| !name.starts_with("golden."));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights.safetensors");
    std::fs::write(&path, safetensors::serialize(weights, None).unwrap()).unwrap();
    network.load_safetensors(&path).unwrap();
    (network, golden)
}

/// Logits in both modes, gradients and running statistics are those that PyTorch computes from the same state dict.
#[test]
fn networks_agree_with_pytorch() {
    let close = |got: &[f32], golden: &SafeTensors, name: &str, what: &str| {
        let expected = bytemuck::pod_collect_to_vec::<u8, f32>(golden.tensor(name).unwrap().data());
        assert_eq!(got.len(), expected.len(), "{what} {name}");
        let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        for (got, expected) in got.iter().zip(&expected) {
            // Some 20 layers, each of which loses a few ulp of its largest number.
            assert!((got - expected).abs() <= 1e-4 * largest + 1e-6, "{what} {name}: {got} instead of {expected}");
        }
    };
    for device in devices() {
        for file in [
            "resnet20-a",
            "resnet20-b",
            "resnet18",
            "preact-resnet18",
            "wrn16-2",
            "vgg11",
            "vgg11-slim",
            "deeplab-lite",
            "deeplab-resnet18",
        ] {
            let what = format!("{file} on {}", device.describe());
            let (network, golden) = golden_network(file, &device);
            let numbers = |name: &str| bytemuck::pod_collect_to_vec::<u8, f32>(golden.tensor(name).unwrap().data());
            let shape = Shape::new(golden.tensor("golden.input").unwrap().shape()).unwrap();
            let x = Tensor::from_f32(&device, shape, &numbers("golden.input")).unwrap();
            let labels: Vec<u32> = numbers("golden.labels").into_iter().map(|label| label as u32).collect();
            let of_labels = Shape::new(golden.tensor("golden.labels").unwrap().shape()).unwrap();
            let labels = Tensor::from_u32(&device, of_labels, &labels).unwrap();

            let before = network.statistics.to_host().unwrap();
            close(&network.forward(&x, Mode::Eval).unwrap().logits.to_vec().unwrap(), &golden, "golden.eval", &what);
            let frozen = network.forward(&x, Mode::Frozen).unwrap().logits.to_vec().unwrap();
            close(&frozen, &golden, "golden.train", &what);
            assert!(network.statistics.to_host().unwrap() == before, "{what}: statistics moved");

            let snapshot = network.snapshot().unwrap();
            let logits = network.forward(&x, Mode::Train).unwrap().logits;
            close(&logits.to_vec().unwrap(), &golden, "golden.train", &what);
            for (name, values) in network.statistics.to_host().unwrap() {
                close(&values, &golden, &format!("golden.after.{name}"), &what);
            }
            assert!(snapshot.statistics.to_host().unwrap() == before, "{what}: a copy moved with its original");
            network.parameters.backward(&logits.cross_entropy(&labels, 7).unwrap()).unwrap();
            let names: Vec<String> =
                network.parameters.to_host().unwrap().iter().map(|(name, ..)| name.to_string()).collect();
            for (name, gradient) in names.iter().zip(network.parameters.gradients_to_host().unwrap()) {
                close(&gradient, &golden, &format!("golden.grad.{name}"), &what);
            }
        }
    }
}

/// Without a history batch norms are folded into the convolutions before them: the same numbers in fewer dispatches.
#[test]
fn folded_batch_norms_change_nothing() {
    for device in devices().chain(common::gpu_as_hardware(false)) {
        for model in ["resnet20", "resnet18", "preact-resnet18", "vgg11"] {
            let options = Options { width: 0.125, ..Options::default() };
            let network = Network::with_options(model, &options, [3, 32, 32], 10, &device, 1).unwrap();
            let x = images(&device, 3, [3, 32, 32]);
            // Running statistics of some batches, not those of the start.
            for _ in 0..3 {
                network.forward(&x, Mode::Train).unwrap();
            }
            let run = |f: &dyn Fn() -> Tensor| {
                let before = device.counters().dispatches;
                let y = f();
                (y.to_vec().unwrap(), device.counters().dispatches - before)
            };
            let logits = || network.forward(&x, Mode::Eval).unwrap().logits;
            let ((apart, n_apart), (folded, n_folded)) = (run(&logits), run(&|| no_grad(logits)));
            let largest = apart.iter().fold(0.0f32, |largest, y| largest.max(y.abs()));
            for (apart, folded) in apart.iter().zip(&folded) {
                assert!((apart - folded).abs() <= 1e-5 * largest, "{model}: {folded}, and {apart} apart");
            }
            assert!(
                matches!(device, Device::Cpu(_)) || n_folded < n_apart,
                "{model}: {n_folded} dispatches, {n_apart} apart"
            );
        }
    }
}

/// Channels that one workgroup can take are normalised in one dispatch each way, longer ones in two.
#[test]
fn a_batch_norm_takes_few_dispatches_on_hardware() {
    let Some(device) = common::gpu_as_hardware(false) else { return };
    for (n, expected) in [(32, [1, 1]), (33, [2, 2])] {
        let x = images(&device, n, [3, 32, 32]).with_gradient();
        let numbers = |shape: &[usize], value| {
            let shape = Shape::new(shape).unwrap();
            Tensor::from_f32(&device, shape, &vec![value; shape.n_elements()]).unwrap()
        };
        let (weight, bias, running) = (numbers(&[3], 1.0), numbers(&[3], 0.0), numbers(&[2, 3], 1.0));
        let (mode, momentum, epsilon) = (Mode::Train, 0.1, 1e-5);
        let running = running.array();
        let (weight, bias) = (&weight, &bias);
        let norm = BatchNorm { weight, bias, running, mode, momentum, epsilon, residual: None, relu: true };
        let start = device.counters().dispatches;
        let y = x.batch_norm(&norm).unwrap();
        let forward = device.counters().dispatches;
        y.backward_with(y.array().clone()).unwrap();
        let n_dispatches = [forward - start, device.counters().dispatches - forward];
        assert_eq!(n_dispatches.map(|n| n as usize), expected, "{n} images");
    }
}

/// What launching costs is paid per dispatch: a count by hand for convolutions and batch norms in separate passes gives 309.
#[test]
fn a_training_step_of_resnet32_takes_few_dispatches_on_hardware() {
    let Some(device) = common::gpu_as_hardware(false) else { return };
    let network = Network::with_options("resnet32", &Options::default(), [3, 32, 32], 10, &device, 1).unwrap();
    let mut optimizer = Optimizer::new(Kind::Sgd, 0.9, 1e-4, &network.parameters).unwrap();
    let x = images(&device, 2, [3, 32, 32]);
    let labels = Tensor::from_u32(&device, [2], &[3, 7]).unwrap();
    let mut step = || {
        let before = device.counters();
        let loss = network.forward(&x, Mode::Train).unwrap().logits.cross_entropy(&labels, 10).unwrap();
        network.parameters.backward(&loss).unwrap();
        optimizer.step(&network.parameters, 0.01).unwrap();
        device.synchronize().unwrap();
        (before, device.counters())
    };
    step();
    step();
    let (before, after) = step();
    let n = after.dispatches - before.dispatches;
    assert!((150..=216).contains(&n), "{n} dispatches");
    let created = |c: &Counters| (c.allocations, c.pipelines, c.bind_groups);
    assert_eq!(
        created(&before),
        created(&after),
        "a step in the steady state creates buffers, pipelines or bind groups"
    );
}

/// Tensors by name: their kind, shape and bytes.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors_of(network: &Network) -> Tensors {
    let bytes = network.to_safetensors().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let all = file.tensors().into_iter();
    all.map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).expect("a tensor whose size is not its shape's"))
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A deeper network of the same kind has all tensors of a shallower one.
#[test]
fn a_file_of_a_deeper_network_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep.safetensors");
    let narrow = Options { width: 0.125, ..Options::default() };
    let network = |name| Network::with_options(name, &narrow, [3, 16, 16], 5, &Device::cpu(), 1).unwrap();
    for (deep, shallow) in [("resnet32", "resnet20"), ("resnet34", "resnet18")] {
        write(&path, &tensors_of(&network(deep)));
        let message = network(shallow).load_safetensors(&path).unwrap_err().to_string();
        for words in ["'layer1.", "more", shallow, "another network"] {
            assert!(message.contains(words), "{words} is not in: {message}");
        }
    }
    // PyTorch's counters are no weights.
    let mut tensors = tensors_of(&network("resnet20"));
    tensors.insert("bn1.num_batches_tracked".into(), (Dtype::I64, vec![], vec![0; 8]));
    write(&path, &tensors);
    assert!(network("resnet20").load_safetensors(&path).unwrap().is_empty());
}

#[test]
fn files_of_other_numbers_and_names_are_converted_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.safetensors");
    let network = |seed| Network::new("cnn", [1, 8, 8], 4, &Device::cpu(), seed).unwrap();
    let (own, floats) = (tensors_of(&network(7)), |bytes: &[u8]| bytemuck::pod_collect_to_vec::<u8, f32>(bytes));
    // Numbers that the short kinds hold exactly: of seven bits after the point.
    let coarse: Tensors = own
        .iter()
        .map(|(name, (dtype, shape, data))| {
            let rounded: Vec<f32> = floats(data).iter().map(|x| (x * 128.0).round() / 128.0).collect();
            (name.clone(), (*dtype, shape.clone(), bytemuck::cast_slice(&rounded).to_vec()))
        })
        .collect();
    type Shorten = fn(f32) -> Vec<u8>;
    let f16: Shorten = |x| {
        let exponent = x.abs().log2().floor() as i32;
        let fraction = (x.abs() / 2f32.powi(exponent) - 1.0) * 1024.0;
        let bits = if x == 0.0 { 0 } else { ((exponent + 15) as u16) << 10 | fraction as u16 };
        (bits | u16::from(x.is_sign_negative()) << 15).to_le_bytes().to_vec()
    };
    let kinds: [(Dtype, &str, Shorten); 3] = [
        (Dtype::F16, "F16", f16),
        (Dtype::BF16, "BF16", |x| ((x.to_bits() >> 16) as u16).to_le_bytes().to_vec()),
        (Dtype::F64, "F64", |x| f64::from(x).to_le_bytes().to_vec()),
    ];
    for (dtype, name, shorten) in kinds {
        let converted = coarse.iter().map(|(name, (_, shape, data))| {
            let data = floats(data).into_iter().flat_map(shorten).collect();
            (format!("module.{name}"), (dtype, shape.clone(), data))
        });
        write(&path, &converted.collect());
        let loaded = network(1);
        let notes = loaded.load_safetensors(&path).unwrap().join("; ");
        assert!(notes.contains("'module.'") && notes.contains(name), "{notes}");
        assert!(tensors_of(&loaded) == coarse, "{name}: other numbers");
    }
    let mut odd = own.clone();
    let (_, shape, data) = odd["conv1.bias"].clone();
    odd.insert("conv1.bias".into(), (Dtype::I32, shape, data));
    write(&path, &odd);
    assert!(network(1).load_safetensors(&path).unwrap_err().to_string().contains("I32"));
}

#[test]
fn weights_that_are_not_finite_are_refused_where_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.safetensors");
    let narrow = Options { width: 0.125, ..Options::default() };
    let network = Network::with_options("resnet20", &narrow, [3, 16, 16], 5, &Device::cpu(), 1).unwrap();
    let cases = [
        ("fc.weight", f32::NAN, "not finite"),
        ("bn1.weight", f32::NEG_INFINITY, "not finite"),
        ("bn1.running_mean", f32::INFINITY, "not finite"),
        ("bn1.running_var", -1e-3, "negative variances"),
    ];
    for (name, value, why) in cases {
        let mut tensors = tensors_of(&network);
        tensors.get_mut(name).unwrap().2[..4].copy_from_slice(&value.to_le_bytes());
        write(&path, &tensors);
        let message = network.load_safetensors(&path).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains(why), "{message}");
    }
}
