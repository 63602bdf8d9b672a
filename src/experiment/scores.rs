//! The numbers of a run: the content of `metrics.json` and `timing.json`.

use super::measures::MEASURES;
use super::metrics;
use crate::continual::{Classifier, Held};
use crate::data::{LeftOut, Target};
use crate::error::{Error, Result};
use crate::records::sealed;
use crate::training::{LoopSeconds, TermRecord};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::Path;

/// What a run is judged by.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// The share of images whose class is right.
    #[default]
    Accuracy,
    /// The mean intersection over union of the classes of pixels: see [`metrics::mean_iou`].
    MeanIou,
}

impl Score {
    /// Of what is said about an image.
    pub fn of(target: Target) -> Score {
        match target {
            Target::Class => Score::Accuracy,
            Target::Mask => Score::MeanIou,
        }
    }

    /// In a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Score::Accuracy => "accuracy",
            Score::MeanIou => "mIoU",
        }
    }

    /// A text about accuracy as one about this score.
    pub fn worded(self, text: &str) -> String {
        match self {
            Score::Accuracy => text.into(),
            Score::MeanIou => text.replace("accuracy", self.name()).replace("Accuracy", self.name()),
        }
    }

    fn is_accuracy(&self) -> bool {
        *self == Score::Accuracy
    }
}

/// The content of `metrics.json`. All accuracies are fractions in 0..1; where the score is another one, so are its values, and they
/// stand in the same fields.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Metrics {
    /// The method's name.
    pub method: String,
    /// The data set's name.
    pub dataset: String,
    /// The network's name.
    pub model: String,
    /// What changed from task to task, as in [`Scenario::name`](crate::data::Scenario::name).
    #[serde(default = "class_incremental")]
    pub scenario: String,
    /// The run's seed.
    pub seed: u64,
    /// Tasks of the whole stream, learnt or not.
    pub n_tasks: usize,
    /// What it is judged by.
    #[serde(default, skip_serializing_if = "Score::is_accuracy")]
    pub score: Score,
    /// The class labels of the data set, by task in order of arrival.
    pub classes_per_task: Vec<Vec<u32>>,
    /// Labels that each answer is chosen among from the first task on, where that is not the labels seen so far: in a blurry stream,
    /// and with `--candidates all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_candidates: Option<usize>,
    /// With `--candidates all`, the test images of each label seen: those that were answered with another label are in no confusion
    /// matrix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub n_tested: Vec<u32>,
    /// Where tasks are groups of domains: the names of those, by task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains_per_task: Vec<Vec<String>>,
    /// Files of a folder of pictures that are not among the images, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// What the method held after each task.
    pub memory_bytes: Vec<MemoryBytes>,
    /// False until the last task is done.
    pub complete: bool,
    /// The method's classifiers in its own order: the first is the one that it is judged by.
    pub judged_by: Vec<ClassifierName>,
    /// How each did, by name.
    pub classifiers: BTreeMap<String, ClassifierResult>,
    /// Accuracies while the stream went on, on the test images of all classes seen, by the first classifier; where they were
    /// asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any_time: Vec<AnyTime>,
    /// See [`metrics::average_any_time_accuracy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_any_time_accuracy: Option<f64>,
}

/// A classifier of a run, as its method describes it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ClassifierName {
    /// As in results and on the command line.
    pub name: String,
    /// What it goes by, in a few words.
    pub explanation: String,
}

impl From<&Classifier> for ClassifierName {
    fn from(classifier: &Classifier) -> ClassifierName {
        let Classifier { name, explanation, .. } = *classifier;
        ClassifierName { name: name.into(), explanation: explanation.into() }
    }
}

impl Metrics {
    /// The `metrics.json` of a run folder, wherever the folder is from.
    ///
    /// # Errors
    /// If it cannot be read, was damaged, or holds what no run can have measured.
    pub fn read(folder: &Path) -> Result<Metrics> {
        let metrics: Metrics = sealed::read_json(folder, METRICS_FILE)?;
        match metrics.contradiction() {
            None => Ok(metrics),
            Some(what) => {
                let message = format!("damaged, or not written by engram: its numbers contradict each other: {what}");
                Err(Error::file(folder.join(METRICS_FILE), message))
            }
        }
    }

    /// Labels that a classifier has been shown in the first `n_tasks`: where tasks share labels, those of a single task.
    pub fn n_labels(&self, n_tasks: usize) -> usize {
        let seen = self.classes_per_task.iter().take(n_tasks).map(Vec::len);
        match self.scenario.as_str() {
            "class" | "task" => seen.sum(),
            _ => seen.max().unwrap_or(0),
        }
    }

    /// The accuracy of guessing after `n_tasks`: among all labels, or where the task is known among those of a task.
    pub fn guessing(&self, n_tasks: usize) -> f64 {
        let n_choices = self.n_candidates.unwrap_or(self.n_labels(n_tasks)) as f64;
        if self.scenario == "task" { n_tasks as f64 / n_choices } else { 1.0 / n_choices }
    }

