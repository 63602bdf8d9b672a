//! Global distillation: its weighted losses, what the new task's teacher learns, and what the balanced fine-tuning moves.

use super::steps::{build, learner, task};
use crate::common;
use crate::common::runs::{Pairs, config, glyphs, trained};
use engram::continual::TaskData;
use engram::continual::gd::{class_weights, weighted_cross_entropy, weighted_kl_div};
use engram::data::Dataset;
use engram::{Device, Error, Tensor};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| glyphs(400, 100));

const SHORT: Pairs = &[
    ("model", "mlp"),
    ("width", "0.25"),
    ("classes_per_task", "2"),
    ("max_tasks", "3"),
    ("memory", "40"),
    ("epochs", "4"),
    ("batch_size", "16"),
];

const LOGITS: [f32; 12] = [0.5, -1.0, 2.0, 0.1, 0.3, 1.0, -2.0, 0.7, 3.0, -0.4, 0.2, 1.5];
const SAID: [f32; 12] = [1.5, 0.0, -1.0, 0.4, -0.3, 2.0, 0.5, 0.7, -1.0, 0.4, 2.2, 0.5];

/// log softmax(z/T) of a row, in f64.
fn log_p(row: &[f32], t: f64) -> Vec<f64> {
    let z: Vec<f64> = row.iter().map(|&z| f64::from(z) / t).collect();
    let sum: f64 = z.iter().map(|z| z.exp()).sum();
    z.iter().map(|z| z - sum.ln()).collect()
}

fn close(a: f32, b: f64, what: &str) {
    assert!((f64::from(a) - b).abs() <= 1e-5 * b.abs().max(1.0), "{what}: {a} and {b}");
}

/// Values and gradients on both devices against the formulas in f64.
#[test]
fn weighted_losses_are_those_of_their_formulas() {
    let (weights, labels, t) = ([0.5, 2.0, 1.25], [2u32, 0, 3], 2.0);
    let rows = |values: &'static [f32; 12]| values.chunks(4);
    for device in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten() {
        let tensor = |values: &[f32]| Tensor::from_f32(&device, [3, 4], values).unwrap();
        let student = tensor(&LOGITS).with_gradient();
        let gradient = |loss: &Tensor| loss.backward().unwrap().get(&student).unwrap().to_vec().unwrap();

        let ce = weighted_cross_entropy(&student, &labels, &weights).unwrap();
        let expected: f64 = rows(&LOGITS)
            .zip(labels)
            .zip(weights)
            .map(|((row, y), w)| -f64::from(w) * log_p(row, 1.0)[y as usize])
            .sum();
        close(ce.item().unwrap(), expected / 3.0, "cross-entropy");
        let found = gradient(&ce);
        for (n, (row, y)) in rows(&LOGITS).zip(labels).enumerate() {
            for (c, p) in log_p(row, 1.0).into_iter().map(f64::exp).enumerate() {
                let hit = f64::from(u8::from(c == y as usize));
                close(found[4 * n + c], f64::from(weights[n]) * (p - hit) / 3.0, "its gradient");
            }
        }

        let kl = weighted_kl_div(&student, &tensor(&SAID), t, &weights).unwrap();
        let t = f64::from(t);
        let pairs = || rows(&LOGITS).zip(rows(&SAID)).map(|(s, said)| (log_p(s, t), log_p(said, t)));
        let of_row =
            |(s, said): (Vec<f64>, Vec<f64>)| -> f64 { said.iter().zip(&s).map(|(q, p)| q.exp() * (q - p)).sum() };
        let expected: f64 = pairs().zip(weights).map(|(pair, w)| f64::from(w) * of_row(pair)).sum();
        close(kl.item().unwrap(), t * t * expected / 3.0, "divergence");
        let found = gradient(&kl);
        for (n, (s, said)) in pairs().enumerate() {
            for c in 0..4 {
                close(found[4 * n + c], f64::from(weights[n]) * t * (s[c].exp() - said[c].exp()) / 3.0, "its gradient");
            }
        }
    }
    let one = Tensor::from_f32(&Device::cpu(), [1, 4], &LOGITS[..4]).unwrap();
    assert!(
        weighted_cross_entropy(&one, &[4], &[1.0]).is_err() && weighted_cross_entropy(&one, &[0, 1], &[1.0]).is_err()
    );
    assert!(weighted_kl_div(&one, &one, 2.0, &[1.0, 1.0]).is_err());
}

