//! `report.html`: a run, or several seeds of it, as one page for a browser. A page is a function of the files in a run
//! folder and nothing else, so it can be made again at any time; it needs no network, no script and no other file.

mod charts;
mod compare;
mod confusion;
mod distillation;
mod files;
mod html;
mod losses;
mod masks;
mod plot;
mod run;
mod schemes;
mod seeds;

use crate::error::{Error, Result};
use crate::experiment::comparison::Entry;
use crate::experiment::every_row;
use crate::experiment::results::write_atomically;
use crate::experiment::sink::{Listener, Sink, TaskFinished};
use files::RunFiles;
use std::path::{Path, PathBuf};

/// The page's name in a run folder.
pub const FILE: &str = "report.html";

/// Makes the page of a run folder, or of a distillation, and returns its path.
///
/// # Errors
/// If there is no such run, none of its tasks is finished, or a file is damaged.
pub fn write_run(folder: &Path) -> Result<PathBuf> {
    let path = folder.join(FILE);
    write_atomically(&path, page_of_run(folder)?.as_bytes())?;
    Ok(path)
}

/// Makes the page of a run folder if it is not there, or not that of the results in the folder. Returns whether it was so.
///
/// # Errors
/// As [`write_run`].
pub fn renew_run(folder: &Path) -> Result<bool> {
    let page = page_of_run(folder)?;
    let is_there = std::fs::read(folder.join(FILE)).is_ok_and(|there| there == page.as_bytes());
    if !is_there {
        write_atomically(&folder.join(FILE), page.as_bytes())?;
    }
    Ok(!is_there)
}

fn page_of_run(folder: &Path) -> Result<String> {
    match distillation::is_one(folder) {
        true => distillation::page(folder),
        false => Ok(run::page(&RunFiles::read(folder)?)),
    }
}

/// Makes the page of several seeds in the folder that holds theirs, and returns its path. Runs that are not complete
/// are counted but not used.
///
/// # Errors
/// As [`write_run`]; if no run is complete, or the runs differ in more than their seed.
pub fn write_seeds(root: &Path, folders: &[PathBuf]) -> Result<PathBuf> {
    let begun = folders.iter().filter(|folder| folder.join("metrics.json").exists());
    let runs = begun.map(|folder| RunFiles::read(folder)).collect::<Result<Vec<_>>>()?;
    let complete: Vec<RunFiles> = runs.into_iter().filter(|run| run.metrics.complete).collect();
    let Some(first) = complete.first() else {
        return Err(Error::usage(format!("{}: none of its runs is complete", root.display())));
    };
    let rows = every_row();
    let is_place = |name: &str| rows.iter().any(|row| row.name == name && row.is_place);
    let experiment = |run: &RunFiles| {
        let mut config = run.config.clone();
        config.retain(|name, _| {
            !["seed", "seeds", "adapter", "version", "started_in", "checksum"].contains(&name.as_str())
                && !is_place(name)
        });
        config
    };
    if let Some(other) = complete.iter().find(|run| experiment(run) != experiment(first)) {
        let (a, b) = (first.folder.display(), other.folder.display());
        return Err(Error::usage(format!("{a} and {b} differ in more than their seed: no mean of them is made")));
    }
    let path = root.join(FILE);
    write_atomically(&path, seeds::page(root, &complete, folders.len()).as_bytes())?;
    Ok(path)
}

/// Makes the page of a comparison, and returns its path: `folders` are those of the first run of each entry, in the order of
/// the entries; `n_missing` runs are not complete.
///
/// # Errors
/// If there is no entry, or a file is damaged.
pub fn write_comparison(root: &Path, entries: &[Entry], folders: &[PathBuf], n_missing: usize) -> Result<PathBuf> {
    if entries.is_empty() {
        return Err(Error::usage(format!("{}: none of its runs is complete", root.display())));
    }
    let runs = folders.iter().map(|folder| RunFiles::read(folder)).collect::<Result<Vec<_>>>()?;
    let path = root.join(FILE);
    write_atomically(&path, compare::page(root, entries, &runs, n_missing).as_bytes())?;
    Ok(path)
}

/// Makes the page of several schemes of distillation in the folder that holds theirs, and returns its path; `None` if it holds none.
///
/// # Errors
/// If no pair of students is finished, or a file is damaged.
pub fn write_schemes(root: &Path) -> Result<Option<PathBuf>> {
    if schemes::folders(root).is_empty() {
        return Ok(None);
    }
    let path = root.join(FILE);
    write_atomically(&path, schemes::page(root)?.as_bytes())?;
    Ok(Some(path))
}

/// Keeps the page of a run folder up to date while the run goes on.
pub struct ReportPage {
    folder: PathBuf,
    outcome: Result<()>,
}

impl ReportPage {
    /// For a folder that the runner writes into.
    pub fn new(folder: &Path) -> ReportPage {
        ReportPage { folder: folder.to_path_buf(), outcome: Ok(()) }
    }

    /// Whether the last page could be written.
    pub fn finish(&mut self) -> Result<()> {
        std::mem::replace(&mut self.outcome, Ok(()))
    }
}

impl Listener for ReportPage {}

impl Sink for ReportPage {
    fn task_finished(&mut self, _task: &TaskFinished) {
        self.outcome = write_run(&self.folder).map(|_| ());
    }
}
