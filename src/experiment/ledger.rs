//! Published figures beside measured ones: the rows of `reproduced.csv` and of the table that `engram reproduce` prints.

use super::metrics::mean_sd;
use super::results::Metrics;
use crate::error::{Error, Result};
use crate::settings::flag;
use std::fmt::Write as _;

/// Published figures of one protocol, which is a preset.
#[derive(Debug)]
pub struct Experiment {
    /// The preset.
    pub preset: &'static str,
    /// Where the figures are from.
    pub source: &'static str,
    /// What differs from run to run.
    pub repeats: Repeats,
    /// The figures.
    pub figures: &'static [Published],
    /// Which of them are measured unless others are asked for.
    pub usual: fn(&Published) -> bool,
}

/// What a published mean is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// Orders of classes: the paper's first one, then seeded ones.
    ClassOrders,
    /// Seeds, the classes in one order.
    Seeds,
}

/// A figure of a paper.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// The run that it is measured in.
    pub run: Run,
    /// Which of the method's classifiers.
    pub classifier: &'static str,
    /// What is measured.
    pub figure: Figure,
    /// In percent.
    pub percent: f64,
    /// In points: further away is not reproduced.
    pub tolerance: f64,
    /// As the paper calls it.
    pub called: &'static str,
}

/// What a run sets beside its preset. Figures of equal runs are measured in one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// A method of the table.
    pub method: &'static str,
    /// New classes per task.
    pub classes_per_task: usize,
    /// K, where the preset's is not the one.
    pub memory: Option<usize>,
    /// The learning rate, where the preset's is not the one.
    pub lr: Option<f32>,
    /// `--mse-weight` and `--replay-weight`, where the preset's are not the ones.
    pub weights: Option<(f32, f32)>,
    /// Other settings that are not the preset's, by name.
    pub more: &'static [(&'static str, &'static str)],
}

impl Run {
    /// The name of its folder: `icarl-10`, `der++-k200`.
    pub fn name(&self) -> String {
        let Run { method, classes_per_task, memory, more, .. } = self;
        let name = memory.map_or(format!("{method}-{classes_per_task}"), |k| format!("{method}-k{k}"));
        if more.contains(&("rotations", "true")) { name + "-rotations" } else { name }
    }

    /// What makes it the run that it is.
    pub fn identity(&self) -> Vec<(&'static str, String)> {
        let memory = self.memory.map(|k| ("memory", k.to_string()));
        [Some(("classes_per_task", self.classes_per_task.to_string())), memory].into_iter().flatten().collect()
    }

    /// What the paper trains it with. Flags may change it, which makes it another protocol.
    pub fn recipe(&self) -> Vec<(&'static str, String)> {
        let (mse, replay) = self.weights.unzip();
        let all = [("lr", self.lr), ("mse_weight", mse), ("replay_weight", replay)];
        let all = all.into_iter().filter_map(|(name, value)| Some((name, value?.to_string())));
        all.chain(self.more.iter().map(|&(name, value)| (name, value.to_string()))).collect()
    }

    /// The command that repeats it with this preset.
    pub fn command(&self, preset: &str) -> String {
        let Run { method, classes_per_task, memory, lr, weights, more } = *self;
        let mut command = format!("engram {method} --preset {preset} --classes-per-task {classes_per_task}");
        memory.iter().for_each(|k| command += &format!(" --memory {k}"));
        lr.iter().for_each(|lr| command += &format!(" --lr {lr}"));
        if let Some((mse, replay)) = weights {
            command += &format!(" --mse-weight {mse}");
            if crate::continual::spec(method).is_ok_and(|spec| spec.has("replay_weight")) {
                command += &format!(" --replay-weight {replay}");
            }
        }
        more.iter().for_each(|(name, value)| command += &format!(" {} {value}", flag(name)));
        command
    }
}

/// A number of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The mean over the tasks of the accuracy on all classes seen.
    AverageIncremental,
    /// The accuracy on all classes in the end.
    Final,
    /// The mean over the tasks of the accuracy in the end, the task of each image known.
    FinalTaskKnown,
    /// ACC: the mean over the tasks of the accuracy in the end.
    AverageAccuracy,
    /// BWT: the mean over the tasks but the last of what their accuracy has gained since they were learnt.
    BackwardTransfer,
}

