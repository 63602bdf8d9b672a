//! The continual-learning metrics against numbers computed by hand, and where they are shown.

use crate::common::program::succeeds;
use engram::continual::Held;
use engram::experiment::comparison::{self, Entry, Outcome};
use engram::experiment::measures::MEASURES;
use engram::experiment::metrics::*;
use engram::experiment::results::{
    ClassifierName, ClassifierResult, MaskScores, MemoryBytes, Metrics, RunFolder, Timing, accuracy_csv,
};
use engram::experiment::statistics::{paired_difference, t_95};
use engram::report::{Summary, seeds_table, write_comparison, write_run, write_seeds};
use std::collections::BTreeMap;

fn close(a: Option<f64>, b: f64) {
    assert!(a.is_some_and(|a| (a - b).abs() < 1e-12), "{a:?} is not {b}");
}

/// Task 0 goes 0.5 → 0.75 → 0.25, task 1 goes 1.0 → 0.5, task 2 is fresh.
fn three_by_three() -> Vec<Vec<Option<f64>>> {
    vec![vec![Some(0.5), None, None], vec![Some(0.75), Some(1.0), None], vec![Some(0.25), Some(0.5), Some(1.0)]]
}

fn run() -> Metrics {
    let mut nme = ClassifierResult::default();
    for (row, seen) in three_by_three().into_iter().zip([0.5, 0.9, 0.7]) {
        nme.push(row, seen);
    }
    Metrics {
        method: "icarl".into(),
        dataset: "glyphs".into(),
        model: "cnn".into(),
        scenario: "class".into(),
        seed: 3,
        n_tasks: 3,
        classes_per_task: vec![vec![0, 1], vec![2, 3], vec![4, 5]],
        score: Default::default(),
        n_candidates: None,
        n_tested: Vec::new(),
        domains_per_task: Vec::new(),
        left_out: Vec::new(),
        memory_bytes: vec![
            MemoryBytes::from(Held { exemplars: 10, old_network: 20, class_means: 3, ..Held::default() });
            3
        ],
        complete: true,
        judged_by: vec![ClassifierName { name: "nme".into(), explanation: "nearest mean of exemplars".into() }],
        classifiers: BTreeMap::from([("nme".to_string(), nme)]),
        any_time: Vec::new(),
        average_any_time_accuracy: None,
    }
}

#[test]
fn three_tasks_by_hand() {
    let r = three_by_three();
    // Best before the last step: 0.75 (not 0.5, its first value) and 1.0. ((0.75 − 0.25) + (1.0 − 0.5)) / 2.
    close(forgetting(&r), 0.5);
    // ((0.25 − 0.5) + (0.5 − 1.0)) / 2.
    close(backward_transfer(&r), -0.375);
    close(average_incremental_accuracy(&[0.5, 0.9, 0.7]), 0.7);
    close(final_accuracy(&[0.5, 0.9, 0.7]), 0.7);
}

/// R = ½ – –; ¾ 1 –; ¼ ½ 1.
#[test]
fn averages_over_tasks_by_hand() {
    let r = three_by_three();
    // (¼ + ½ + 1)/3, the diagonal (½ + 1 + 1)/3.
    close(average_accuracy(&r), 1.75 / 3.0);
    close(learning_accuracy(&r), 2.5 / 3.0);
    // BWT is LA's counterpart: ACC − LA = BWT·(T − 1)/T.
    let difference = average_accuracy(&r).unwrap() - learning_accuracy(&r).unwrap();
    close(Some(difference), backward_transfer(&r).unwrap() * 2.0 / 3.0);
    // Just before tasks 1 and 2: ½ and ¼ from ¼ and ⅛.
    close(forward_transfer(&[[0.5, 0.25], [0.25, 0.125]]), (0.25 + 0.125) / 2.0);
    close(average_any_time_accuracy(&[0.5, 1.0, 0.75]), 0.75);
    assert_eq!((average_accuracy(&[]), learning_accuracy(&[])), (None, None));
    assert_eq!((forward_transfer(&[]), average_any_time_accuracy(&[])), (None, None));
}

#[test]
fn accuracy_by_class() {
    let counts = confusion(&[0, 0, 1, 2, 2, 2], &[0, 2, 1, 0, 0, 2], 4);
    assert_eq!(accuracy_per_class(&counts, &[2, 1, 3, 0]), [Some(0.5), Some(1.0), Some(1.0 / 3.0), None]);
}

