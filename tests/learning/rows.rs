//! What every row of the table of methods must pass, whatever the method: it trains, resumes bit by bit, is the same for any number
//! of threads, notices that training diverges, and takes one image per class.

use crate::common::runs::{Interrupt, Pairs, Weights, config_of, glyphs, trained};
use engram::continual::{self, MethodSpec};
use engram::data::{Dataset, Target};
use engram::experiment::results::{Metrics, RunFolder};
use engram::experiment::sink::Silent;
use engram::experiment::{resume, run};
use engram::{Device, Error};
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| glyphs(160, 60));

const SHORT: Pairs = &[
    ("model", "mlp"),
    ("width", "0.125"),
    ("classes_per_task", "4"),
    ("max_tasks", "2"),
    ("memory", "20"),
    ("epochs", "2"),
    ("batch_size", "16"),
    ("fisher_samples", "5"),
    ("memory_epochs", "3"),
];

/// Those that learn from a class for each image; `segmentation.rs` has the others.
fn of_classes() -> impl Iterator<Item = &'static MethodSpec> {
    continual::ALL.iter().filter(|spec| spec.targets.contains(&Target::Class))
}

fn short(spec: &'static MethodSpec, more: Pairs) -> (Metrics, Weights) {
    trained(&config_of(spec, SHORT, more), &GLYPHS)
}

#[test]
fn every_method_is_the_same_for_any_number_of_threads() {
    for spec in of_classes() {
        let with = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(|| short(spec, &[]));
        let ((metrics, weights), (others_metrics, others)) = (with(1), with(3));
        assert!(weights == others && metrics == others_metrics, "{}: threads matter", spec.name);
        let chance = 1.0 / metrics.classes_per_task.concat().len() as f64;
        let (_, own) = engram::experiment::results::main_classifier(&metrics).unwrap();
        assert!(metrics.complete && own.seen_accuracy[0] > chance, "{} learns nothing", spec.name);
    }
}

#[test]
fn every_method_goes_on_where_it_was_interrupted() {
    let (dir, device) = (tempfile::tempdir().unwrap(), Device::cpu());
    for spec in of_classes() {
        let config = config_of(spec, SHORT, &[]);
        let folder = |name: &str| RunFolder::create(&dir.path().join(format!("{}-{name}", spec.name)), false).unwrap();
        let (whole, pieces) = (folder("whole"), folder("pieces"));
        run(&config, &GLYPHS, &device, Some(&whole), &mut Silent, &AtomicBool::new(false)).unwrap();
        let flag = AtomicBool::new(false);
        // In the second task, or in the second half of the only one; before the second where that is learned without training.
        let after = match spec.name {
            "ncm" | "ranpac" | "fecam" => 9,
            _ if spec.goes_by("epochs") => 11,
            _ => 7,
        };
        let stopped = run(&config, &GLYPHS, &device, Some(&pieces), &mut Interrupt(after, &flag), &flag);
        assert!(matches!(stopped, Err(Error::Interrupted)), "{}: {stopped:?}", spec.name);
        resume(&config, &GLYPHS, &device, &pieces, &mut Silent, &AtomicBool::new(false)).unwrap();
        for file in ["metrics.json", "model.safetensors", "accuracy.csv", "losses.csv"] {
            let read = |folder: &RunFolder| std::fs::read(folder.path().join(file)).unwrap();
            assert!(read(&whole) == read(&pieces), "{}: {file} differs", spec.name);
        }
    }
}

#[test]
fn every_method_notices_that_training_diverges() {
    for spec in of_classes() {
        let rate: Pairs = match spec.goes_by("lr") {
            true => &[("lr", "1e30"), ("optimizer", "sgd")],
            false => &[("memory_lr", "1e30")],
        };
        let config = config_of(spec, SHORT, rate);
        let result = run(&config, &GLYPHS, &Device::cpu(), None, &mut Silent, &AtomicBool::new(false));
        let message = result.map(drop).expect_err(spec.name).to_string();
        assert!(message.contains("diverged") && message.contains("Use a smaller"), "{}: {message}", spec.name);
    }
}

#[test]
fn every_method_takes_one_image_per_class() {
    for spec in of_classes() {
        let (metrics, _) = short(spec, &[("limit_per_task", "4")]);
        assert!(metrics.complete, "{}", spec.name);
    }
}
