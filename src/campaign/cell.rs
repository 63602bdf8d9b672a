//! Runs in folders that may hold them already: complete, interrupted, or not begun.

use super::Workplace;
use crate::error::{Error, Result};
use crate::experiment::checkpoint::{CHECKPOINT_FILE, different_setting};
use crate::experiment::results::{Metrics, RunFolder};
use crate::experiment::{CONFIG_FILE, Config, complete, recorded_in, resume, run};
use crate::records::lock::is_in_use;
use std::path::{Path, PathBuf};

/// A run of a campaign.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its settings.
    pub config: Config,
    /// Its folder.
    pub path: PathBuf,
}

/// A run that came to no end.
#[derive(Debug)]
pub struct Failed {
    /// Its folder.
    pub path: PathBuf,
    /// Why.
    pub error: Error,
}

/// Whether a run that can go on lies there.
pub fn is_interrupted(path: &Path) -> bool {
    path.join(CHECKPOINT_FILE).symlink_metadata().is_ok()
}

/// The metrics of a complete run; what a kill in the last moment left to do is done.
///
/// # Errors
/// If that cannot be done.
pub fn finished(path: &Path, place: &mut dyn Workplace) -> Result<Option<Metrics>> {
    let Some(metrics) = complete(path) else { return Ok(None) };
    // Who writes there now does it.
    if !is_in_use(path) {
        tidy(path, place)?;
    }
    Ok(Some(metrics))
}

/// Does what is left to do where the results are complete: no checkpoint, nothing half written, the page. Returns whether the page
/// was not there.
///
/// # Errors
/// If it cannot be done.
pub fn tidy(path: &Path, place: &mut dyn Workplace) -> Result<bool> {
    RunFolder::open(path)?.remove(CHECKPOINT_FILE)?;
    place.renew(path)
}

/// The metrics of a run that is complete, goes on until it is, or begins anew where it had not come to a checkpoint.
///
/// # Errors
/// Those of the run; if the folder holds a run with other settings.
pub fn finish(cell: &Cell, place: &mut dyn Workplace) -> Result<Metrics> {
    cell.check_unchanged()?;
    if let Some(metrics) = finished(&cell.path, place)? {
        return Ok(metrics);
    }
    if is_interrupted(&cell.path) {
        return go_on(&cell.config, &RunFolder::open(&cell.path)?, place);
    }
    begin(&cell.config, &RunFolder::create(&cell.path, true)?, place)
}

/// A run in a folder made for it.
///
/// # Errors
/// Those of the run.
pub fn begin(config: &Config, folder: &RunFolder, place: &mut dyn Workplace) -> Result<Metrics> {
    let (dataset, device) = place.open(config)?;
    let config = Config { adapter: device.describe(), ..config.clone() };
    folder.write_sealed(CONFIG_FILE, &config)?;
    let mut listener = place.listener(&config, folder.path());
    let metrics = run(&config, &dataset, &device, Some(folder), &mut *listener, place.interrupted())?;
    listener.finish()?;
    Ok(metrics)
}

/// A run that was interrupted, or killed before its first checkpoint.
///
/// # Errors
/// Those of the run.
pub fn go_on(config: &Config, folder: &RunFolder, place: &mut dyn Workplace) -> Result<Metrics> {
    let (dataset, device) = place.open(config)?;
    let config = Config { adapter: device.describe(), ..config.clone() };
    let mut listener = place.listener(&config, folder.path());
    let metrics = resume(&config, &dataset, &device, folder, &mut *listener, place.interrupted())?;
    listener.finish()?;
    // If nothing was left to learn, no page was made.
    place.renew(folder.path())?;
    Ok(metrics)
}

/// Refuses to go on with other settings than a run began with, apart from where it runs.
///
/// # Errors
/// [`Error::Usage`], which names the setting.
pub fn check_same(theirs: &Config, ours: &Config, path: &Path) -> Result<()> {
    match different_setting(&theirs.identity(), &ours.identity()) {
        None => Ok(()),
        Some(name) => {
            Err(Error::usage(format!("--resume goes on with the settings of {}: leave out --{name}", path.display())))
        }
    }
}

impl Cell {
    /// What is there already must be of the same settings, but for where it ran, and of the same version.
    ///
    /// # Errors
    /// [`Error::Usage`], which names what differs.
    pub fn check_unchanged(&self) -> Result<()> {
        if self.path.join(CONFIG_FILE).symlink_metadata().is_err() {
            return Ok(());
        }
        let folder = self.path.display();
        let theirs = recorded_in(&self.path, CONFIG_FILE)?;
        let (version, ours) = (theirs.version.unwrap_or_default(), env!("CARGO_PKG_VERSION"));
        if version != ours {
            let message = format!("{folder} holds a run of engram {version}, and this is {ours}: choose another --out");
            return Err(Error::usage(message));
        }
        let method = match &theirs.method {
            Some(name) => crate::continual::spec(name)?,
            None => self.config.method,
        };
        let theirs = Config::resolve(method, theirs.values)?;
        let other = different_setting(&theirs.identity(), &self.config.identity());
        let is_moved = || theirs.data.source().is_elsewhere(&self.config.data.source());
        match other.or_else(|| is_moved().then(|| "dataset".into())) {
            None => Ok(()),
            Some(name) => {
                Err(Error::usage(format!("{folder} holds a run with another --{name}: choose another --out")))
            }
        }
    }
}

/// Runs every cell that is not complete. One that fails is told of, and the others run.
///
/// # Errors
/// [`Error::Interrupted`]; a folder that holds a run with other settings, before anything runs.
pub fn run_missing(cells: &[&Cell], place: &mut dyn Workplace) -> Result<Vec<Failed>> {
    for cell in cells {
        cell.check_unchanged()?;
    }
    let mut failed = Vec::new();
    for (i, cell) in cells.iter().enumerate() {
        if finished(&cell.path, place)?.is_some() {
            continue;
        }
        place.tell(&format!("run {} of {}: {}", i + 1, cells.len(), cell.path.display()));
        match finish(cell, place) {
            Ok(_) => {}
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                place.warn(&format!("{}: {error}; the others run", cell.path.display()));
                failed.push(Failed { path: cell.path.clone(), error });
            }
        }
    }
    Ok(failed)
}
