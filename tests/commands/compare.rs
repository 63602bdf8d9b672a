//! `engram compare` and `engram methods` on the command line, and the conclusions that a comparison draws.

use crate::common::program::{Outcome, check_width, fails, json, succeeds};
use crate::learners::folders;
use engram::continual::{Classifier, Held};
use engram::experiment::comparison::{Cost, Entry, Outcome as Run, budgets, ranking};
use engram::experiment::results::{ClassifierResult, Metrics, Timing};
use std::collections::BTreeMap;
use std::path::Path;

const SHORT: &str = "--limit-per-task 40 --model mlp --width 0.25 --epochs 1 --device cpu --threads 1";

fn grid(out: &str) -> String {
    format!("compare finetune er der++ joint --seeds 2 --memory 20,40 --out {out} {SHORT}")
}

/// The columns of comparison.csv that do not depend on the clock.
fn timeless(folder: &Path) -> Vec<String> {
    let csv = std::fs::read_to_string(folder.join("comparison.csv")).unwrap();
    let mut lines: Vec<String> =
        csv.lines().map(|line| line.split(',').take(11).collect::<Vec<_>>().join(",")).collect();
    lines[1..].sort();
    lines
}

#[test]
fn a_grid_ends_with_an_answer_and_its_shards_are_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let text = succeeds(&dir, &grid("whole")).out;
    for wanted in ["er K=20", "er K=40", "der++ K=40", "finetune", "With at most", "Answer: ", "Upper reference: joint"]
    {
        assert!(text.contains(wanted), "{wanted} is not in {text}");
    }
    check_width(&text);
    let lines = timeless(&whole);
    // finetune, joint: 2 seeds; er, der++: 2 seeds of 2 memories.
    assert_eq!(lines.len(), 1 + 2 + 2 + 4 + 4);
    let entries = &json(whole.join("comparison.json"))["entries"];
    assert_eq!(entries.as_array().unwrap().len(), 6);
    assert!(entries[0]["mean"]["final_accuracy"].as_f64().unwrap() > 0.0);
    let page = std::fs::read_to_string(whole.join("report.html")).unwrap();
    for wanted in ["Accuracy against cost", "der++ K=40", "What is taken for what", "Exemplars", "--limit-per-task"] {
        assert!(page.contains(wanted), "{wanted} is not in the page");
    }
    assert!(!page.contains("NaN") && !page.contains("http"), "the page needs nothing from outside");

    // A second run has nothing to do, and says the same.
    let before = std::fs::metadata(whole.join("finetune/seed-1/metrics.json")).unwrap().modified().unwrap();
    succeeds(&dir, &grid("whole"));
    assert_eq!(std::fs::metadata(whole.join("finetune/seed-1/metrics.json")).unwrap().modified().unwrap(), before);

    // Three parts in folders of their own, then joined.
    for i in 1..=3 {
        let Outcome { err, .. } = succeeds(&dir, &format!("{} --shard {i}/3", grid(&format!("part-{i}"))));
        assert!(err.contains("of 12 runs are not complete"), "{err}");
    }
    succeeds(&dir, "report part-1 part-2 part-3");
    assert_eq!(timeless(&dir.path().join("part-1")), lines);

    // Other settings do not mix.
    fails(&dir, &format!("{} --batch-size 8", grid("whole")), 2, &["another --batch-size"]);
}

#[test]
fn wrong_comparisons_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, wanted) in [
        ("er nonsense", "unknown method 'nonsense'"),
        ("er er", "named twice"),
        ("er finetune --penalty-weight 1", "none of these methods has --penalty-weight"),
        ("er icarl --scenario permuted", "icarl does not suit"),
        ("er --of ewc:lr=1", "none of the methods compared"),
        ("er --of er", "METHOD:FLAG=VALUE"),
        ("er --of er:lr=x", "--lr"),
        ("er --shard 3/2", "1/4"),
        ("er --memory 5", "one exemplar for each"),
    ] {
        fails(&dir, &format!("compare --out x {arguments}"), 2, &[wanted]);
    }
    assert!(!dir.path().join("x").exists(), "nothing is made before the arguments are known to be good");
}