impl Figure {
    fn of(self, metrics: &Metrics, classifier: &str) -> Option<f64> {
        let result = metrics.classifiers.get(classifier)?;
        match self {
            Figure::AverageIncremental => result.average_incremental_accuracy(),
            Figure::Final => result.final_accuracy(),
            Figure::FinalTaskKnown => result.task_known_accuracy(),
            Figure::AverageAccuracy => result.average_accuracy(),
            Figure::BackwardTransfer => result.backward_transfer(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Figure::AverageIncremental => "average incremental accuracy",
            Figure::Final => "final accuracy",
            Figure::FinalTaskKnown => "final accuracy with the task known",
            Figure::AverageAccuracy => "average accuracy",
            Figure::BackwardTransfer => "backward transfer",
        }
    }
}

/// Every protocol with published figures.
pub static ALL: &[Experiment] = &[
    Experiment {
        preset: "icarl-cifar100",
        source: "Rebuffi et al., CVPR 2017, table 1 and figure 2: means of ten class orders",
        repeats: Repeats::ClassOrders,
        figures: ICARL_CIFAR100,
        usual: |figure| [10, 100].contains(&figure.run.classes_per_task),
    },
    Experiment {
        preset: "der-cifar10",
        source: "Buzzega et al., NeurIPS 2020, table 2: means of ten seeds",
        repeats: Repeats::Seeds,
        figures: DER_CIFAR10,
        usual: |_| true,
    },
    Experiment {
        preset: "vdfd-cifar100-10",
        source: "Li et al., TPAMI 2023 (VDFD), the authors' log (DFD), Wang et al., CVPR 2021 (Adam-NSCL): one seed each",
        repeats: Repeats::Seeds,
        figures: VDFD_CIFAR100_10,
        usual: |figure| figure.run.more.iter().all(|(name, _)| *name != "rotations"),
    },
    Experiment {
        preset: "vdfd-cifar100-20",
        source: "Li et al., TPAMI 2023 (VDFD), the authors' log (DFD), Wang et al., CVPR 2021 (Adam-NSCL): one seed each",
        repeats: Repeats::Seeds,
        figures: VDFD_CIFAR100_20,
        usual: |figure| figure.run.more.iter().all(|(name, _)| *name != "rotations"),
    },
];

/// The protocol of this preset.
///
/// # Errors
/// If nothing is published for it; the message lists those there are.
pub fn experiment(preset: &str) -> Result<&'static Experiment> {
    ALL.iter().find(|experiment| experiment.preset == preset).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|experiment| experiment.preset).collect();
        Error::usage(format!("no published figures for '{preset}': there are {}", known.join(", ")))
    })
}

const ICARL_CIFAR100: &[Published] = {
    const fn nme(classes_per_task: usize, percent: f64) -> Published {
        Published {
            run: Run { method: "icarl", classes_per_task, memory: None, lr: None, weights: None, more: &[] },
            classifier: "nme",
            figure: Figure::AverageIncremental,
            percent,
            tolerance: 1.0,
            called: "iCaRL",
        }
    }
    const fn ten(method: &'static str, classifier: &'static str, percent: f64, tolerance: f64) -> Published {
        let usual = nme(10, percent);
        Published { run: Run { method, ..usual.run }, classifier, tolerance, ..usual }
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
        Published { called: "joint", classifier: "network", ..nme(100, 68.6) },
    ]
};