/// Student's t: intervals by hand, and what is too little.
#[test]
fn paired_differences_have_intervals() {
    let (low, mean, high) = paired_difference(&[0.9, 0.8, 0.7, 0.8], &[0.8, 0.8, 0.6, 0.6]).unwrap();
    // Differences 0.1, 0, 0.1, 0.2: mean 0.1, deviation √(0.02/3), standard error that over 2, t(3) = 3.182.
    let half = 3.182 * (0.02f64 / 3.0).sqrt() / 2.0;
    assert!((mean - 0.1).abs() < 1e-12 && (low - 0.1 + half).abs() < 1e-9 && (high - 0.1 - half).abs() < 1e-9);
    assert_eq!(paired_difference(&[0.5], &[0.4]), None);
    assert_eq!((t_95(2), t_95(31), t_95(1)), (Some(12.706), Some(2.042), None));
    // t(499) = 1.96473, not the 1.95996 of a normal distribution.
    assert!((t_95(500).unwrap() - 1.96473).abs() < 1e-5);
}

#[test]
fn forgetting_has_a_term_per_old_task() {
    assert_eq!(forgetting_per_task(&three_by_three()), [Some(0.5), Some(0.5), None]);
    assert_eq!(forgetting_per_task(&three_by_three()[..1]), [None]);
    assert!(forgetting_per_task(&[]).is_empty());
}

#[test]
fn confusion_counts_by_true_and_predicted_label() {
    let counts = confusion(&[0, 0, 1, 2, 2, 2], &[0, 2, 1, 0, 0, 2], 3);
    assert_eq!(counts, [[1, 0, 1], [0, 1, 0], [2, 0, 1]]);
}

#[test]
fn rows_may_end_at_the_diagonal() {
    let short: Vec<Vec<Option<f64>>> =
        three_by_three().into_iter().map(|row| row.into_iter().filter(Option::is_some).collect()).collect();
    close(forgetting(&short), 0.5);
    close(backward_transfer(&short), -0.375);
}

#[test]
fn improvement_is_negative_forgetting() {
    let r = vec![vec![Some(0.5), None], vec![Some(0.75), Some(1.0)]];
    close(forgetting(&r), -0.25);
    close(backward_transfer(&r), 0.25);
}

#[test]
fn one_row_has_nothing_to_forget() {
    for r in [vec![], vec![vec![Some(0.9), Some(0.8)]]] {
        assert_eq!(forgetting(&r), None);
        assert_eq!(backward_transfer(&r), None);
    }
    assert_eq!(average_incremental_accuracy(&[]), None);
    assert_eq!(final_accuracy(&[]), None);
}

#[test]
fn mean_and_sample_deviation() {
    assert_eq!(mean_sd(&[0.25]), (0.25, 0.0));
    // Deviations −1, 0, 1: squares sum to 2, over n − 1 = 2.
    assert_eq!(mean_sd(&[1.0, 2.0, 3.0]), (2.0, 1.0));
    assert!(mean_sd(&[]).0.is_nan());
}

#[test]
fn pushing_rows_keeps_the_derived_numbers_up_to_date() {
    let mut result = ClassifierResult::default();
    result.push(vec![Some(0.5), None, None], 0.5);
    assert_eq!((result.forgetting(), result.final_accuracy()), (None, Some(0.5)));
    let full = &run().classifiers["nme"];
    close(full.forgetting(), 0.5);
    close(full.backward_transfer(), -0.375);
    close(full.average_incremental_accuracy(), 0.7);
    close(full.final_accuracy(), 0.7);
}

#[test]
fn the_json_has_the_promised_fields_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&dir.path().join("run"), false).unwrap();
    folder.write_json("metrics.json", &run()).unwrap();
    let text = std::fs::read_to_string(folder.path().join("metrics.json")).unwrap();
    assert_eq!(serde_json::from_str::<Metrics>(&text).unwrap(), run());

    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for field in ["method", "dataset", "model", "seed", "n_tasks", "classes_per_task", "memory_bytes", "complete"] {
        assert!(!json[field].is_null(), "{field}");
    }
    assert_eq!(json["memory_bytes"][0]["total"], 33);
    let nme = &json["classifiers"]["nme"];
    assert_eq!(nme["matrix"][0], serde_json::json!([0.5, null, null]));
    for field in ["seen_accuracy", "average_incremental_accuracy", "final_accuracy", "forgetting", "backward_transfer"]
    {
        assert!(!nme[field].is_null(), "{field}");
    }
}

