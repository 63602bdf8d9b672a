//! Floor 10: how a run looks to a person. Plain text of at most [`WIDTH`] columns and no colours, so that a terminal, a
//! log file and a pasted bug report all show the same.
//!
//! - [`Console`] listens to a run (`experiment::sink::Sink`): a progress bar per task on stderr, on stdout a table
//!   that grows by a row per task, then the closing summary.
//! - [`Summary`] is that summary; [`seeds_table`] puts several runs together as mean ± standard deviation.
//! - [`curve`] plots accuracies over tasks.
//! - [`comparison_text`] puts several methods side by side and ends with an answer; [`write_comparison`] is its page.
//! - [`tuned_task_text`] and [`tuned_text`] tell what a search for hyper-parameters tried and found.
//! - [`write_schemes`] makes the page of several schemes of distillation.
//! - [`write_run`] and [`write_seeds`] make `report.html` from the files of run folders; [`ReportPage`] does so while a
//!   run goes on.
//!
//! Nothing here computes a result: the numbers come from `experiment::results`, and all but [`Console`] are functions
//! from values to text.

mod comparison;
mod console;
mod curve;
mod distillation;
mod learner;
mod page;
mod schemes;
mod seeds;
mod summary;
mod table;
mod text;
mod tuning;

pub use comparison::comparison_text;
pub use console::Console;
pub use curve::curve;
pub use distillation::{DistillConsole, distill_tables, gain_text, ledger_text, percent_sd};
pub use learner::{accuracy_text, answer_text, confusions_text, estimate_text, learned_text, session_text};
pub use page::{FILE as REPORT_FILE, ReportPage, renew_run, write_comparison, write_run, write_schemes, write_seeds};
pub use schemes::schemes_text;
pub use seeds::seeds_table;
pub use summary::{Summary, main_classifier, ordered_classifiers};
pub use text::{fit, hang, message, printable, thousands};
pub use tuning::{tuned_task_text, tuned_text};

/// No line is wider, apart from paths, which are never broken.
pub const WIDTH: usize = 80;