/// `--of` reaches its method only.
#[test]
fn settings_of_one_method_stay_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let own = "--of er:lr=0.01 --of er:replay-batch=7 --seeds 1 --max-tasks 1 --lr 0.002";
    succeeds(&dir, &format!("compare er finetune --out grid --memory 20 {own} {SHORT}"));
    let (er, finetune) =
        ["er-k20", "finetune"].map(|run| json(dir.path().join("grid").join(run).join("seed-1/config.json"))).into();
    assert_eq!((er["lr"].as_f64(), er["replay_batch"].as_u64()), (Some(0.01), Some(7)));
    assert_eq!((finetune["lr"].as_f64(), &finetune["replay_batch"]), (Some(0.002), &serde_json::Value::Null));
}

/// The memory of one method stands above the list for all.
#[test]
fn a_memory_of_one_method_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let methods = "er der++ ranpac --of er:memory=30";
    let command = format!("compare {methods} --out grid --memory 20 --seeds 1 --max-tasks 1 {SHORT}");
    let text = succeeds(&dir, &command).out;
    assert!(text.contains("er K=30") && text.contains("der++ K=20") && !text.contains("er K=20"), "{text}");
}

/// No mean of runs that differ in more than their seed, and no ranking of methods that are judged differently.
#[test]
fn runs_of_other_settings_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let part = |lr: &str, rest: &str| {
        format!("compare er finetune --memory 20 --seeds 2 --max-tasks 1 --lr {lr} {rest} {SHORT}")
    };
    succeeds(&dir, &part("0.001", "--out grid --shard 1/2"));
    fails(&dir, &part("0.1", "--out grid --shard 2/2"), 2, &["another --lr"]);
    succeeds(&dir, &part("0.1", "--seed 3 --out other"));
    fails(&dir, "report grid other", 2, &["differ in --lr", "no mean of"]);
    fails(&dir, &part("0.001", "--of er:candidates=all --out third"), 2, &["would differ in --candidates"]);
    // What was never begun counts as missing in a report of its own.
    let text = succeeds(&dir, "report grid");
    assert!(text.err.contains("2 of 4 runs are not complete"), "{}", text.err);
    let page = std::fs::read_to_string(dir.path().join("grid/report.html")).unwrap();
    assert!(page.contains("Incomplete"));
}

/// Two folders of one name hold other pictures.
#[test]
fn a_folder_elsewhere_is_another_data_set() {
    let dir = tempfile::tempdir().unwrap();
    for place in ["x/pics", "y/pics"] {
        folders(&dir.path().join(place), &[("one", 6), ("three", 6)]);
    }
    let compare = |folder: &str| {
        format!(
            "compare finetune er --memory 4 --dataset folder:{folder} --seeds 1 --epochs 1 --out grid --model cnn --width 0.25 \
             --device cpu --threads 1"
        )
    };
    succeeds(&dir, &compare("x/pics"));
    fails(&dir, &compare("y/pics"), 2, &["another --dataset"]);
}

/// What a preset sets and a shorter run never comes to is no part of the run, so that its record can be read again.
#[test]
fn a_run_shorter_than_its_preset_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let short = "--dataset glyphs --classes-per-task 2 --class-order natural --max-tasks 1 --limit-per-task 20 --model mlp --epochs 1 \
                 --memory 20 --device cpu --threads 1 --augment none --normalize channel";
    succeeds(&dir, &format!("icarl --preset icarl-cifar100 {short} --out a"));
    succeeds(&dir, "icarl --config a/config.json --out b");
    let [a, b] = ["a", "b"].map(|run| json(dir.path().join(run).join("config.json")));
    assert_eq!((&a["lr_steps"], &a["lr"]), (&serde_json::Value::Null, &b["lr"]));
    fails(
        &dir,
        &format!("icarl --preset icarl-cifar100 {short} --lr-steps 5 --out c"),
        2,
        &["--lr-steps 5 has no effect"],
    );
}

