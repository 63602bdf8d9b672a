//! Settings that meet: each alone is common, and both together once gave a wrong number, an error or a panic.

use crate::common::program::{engram, fails, json, succeeds};
use serde_json::Value;
use std::path::Path;

const TINY: &str = "--dataset glyphs --model mlp --limit-per-task 40 --epochs 1 --device cpu";

fn metrics(dir: &Path, arguments: &str) -> Value {
    succeeds(dir, &format!("{arguments} {TINY} --out run --force"));
    json(dir.join("run/metrics.json"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn a_blurry_stream_that_is_cut_short_has_all_its_classes() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = metrics(dir.path(), "finetune --blurry 20 --max-tasks 2");
    assert_eq!((&metrics["n_candidates"], metrics["complete"].as_bool()), (&Value::from(10), Some(true)));
    let classes = json(dir.path().join("run/model.json"))["classes"].as_array().unwrap().len();
    assert_eq!(classes, 10);
    let said = succeeds(dir.path(), "report run").out;
    assert!(dir.path().join("run/report.html").is_file() && !said.contains("damaged"), "{said}");
}

#[test]
fn answers_of_classes_that_have_not_come_are_counted_as_wrong() {
    let dir = tempfile::tempdir().unwrap();
    // Next to nothing is learnt: answers are spread over all ten outputs.
    let metrics = metrics(dir.path(), "finetune --candidates all --max-tasks 2 --lr 1e-7");
    let counted: f64 =
        metrics["classifiers"]["network"]["confusion"].as_array().unwrap().iter().flat_map(numbers).sum();
    let tested: f64 = numbers(&metrics["n_tested"]).iter().sum();
    assert!(counted < tested && tested == 800.0, "{counted} of {tested}");
    let page = std::fs::read_to_string(dir.path().join("run/report.html")).unwrap();
    assert!(page.contains("of 800 test images") && page.contains("guessing would give 10.0 %"), "{page}");
    assert!(page.contains("yet to come") && !page.contains("all classes seen at that time"), "{page}");
}

#[test]
fn seconds_of_training_are_never_less_than_none() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(dir.path(), &format!("compare finetune er --eval-every 1 --seeds 1 --max-tasks 2 {TINY} --out both"));
    let text = std::fs::read_to_string(dir.path().join("both/comparison.csv")).unwrap();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let column = lines.next().unwrap().split(',').position(|name| name == "seconds_training").unwrap();
    let seconds: Vec<f64> = lines.map(|line| line.split(',').nth(column).unwrap().parse().unwrap()).collect();
    assert!(seconds.len() == 2 && seconds.iter().all(|&seconds| seconds > 0.0), "{text}");
}

#[test]
fn methods_on_frozen_features_answer_once_they_have_learned() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in ["ranpac --scenario task", "fecam --scenario task", "ranpac --eval-every 1", "ncm --eval-every 1"]
    {
        succeeds(dir.path(), &format!("{arguments} --max-tasks 2 {TINY} --out run --force"));
    }
}

#[test]
fn training_at_once_has_no_learning_accuracy() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = metrics(dir.path(), "joint");
    assert!(metrics["classifiers"]["network"]["learning_accuracy"].is_null(), "{metrics}");
}

#[test]
fn a_task_smaller_than_a_batch_is_a_step_of_vdfd_too() {
    let dir = tempfile::tempdir().unwrap();
    let usual = "--scenario task --max-tasks 2 --batch-size 64 --drop-last true --epochs 4 --lr-steps 2";
    for method in ["vdfd", "dfd"] {
        let arguments = "--dataset glyphs --model mlp --limit-per-task 20 --device cpu --out run --force";
        succeeds(dir.path(), &format!("{method} {usual} {arguments}"));
    }
}

#[test]
fn a_search_says_that_it_has_no_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = "tune dfd --rotations true --scenario task --lr-grid 0.001 --max-tasks 2";
    fails(
        dir.path(),
        &format!("{arguments} --dataset glyphs --model cnn --epochs 1 --device cpu"),
        2,
        &["--rotations"],
    );
}

