//! The numbers that a classifier's accuracies are summed up in, as a table. From a row follow its field in `metrics.json`, its column
//! in `comparison.csv` and `seeds.csv`, its entry in `comparison.json` and `seeds.json`, its place in the pages of runs, seeds and
//! comparisons, and on the screen. Formulas are in [`metrics`].

use super::metrics;
use super::scores::{ClassifierResult, Score};

/// A number of one classifier after the last task done.
pub struct Measure {
    /// As in files.
    pub name: &'static str,
    /// For a reader, in small letters; [`title`](Measure::title) suits it to the score.
    pub words: &'static str,
    /// What it is, in a few words.
    pub help: &'static str,
    /// How it is written for a reader.
    pub unit: Unit,
    /// What it is computed from.
    pub source: Source,
    /// Whether it stands in the short summary: on the screen when a run ends, and at the top of its page.
    pub in_summary: bool,
    /// `None` where it does not make sense, such as forgetting after one task.
    pub of: fn(&ClassifierResult) -> Option<f64>,
}

/// How a measure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A share, in percent.
    Percent,
    /// A difference of shares, in percentage points.
    Points,
}

/// What a measure is computed from. A result without it has no field of this measure in `metrics.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The score on each task after each task, or on all classes seen.
    Accuracies,
    /// Accuracies with the task of each image known.
    TaskKnown,
    /// Answers for pixels.
    Masks,
}

impl Source {
    /// Whether a result has it.
    pub fn is_in(self, result: &ClassifierResult) -> bool {
        match self {
            Source::Accuracies => true,
            Source::TaskKnown => !result.task_known.is_empty(),
            Source::Masks => result.masks.is_some(),
        }
    }
}

impl Measure {
    /// The words for a run that is judged by `score`.
    pub fn title(&self, score: Score) -> String {
        match self.source {
            Source::Accuracies => score.worded(self.words),
            Source::TaskKnown | Source::Masks => self.words.into(),
        }
    }
}

/// Every measure; the first is what a run is judged by.
pub static MEASURES: &[Measure] = &[
    Measure {
        name: "final_accuracy",
        words: "final accuracy",
        help: "on all classes seen, after the last task",
        unit: Unit::Percent,
        source: Source::Accuracies,
        in_summary: true,
        of: ClassifierResult::final_accuracy,
    },
    Measure {
        name: "average_incremental_accuracy",
        words: "average incremental accuracy",
        help: "the mean over the tasks",
        unit: Unit::Percent,
        source: Source::Accuracies,
        in_summary: true,
        of: ClassifierResult::average_incremental_accuracy,
    },
    Measure {
        name: "average_accuracy",
        words: "average accuracy",
        help: "ACC: of all tasks, after the last",
        unit: Unit::Percent,
        source: Source::Accuracies,
        in_summary: false,
        of: ClassifierResult::average_accuracy,
    },
    Measure {
        name: "forgetting",
        words: "forgetting",
        help: "old tasks below their best",
        unit: Unit::Points,
        source: Source::Accuracies,
        in_summary: true,
        of: ClassifierResult::forgetting,
    },
    Measure {
        name: "backward_transfer",
        words: "backward transfer",
        help: "old tasks since they were new",
        unit: Unit::Points,
        source: Source::Accuracies,
        in_summary: true,
        of: ClassifierResult::backward_transfer,
    },
    Measure {
        name: "forward_transfer",
        words: "forward transfer",
        help: "tasks before they are learnt, above the initial network",
        unit: Unit::Points,
        source: Source::Accuracies,
        in_summary: false,
        of: ClassifierResult::forward_transfer,
    },
    Measure {
        name: "learning_accuracy",
        words: "learning accuracy",
        help: "of all tasks when they were new",
        unit: Unit::Percent,
        source: Source::Accuracies,
        in_summary: false,
        of: |result| metrics::learning_accuracy(&result.matrix),
    },
    Measure {
        name: "task_known_accuracy",
        words: "task-known accuracy",
        help: "ACC, the task of each image known",
        unit: Unit::Percent,
        source: Source::TaskKnown,
        in_summary: true,
        of: ClassifierResult::task_known_accuracy,
    },
    Measure {
        name: "old_miou",
        words: "mIoU of first classes",
        help: "those of the first task",
        unit: Unit::Percent,
        source: Source::Masks,
        in_summary: true,
        of: |result| result.masks.as_ref()?.old,
    },
    Measure {
        name: "new_miou",
        words: "mIoU of later classes",
        help: "those of all later tasks",
        unit: Unit::Percent,
        source: Source::Masks,
        in_summary: true,
        of: |result| result.masks.as_ref()?.new,
    },
    Measure {
        name: "pixel_accuracy",
        words: "pixel accuracy",
        help: "pixels whose class was answered",
        unit: Unit::Percent,
        source: Source::Masks,
        in_summary: true,
        of: |result| Some(result.masks.as_ref()?.pixel_accuracy),
    },
];

/// The measures of the short summary that have a value, the one that a run is judged by first. After a single task, what sums up
/// several says nothing new.
pub fn summary(result: &ClassifierResult) -> impl Iterator<Item = (&'static Measure, f64)> {
    let several = result.matrix.len() > 1;
    let main = MEASURES[0].name;
    let stands = move |m: &&Measure| m.in_summary && (several || m.name == main || m.source != Source::Accuracies);
    MEASURES.iter().filter(stands).filter_map(|measure| Some((measure, (measure.of)(result)?)))
}