    /// What no run can have measured; a reader may count on the rest.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let Some(first) = self.classifiers.values().next() else { return Some("classifiers") };
        let mut names: Vec<&str> = self.judged_by.iter().map(|classifier| classifier.name.as_str()).collect();
        names.sort_unstable();
        if !names.into_iter().eq(self.classifiers.keys()) {
            return Some("judged_by");
        }
        let (n_done, n_columns) = (first.matrix.len(), self.classes_per_task.len());
        let n_seen: usize = self.classes_per_task.iter().map(Vec::len).sum();
        let n_classes = n_seen.max(self.n_candidates.unwrap_or(0));
        if n_done == 0 || n_done > n_columns || n_done > self.n_tasks || self.n_tasks > n_columns {
            return Some("n_tasks");
        }
        if self.classes_per_task.iter().any(Vec::is_empty) || self.complete != (n_done == self.n_tasks) {
            return Some("classes_per_task");
        }
        let covers = |n_tested: &[u32], confusion: &[Vec<u32>]| {
            let counted = |row: &[u32]| row.iter().map(|&n| u64::from(n)).sum::<u64>();
            n_tested.len() == confusion.len()
                && n_tested.iter().zip(confusion).all(|(&n, row)| counted(row) <= n.into())
        };
        let is_share = |x: &f64| (0.0..=1.0).contains(x);
        let rows_are_good = |rows: &[Vec<Option<f64>>]| {
            rows.iter().all(|row| row.len() <= n_columns && row.iter().flatten().all(is_share))
        };
        for result in self.classifiers.values() {
            let n_labels = result.confusion.len();
            let counts = result.confusion.iter().flatten().map(|&n| u64::from(n)).sum::<u64>();
            let checks = [
                (result.matrix.len() == n_done && rows_are_good(&result.matrix), "matrix"),
                (result.seen_accuracy.len() == n_done && result.seen_accuracy.iter().all(is_share), "seen_accuracy"),
                ([0, n_done].contains(&result.task_known.len()) && rows_are_good(&result.task_known), "task_known"),
                (result.confusion.iter().all(|row| row.len() == n_labels) && n_labels <= n_classes, "confusion"),
                (counts <= u64::from(u32::MAX), "confusion"),
                (self.n_tested.is_empty() || covers(&self.n_tested, &result.confusion), "n_tested"),
                (result.masks.as_ref().is_none_or(|masks| masks.has_shares(n_labels)), "masks"),
            ];
            if let Some((_, what)) = checks.into_iter().find(|(good, _)| !good) {
                return Some(what);
            }
        }
        None
    }
}

/// The results of a run, in its folder.
pub const METRICS_FILE: &str = "metrics.json";

fn class_incremental() -> String {
    "class".into()
}

/// An accuracy while the stream went on.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct AnyTime {
    /// Images trained on so far.
    pub n_images: usize,
    /// On the test images of all classes seen.
    pub accuracy: f64,
}

/// A term of the loss of a task, as it was written down.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct LossRow {
    /// From 0.
    pub task: usize,
    /// The term.
    #[serde(flatten)]
    pub record: TermRecord,
}

/// What a method keeps from one task to the next, in bytes.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryBytes {
    /// Stored images, and their labels where a memory keeps them.
    pub exemplars: u64,
    /// Stored outputs of earlier networks.
    #[serde(default)]
    pub logits: u64,
    /// Importances of parameters, and the values they are held at.
    #[serde(default)]
    pub importance: u64,
    /// A copy of an earlier network.
    pub old_network: u64,
    /// Class means.
    pub class_means: u64,
    /// The sum of the others.
    pub total: u64,
}

impl From<Held> for MemoryBytes {
    fn from(held: Held) -> MemoryBytes {
        let Held { exemplars, logits, importance, old_network, class_means } = held;
        let total = exemplars + logits + importance + old_network + class_means;
        MemoryBytes { exemplars, logits, importance, old_network, class_means, total }
    }
}

/// How one classifier did: what was measured. What follows from it is a table of [`MEASURES`], whose values stand beside it in files.
#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
pub struct ClassifierResult {
    /// `matrix[t][i]`: accuracy on task `i` after task `t` over all classes seen; `null` for `i > t`.
    pub matrix: Vec<Vec<Option<f64>>>,
    /// After each task, over all test images of the classes seen (so not the mean of the row).
    pub seen_accuracy: Vec<f64>,
    /// R\[i−1\]\[i\] and b_i for i = 1, 2, …: accuracies on a task just before it is learnt, and of the initial network. Empty in
    /// class-incremental learning, where forward transfer is 0 by construction.
    #[serde(default)]
    pub before: Vec<[f64; 2]>,
    /// In class-incremental learning: the matrix with the task of every test image known, outputs masked to its classes.
    #[serde(default)]
    pub task_known: Vec<Vec<Option<f64>>>,
    /// `confusion[y][z]`: test images of label `y` taken for label `z` after the last task done. A label is a class's
    /// place in the order of arrival.
    #[serde(default)]
    pub confusion: Vec<Vec<u32>>,
    /// Of images with masks, after the last task done.
    #[serde(default)]
    pub masks: Option<MaskScores>,
}

