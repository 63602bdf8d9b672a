//! Floor 7: experiments. A configuration, the courses over tasks and over pairs of students, metrics, the files a run leaves,
//! and what can be done with them afterwards.

pub mod checkpoint;
pub mod command_line;
pub mod comparison;
mod config;
pub mod distillation;
pub mod exemplars;
pub mod ledger;
pub mod metrics;
mod overrides;
pub mod presets;
mod recipes;
pub mod results;
mod runner;
pub mod saved;
mod scores;
pub mod sink;
pub mod statistics;
pub mod tune;

pub use config::Config;
pub use overrides::{CONFIG_FILE, Overrides};
pub use recipes::recipes_text;
pub use runner::{Standing, complete, learn_task, resume, run};