/// Tolerances are twice the published standard deviations, at least 2 points. Rates and weights are those of the authors'
/// best_args.py.
const DER_CIFAR10: &[Published] = {
    const fn class_il(called: &'static str, run: Run, percent: f64, tolerance: f64) -> Published {
        Published { run, classifier: "network", figure: Figure::Final, percent, tolerance, called }
    }
    const fn task_il(called: &'static str, run: Run, percent: f64) -> Published {
        Published { figure: Figure::FinalTaskKnown, ..class_il(called, run, percent, 2.0) }
    }
    const fn of(method: &'static str, memory: usize) -> Run {
        Run { method, classes_per_task: 2, memory: Some(memory), lr: None, weights: None, more: &[] }
    }
    const fn er(memory: usize) -> Run {
        Run { lr: Some(0.1), ..of("er", memory) }
    }
    const fn der(memory: usize) -> Run {
        Run { weights: Some((0.3, 0.0)), ..of("der", memory) }
    }
    const fn der_pp(memory: usize, alpha: f32) -> Run {
        Run { weights: Some((alpha, 0.5)), ..of("der++", memory) }
    }
    &[
        class_il("DER++", der_pp(200, 0.1), 64.88, 2.3),
        task_il("DER++", der_pp(200, 0.1), 91.92),
        class_il("DER++", der_pp(500, 0.2), 72.70, 2.7),
        task_il("DER++", der_pp(500, 0.2), 93.88),
        class_il("DER", der(200), 61.93, 3.6),
        task_il("DER", der(200), 91.40),
        class_il("DER", der(500), 70.51, 3.3),
        task_il("DER", der(500), 93.40),
        class_il("ER", er(200), 44.79, 3.7),
        task_il("ER", er(200), 91.19),
        class_il("ER", er(500), 57.74, 2.0),
        task_il("ER", er(500), 93.61),
        class_il("A-GEM", of("a-gem", 200), 20.04, 2.0),
        task_il("A-GEM", of("a-gem", 200), 83.88),
        class_il("A-GEM", of("a-gem", 500), 22.67, 2.0),
        task_il("A-GEM", of("a-gem", 500), 89.48),
    ]
};

const fn task_incremental(
    called: &'static str,
    method: &'static str,
    classes_per_task: usize,
    more: &'static [(&'static str, &'static str)],
    [acc, bwt]: [f64; 2],
) -> [Published; 2] {
    let run = Run { method, classes_per_task, memory: None, lr: None, weights: None, more };
    let acc =
        Published { run, classifier: "network", figure: Figure::AverageAccuracy, percent: acc, tolerance: 1.5, called };
    [acc, Published { figure: Figure::BackwardTransfer, percent: bwt, ..acc }]
}

/// One seed each: no deviation is published.
const VDFD_CIFAR100_10: &[Published] = {
    const DFD: &[(&str, &str)] = &[("lr", "1e-3"), ("weight_decay", "5e-5"), ("reg_weight", "20")];
    const NSCL: &[(&str, &str)] = &[("head_lr", "1e-3"), ("weight_decay", "5e-5")];
    let [vdfd, vdfd_bwt] = task_incremental("VDFD without rotations", "vdfd", 10, &[], [79.23, -2.93]);
    let [turned, turned_bwt] = task_incremental("VDFD", "vdfd", 10, &[("rotations", "true")], [83.30, -1.27]);
    let [dfd, dfd_bwt] = task_incremental("DFD", "dfd", 10, DFD, [77.97, -3.01]);
    let [nscl, nscl_bwt] = task_incremental("Adam-NSCL", "adam-nscl", 10, NSCL, [73.77, -1.60]);
    &[vdfd, vdfd_bwt, turned, turned_bwt, dfd, dfd_bwt, nscl, nscl_bwt]
};

const VDFD_CIFAR100_20: &[Published] = {
    const DFD: &[(&str, &str)] = &[("head_lr", "1e-2"), ("reg_weight", "10")];
    const NSCL: &[(&str, &str)] =
        &[("head_lr", "1e-3"), ("weight_decay", "5e-5"), ("batch_size", "16"), ("null_space", "30")];
    let [vdfd, vdfd_bwt] = task_incremental("VDFD without rotations", "vdfd", 5, &[], [80.97, -4.79]);
    let [turned, turned_bwt] = task_incremental("VDFD", "vdfd", 5, &[("rotations", "true")], [85.84, -1.53]);
    let [dfd, dfd_bwt] = task_incremental("DFD", "dfd", 5, DFD, [79.18, -3.64]);
    let [nscl, nscl_bwt] = task_incremental("Adam-NSCL", "adam-nscl", 5, NSCL, [75.95, -3.66]);
    &[vdfd, vdfd_bwt, turned, turned_bwt, dfd, dfd_bwt, nscl, nscl_bwt]
};

