//! The end of a run in words, for somebody who has never seen one.

use super::curve;
use super::text::{bytes, classes, command, counted, duration, hang, in_unit, percent, thousands, wrap};
use crate::continual::spec;
use crate::data::Scenario;
use crate::experiment::measures;
use crate::experiment::results::{ClassifierResult, Metrics, Timing};
pub use crate::experiment::results::{main_classifier, ordered_classifiers};
use crate::settings::Choose;
use std::fmt::Write;
use std::path::Path;

const BAR: usize = 20;

/// Everything the closing summary tells of.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    /// What was measured.
    pub metrics: &'a Metrics,
    /// How long it took, if that is known.
    pub timing: Option<&'a Timing>,
    /// The exemplar budget K, for methods that keep exemplars.
    pub memory: Option<usize>,
    /// The command that runs the same stream with nothing against forgetting.
    pub compare_with: Option<&'a str>,
    /// Where the results lie, if they were written.
    pub folder: Option<&'a Path>,
}

impl Summary<'_> {
    /// The summary as paragraphs. Only a path may be wider than 100 columns.
    pub fn text(&self) -> String {
        let mut out = String::from("\n");
        let main = main_classifier(self.metrics).filter(|(_, result)| !result.matrix.is_empty());
        match main {
            Some((name, result)) => {
                out += &self.learned(name, result);
                out += &self.task_bars(result);
                if result.matrix.len() > 1 {
                    out += &self.memory_text();
                }
            }
            None => out += "Nothing was learned: no task was finished.\n",
        }
        if let Some(timing) = self.timing {
            let text = format!(
                "Time: {}, training at {} images per second.",
                duration(timing.seconds_total),
                thousands(timing.images_per_second.round() as u64)
            );
            out += &wrap(&text, 2);
        }
        if let Some(line) = self.compare_with {
            out += "The same stream with nothing against forgetting:\n";
            out += &command(line);
        }
        if let Some(folder) = self.folder {
            let _ = writeln!(out, "Results: {}", folder.display());
            let _ = writeln!(out, "To read in a browser: {}", folder.join(super::REPORT_FILE).display());
        }
        out
    }

    fn learned(&self, name: &str, result: &ClassifierResult) -> String {
        let m = self.metrics;
        let n_tasks = result.matrix.len();
        // Training at once has one row, on all tasks.
        let n_seen = result.matrix.last().map_or(0, |row| row.iter().flatten().count());
        let n_classes = m.n_labels(n_seen);
        let how = match n_tasks {
            1 => "learnt at once".to_string(),
            _ => format!("learnt in {} one after the other", counted(n_tasks, "task", "tasks")),
        };
        let stopped = if m.complete { "" } else { " (the run was not completed)" };
        let mut text = format!(
            "Result{stopped}: {} tells {} apart, {how}, with {} {} (classifier: {name}).",
            m.method,
            counted(n_classes, "class", "classes"),
            percent(result.final_accuracy().unwrap_or(f64::NAN)),
            m.score.name(),
        );
        match &result.masks {
            None => {
                let _ = write!(text, " Guessing would give {}.", percent(m.guessing(n_seen)));
                text += told(&m.scenario);
            }
            Some(_) => text += of_pixels(m),
        }
        let mut out = wrap(&text, 2) + &self.measures(result);
        if n_tasks > 1 {
            out += &m.score.worded("\nAccuracy on all classes seen, after each task:\n");
            let series: Vec<(&str, &[f64])> =
                ordered_classifiers(m).map(|(name, result)| (name, result.seen_accuracy.as_slice())).collect();
            out += &curve(&series);
        }
        out
    }

    /// A line for each measure of the short summary but the first, which the result has told.
    fn measures(&self, result: &ClassifierResult) -> String {
        let m = self.metrics;
        let line = |title: &str, value: String, help: &str| hang(&format!("  {title:<28} {value:>12}   "), help);
        let mut lines: String = measures::summary(result)
            .skip(1)
            .map(|(measure, value)| line(&measure.title(m.score), in_unit(measure.unit, value), measure.help))
            .collect();
        if let Some(accuracy) = m.average_any_time_accuracy {
            let title = m.score.worded("average any-time accuracy");
            let own = m.judged_by.first().map_or("", |classifier| classifier.name.as_str());
            lines += &line(&title, percent(accuracy), &format!("of {own}, along the stream"));
        }
        if lines.is_empty() { lines } else { format!("\n{lines}") }
    }

    fn task_bars(&self, result: &ClassifierResult) -> String {
        let Some(row) = result.matrix.last() else { return String::new() };
        let last = result.matrix.len() - 1;
        let title = if last > 0 { "What is left of each task" } else { "Accuracy by task" };
        let mut out = format!("\n{}:\n", self.metrics.score.worded(title));
        for (i, now) in row.iter().enumerate() {
            let Some(now) = *now else { continue };
            let labels = brought(self.metrics, i);
            let filled = (now.clamp(0.0, 1.0) * BAR as f64).round() as usize;
            let bar = format!("{}{}", "█".repeat(filled), "·".repeat(BAR - filled));
            let number = i + 1;
            let _ = write!(out, "  task {number:<3} {:<13} {bar} {:>7}", classes(&labels, 13), percent(now));
            let first = result.matrix.get(i).and_then(|row| row.get(i).copied().flatten());
            if let (true, Some(first)) = (i < last, first) {
                let _ = write!(out, "  ({} when it was new)", percent(first));
            }
            out.push('\n');
        }
        out + "\n"
    }

    fn memory_text(&self) -> String {
        let held = &self.metrics.memory_bytes;
        let (Some(first), Some(last)) = (held.first(), held.last()) else { return String::new() };
        if held.iter().all(|memory| memory.total == 0) {
            return "Memory: nothing was kept from one task to the next.\n".to_string();
        }
        let parts = [
            (last.exemplars, "exemplars"),
            (last.logits, "stored outputs"),
            (last.importance, "importances and the values they hold"),
            (last.old_network, "the old network"),
            (last.class_means, "class means"),
            (
                last.total.saturating_sub(
                    last.exemplars + last.logits + last.importance + last.old_network + last.class_means,
                ),
                "other",
            ),
        ];
        let parts: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{what} {}", bytes(*n))).collect();
        let mut text = format!(
            "Memory: {} held after the last task ({}), {} after the first.",
            bytes(last.total),
            parts.join(", "),
            bytes(first.total)
        );
        if let Some(k) = self.memory {
            // Each class may round its share up by less than one exemplar (definitions: m·seen ≤ K + seen − 1).
            let rounds = spec(&self.metrics.method).is_ok_and(|spec| spec.has("memory_rounding"));
            let seen: usize = self.metrics.classes_per_task.iter().map(Vec::len).sum();
            let most = if rounds { k + seen.saturating_sub(1) } else { k };
            let rounded = if rounds { ", each class rounded up" } else { "" };
            let _ = write!(
                text,
                " The exemplars are bounded: ≤ {} of them (K = {}{rounded}), {} after the first task and {} after the \
                 last.",
                thousands(most as u64),
                thousands(k as u64),
                bytes(first.exemplars),
                bytes(last.exemplars)
            );
        }
        wrap(&text, 2)
    }
}