impl Serialize for ClassifierResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let ClassifierResult { matrix, seen_accuracy, before, task_known, confusion, masks } = self;
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("matrix", matrix)?;
        fields.serialize_entry("seen_accuracy", seen_accuracy)?;
        for measure in MEASURES.iter().filter(|measure| measure.source.is_in(self)) {
            fields.serialize_entry(measure.name, &(measure.of)(self))?;
        }
        if !before.is_empty() {
            fields.serialize_entry("before", before)?;
        }
        if !task_known.is_empty() {
            fields.serialize_entry("task_known", task_known)?;
        }
        fields.serialize_entry("confusion", confusion)?;
        if let Some(masks) = masks {
            fields.serialize_entry("masks", masks)?;
        }
        fields.end()
    }
}

/// How well the classes of pixels are told, on all test images of what was seen.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct MaskScores {
    /// See [`metrics::intersection_over_union`], by label; `null` for a class that no pixel is of.
    pub iou: Vec<Option<f64>>,
    /// Where tasks bring classes: mIoU of those of the first task, the background among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<f64>,
    /// Where tasks bring classes: mIoU of those that came later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<f64>,
    /// See [`metrics::pixel_accuracy`].
    pub pixel_accuracy: f64,
}

impl MaskScores {
    fn has_shares(&self, n_labels: usize) -> bool {
        let numbers = self.iou.iter().flatten().chain(&self.old).chain(&self.new).chain([&self.pixel_accuracy]);
        self.iou.len() == n_labels && numbers.copied().all(|x| (0.0..=1.0).contains(&x))
    }
}

impl ClassifierResult {
    /// Adds the evaluation after a task.
    pub fn push(&mut self, row: Vec<Option<f64>>, seen: f64) {
        self.matrix.push(row);
        self.seen_accuracy.push(seen);
    }

    /// See [`metrics::final_accuracy`].
    pub fn final_accuracy(&self) -> Option<f64> {
        metrics::final_accuracy(&self.seen_accuracy)
    }

    /// See [`metrics::average_incremental_accuracy`].
    pub fn average_incremental_accuracy(&self) -> Option<f64> {
        metrics::average_incremental_accuracy(&self.seen_accuracy)
    }

    /// See [`metrics::average_accuracy`].
    pub fn average_accuracy(&self) -> Option<f64> {
        metrics::average_accuracy(&self.matrix)
    }

    /// See [`metrics::average_accuracy`], of `task_known`.
    pub fn task_known_accuracy(&self) -> Option<f64> {
        metrics::average_accuracy(&self.task_known)
    }

    /// See [`metrics::forgetting`].
    pub fn forgetting(&self) -> Option<f64> {
        metrics::forgetting(&self.matrix)
    }

    /// See [`metrics::forward_transfer`]; `None` in class-incremental learning.
    pub fn forward_transfer(&self) -> Option<f64> {
        // What was measured before a task counts once the task is learnt; before the first nothing is measured.
        let n = self.before.len().min(self.matrix.len().saturating_sub(1));
        metrics::forward_transfer(&self.before[..n])
    }

    /// See [`metrics::backward_transfer`].
    pub fn backward_transfer(&self) -> Option<f64> {
        metrics::backward_transfer(&self.matrix)
    }
}

/// The content of `timing.json`, apart from the metrics because it differs from run to run.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Timing {
    /// Wall-clock seconds of the run so far.
    pub seconds_total: f64,
    /// Per task.
    pub seconds_training: Vec<f64>,
    /// Per task: choosing exemplars and whatever else a method does when a task ends.
    pub seconds_end_of_task: Vec<f64>,
    /// Per task.
    pub seconds_evaluation: Vec<f64>,
    /// What the seconds of training went to, all tasks together.
    #[serde(default)]
    pub training_loop: LoopSeconds,
    /// While training.
    pub images_per_second: f64,
    /// The most main memory that the process ever held, where the system tells.
    pub peak_host_bytes: Option<u64>,
    /// Device memory allocated at the end of the run.
    pub device_bytes: u64,
}

impl Timing {
    /// Every number of seconds in it.
    pub fn seconds(&self) -> impl Iterator<Item = f64> {
        let LoopSeconds { steps, evaluation, loading, logging, progress, checkpoints } = self.training_loop;
        let parts = [self.seconds_total, steps, evaluation, loading, logging, progress, checkpoints];
        let lists = [&self.seconds_training, &self.seconds_end_of_task, &self.seconds_evaluation];
        parts.into_iter().chain(lists.into_iter().flatten().copied())
    }
}

/// The classifiers of a run, the one that the method is judged by first.
pub fn ordered_classifiers(metrics: &Metrics) -> impl Iterator<Item = (&str, &ClassifierResult)> {
    let names = metrics.judged_by.iter().map(|classifier| classifier.name.as_str());
    names.filter_map(|name| Some((name, metrics.classifiers.get(name)?)))
}

/// The classifier that a method is judged by.
pub fn main_classifier(metrics: &Metrics) -> Option<(&str, &ClassifierResult)> {
    ordered_classifiers(metrics).next()
}
