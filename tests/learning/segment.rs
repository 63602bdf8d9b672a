//! Losses of continual segmentation: PyTorch transcriptions of the authors' code, values by hand, limits.

use crate::common;
use crate::common::golden;
use engram::continual::fold_branches;
use engram::continual::pixel_losses::{
    CUBES, EntropyHistogram, adaptive_cross_entropy, distillation, local_pod, new_as_background, pooled_channels,
    pooled_cube, start_new_classes, unbiased_cross_entropy, unbiased_distillation,
};
use engram::models::{Network, Options};
use engram::nn::Pass;
use engram::ops::{IGNORE, Mode};
use engram::rng::{Purpose, Rng};
use engram::{Device, Result, Tensor};
use std::path::Path;

fn devices() -> impl Iterator<Item = Device> {
    [Some(Device::cpu()), common::gpu(false)].into_iter().flatten()
}

fn random(device: &Device, shape: [usize; 4], key: u64) -> Tensor {
    let mut rng = Rng::keyed(3, Purpose::Test, key);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.range(-2.0, 2.0)).collect();
    Tensor::from_f32(device, shape, &values).unwrap()
}

/// By the name of the case in `golden/segment.txt`.
fn loss(name: &str, x: &[Tensor]) -> Result<Tensor> {
    let (n_old, n_seen) = (4, 6);
    match name {
        "unbiased_cross_entropy" => unbiased_cross_entropy(&x[0], &x[1], n_old, n_seen),
        "unbiased_distillation" => unbiased_distillation(&x[0], &x[1], n_old, n_seen),
        "distillation" => distillation(&x[0], &x[1], n_old),
        "pseudo_labels" => Ok(x[1].pseudo_labels(&x[0], &x[2])?.labels),
        "accepted" => Ok(x[1].pseudo_labels(&x[0], &x[2])?.accepted),
        "adaptive_cross_entropy" => adaptive_cross_entropy(&x[0], &x[2].pseudo_labels(&x[1], &x[3])?, n_seen),
        "local_pod" | "local_pod_odd" => local_pod(&x[0], &x[1], &[1, 2, 4]),
        "new_as_background" => new_as_background(&x[0], n_old, n_seen),
        "pooled_cube" => pooled_cube(&x[0], &x[1], CUBES),
        "pooled_channels" => pooled_channels(&x[0], &x[1]),
        "features" => x[0].mse(&x[1]),
        _ => panic!("no loss is called {name}"),
    }
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/segment.txt");
    let text = std::fs::read_to_string(path).unwrap();
    for device in devices() {
        let cases = golden::parse(&text);
        assert_eq!(cases.len(), 12);
        for case in cases {
            case.check("segment", |x| loss(case.name, x), &device);
        }
    }
}

/// One pixel: logits ln 1, ln 2, ln 3, ln 4, so that the softmax is 0.1, 0.2, 0.3, 0.4.
#[test]
fn losses_of_one_pixel_are_those_by_hand() {
    for device in devices() {
        let logits = Tensor::from_f32(&device, [1, 4, 1, 1], &[1.0f32, 2.0, 3.0, 4.0].map(f32::ln)).unwrap();
        let label = |class| Tensor::from_u32(&device, [1, 1, 1], &[class]).unwrap();
        let close = |got: Tensor, expected: f64| {
            let got = f64::from(got.item().unwrap());
            assert!((got - expected).abs() < 1e-6, "{got} instead of {expected}");
        };
        // Two old classes: background is 0.1 + 0.2.
        close(unbiased_cross_entropy(&logits, &label(0), 2, 4).unwrap(), -(0.3f64.ln()));
        close(unbiased_cross_entropy(&logits, &label(1), 2, 4).unwrap(), -(0.3f64.ln()));
        close(unbiased_cross_entropy(&logits, &label(3), 2, 4).unwrap(), -(0.4f64.ln()));
        close(unbiased_cross_entropy(&logits, &label(IGNORE), 2, 4).unwrap(), 0.0);
        close(logits.cross_entropy(&label(1), 4).unwrap(), -(0.2f64.ln()));
        // The old network says ½ and ½; to it the new classes are background: 0.1 + 0.3 + 0.4.
        let old = Tensor::from_f32(&device, [1, 2, 1, 1], &[5.0, 5.0]).unwrap();
        close(unbiased_distillation(&logits, &old, 2, 4).unwrap(), -(0.5 * 0.8f64.ln() + 0.5 * 0.2f64.ln()) / 2.0);
        let (p0, p1) = (1.0f64 / 3.0, 2.0f64 / 3.0);
        close(distillation(&logits, &old, 2).unwrap(), -(0.5 * p0.ln() + 0.5 * p1.ln()) / 2.0);
        // A map of one pixel is its own strip: two strips of the difference 9 − 4 of squares.
        let [a, b] = [3.0, 2.0].map(|value| Tensor::from_f32(&device, [1, 1, 1, 1], &[value]).unwrap());
        close(local_pod(&a, &b, &[1, 2, 4]).unwrap(), 5.0 * 2f64.sqrt());
        // Windows of 2 with a zero on all sides: four means of a pixel and three zeros.
        close(pooled_cube(&a, &b, &[2]).unwrap(), 2.0 * 5.0 / 4.0);
        close(pooled_channels(&a, &b).unwrap(), 5.0 / 3.0);
    }
}