/// A published figure and what was measured.
#[derive(Clone, Debug)]
pub struct Row {
    /// The figure.
    pub published: Published,
    /// In percent, one per run; empty if no run is complete.
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
        "figure,method,classifier,metric,classes_per_task,memory,published,measured,sd,runs,difference,tolerance,\
         within_tolerance,protocol,adapter,seconds,command\n",
    );
    for row in rows {
        let Published { run, classifier, figure, percent, tolerance, called } = row.published;
        let (mean, sd) = mean_sd(&row.measured);
        let number = |x: f64| if row.measured.is_empty() { String::new() } else { format!("{x:.2}") };
        let protocol = if row.full_protocol { "full" } else { "shortened" };
        let _ = writeln!(
            text,
            "{called},{},{classifier},{},{},{},{percent},{},{},{},{},{tolerance},{},{protocol},\"{}\",{:.0},\"{}\"",
            run.method,
            figure.name(),
            run.classes_per_task,
            run.memory.map_or(String::new(), |k| k.to_string()),
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
        "| figure | classes per task | memory | metric | published | measured | difference | within tolerance | hours | command |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let Published { run, figure, percent, tolerance, called, .. } = row.published;
        let difference = row.difference().map_or("–".into(), |x| format!("{x:+.1}"));
        let _ = writeln!(
            text,
            "| {called} | {} | {} | {} | {percent} | {} | {difference} | {} (±{tolerance}) | {:.2} | `{}` |",
            run.classes_per_task,
            run.memory.map_or("–".into(), |k| k.to_string()),
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
    use crate::experiment::{Config, every_row};
    use crate::settings::{Origin, Values};
    use std::collections::BTreeMap;

    fn metrics(average: f64, complete: bool) -> Metrics {
        let nme = ClassifierResult { seen_accuracy: vec![average], ..ClassifierResult::default() };
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
            score: Default::default(),
            n_candidates: None,
            n_tested: Vec::new(),
            domains_per_task: Vec::new(),
            left_out: Vec::new(),
            memory_bytes: Vec::new(),
            complete,
            judged_by: Vec::new(),
            classifiers: BTreeMap::from([("nme".to_string(), nme)]),
        }
    }

    fn row(runs: &[Metrics], full_protocol: bool) -> Row {
        let published = ICARL_CIFAR100[2];
        assert_eq!((published.called, published.percent, published.run.classes_per_task), ("iCaRL", 64.1, 10));
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
        assert!(lines.contains("iCaRL,icarl,nme,average incremental accuracy,10,,64.1,64.50,0.71,2,0.40,1,yes,full"));
        assert!(lines.lines().all(|line| line.split(',').count() == 17), "{lines}");
    }

    /// Each run of the ledger is one that the program can do, and no two different runs share a folder.
    #[test]
    fn runs_are_of_known_methods_and_have_names_of_their_own() {
        for experiment in ALL {
            let runs: Vec<Run> = experiment.figures.iter().map(|figure| figure.run).collect();
            for run in &runs {
                let spec = crate::continual::spec(run.method).unwrap();
                let preset = crate::experiment::presets::settings(experiment.preset).unwrap();
                let own = |pairs: Vec<(&str, String)>| {
                    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, text)| (*name, text.as_str())).collect();
                    Values::of(&every_row(), &pairs, &Origin::Preset("ledger".into())).unwrap()
                };
                let config = Config::resolve(spec, own(run.identity()).or(own(run.recipe())).or(preset)).unwrap();
                assert_eq!(run.memory.or(config.memory()), config.memory());
                assert!(runs.iter().all(|other| other == run || other.name() != run.name()), "{}", run.name());
            }
            assert!(experiment.figures.iter().any(experiment.usual));
        }
        let first = DER_CIFAR10[0];
        assert_eq!(
            (first.run.name().as_str(), first.run.command("der-cifar10").as_str()),
            (
                "der++-k200",
                "engram der++ --preset der-cifar10 --classes-per-task 2 --memory 200 --mse-weight 0.1 --replay-weight 0.5"
            )
        );
        assert_eq!(experiment("imagenet").unwrap_err().exit_code(), 2);
    }
}