/// The last rate of a head is what was asked for, whatever the rate of the other layers.
#[test]
fn the_rate_of_the_last_layer_is_its_own_in_later_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let usual = "finetune --scenario task --max-tasks 2 --head-lr 1e-2 --epochs 6 --limit-per-task 100 --batch-size 16";
    let arguments = format!("{usual} --later-lr 1e-12 --dataset glyphs --model mlp --device cpu --out run");
    succeeds(dir.path(), &arguments);
    let metrics = json(dir.path().join("run/metrics.json"));
    let second = metrics["classifiers"]["network"]["matrix"][1][1].as_f64().unwrap();
    assert!(second > 0.7, "two classes by their own outputs alone: {second}");
}

/// The cross-entropy over new outputs of a mask runs over the background too.
#[test]
fn new_outputs_of_masks_have_a_background() {
    let dir = tempfile::tempdir().unwrap();
    let usual = "lwf --dataset shape-city --scenario class --ce new --limit-per-task 8 --epochs 1 --width 0.25";
    succeeds(dir.path(), &format!("{usual} --max-tasks 2 --device cpu --out run"));
    let losses = std::fs::read_to_string(dir.path().join("run/losses.csv")).unwrap();
    let largest = losses.lines().skip(1).flat_map(|line| line.split(',').filter_map(|x| x.parse::<f64>().ok()));
    assert!(largest.fold(0.0, f64::max) < 1e6, "{losses}");
}

/// A learner whose kept pictures are forgotten goes on.
#[test]
fn a_trained_learner_outlives_its_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    super::learners::folders(&dir.join("p"), &[("one", 2), ("three", 2)]);
    for method in ["icarl", "er"] {
        let learned = format!("learn {method}.engram --from p --method {method} --steps 2 --device cpu");
        succeeds(dir, &learned);
        for class in ["one", "three"] {
            for i in 0..2 {
                engram(dir, &format!("forget {method}.engram --picture p/{class}/{i}.png --device cpu"));
                let asked = engram(dir, &format!("classify {method}.engram p/one/0.png --device cpu"));
                assert!(!asked.err.contains("panicked") && !asked.err.contains("bug:"), "{}", asked.err);
            }
        }
        succeeds(dir, &learned);
    }
}

/// What would be measured twice or against something else is refused before anything is trained.
#[test]
fn what_cannot_be_compared_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fails(dir.path(), "compare er --memory 10,10 --device cpu", 2, &["--memory has 10 twice"]);
    fails(dir.path(), "compare finetune lwf --memory 10 --device cpu", 2, &["none of these methods has --memory"]);
    fails(dir.path(), "er --warm-up 5 --epochs 1 --device cpu", 2, &["--warm-up 5", "--epochs 1"]);
    fails(dir.path(), "distill --train-fraction 1,1 --device cpu", 2, &["--train-fraction has 1 twice"]);
    fails(dir.path(), "distill --schemes hinton,dkd --of dkd:epochs=3", 2, &["--of dkd:epochs", "--epochs"]);
    succeeds(dir.path(), &format!("joint --class-order seed:1 {TINY} --out turned"));
    let teacher = "distill --teacher mlp --teacher-weights turned/model.safetensors --limit 20 --epochs 1 --device cpu";
    fails(dir.path(), teacher, 1, &["--class-order", "order of the data set"]);
    fails(dir.path(), "predict turned/nothing p.png", 2, &["no such run folder"]);
}

/// Pictures that were learned say little about new ones.
#[test]
fn an_evaluation_counts_what_was_learned() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    super::learners::folders(&dir.join("p"), &[("one", 4), ("three", 4)]);
    super::learners::folders(&dir.join("other"), &[("seventh", 3)]);
    succeeds(dir, "learn a.engram --from p --device cpu");
    let said = succeeds(dir, "evaluate a.engram --from p --device cpu").out;
    assert!(said.contains("8 of them were learned"), "{said}");
    let said = succeeds(dir, "evaluate a.engram --from other --device cpu").out;
    assert!(said.contains("none of these pictures is of a class that it knows") && !said.contains("0.0 %"), "{said}");
    std::fs::copy(dir.join("p/one/0.png"), dir.join("p/one/.hidden.png")).unwrap();
    std::fs::write(dir.join("p/one/._0.png"), b"a fork").unwrap();
    let answers = succeeds(dir, "classify a.engram p/one --csv --device cpu").out;
    assert_eq!(answers.lines().count(), 5, "{answers}");
    fails(dir, "inspect a.engram --sheet a.engram", 2, &["exists"]);
}
