//! The numbers that a classifier's accuracies are summed up in, as a table: from a row follow its column in `comparison.csv` and
//! `seeds.csv` and its entry in `comparison.json` and `seeds.json`. Formulas are in [`metrics`](super::metrics).

use super::scores::ClassifierResult;

/// A number of one classifier after the last task done.
pub struct Measure {
    /// As in files.
    pub name: &'static str,
    /// For a table.
    pub title: &'static str,
    /// `None` where it does not make sense, such as forgetting after one task.
    pub of: fn(&ClassifierResult) -> Option<f64>,
}

/// Every measure.
pub static MEASURES: &[Measure] = &[
    Measure { name: "final_accuracy", title: "final accuracy", of: |result| result.final_accuracy },
    Measure {
        name: "average_incremental_accuracy",
        title: "average incremental",
        of: |result| result.average_incremental_accuracy,
    },
    Measure { name: "average_accuracy", title: "average accuracy", of: |result| result.average_accuracy },
    Measure { name: "forgetting", title: "forgetting", of: |result| result.forgetting },
    Measure { name: "backward_transfer", title: "backward transfer", of: |result| result.backward_transfer },
    Measure { name: "forward_transfer", title: "forward transfer", of: |result| result.forward_transfer },
    Measure { name: "learning_accuracy", title: "learning accuracy", of: |result| result.learning_accuracy },
    Measure { name: "task_known_accuracy", title: "task known", of: |result| result.task_known_accuracy },
    Measure { name: "old_miou", title: "mIoU of first classes", of: |result| result.masks.as_ref()?.old },
    Measure { name: "new_miou", title: "mIoU of later classes", of: |result| result.masks.as_ref()?.new },
    Measure {
        name: "pixel_accuracy",
        title: "pixel accuracy",
        of: |result| result.masks.as_ref().map(|masks| masks.pixel_accuracy),
    },
];
