//! Floor 8: experiments. A configuration, the courses over tasks and over pairs of students, metrics, the files a run leaves,
//! and what can be done with them afterwards.

pub mod checkpoint;
pub mod command_line;
pub mod comparison;
mod config;
pub mod distillation;
pub mod exemplars;
pub mod kept;
pub mod ledger;
pub mod measures;
pub mod metrics;
pub mod presets;
mod recorded;
pub mod results;
mod runner;
pub mod saved;
mod scores;
pub mod segmented;
pub mod sink;
pub mod statistics;
pub mod tune;

pub use config::{CONFIG_FILE, Config, PROTOCOL, Recorded, every_row, for_target, rows};
pub use recorded::{recorded_as, recorded_by, recorded_in};
pub use runner::{Standing, complete, learn_task, resume, run};