/// Of each row: its field, its columns and its places for readers, in a run that has all that some runs have.
#[test]
fn every_measure_appears_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let command = "finetune --limit-per-task 20 --epochs 1 --model mlp --device cpu --classes-per-task 5 --seeds 2";
    succeeds(&dir, &format!("{command} --out out"));
    let root = dir.path().join("out");
    let folders = [1, 2].map(|seed| root.join(format!("seed-{seed}")));
    let runs = folders.clone().map(|folder| {
        let mut metrics = Metrics::read(&folder).unwrap();
        let network = metrics.classifiers.get_mut("network").unwrap();
        network.before = vec![[0.25, 0.5]];
        let iou = vec![Some(0.5); network.confusion.len()];
        network.masks = Some(MaskScores { iou, old: Some(0.5), new: Some(0.25), pixel_accuracy: 0.75 });
        RunFolder::open(&folder).unwrap().write_sealed("metrics.json", &metrics).unwrap();
        metrics
    });
    succeeds(&dir, "finetune --resume out");
    let entry = Entry {
        method: "finetune".into(),
        memory: None,
        ranked: true,
        outcomes: runs.clone().map(|metrics| Outcome { metrics, timing: Timing::default() }).into(),
    };
    let entries = std::slice::from_ref(&entry);

    let text = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let column = |csv: &str, name: &str| {
        let at = csv.lines().next().unwrap().split(',').position(|column| column == name);
        at.and_then(|at| csv.lines().nth(1).unwrap().split(',').nth(at)).and_then(|cell| cell.parse::<f64>().ok())
    };
    let field = |name: &str| json(&text(&folders[0].join("metrics.json")))["classifiers"]["network"][name].as_f64();
    let seeds_json = json(&text(&root.join("seeds.json")));
    let comparison_json = comparison::json(entries);
    let pages = [
        text(&write_run(&folders[0]).unwrap()),
        text(&write_seeds(&root, &folders).unwrap()),
        text(&write_comparison(&root, entries, &folders[..1], 0).unwrap()),
    ];
    let metrics = &runs[0];
    let summary = Summary { metrics, timing: None, memory: None, compare_with: None, folder: None }.text();

    for (i, measure) in MEASURES.iter().enumerate() {
        let name = measure.name;
        let [first, second] = runs.clone().map(|run| (measure.of)(&run.classifiers["network"]));
        let value = first.unwrap_or_else(|| panic!("{name} has no value here"));
        let (mean, _) = mean_sd(&[value, second.unwrap()]);
        assert_eq!(field(name), first, "{name} in metrics.json");
        assert_eq!(column(&text(&root.join("seeds.csv")), name), first, "{name} in seeds.csv");
        assert_eq!(column(&comparison::csv(entries), name), first, "{name} in comparison.csv");
        assert_eq!(seeds_json["classifiers"]["network"][name]["mean"], mean, "{name} in seeds.json");
        assert_eq!(comparison_json["entries"][0]["mean"][name], mean, "{name} in comparison.json");
        let title = measure.title(metrics.score);
        for (page, html) in ["run", "seeds", "comparison"].iter().zip(&pages) {
            assert!(html.contains(&format!(">{title}</th>")), "{name} on the page of a {page}");
        }
        let lines = |text: &str| text.lines().filter(|line| line.trim_start().starts_with(&title)).count();
        assert_eq!(lines(&seeds_table(&runs)), usize::from(measure.in_summary), "{name} in the table of seeds");
        // The first stands in the sentence that the summary begins with.
        assert_eq!(lines(&summary), usize::from(measure.in_summary && i > 0), "{name}:\n{summary}");
    }
}

#[test]
fn the_csv_is_in_long_form() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(dir.path(), false).unwrap();
    folder.write_bytes("accuracy.csv", accuracy_csv(&run()).as_bytes()).unwrap();
    let csv = std::fs::read_to_string(dir.path().join("accuracy.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "classifier,after_task,task,accuracy");
    assert_eq!(lines[1..4], ["nme,0,0,0.5", "nme,0,seen,0.5", "nme,1,0,0.75"]);
    assert_eq!(lines.len(), 1 + 6 + 3, "six known entries and three rows of `seen`");
}