#[test]
fn methods_are_listed_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let text = succeeds(&dir, "methods").out;
    for spec in engram::continual::ALL {
        assert!(text.contains(spec.name), "{}", spec.name);
        let shown = succeeds(&dir, &format!("methods show {}", spec.name)).out;
        for wanted in ["equations", "holds", "expect", "deviations"] {
            assert!(shown.contains(wanted), "{}: {wanted} is not in {shown}", spec.name);
        }
        assert!(!spec.equations.is_empty() && !spec.expect.is_empty(), "{} says too little", spec.name);
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100));
    let ewc = succeeds(&dir, "methods show ewc").out;
    let flat = ewc.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("EWC alone does not solve class-incremental learning"), "{ewc}");
    fails(&dir, "methods show nonsense", 2, &["nonsense"]);
}

/// Final accuracies by seed 1, 2, 3.
fn entry(method: &str, accuracies: &[f64], bytes: u64, seconds: f64) -> Entry {
    let outcome = |(i, &accuracy): (usize, &f64)| {
        let mut result = ClassifierResult::default();
        result.push(vec![Some(accuracy)], accuracy);
        let held = Held { exemplars: bytes, ..Default::default() };
        let metrics = Metrics {
            method: method.into(),
            dataset: "glyphs".into(),
            model: "cnn".into(),
            scenario: "class".into(),
            seed: 1 + i as u64,
            n_tasks: 1,
            classes_per_task: vec![vec![0, 1]],
            score: Default::default(),
            n_candidates: None,
            n_tested: Vec::new(),
            domains_per_task: Vec::new(),
            left_out: Vec::new(),
            memory_bytes: vec![held.into()],
            complete: true,
            judged_by: vec![(&Classifier::NETWORK).into()],
            classifiers: BTreeMap::from([("network".to_string(), result)]),
            any_time: Vec::new(),
            average_any_time_accuracy: None,
        };
        let timing = Timing { seconds_training: vec![0.75 * seconds], ..Timing::default() };
        Run { metrics, timing: Timing { seconds_end_of_task: vec![0.25 * seconds], ..timing } }
    };
    let outcomes = accuracies.iter().enumerate().map(outcome).collect();
    Entry { method: method.into(), memory: None, ranked: method != "joint", outcomes }
}

#[test]
fn rankings_respect_budgets_and_pair_seeds() {
    let entries = [
        entry("a", &[0.90, 0.80, 0.85], 1000, 10.0),
        // Always one point below a: seeds differ by more than methods do, and yet they are told apart.
        entry("b", &[0.89, 0.79, 0.84], 1050, 100.0),
        entry("c", &[0.80, 0.95, 0.78], 0, 10.5),
        entry("d", &[0.95, 0.94, 0.95], 5000, 10.0),
        entry("joint", &[0.99, 0.99, 0.99], 0, 1.0),
    ];
    assert_eq!(budgets(&entries, Cost::Bytes), [1050.0, 5000.0]);
    let close = |budgets: Vec<f64>| budgets.iter().zip([10.5, 100.0]).all(|(a, b)| (a - b).abs() < 1e-9);
    assert!(close(budgets(&entries, Cost::Seconds)));
    let places = ranking(&entries, Cost::Bytes, 1050.0);
    assert_eq!(places.iter().map(|p| p.entry.method.as_str()).collect::<Vec<_>>(), ["a", "c", "b"]);
    assert!(places[1].is_indistinguishable() && !places[2].is_indistinguishable());
    let (low, mean, high) = places[2].below_first.unwrap();
    assert!((mean - 0.01).abs() < 1e-9 && high - low < 1e-6);
    let all = ranking(&entries, Cost::Bytes, f64::INFINITY);
    assert_eq!((all[0].entry.method.as_str(), all.len()), ("d", 4), "references are not ranked");
    let quick = ranking(&entries, Cost::Seconds, 10.5);
    assert!(quick.iter().all(|place| place.entry.method != "b"));
    // One seed says nothing about differences.
    let single = [entry("a", &[0.9], 1, 1.0), entry("b", &[0.8], 1, 1.0)];
    assert!(ranking(&single, Cost::Bytes, 1.0)[1].below_first.is_none());
}
