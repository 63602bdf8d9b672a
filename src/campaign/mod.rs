//! Floor 9: campaigns: many runs in folders of one folder. Seeds, grids of methods, their shards, and the runs behind published
//! figures. What is complete is kept, what was interrupted goes on, and what fails does not keep the others from running.

mod cell;
mod compare;
mod reproduce;
mod schemes;
mod seeds;
mod shard;

pub use cell::{Cell, Failed, begin, check_same, finish, finished, go_on, is_interrupted, run_missing, tidy};
pub use compare::{Compared, Grid, compared, is_comparison, run_folders};
pub use reproduce::{CSV as LEDGER_CSV, MARKDOWN as LEDGER, Reproduction};
pub use schemes::{SchemeCell, SchemePlace, run_schemes, scheme_cells};
pub use seeds::{PLAN, Seeds, failure};
pub use shard::{Shard, slurm_script};

use crate::data::Dataset;
use crate::device::Device;
use crate::error::Result;
use crate::experiment::Config;
use crate::experiment::sink::Sink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Listens to a run, and has something to do when it is over, such as a page.
pub trait RunListener: Sink {
    /// The run is complete, and so are its files.
    ///
    /// # Errors
    /// If what it makes of them cannot be written.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a campaign is given to work with by whoever starts it.
pub trait Workplace {
    /// Data and device of a run. Runs of one campaign mostly share them: what is open is kept.
    ///
    /// # Errors
    /// If the data cannot be loaded, or there is no such device.
    fn open(&mut self, config: &Config) -> Result<(Arc<Dataset>, Device)>;

    /// Who listens to the run in this folder.
    fn listener(&mut self, config: &Config, folder: &Path) -> Box<dyn RunListener>;

    /// A folder whose run is complete; what a kill in the last moment left to be done is done. Returns whether there was any.
    ///
    /// # Errors
    /// If something cannot be written.
    fn renew(&mut self, folder: &Path) -> Result<bool>;

    /// Says something that does not end the campaign.
    fn warn(&mut self, text: &str);

    /// Says what is done next.
    fn tell(&mut self, text: &str);

    /// Ends runs between two steps.
    fn interrupted(&self) -> &'static AtomicBool;
}
