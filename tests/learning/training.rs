//! Whole steps and whole runs: both devices learn the same, a loss curve stays as recorded, and the same seed gives the same bits.

use crate::common;
use crate::common::runs::glyphs;
use engram::continual;
use engram::data::{Augment, Plan};
use engram::experiment::results::{Metrics, RunFolder};
use engram::experiment::{Config, run, sink::Silent};
use engram::models::Network;
use engram::ops::Mode;
use engram::optim::{Kind, Optimizer, Velocity};
use engram::tensor::no_grad;
use engram::training::Trainee;
use engram::{Device, Tensor};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The losses of some steps of iCaRL's second task: targets of three old classes come from a frozen network, those of the
/// others from the labels.
fn losses(device: &Device, n_steps: usize) -> Vec<f32> {
    let dataset = glyphs(8 * n_steps, 10);
    let network = Network::new("cnn", [1, 28, 28], 10, device, 1).unwrap();
    let old = Network::new("cnn", [1, 28, 28], 10, device, 2).unwrap().snapshot().unwrap();
    let mut optimizer = Optimizer::new(Kind::Adam, 0.9, 0.0, &network.parameters).unwrap();
    let learner = continual::Learner::new(network, device, &dataset).unwrap();
    let plan = Plan {
        images: dataset.train.clone(),
        samples: Arc::new((0..dataset.train.len() as u32).collect()),
        label_of_class: Arc::new((0..10).collect()),
        batch_size: 8,
        seed: 1,
        first_epoch: 0,
        n_epochs: 1,
        augment: Augment::default(),
        drop_last: false,
    };
    let mut losses = Vec::new();
    for (_, batch) in plan.batches().unwrap() {
        let x = learner.input(&batch).unwrap();
        let labels = Tensor::from_u32(device, [batch.len()], &batch.labels).unwrap();
        let targets = no_grad(|| old.forward(&x, Mode::Eval)?.logits.mixed_targets(&labels, 3)).unwrap();
        let loss = learner.network.forward(&x, Mode::Train).unwrap().logits.bce_with_logits(&targets).unwrap();
        Trainee { parameters: &learner.network.parameters, optimizer: &mut optimizer }.learn(&loss, 1e-3).unwrap();
        losses.push(loss.item().unwrap());
    }
    assert_eq!(losses.len(), n_steps);
    losses
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len());
    for (step, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs() / expected.abs();
        assert!(error <= 1e-3, "{what}, step {step}: {got} instead of {expected}, a relative error of {error:.1e}");
    }
}

#[test]
fn both_devices_learn_the_same() {
    if let Some(gpu) = common::gpu(false) {
        assert_close(&losses(&gpu, 20), &losses(&Device::cpu(), 20), "the GPU's loss");
    }
}

/// Printed by `cargo test --release --test learning the_curve_is_the_known_one -- --nocapture`. They change with the recipe
/// in `losses`, with `glyphs` and with initialisation, and with nothing else.
#[rustfmt::skip]
const CURVE: [f32; 20] = [
    0.7070044, 0.61713326, 0.53185683, 0.39577714, 0.4695892, 0.43663353, 0.4804808, 0.58450484, 0.65023386, 0.509513,
    0.41539422, 0.4727903, 0.44211492, 0.47876617, 0.47692093, 0.45245013, 0.44298372, 0.45198515, 0.38219297, 0.4112085,
];

#[test]
fn the_curve_is_the_known_one() {
    let losses = losses(&Device::cpu(), CURVE.len());
    println!("{losses:?}");
    assert_close(&losses, &CURVE, "the loss");
}

// ------------------------------------------------------------------------------------------------------- determinism

fn config(model: &str) -> Config {
    let settings =
        [("model", model), ("classes_per_task", "4"), ("memory", "15"), ("epochs", "2"), ("batch_size", "16")];
    Config::of(continual::spec("icarl").unwrap(), &settings).unwrap()
}

/// Metrics and the bytes of the weights after a short run of iCaRL: three tasks, whose last batches are smaller.
fn short_run(device: &Device, model: &str, n_train: usize) -> (Metrics, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(dir.path(), false).unwrap();
    let dataset = glyphs(n_train, 10);
    let never = AtomicBool::new(false);
    let metrics = run(&config(model), &dataset, device, Some(&folder), &mut Silent, &never).unwrap();
    assert!(metrics.complete && metrics.n_tasks == 3);
    (metrics, std::fs::read(dir.path().join("model.safetensors")).unwrap())
}

