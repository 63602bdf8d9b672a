//! Floor 7: experiments. A configuration, the only training loop, metrics, and the files a run leaves.

mod config;
pub mod metrics;
pub mod results;
mod runner;
pub mod sink;

pub use config::{Config, Overrides, recipes_text};
pub use runner::run;