/// What task `task` brought: the names of its domains, or the numbers of its classes.
fn brought(metrics: &Metrics, task: usize) -> Vec<String> {
    match metrics.domains_per_task.get(task) {
        Some(domains) => domains.clone(),
        None => metrics.classes_per_task[task].iter().map(u32::to_string).collect(),
    }
}

/// What is special about segmentation.
fn of_pixels(metrics: &Metrics) -> &'static str {
    match metrics.domains_per_task.is_empty() {
        true => " In training, pixels of classes that are not the task's own are background.",
        false => " Every task has the same classes, drawn or photographed in other domains.",
    }
}

/// What is special about a scenario.
pub(super) fn told(scenario: &str) -> &'static str {
    Scenario::named(scenario).map_or("", Scenario::told)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::continual::Held;
    use crate::experiment::results::{ClassifierName, MemoryBytes, Score};
    use crate::report::WIDTH;

    fn held(exemplars: u64, old_network: u64, class_means: u64) -> MemoryBytes {
        Held { exemplars, old_network, class_means, ..Held::default() }.into()
    }

    /// Three tasks of two classes each.
    pub(in crate::report) fn icarl() -> Metrics {
        let result = |seen: [f64; 3], old: f64| {
            let mut result = ClassifierResult::default();
            result.push(vec![Some(1.0), None, None], seen[0]);
            result.push(vec![Some(0.9), Some(0.98), None], seen[1]);
            result.push(vec![Some(old), Some(0.92), Some(0.98)], seen[2]);
            result
        };
        let classifiers = [
            ("nme", result([1.0, 0.95, 0.9], 0.8)),
            ("network", result([1.0, 0.8, 0.6], 0.1)),
            ("ncm", result([1.0, 0.98, 0.95], 0.9)),
        ];
        Metrics {
            method: "icarl".into(),
            dataset: "glyphs".into(),
            model: "cnn".into(),
            scenario: "class".into(),
            seed: 3,
            n_tasks: 3,
            score: Score::default(),
            classes_per_task: vec![vec![0, 1], vec![2, 3], vec![4, 5]],
            n_candidates: None,
            n_tested: Vec::new(),
            domains_per_task: Vec::new(),
            left_out: Vec::new(),
            memory_bytes: vec![
                held(156_800, 0, 1_024),
                held(156_800, 1_686_568, 2_048),
                held(1_382_360, 1_686_568, 3_072),
            ],
            complete: true,
            judged_by: [("nme", "nearest mean of exemplars"), ("network", "largest output"), ("ncm", "")]
                .map(|(name, explanation)| ClassifierName { name: name.into(), explanation: explanation.into() })
                .to_vec(),
            classifiers: classifiers.map(|(name, result)| (name.to_string(), result)).into(),
            any_time: Vec::new(),
            average_any_time_accuracy: None,
        }
    }

    fn summary(metrics: &Metrics, memory: Option<usize>) -> String {
        let timing = Timing { seconds_total: 42.0, images_per_second: 12_345.6, ..Timing::default() };
        let compare_with = Some("cargo run --release -- finetune --dataset glyphs --seed 3");
        let folder = Some(Path::new("runs/icarl-glyphs"));
        Summary { metrics, timing: Some(&timing), memory, compare_with, folder }.text()
    }

    pub(in crate::report) fn assert_contains(text: &str, wanted: &[&str]) {
        let flat = text.replace('\\', "/").split_whitespace().collect::<Vec<_>>().join(" ");
        for wanted in wanted {
            assert!(flat.contains(wanted), "{wanted:?} is not in:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn the_summary_tells_the_right_numbers() {
        let text = summary(&icarl(), Some(200));
        assert_contains(
            &text,
            &[
                "icarl tells 6 classes apart, learnt in 3 tasks one after the other, with 90.0 % accuracy",
                "(classifier: nme)",
                "Guessing would give 16.7 %",
                "average incremental accuracy 95.0 % the mean over the tasks",
                "task 1 0 1 ████████████████···· 80.0 % (100.0 % when it was new)",
                "task 2 2 3 ██████████████████·· 92.0 % (98.0 % when it was new)",
                // ((1.0 − 0.8) + (0.98 − 0.92)) / 2
                "forgetting 13.0 points old tasks below their best",
                "2.9 MiB held after the last task (exemplars 1.3 MiB, the old network 1.6 MiB, class means 3.0 KiB)",
                "≤ 205 of them (K = 200,",
                "153.1 KiB after the first task and 1.3 MiB after the last",
                "42.0 s, training at 12,346 images per second",
                "cargo run --release -- finetune --dataset glyphs --seed 3",
                "Results: runs/icarl-glyphs To read in a browser: runs/icarl-glyphs/report.html",
                "* nme o network + ncm",
            ],
        );
        assert!(!text.contains("not completed"));
    }

    #[test]
    fn other_runs_make_sense_too() {
        let mut joint = icarl();
        joint.classifiers.clear();
        let mut network = ClassifierResult::default();
        network.push(vec![Some(0.98), Some(0.99), Some(0.97)], 0.98);
        joint.classifiers.insert("network".into(), network);
        joint.memory_bytes = vec![MemoryBytes::default()];
        let text = summary(&joint, None);
        assert_contains(&text, &["6 classes apart, learnt at once, with 98.0 %", "16.7 %"]);
        assert!(
            !text.contains("  forgetting  ") && !text.contains("Memory") && !text.contains("when it was new"),
            "{text}"
        );

        let mut finetune = icarl();
        finetune.memory_bytes = vec![MemoryBytes::default(); 3];
        finetune.complete = false;
        assert_contains(&summary(&finetune, None), &["nothing was kept", "was not completed"]);

        let mut better = icarl();
        better.classifiers.get_mut("nme").unwrap().matrix[2] = vec![Some(1.0), Some(1.0), Some(1.0)];
        assert_contains(&summary(&better, None), &["forgetting -1.0 points", "backward transfer 1.0 points"]);

        finetune.classifiers.clear();
        assert_contains(&summary(&finetune, None), &["no task was finished"]);
    }
}
