//! Published figures beside measured ones: the rows of `reproduced.csv` and of the table that `engram reproduce` prints.

use super::metrics::mean_sd;
use super::results::Metrics;
use std::fmt::Write as _;

/// A figure of a paper.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// A method of the table, with the preset's settings.
    pub method: &'static str,
    /// Which of its classifiers.
    pub classifier: &'static str,
    /// What is measured.
    pub figure: Figure,
    /// New classes per task.
    pub classes_per_task: usize,
    /// In percent.
    pub percent: f64,
    /// In points: further away is not reproduced.
    pub tolerance: f64,
    /// As the paper calls it.
    pub called: &'static str,
}

/// A number of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The mean over the tasks of the accuracy on all classes seen.
    AverageIncremental,
    /// The accuracy on all classes in the end.
    Final,
}

impl Figure {
    fn of(self, metrics: &Metrics, classifier: &str) -> Option<f64> {
        let result = metrics.classifiers.get(classifier)?;
        match self {
            Figure::AverageIncremental => result.average_incremental_accuracy,
            Figure::Final => result.final_accuracy,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Figure::AverageIncremental => "average incremental accuracy",
            Figure::Final => "final accuracy",
        }
    }
}

/// Table 1 and figure 2 of the iCaRL paper (Rebuffi et al., CVPR 2017): means of ten class orders.
pub const ICARL_CIFAR100: &[Published] = {
    const fn nme(classes_per_task: usize, percent: f64) -> Published {
        Published {
            method: "icarl",
            classifier: "nme",
            figure: Figure::AverageIncremental,
            classes_per_task,
            percent,
            tolerance: 1.0,
            called: "iCaRL",
        }
    }
    const fn ten(method: &'static str, classifier: &'static str, percent: f64, tolerance: f64) -> Published {
        Published { method, classifier, percent, tolerance, ..nme(10, 0.0) }
    }
    &[
        nme(2, 57.0),
        nme(5, 61.2),
        nme(10, 64.1),
        Published { figure: Figure::Final, percent: 49.0, tolerance: 1.5, ..nme(10, 0.0) },
        nme(20, 67.2),
        nme(50, 68.6),
        Published { called: "hybrid1", ..ten("icarl", "network", 59.3, 1.5) },
        Published { called: "NCM", ..ten("icarl", "ncm", 64.5, 1.0) },
        Published { called: "hybrid2", ..ten("hybrid2", "nme", 59.9, 1.5) },
        Published { called: "hybrid3", ..ten("hybrid2", "network", 58.1, 1.5) },
        Published { called: "LwF.MC", ..ten("lwf-mc", "network", 44.4, 2.0) },
        // All classes in one task: nothing is old, so iCaRL's network is the jointly trained one.
        Published { called: "joint", classes_per_task: 100, ..ten("icarl", "network", 68.6, 1.0) },
    ]
};

/// A published figure and what was measured.
#[derive(Clone, Debug)]
pub struct Row {
    /// The figure.
    pub published: Published,
    /// In percent, one per class order; empty if no run is complete.
    pub measured: Vec<f64>,
    /// False if the runs' settings are not those of the preset.
    pub full_protocol: bool,
    /// What repeats the runs.
    pub command: String,
    /// Where they ran.
    pub adapter: String,
    /// Of all runs together.
    pub seconds: f64,
}

impl Row {
    /// The figure over complete runs.
    pub fn measure(published: Published, runs: &[Metrics]) -> Vec<f64> {
        let complete = runs.iter().filter(|metrics| metrics.complete);
        complete.filter_map(|metrics| published.figure.of(metrics, published.classifier)).map(|x| 100.0 * x).collect()
    }

    /// Measured minus published, in points.
    pub fn difference(&self) -> Option<f64> {
        (!self.measured.is_empty()).then(|| mean_sd(&self.measured).0 - self.published.percent)
    }

    /// `yes` or `NO`; `–` where the protocol was shortened or nothing was measured.
    pub fn verdict(&self) -> &'static str {
        match self.difference() {
            Some(difference) if self.full_protocol => {
                if difference.abs() <= self.published.tolerance {
                    "yes"
                } else {
                    "NO"
                }
            }
            _ => "–",
        }
    }

    fn measured_text(&self) -> String {
        match (mean_sd(&self.measured), self.measured.len()) {
            (_, 0) => "–".into(),
            ((mean, _), 1) => format!("{mean:.1}"),
            ((mean, sd), _) => format!("{mean:.1} ± {sd:.1}"),
        }
    }
}