#[track_caller]
fn assert_same(one: &(Metrics, Vec<u8>), other: &(Metrics, Vec<u8>), what: &str) {
    assert!(one.1 == other.1, "the weights differ: {what}");
    assert_eq!(one.0, other.0, "the metrics differ: {what}");
}

#[test]
fn a_run_on_the_cpu_can_be_repeated_with_any_number_of_threads() {
    let with_threads = |n| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| short_run(&Device::cpu(), "cnn", 70))
    };
    let once = with_threads(2);
    assert_same(&once, &with_threads(2), "two runs with two threads");
    assert_same(&once, &with_threads(1), "one thread and two");
    assert_same(&once, &with_threads(5), "five threads and two");
}

#[test]
fn a_run_on_the_gpu_can_be_repeated() {
    if let (Some(gpu), Some(other)) = (common::gpu(false), common::gpu(false)) {
        let once = short_run(&gpu, "mlp", 70);
        // What a device has done before must not matter.
        assert_same(&once, &short_run(&gpu, "mlp", 70), "two runs on one device");
        assert_same(&short_run(&gpu, "cnn", 20), &short_run(&other, "cnn", 20), "the device opened again");
    }
}

#[test]
fn bounds_checks_change_no_bit_on_a_software_adapter() {
    let (Some(unchecked), Some(checked)) = (common::gpu(false), common::gpu(true)) else { return };
    let Device::Gpu(gpu) = &unchecked else { unreachable!() };
    if !gpu.is_software() {
        eprintln!("SKIPPED: compilers of hardware may contract differently with checks");
        return;
    }
    assert_same(&short_run(&unchecked, "mlp", 70), &short_run(&checked, "mlp", 70), "mlp");
    let bits = |device| losses(device, 5).into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(&unchecked), bits(&checked), "losses of cnn");
}

#[test]
fn another_seed_is_another_run() {
    let dataset = glyphs(90, 40);
    let never = AtomicBool::new(false);
    let run = |seed| {
        let config = config("mlp").seeded(seed);
        run(&config, &dataset, &Device::cpu(), None, &mut Silent, &never).unwrap()
    };
    assert_ne!(run(1).classifiers, run(2).classifiers);
    assert_eq!(run(1), run(1));
}

#[test]
fn an_interrupted_run_says_so() {
    let interrupted = AtomicBool::new(true);
    let error = run(&config("mlp"), &glyphs(90, 40), &Device::cpu(), None, &mut Silent, &interrupted).unwrap_err();
    assert_eq!(error.exit_code(), 130);
}

/// Weights after three steps with these rates, along the gradient of a fixed batch's loss.
fn weights(velocity: Velocity, rates: [f32; 3]) -> Vec<f32> {
    let device = Device::cpu();
    let network = Network::new("mlp", [1, 2, 2], 2, &device, 1).unwrap();
    let optimizer = Optimizer::new(Kind::Sgd, 0.5, 0.01, &network.parameters).unwrap();
    let mut optimizer = optimizer.with_velocity(velocity);
    let x = Tensor::from_f32(&device, [2, 1, 2, 2], &[0.5, -1.0, 2.0, 0.25, 1.0, 1.0, -0.5, 0.0]).unwrap();
    let labels = Tensor::from_u32(&device, [2], &[0, 1]).unwrap();
    for lr in rates {
        let loss = network.forward(&x, Mode::Train).unwrap().logits.cross_entropy(&labels, 2).unwrap();
        network.parameters.backward(&loss).unwrap();
        optimizer.step(&network.parameters, lr).unwrap();
    }
    network.parameters.values().to_vec().unwrap()
}

/// A rate of 0 stops a velocity of gradients, and lets one of steps run out.
#[test]
fn a_velocity_of_steps_keeps_the_rate_of_its_time() {
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let (gradients, steps) = (Velocity::Gradients, Velocity::Steps);
    let [one, same] = [gradients, steps].map(|velocity| weights(velocity, [0.1; 3]));
    assert!(distance(&one, &same) < 1e-6, "at one rate they are the same");
    let start = weights(gradients, [0.0; 3]);
    let first: Vec<f32> = weights(steps, [0.1, 0.0, 0.0]).iter().zip(&start).map(|(w, start)| w - start).collect();
    let alone: Vec<f32> = weights(gradients, [0.1, 0.0, 0.0]).iter().zip(&start).map(|(w, s)| w - s).collect();
    // 1 + ½ + ¼ of the first step.
    let expected: Vec<f32> = alone.iter().map(|step| 1.75 * step).collect();
    assert!(distance(&first, &expected) < 1e-6 && distance(&first, &alone) > 1e-3);
}
