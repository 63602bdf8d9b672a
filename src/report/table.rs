//! The table that grows by a row per task.

use super::summary::{main_classifier, ordered_classifiers};
use super::text::{bytes, classes, counted, fit, percent, thousands, wrap};
use crate::experiment::results::{Metrics, Score};
use crate::experiment::sink::RunHeader;

/// More classifiers than this would not fit.
pub(super) const MAX_CLASSIFIERS: usize = 3;
const CLASSES: usize = 11;

/// Three lines that say what is about to run.
pub(super) fn run_header(header: &RunHeader) -> String {
    let device = fit(&header.device, 60);
    let n_parameters = thousands(header.n_parameters as u64);
    let first = format!(
        "{} on {}: {} with {n_parameters} parameters, on {device}",
        header.method, header.dataset, header.model
    );
    let n_classes = header.n_classes;
    let memory = header.memory.map(|k| format!(", memory for {}", counted(k, "exemplar", "exemplars")));
    let second = format!(
        "{}{} in {}{}, seed {}",
        counted(n_classes, "class", "classes"),
        match header.n_domains {
            0 => String::new(),
            n => format!(" and {}", counted(n, "domain", "domains")),
        },
        counted(header.n_tasks, "task", "tasks"),
        memory.unwrap_or_default(),
        header.seed
    );
    let n_test = counted(header.n_test, "test image", "test images");
    let third = format!("{}, {n_test}", counted(header.n_train, "training image", "training images"));
    wrap(&first, 2) + &wrap(&second, 2) + &wrap(&third, 2)
}

/// What the columns mean, and their names.
pub(super) fn table_header(metrics: &Metrics) -> String {
    let names: Vec<&str> = ordered_classifiers(metrics).map(|(name, _)| name).take(MAX_CLASSIFIERS).collect();
    let legend: Vec<String> = names.iter().map(|name| format!("{name}{}", explained(metrics, name))).collect();
    let main = names.first().unwrap_or(&"–");
    let what = match (metrics.score, metrics.domains_per_task.is_empty()) {
        (Score::Accuracy, _) => "Accuracy on the test images of all classes seen so far",
        (Score::MeanIou, true) => "mIoU of all classes seen so far, on pixels of these and the background",
        (Score::MeanIou, false) => "mIoU on the test images of all domains seen so far",
    };
    let text = format!(
        "{what}, by {}; \"1st task\": {main} on the first task alone. Held: by the method after the task.",
        legend.join(", ")
    );
    let brings = if metrics.domains_per_task.is_empty() { "classes" } else { "domains" };
    let mut cells = vec![format!("{:>7}", "task"), format!("{brings:<CLASSES$}")];
    cells.extend(names.iter().map(|name| format!("{:>8}", fit(name, 8))));
    cells.push(format!("{:>8}", "1st task"));
    cells.push(format!("{:>9}", "held"));
    cells.push(format!("{:>7}", "seconds"));
    let line = cells.join("  ");
    let rule = "─".repeat(line.chars().count());
    format!("\n{}{line}\n{rule}\n", wrap(&text, 2))
}

/// The row of the task that `metrics` ends with; its cells are as wide as those of [`table_header`].
pub(super) fn table_row(metrics: &Metrics, task: usize, n_tasks: usize, names: &[String], seconds: f64) -> String {
    let or_dash = |value: Option<f64>| format!("{:>8}", value.map_or("–".to_string(), percent));
    let mut cells =
        vec![format!("{:>7}", format!("{}/{n_tasks}", task + 1)), format!("{:<CLASSES$}", classes(names, CLASSES))];
    cells
        .extend(ordered_classifiers(metrics).take(MAX_CLASSIFIERS).map(|(_, result)| or_dash(result.final_accuracy())));
    let first_task = main_classifier(metrics).and_then(|(_, result)| *result.matrix.last()?.first()?);
    cells.push(or_dash(first_task));
    let held = metrics.memory_bytes.last().map_or(0, |memory| memory.total);
    cells.push(format!("{:>9}", bytes(held)));
    cells.push(format!("{seconds:>7.1}"));
    cells.join("  ") + "\n"
}

/// What a classifier goes by, in brackets, to stand behind its name.
pub(super) fn explained(metrics: &Metrics, classifier: &str) -> String {
    let own = metrics.judged_by.iter().find(|one| one.name == classifier && !one.explanation.is_empty());
    own.map(|one| format!(" ({})", one.explanation)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::results::ClassifierName;
    use crate::report::{WIDTH, summary::tests::icarl};

    #[test]
    fn header_and_row_line_up() {
        let metrics = icarl();
        let header = table_header(&metrics);
        let row = table_row(&metrics, 2, 3, &["4".into(), "5".into()], 12.34);
        let titles = header.lines().rev().nth(1).unwrap();
        assert_eq!(titles, "   task  classes           nme   network       ncm  1st task       held  seconds");
        assert_eq!(row, "    3/3  4 5            90.0 %    60.0 %    95.0 %    80.0 %    2.9 MiB     12.3\n");
    }

    #[test]
    fn nothing_is_wider_than_a_terminal() {
        let mut metrics = icarl();
        let result = metrics.classifiers["nme"].clone();
        for i in 0..9 {
            let name = format!("classifier_with_a_long_name_{i}");
            metrics.judged_by.push(ClassifierName { name: name.clone(), explanation: "a word".repeat(i) });
            metrics.classifiers.insert(name, result.clone());
        }
        metrics.memory_bytes[2].total = 12_345_678_901;
        let names: Vec<String> = (0..10).map(|i| format!("aquatic_mammal_{i}")).collect();
        let header = RunHeader {
            method: "icarl".into(),
            dataset: "cifar100".into(),
            model: "resnet32".into(),
            device: "a device with an exceptionally long name ".repeat(4),
            n_tasks: 100,
            classes_per_task: (0..100).map(|class| vec![class]).collect(),
            n_classes: 100,
            n_domains: 0,
            memory: Some(2_000),
            seed: u64::MAX,
            n_parameters: 466_896,
            n_train: 50_000,
            n_test: 10_000,
        };
        let text = run_header(&header) + &table_header(&metrics) + &table_row(&metrics, 99, 100, &names, 12_345.6);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(text.contains("100 classes in 100 tasks, memory for 2,000 exemplars, seed"), "{text}");
    }

    #[test]
    fn a_run_that_has_no_results_yet_shows_dashes() {
        let mut metrics = icarl();
        metrics.classifiers.clear();
        metrics.memory_bytes.clear();
        assert!(table_row(&metrics, 0, 1, &[], 0.0).contains('–'));
        assert!(table_header(&metrics).contains("classes"));
    }
}
