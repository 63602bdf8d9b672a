//! Runs in folders that may hold them already: complete, interrupted, or not begun.

use super::INTERRUPTED;
use crate::data::Dataset;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::experiment::checkpoint::{CHECKPOINT_FILE, different_setting};
use crate::experiment::results::{Metrics, RunFolder};
use crate::experiment::sink::Sink;
use crate::experiment::{CONFIG_FILE, Config, complete, resume, run};
use crate::records::lock::is_in_use;
use crate::report::{Console, ReportPage, renew_run};
use std::path::Path;

/// Whether a run that can go on lies there.
pub fn is_interrupted(path: &Path) -> bool {
    path.join(CHECKPOINT_FILE).symlink_metadata().is_ok()
}

/// The metrics of a run that is complete, goes on until it is, or begins anew where it had not come to a checkpoint.
pub fn finish(config: &Config, dataset: &Dataset, device: &Device, path: &Path, console: Console) -> Result<Metrics> {
    if let Some(metrics) = finished(path)? {
        return Ok(metrics);
    }
    if is_interrupted(path) {
        return go_on(config, dataset, device, &RunFolder::open(path)?, console);
    }
    begin(config, dataset, device, &RunFolder::create(path, true)?, console)
}

/// The metrics of a complete run; what a kill in the last moment left to do is done.
pub fn finished(path: &Path) -> Result<Option<Metrics>> {
    let Some(metrics) = complete(path) else { return Ok(None) };
    // Who writes there now does it.
    if !is_in_use(path) {
        tidy(path)?;
    }
    Ok(Some(metrics))
}

/// Does what is left to do where the results are complete: no checkpoint, nothing half written, the page. Returns whether the page
/// was not there.
pub fn tidy(path: &Path) -> Result<bool> {
    RunFolder::open(path)?.remove(CHECKPOINT_FILE)?;
    renew_run(path)
}

/// A run in a folder made for it.
pub fn begin(
    config: &Config,
    dataset: &Dataset,
    device: &Device,
    folder: &RunFolder,
    mut console: Console,
) -> Result<Metrics> {
    folder.write_sealed(CONFIG_FILE, config)?;
    let mut page = ReportPage::new(folder.path());
    let mut sink: [&mut dyn Sink; 2] = [&mut page, &mut console];
    let metrics = run(config, dataset, device, Some(folder), &mut sink, &INTERRUPTED)?;
    page.finish()?;
    Ok(metrics)
}

/// A run that was interrupted, or killed before its first checkpoint.
pub fn go_on(
    config: &Config,
    dataset: &Dataset,
    device: &Device,
    folder: &RunFolder,
    mut console: Console,
) -> Result<Metrics> {
    let mut page = ReportPage::new(folder.path());
    let mut sink: [&mut dyn Sink; 2] = [&mut page, &mut console];
    let metrics = resume(config, dataset, device, folder, &mut sink, &INTERRUPTED)?;
    page.finish()?;
    // If nothing was left to learn, no page was made.
    renew_run(folder.path())?;
    Ok(metrics)
}

/// Refuses to go on with other settings than a run began with, apart from where it runs.
///
/// # Errors
/// [`Error::Usage`], which names the flag.
pub fn check_same(theirs: &Config, ours: &Config, path: &Path) -> Result<()> {
    match different_setting(&theirs.identity(), &ours.identity()) {
        None => Ok(()),
        Some(name) => {
            Err(Error::usage(format!("--resume goes on with the settings of {}: leave out --{name}", path.display())))
        }
    }
}
