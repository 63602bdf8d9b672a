//! What is special about the page of a run on images with masks.

use super::files::RunFiles;
use super::html::escape;
use super::run::task_classes;
use crate::data::VOID;
use crate::data::sheet::class_colour;
use crate::experiment::results::{ClassifierResult, MaskScores};
use crate::report::text::{counted, percent, points};
use base64::Engine;
use std::fmt::Write;

/// What the curve over tasks shows.
pub(super) const EXPLANATION: &str = "mIoU: of each class the pixels that are of it and were taken for it, over those that are either, counted over all test \
     images of what was seen; the mean over classes. Void pixels, and those of classes that have not come yet, do not count.";

/// The result for somebody who has never seen one.
pub(super) fn in_words(run: &RunFiles, main: &ClassifierResult, masks: &MaskScores) -> String {
    let n_tasks = main.matrix.len();
    let by_domain = !run.metrics.domains_per_task.is_empty();
    let what = match by_domain {
        true => counted(run.metrics.domains_per_task.iter().map(Vec::len).sum(), "domain", "domains"),
        false => counted(run.card.classes.len(), "class", "classes"),
    };
    let how = match n_tasks {
        1 => "at once".to_string(),
        n => format!("in {}, one after the other, never all at once", counted(n, "task", "tasks")),
    };
    let mut text = format!(
        "A network learnt to say of every pixel what it belongs to. It was shown {what} {how}. On test images of all of them it \
         now reaches a mIoU of {}, and names {} of the pixels correctly.",
        percent(main.final_accuracy().unwrap_or(f64::NAN)),
        percent(masks.pixel_accuracy)
    );
    if let Some(lost) = main.forgetting().filter(|lost| *lost > 0.0) {
        let _ = write!(text, " Earlier tasks lie {} below their best, on average.", points(lost));
    }
    text + match by_domain {
        true => " Every task has the same classes; what changes is the domain.",
        false => " In training, pixels of classes that are not the task's own were background.",
    }
}

/// Images, what is on them, and the answers after each task; `None` where there are none.
pub(super) fn pictures(run: &RunFiles) -> Option<String> {
    if run.segmented.is_empty() {
        return None;
    }
    let mut out = String::from(
        "<p>Some test images (upper row), what is on them (middle row), and the answer of the network (lower row), after each \
         task. Light pixels of the middle row do not count: contours, and classes that have not come yet.</p>\n<p>",
    );
    let colour = |class: u8| class_colour(class).map(|value| format!("{value:02x}")).concat();
    for class in &run.card.classes {
        let class_number = u8::try_from(class.class).unwrap_or(VOID);
        let _ = write!(
            out,
            "<span style=\"white-space:nowrap\"><i style=\"display:inline-block;width:.8em;height:.8em;background:#{}\"></i> {} \
             </span>",
            colour(class_number),
            escape(&class.name)
        );
    }
    out += "</p>\n";
    for (i, picture) in run.segmented.iter().enumerate() {
        let (when, caption) = match run.metrics.n_tasks {
            1 => ("after training".to_string(), "After training".to_string()),
            _ => (format!("after task {}", i + 1), format!("After task {} ({})", i + 1, task_classes(run, i))),
        };
        let data = base64::engine::general_purpose::STANDARD.encode(picture);
        let _ = writeln!(
            out,
            "<figure><img src=\"data:image/png;base64,{data}\" style=\"width:100%;image-rendering:pixelated\" alt=\"images, \
             truth and answers {when}\"><figcaption>{}</figcaption></figure>",
            escape(&caption)
        );
    }
    Some(out)
}