/// The rows as CSV, with a header line.
pub fn csv(rows: &[Row]) -> String {
    let mut text = String::from(
        "figure,method,classifier,metric,classes_per_task,published,measured,sd,orders,difference,tolerance,\
         within_tolerance,protocol,adapter,seconds,command\n",
    );
    for row in rows {
        let Published { method, classifier, figure, classes_per_task, percent, tolerance, called } = row.published;
        let (mean, sd) = mean_sd(&row.measured);
        let number = |x: f64| if row.measured.is_empty() { String::new() } else { format!("{x:.2}") };
        let protocol = if row.full_protocol { "full" } else { "shortened" };
        let _ = writeln!(
            text,
            "{called},{method},{classifier},{},{classes_per_task},{percent},{},{},{},{},{tolerance},{},{protocol},\"{}\",\
             {:.0},\"{}\"",
            figure.name(),
            number(mean),
            number(sd),
            row.measured.len(),
            row.difference().map_or(String::new(), |x| format!("{x:.2}")),
            row.verdict(),
            row.adapter.replace('"', "'"),
            row.seconds,
            row.command.replace('"', "'"),
        );
    }
    text
}

/// The rows as a Markdown table.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| figure | classes per task | metric | published | measured | difference | within tolerance | hours | command |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let Published { figure, classes_per_task, percent, tolerance, called, .. } = row.published;
        let difference = row.difference().map_or("–".into(), |x| format!("{x:+.1}"));
        let _ = writeln!(
            text,
            "| {called} | {classes_per_task} | {} | {percent} | {} | {difference} | {} (±{tolerance}) | {:.2} | `{}` |",
            figure.name(),
            row.measured_text(),
            row.verdict(),
            row.seconds / 3600.0,
            row.command,
        );
    }
    if rows.iter().any(|row| !row.full_protocol) {
        text += "\nThe protocol was shortened: published figures stand beside for orientation, not for comparison.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::results::ClassifierResult;
    use std::collections::BTreeMap;

    fn metrics(average: f64, complete: bool) -> Metrics {
        let nme = ClassifierResult { average_incremental_accuracy: Some(average), ..ClassifierResult::default() };
        Metrics {
            method: "icarl".into(),
            dataset: "cifar-100".into(),
            scenario: "class".into(),
            model: "resnet32".into(),
            any_time: Vec::new(),
            average_any_time_accuracy: None,
            seed: 1,
            n_tasks: 10,
            classes_per_task: Vec::new(),
            memory_bytes: Vec::new(),
            complete,
            classifiers: BTreeMap::from([("nme".to_string(), nme)]),
        }
    }

    fn row(runs: &[Metrics], full_protocol: bool) -> Row {
        let published = ICARL_CIFAR100[2];
        assert_eq!((published.called, published.percent, published.classes_per_task), ("iCaRL", 64.1, 10));
        let measured = Row::measure(published, runs);
        Row { published, measured, full_protocol, command: "engram icarl".into(), adapter: "cpu".into(), seconds: 36.0 }
    }

    #[test]
    fn a_row_says_whether_the_figure_was_reproduced() {
        let within = row(&[metrics(0.640, true), metrics(0.650, true), metrics(0.9, false)], true);
        assert_eq!(within.measured, [64.0, 65.0]);
        assert!((within.difference().unwrap() - 0.4).abs() < 1e-9);
        assert_eq!(within.verdict(), "yes");
        assert_eq!(row(&[metrics(0.60, true)], true).verdict(), "NO");
        assert_eq!(row(&[metrics(0.60, true)], false).verdict(), "–");
        let nothing = row(&[metrics(0.60, false)], true);
        assert_eq!((nothing.difference(), nothing.verdict()), (None, "–"));
        let table = markdown(&[within.clone(), nothing.clone()]);
        assert!(table.contains("| 64.1 | 64.5 ± 0.7 | +0.4 | yes (±1) |") && !table.contains("shortened"), "{table}");
        assert!(markdown(&[row(&[], false)]).contains("shortened"));
        let lines = csv(&[within, nothing]);
        assert!(lines.contains("iCaRL,icarl,nme,average incremental accuracy,10,64.1,64.50,0.71,2,0.40,1,yes,full"));
        assert!(lines.lines().all(|line| line.split(',').count() == 16), "{lines}");
    }
}