/// With one class that is old, there is nothing to merge; and equal maps pull at nothing.
#[test]
fn losses_become_the_plain_ones_at_their_limits() {
    for device in devices() {
        let logits = random(&device, [2, 5, 4, 6], 1).with_gradient();
        let labels: Vec<u32> = (0..48).map(|i| if i % 7 == 0 { IGNORE } else { i % 5 }).collect();
        let labels = Tensor::from_u32(&device, [2, 4, 6], &labels).unwrap();
        let bits = |y: &Tensor| {
            let gradient = y.backward().unwrap().get(&logits).unwrap().to_vec().unwrap();
            let all = [y.to_vec().unwrap(), gradient].concat();
            all.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let plain = bits(&logits.cross_entropy(&labels, 5).unwrap());
        assert_eq!(bits(&unbiased_cross_entropy(&logits, &labels, 1, 5).unwrap()), plain);
        let old = random(&device, [2, 5, 4, 6], 2);
        let without_new = bits(&unbiased_distillation(&logits, &old, 5, 5).unwrap());
        assert_eq!(bits(&distillation(&logits, &old, 5).unwrap()), without_new);
        for y in [
            local_pod(&logits, &logits, &[1, 2]),
            pooled_cube(&logits, &logits, &[4]),
            pooled_channels(&logits, &logits),
        ] {
            let y = y.unwrap();
            assert_eq!(y.item().unwrap(), 0.0);
            let gradient = y.backward().unwrap().get(&logits).unwrap().to_vec().unwrap();
            assert!(gradient.iter().all(|x| *x == 0.0), "equal maps have a gradient");
        }
        // No pixel counts.
        let none = Tensor::from_u32(&device, [2, 4, 6], &[IGNORE; 48]).unwrap();
        let y = logits.cross_entropy(&none, 5).unwrap();
        assert_eq!(y.item().unwrap(), 0.0);
        assert!(y.backward().unwrap().get(&logits).unwrap().to_vec().unwrap().iter().all(|x| *x == 0.0));
    }
}

#[test]
fn medians_of_entropies_are_those_by_hand() {
    let device = Device::cpu();
    // Two classes; logits 0 and x: the entropy falls from 1 with |x|. Class 0 is chosen at x < 0.
    let entropy = |x: f64| {
        let p = 1.0 / (1.0 + (-x).exp());
        -(p * p.ln() + (1.0 - p) * (1.0 - p).ln()) / 2f64.ln()
    };
    let second = [-0.5f32, -1.0, -2.0, -3.0, -4.0, 1.0, 9.0, 9.0];
    let logits: Vec<f32> = [[0.0; 8], second].concat();
    let logits = Tensor::from_f32(&device, [1, 2, 2, 4], &logits).unwrap();
    // The last two pixels are of a new class and of none.
    let labels = Tensor::from_u32(&device, [1, 2, 4], &[0, 1, 0, 0, 0, 0, 2, IGNORE]).unwrap();
    let mut histogram = EntropyHistogram::new(2);
    histogram.add(&logits, &labels).unwrap();
    let medians = histogram.medians(0.001);
    assert!((f64::from(medians[0]) - entropy(-2.0)).abs() < 0.01, "{medians:?}");
    assert!((f64::from(medians[1]) - entropy(1.0)).abs() < 0.01, "{medians:?}");
    // A second batch moves the median of class 0 down.
    histogram.add(&logits, &Tensor::from_u32(&device, [1, 2, 4], &[9, 9, 9, 0, 0, 9, 9, 9]).unwrap()).unwrap();
    let later = histogram.medians(0.001);
    assert!(later[0] < medians[0] && later[1] == medians[1], "{later:?}");
    assert_eq!(EntropyHistogram::new(3).medians(0.25), [0.25; 3]);
}

/// What the network says of the old classes, background with the new ones, is what it said before, and the new classes are equal.
#[test]
fn new_classes_start_as_parts_of_the_background() {
    for device in devices() {
        let network = Network::new("fcn3", [3, 16, 16], 6, &device, 5).unwrap();
        let x = random(&device, [2, 3, 16, 16], 4);
        let probabilities = |n: usize| {
            let logits = network.forward(&x, Mode::Eval).unwrap().logits.narrow_channels(0..n).unwrap();
            logits.to_pixels().unwrap().softmax(1.0).unwrap().to_vec().unwrap()
        };
        let before = probabilities(4);
        start_new_classes(&network, 4, 6).unwrap();
        let after = probabilities(6);
        for (before, after) in before.chunks(4).zip(after.chunks(6)) {
            assert!((after[4] - after[0]).abs() < 1e-6 && (after[5] - after[0]).abs() < 1e-6, "{after:?}");
            assert!((after[0] + after[4] + after[5] - before[0]).abs() < 1e-6, "{before:?} became {after:?}");
            assert!(
                after[1..4].iter().zip(&before[1..4]).all(|(a, b)| (a - b).abs() < 1e-6),
                "{before:?} became {after:?}"
            );
        }
        assert!(start_new_classes(&network, 0, 6).is_err());
        let classifier = Network::new("cnn", [1, 8, 8], 6, &device, 5).unwrap();
        assert!(start_new_classes(&classifier, 4, 6).is_err());
    }
}

/// The branch that keeps computes after folding what both computed: with the other one silent, the network says the same.
#[test]
fn two_branches_fold_into_one_exactly() {
    for device in devices() {
        let options = Options { width: 0.25, ..Options::default() };
        let network = Network::with_options("deeplab-lite-rc", &options, [3, 24, 24], 5, &device, 5).unwrap();
        // Statistics, scales and shifts as training leaves them.
        let mut rng = Rng::keyed(4, Purpose::Test, 1);
        for (name, shape, values) in network.parameters.to_host().unwrap() {
            let values: Vec<f32> = values.iter().map(|value| value + rng.range(-0.2, 0.2)).collect();
            network.parameters.set(name, &shape, &values).unwrap();
        }
        for step in 0..3 {
            network.forward(&random(&device, [4, 3, 24, 24], step), Mode::Train).unwrap();
        }
        let x = random(&device, [2, 3, 24, 24], 9);
        let says = || network.forward(&x, Mode::Eval).unwrap().logits.to_vec().unwrap();
        let before = says();
        fold_branches(&network).unwrap();
        let folded = says();
        // Half of the kept branch and half of nothing.
        let mut n_folded = 0;
        for (name, shape, values) in network.parameters.to_host().unwrap() {
            if name.contains("_kept.") {
                let twice: Vec<f32> = values.iter().map(|value| 2.0 * value).collect();
                network.parameters.set(name, &shape, &twice).unwrap();
                n_folded += 1;
            }
        }
        for (name, shape, values) in network.parameters.to_host().unwrap() {
            let conv = name.replace(".bn", ".conv");
            let norm_of_pyramid = name.strip_suffix(".1.weight").or(name.strip_suffix(".1.bias"));
            let beside = norm_of_pyramid.map_or(conv.clone(), |part| format!("{part}.0.weight"));
            let kept = beside.replace(".weight", "_kept.weight").replace(".bias", "_kept.weight");
            let is_norm_of_branch = (name.contains(".bn") || norm_of_pyramid.is_some())
                && network.parameters.places().any(|(parameter, _)| parameter.name == kept);
            if is_norm_of_branch {
                network.parameters.set(name, &shape, &vec![0.0; values.len()]).unwrap();
            }
        }
        assert_eq!(n_folded, 2 * 9, "six convolutions of blocks and three of the pyramid");
        let largest = before.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let after = says();
        for (before, after) in before.iter().zip(&after) {
            assert!((before - after).abs() <= 1e-5 * largest, "{before} became {after}");
        }
        assert_ne!(folded, before, "half of what both learnt and half of the other branch");
    }
}

/// Halves are the mean to the bit; where the branch that keeps counts alone, the other one changes nothing.
#[test]
fn branches_meet_as_their_weights_say() {
    for device in devices() {
        let options = Options { width: 0.25, ..Options::default() };
        let network = Network::with_options("deeplab-lite-rc", &options, [3, 24, 24], 5, &device, 5).unwrap();
        let kept: Vec<(String, usize)> = network
            .parameters
            .places()
            .filter_map(|(parameter, _)| {
                let name = parameter.name.strip_suffix("_kept.bias")?;
                Some((format!("{name}.weight"), parameter.shape[0]))
            })
            .collect();
        let x = random(&device, [2, 3, 24, 24], 9);
        let says = |share: f32| {
            let mixes: Vec<Tensor> =
                kept.iter().map(|(_, n)| Tensor::from_f32(&device, [*n], &vec![share; *n]).unwrap()).collect();
            let pass = Pass { mixes: &mixes, ..Pass::of(Mode::Eval) };
            network.pass(&x, pass).unwrap().0.logits.to_vec().unwrap()
        };
        assert_eq!(says(0.5), network.forward(&x, Mode::Eval).unwrap().logits.to_vec().unwrap());
        let before = [says(1.0), says(0.0)];
        assert_ne!(before[0], before[1]);
        for (name, shape, values) in network.parameters.to_host().unwrap() {
            if kept.iter().any(|(own, _)| own == name) {
                network.parameters.set(name, &shape, &vec![0.0; values.len()]).unwrap();
            }
        }
        assert_eq!(says(1.0), before[0]);
        assert_ne!(says(0.0), before[1]);
        let mixes = [Tensor::from_f32(&device, [1], &[0.5]).unwrap()];
        assert!(network.pass(&x, Pass { mixes: &mixes, ..Pass::of(Mode::Eval) }).is_err());
    }
}
