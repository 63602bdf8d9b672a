//! `engram tune`: what it searches, that it never uses a test image, and what it prints.

use crate::common;
use crate::common::program::{fails, json, succeeds};
use crate::common::runs::Pairs;
use engram::continual;
use engram::data::{self, Dataset, Images};
use engram::experiment::sink::{Silent, Sink};
use engram::experiment::tune::{Framework, Search, Tuned, Validation, tune};
use engram::experiment::{Config, learn_task, run};
use engram::{Device, Error};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn config(method: &str, more: Pairs) -> Config {
    let usual = &[("model", "mlp"), ("width", "0.25"), ("limit_per_task", "60"), ("memory", "20"), ("epochs", "2")];
    common::runs::config(method, usual, more)
}

fn glyphs() -> Dataset {
    data::spec("glyphs").unwrap().load("unused: it is built in".as_ref()).unwrap()
}

fn search(config: &Config, dataset: &Dataset) -> Result<Tuned, Error> {
    let (device, interrupted) = (Device::cpu(), AtomicBool::new(false));
    let sink = || -> Box<dyn Sink> { Box::new(Silent) };
    let validation = Validation { fraction: 0.1, seed: 1 };
    let search = Search::new(config, dataset, validation, &device, &sink, &interrupted)?;
    let framework = Framework { rates: vec![3e-3, 1e-3], drop: 0.02, decay: 0.5, max_decays: 2 };
    tune(&search, &framework, |_| Ok(()))
}

#[test]
fn the_test_images_are_never_read() {
    let whole = glyphs();
    // Without test images no stream of tasks can even be made, unless something stands in their place.
    let nothing =
        Images { pixels: Vec::new(), labels: Vec::new(), views: Vec::new(), masks: Vec::new(), ..*whole.test };
    let without = Dataset { test: Arc::new(nothing), ..whole.clone() };
    for (method, scenario) in [("si", "task"), ("icarl", "class"), ("joint", "class")] {
        let config = config(method, &[("max_tasks", "2"), ("scenario", scenario)]);
        let found = search(&config, &without).unwrap();
        assert_eq!(found, search(&config, &whole).unwrap(), "{method}");
        assert_eq!(found.tasks.len(), if method == "joint" { 1 } else { 2 }, "{method}");
    }
    let refused = run(&config("si", &[]), &without, &Device::cpu(), None, &mut Silent, &AtomicBool::new(false));
    assert!(refused.unwrap_err().to_string().contains("no test images"), "a run does need them");
}

/// Task by task, each from where the last one ended, is the run itself.
#[test]
fn single_tasks_are_those_of_a_run() {
    let (dataset, device, interrupted) = (glyphs(), Device::cpu(), AtomicBool::new(false));
    for (method, reset_optimizer) in
        [("ewc", "true"), ("si", "false"), ("der++", "true"), ("icarl", "true"), ("lwf", "false")]
    {
        let config = config(method, &[("reset_optimizer", reset_optimizer), ("max_tasks", "3")]);
        let metrics = run(&config, &dataset, &device, None, &mut Silent, &interrupted).unwrap();
        let classifier = if method == "icarl" { "nme" } else { "network" };
        let mut before = None;
        for task in 0..3 {
            let learnt = learn_task(&config, &dataset, &device, before.as_ref(), task, &mut Silent, &interrupted);
            let (after, accuracy) = learnt.unwrap();
            assert_eq!(Some(accuracy), metrics.classifiers[classifier].matrix[task][task], "{method}, task {task}");
            before = Some(after);
        }
    }
}

#[test]
fn methods_are_tuned_by_what_they_have() {
    let dataset = glyphs();
    let short = |method: &str| config(method, &[("max_tasks", "2")]);
    let er = search(&short("er"), &dataset).unwrap();
    assert!(er.factor.is_none() && er.tasks.iter().all(|task| task.trade_offs.len() == 1 && task.required.is_none()));
    let der = search(&short("der++"), &dataset).unwrap();
    assert!(der.factor.is_some() && der.tasks[1].required.is_some() && der.tasks[0].required.is_none());
    let error = search(&short("gdumb"), &dataset).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("gdumb"), "{error}");
    for spec in continual::ALL {
        for (name, start) in spec.trade_off {
            assert!(spec.has(name) && *start > 0.0, "{}: {name}", spec.name);
        }
    }
}

const SHORT: &str = "--model mlp --width 0.25 --epochs 1 --limit-per-task 60 --max-tasks 2 --device cpu --threads 1";

#[test]
fn the_command_prints_what_it_tried_and_ends_with_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let line = format!("tune mas --scenario task --lr-grid 1e30,0.003,0.001 --drop 0.1 --out T {SHORT}");
    let out = succeeds(&dir, &line).out;
    for wanted in ["Task 2 of 2: 2 3", "diverged", "--penalty-weight 100 ", "kept", "Answer: mas with --lr 0.00"] {
        assert!(out.contains(wanted), "no {wanted:?} in {out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let search = json(dir.path().join("T/tune.json"));
    assert_eq!((search["complete"].as_bool(), search["tasks"].as_array().map(Vec::len)), (Some(true), Some(2)));
    assert_eq!(search["trade_off_start"]["penalty_weight"], 100.0);
    // The flags of the answer are flags.
    let out = out.replace(" \\\n      ", " ");
    let answer = out.lines().find(|line| line.trim_start().starts_with("engram mas")).expect("a command to go on with");
    succeeds(&dir, &format!("{} --quiet", answer.trim().trim_start_matches("engram ")));
    let compare = out.lines().find(|line| line.trim_start().starts_with("engram compare")).unwrap();
    let compare = compare.trim().trim_start_matches("engram ");
    succeeds(&dir, &format!("{compare} --seeds 1"));
    // A second search does not overwrite the first.
    fails(&dir, &line, 2, &["--force"]);
}

#[test]
fn wrong_use_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, wanted) in [
        ("nonsense", "unknown method"),
        ("gdumb", "nothing to tune"),
        ("ewc --drop 1", "--drop"),
        ("ewc --trade-off-decay 1", "--trade-off-decay"),
        ("ewc --penalty-weight 0", "begins at 0"),
        ("ewc --lr-grid 0.1,-1", "--lr-grid"),
        ("ewc --validation-fraction 1", "validation split"),
        ("er --penalty-weight 3", "er has no --penalty-weight"),
        ("icarl --scenario permuted", "does not suit"),
        ("ewc --seeds 3", "one seed"),
        ("ewc --dataset mnist", "mnist"),
    ] {
        let code = if arguments.contains("mnist") { 1 } else { 2 };
        fails(&dir, &format!("tune {arguments} --device cpu"), code, &[wanted]);
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "{arguments} left something");
    }
}