/// With weights of 1 they are the losses that all methods share, and class weights make each class count alike.
#[test]
fn even_classes_weigh_nothing() {
    let device = Device::cpu();
    let tensor = |values: &[f32]| Tensor::from_f32(&device, [3, 4], values).unwrap();
    let (student, teacher) = (tensor(&LOGITS), tensor(&SAID));
    let plain = student.cross_entropy(&Tensor::from_u32(&device, [3], &[2, 0, 3]).unwrap(), 4).unwrap();
    let own = weighted_cross_entropy(&student, &[2, 0, 3], &[1.0; 3]).unwrap();
    close(own.item().unwrap(), f64::from(plain.item().unwrap()), "cross-entropy");
    let plain = student.kl_div(&teacher, 2.0).unwrap();
    let own = weighted_kl_div(&student, &teacher, 2.0, &[1.0; 3]).unwrap();
    close(own.item().unwrap(), f64::from(plain.item().unwrap()), "divergence");

    let labels = [0, 0, 0, 0, 1, 1, 2, 3, 3, 3];
    let weights = class_weights(&labels, &(0..4));
    let total = |class: u32| labels.iter().filter(|&&label| label == class).count() as f32 * weights[class as usize];
    assert!((0..4).all(|class| (total(class) - 2.5).abs() < 1e-6), "{weights:?}");
    assert_eq!(class_weights(&[0, 0, 0], &(0..2)), [0.5, 1.0]);
}

/// In the first task it is fine-tuning, to the bit; with a weight of 0 it does not matter what its teachers say.
#[test]
fn without_its_parts_it_is_fine_tuning() {
    let first: Pairs = &[("max_tasks", "1")];
    let (_, plain) = trained(&config("finetune", SHORT, first), &GLYPHS);
    let (_, weights) = trained(&config("gd", SHORT, first), &GLYPHS);
    assert!(weights == plain);
    let untaught = |confidence: &str| {
        let more = [("kd_weight", "0"), ("balanced_epochs", "0"), ("confidence_weight", confidence)];
        trained(&config("gd", SHORT, &more), &GLYPHS).1
    };
    assert!(untaught("0") == untaught("5"));
    let (_, weights) = trained(&config("gd", SHORT, &[("balanced_epochs", "0")]), &GLYPHS);
    assert!(weights != untaught("0"));
}

/// The fine-tuning moves the last layer, and nothing else that training moves.
#[test]
fn fine_tuning_moves_the_last_layer_alone() {
    let two: Pairs = &[("max_tasks", "2")];
    let (_, before) = trained(&config("gd", SHORT, &[two, &[("balanced_epochs", "0")]].concat()), &GLYPHS);
    let (_, after) = trained(&config("gd", SHORT, &[two, &[("balanced_epochs", "3")]].concat()), &GLYPHS);
    let moved: Vec<&str> = before.keys().map(String::as_str).filter(|&name| before[name] != after[name]).collect();
    assert_eq!(moved, ["fc3.bias", "fc3.weight"]);
}

/// Images of the first task are answered right after the third, and all together many more than by fine-tuning.
#[test]
fn both_parts_hold_what_was_learnt() {
    let usual = [SHORT, &[("memory", "160"), ("epochs", "6")]].concat();
    let dataset = glyphs(1600, 400);
    let first_after_last = |method: &str| {
        let (metrics, _) = trained(&config(method, &usual, &[]), &dataset);
        let (_, own) = engram::experiment::results::main_classifier(&metrics).unwrap();
        (own.matrix.last().unwrap()[0].unwrap(), *own.seen_accuracy.last().unwrap())
    };
    let (plain, gd) = (first_after_last("finetune"), first_after_last("gd"));
    assert!(gd.0 > plain.0 + 0.2 && gd.1 > plain.1 + 0.2, "fine-tuning {plain:?}, gd {gd:?}");
}

#[test]
fn it_learns_where_the_task_is_known() {
    let (metrics, _) = trained(&config("gd", SHORT, &[("scenario", "task")]), &GLYPHS);
    let (_, own) = engram::experiment::results::main_classifier(&metrics).unwrap();
    assert!(own.seen_accuracy.iter().all(|&accuracy| accuracy > 0.7), "{:?}", own.seen_accuracy);
}

/// Interrupted while the last layer is tuned, a task's end leaves all of the network as it was, running statistics too: it is called again.
#[test]
fn an_interrupted_fine_tuning_leaves_the_network_alone() {
    let learner = learner("resnet20", &Device::cpu());
    let mut gd = build("gd", &[("epochs", "1"), ("balanced_epochs", "1000000")]);
    gd.end_task(&learner, &task(&learner, 0, 4)).unwrap();
    let interrupted: &'static AtomicBool = Box::leak(Box::default());
    let second = TaskData { interrupted, ..task(&learner, 1, 4) };
    gd.begin_task(&learner, &second).unwrap();
    let before = learner.network.to_safetensors().unwrap();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            interrupted.store(true, Relaxed);
        });
        gd.end_task(&learner, &second)
    });
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    assert!(learner.network.to_safetensors().unwrap() == before);
}
