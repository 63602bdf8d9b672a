//! The folder of a run: its files by name, and how they are replaced.

use super::json::flat_lists;
use super::lock::Lock;
use super::{disk, sealed};
use crate::error::{Error, Result};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a complete run, in the order in which a reader wants them. `--force` removes these, a checkpoint, a
/// distillation's [`TERMS_FILE`], pictures of masks ([`segmented`]), the folder of exemplars ([`EXEMPLARS`]), what a killed run left of their writing, and nothing
/// else.
pub const RESULT_FILES: [&str; 10] = [
    "report.html",
    "config.json",
    "metrics.json",
    "timing.json",
    "accuracy.csv",
    "losses.csv",
    "model.json",
    "model.safetensors",
    "class_means.safetensors",
    MEMORY_FILE,
];

/// What the method keeps, with which a learner goes on.
pub const MEMORY_FILE: &str = "memory.safetensors";

/// The terms of the loss of a distillation, step by step.
pub const TERMS_FILE: &str = "terms.csv";

/// What an interrupted run goes on from.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";

/// The folder of pictures of exemplars.
pub const EXEMPLARS: &str = "exemplars";

/// What lies in [`EXEMPLARS`].
pub const EXEMPLARS_INDEX: &str = "index.json";

/// Pictures of what a network answers to images with masks, after task `index` (from 0).
pub fn segmented(index: usize) -> String {
    format!("segmented-{:02}.png", index + 1)
}

/// Whether a file has such a name.
fn is_segmented(name: &str) -> bool {
    let number = name.strip_prefix("segmented-").and_then(|rest| rest.strip_suffix(".png"));
    number.is_some_and(|number| number.len() > 1 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Written once to find out whether a folder can be.
const PROBE: &str = "probe";

/// The folder that receives a run's results. While there is a value of it, nobody else writes into the folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: Arc<Lock>,
}

impl RunFolder {
    /// Makes the folder and its parents and proves that it can be written, before hours of training are spent.
    ///
    /// A folder with something in it is refused; with `force` it is used again and earlier [`RESULT_FILES`] go.
    ///
    /// # Errors
    /// If the folder is refused or in use (wrong use), or cannot be made, written or cleared.
    pub fn create(path: &Path, force: bool) -> Result<RunFolder> {
        if !force && path.is_dir() && names(path)?.iter().any(|name| !is_temporary(name)) {
            return Err(Error::usage(format!(
                "{}: the folder already holds something; choose another --out, or --force to replace the results in it",
                path.display()
            )));
        }
        disk::create_folder(path)?;
        let folder = RunFolder::locked(path)?;
        folder.remove_temporaries()?;
        disk::try_out(&path.join(PROBE)).map_err(Error::io(path, "write into the folder"))?;
        // A run is complete by its metrics and goes on by its checkpoint: without these nothing else is taken for a run.
        let first = ["metrics.json", CHECKPOINT_FILE, "config.json"];
        for name in first.into_iter().chain(names(path)?.iter().map(String::as_str).filter(|name| is_own(name))) {
            let old = path.join(name);
            match old.symlink_metadata() {
                Ok(found) if found.is_dir() => disk::remove_folder(&old).map_err(Error::io(old, "remove"))?,
                _ => folder.remove(name)?,
            }
        }
        folder.remove_exemplars()?;
        Ok(folder)
    }

    /// The folder of a run that is to go on; what a killed process left of its writing goes.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none, or it is in use.
    pub fn open(path: &Path) -> Result<RunFolder> {
        if !path.is_dir() {
            return Err(Error::usage(format!("{}: there is no such run folder", path.display())));
        }
        let folder = RunFolder::locked(path)?;
        folder.remove_temporaries()?;
        Ok(folder)
    }

    fn locked(path: &Path) -> Result<RunFolder> {
        Ok(RunFolder { path: path.to_path_buf(), _lock: Arc::new(Lock::of(path)?) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a value as indented JSON, lists of plain values on one line. Numbers that are not finite become `null`.
    ///
    /// # Errors
    /// If the value cannot be expressed as JSON, or the file cannot be written.
    pub fn write_json<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<()> {
        let json = serde_json::to_string_pretty(value).map_err(|e| self.no_json(name, &e))?;
        self.write_bytes(name, (flat_lists(&json) + "\n").as_bytes())
    }

    /// The same of an object, with a checksum that [`sealed::read_json`] looks at.
    ///
    /// # Errors
    /// As [`RunFolder::write_json`].
    pub fn write_sealed<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let json = sealed::sealed(value).map_err(|e| self.no_json(name, &e))?;
        self.write_bytes(name, json.as_bytes())
    }

    fn no_json(&self, name: &str, why: &serde_json::Error) -> Error {
        Error::file(self.path.join(name), format!("cannot be expressed as JSON: {why}"))
    }

    /// Replaces a folder inside by one with these files; their names may have one folder of their own. With `wait` they are
    /// brought to the disk, which takes milliseconds for each: what will be written again anyway need not be.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_folder(&self, name: &str, files: &[(String, Vec<u8>)], wait: bool) -> Result<()> {
        let target = self.path.join(name);
        let fill = |new: &Path| {
            for (name, bytes) in files {
                let path = new.join(name);
                disk::make_folder(path.parent().expect("it is inside the new folder"))?;
                disk::write_new(&path, bytes)?;
            }
            if wait {
                files.iter().try_for_each(|(name, _)| disk::sync(&new.join(name)))?;
            }
            // The old folder leaves its name whole: removing it takes time, in which the process may be killed.
            let old = self.path.join(format!(".{name}.0.tmp"));
            if target.symlink_metadata().is_ok() {
                disk::remove_folder(&old)?;
                disk::rename(&target, &old)?;
            }
            disk::rename(new, &target)?;
            disk::remove_folder(&old)
        };
        let replace = || {
            let new = disk::temporary_folder(&target)?;
            fill(&new).inspect_err(|_| {
                let _ = disk::remove_folder(&new);
            })
        };
        replace().map_err(Error::io(&target, "write"))
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<()> {
        disk::write_atomically(&self.path.join(name), bytes)
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        disk::remove_file(&path).map_err(Error::io(path, "remove"))
    }

    /// What a killed process left of a file that it wrote.
    fn remove_temporaries(&self) -> Result<()> {
        for name in names(&self.path)?.iter().filter(|name| is_temporary(name)) {
            let path = self.path.join(name);
            let removed = match path.symlink_metadata() {
                Ok(found) if found.is_dir() => disk::remove_folder(&path),
                _ => disk::remove_file(&path),
            };
            removed.map_err(Error::io(path, "remove"))?;
        }
        Ok(())
    }

    /// Removes the exemplars of an earlier run; a folder of that name that no run wrote is refused.
    fn remove_exemplars(&self) -> Result<()> {
        let path = self.path.join(EXEMPLARS);
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        if !path.join(EXEMPLARS_INDEX).is_file() {
            return Err(Error::usage(format!(
                "{}: no run wrote this folder; move it, or choose another --out",
                path.display()
            )));
        }
        disk::remove_folder(&path).map_err(Error::io(path, "remove"))
    }
}

/// What lies in a folder, in order.
fn names(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io(path, "read the folder"))? {
        names.push(entry.map_err(Error::io(path, "read the folder"))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Whether a file of this name is a run's.
fn is_own(name: &str) -> bool {
    RESULT_FILES.contains(&name) || [CHECKPOINT_FILE, TERMS_FILE].contains(&name) || is_segmented(name)
}

/// Whether a file of this name is what a killed process left of a run's.
fn is_temporary(name: &str) -> bool {
    let own = |result: &str| is_own(result) || [PROBE, EXEMPLARS].contains(&result) || OF_COMMANDS.contains(&result);
    disk::result_of_temporary(name).is_some_and(own)
}

/// What commands write into folders that are no run's.
const OF_COMMANDS: [&str; 13] = [
    "plan.json",
    "tune.json",
    "comparison.csv",
    "comparison.json",
    "seeds.csv",
    "seeds.json",
    "schemes.csv",
    "schemes.json",
    "reproduced.csv",
    "reproduced.md",
    "key.json",
    "teacher.json",
    "teacher.safetensors",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        super::names(folder).unwrap()
    }

    #[test]
    fn an_existing_run_is_refused_without_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/run");
        drop(RunFolder::create(&path, false).unwrap());
        assert!(names(&path).is_empty());
        let folder = RunFolder::create(&path, false).expect("an empty folder is as good as none");
        folder.write_json("metrics.json", &[1, 2]).unwrap();
        folder.write_bytes("notes.txt", b"mine").unwrap();
        // What a killed run may leave, and what is not ours.
        for name in [".model.safetensors.4711.tmp", ".probe.1.tmp", ".notes.txt.1.tmp", ".metrics.json.x.tmp"] {
            fs::write(path.join(name), "half").unwrap();
        }
        // Where a folder itself cannot be locked, a file in it is.
        let all = || names(&path).into_iter().filter(|name| name != ".lock").collect::<Vec<_>>();
        let before = all();

        let error = RunFolder::create(&path, true).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("another process"), "{error}");
        assert_eq!(all(), before, "a folder in use is not touched");
        drop(folder);
        let error = RunFolder::create(&path, false).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert!(message.contains("--force") && message.contains("--out") && message.contains("run"), "{message}");
        assert_eq!(all(), before, "a refusal touches nothing");

        RunFolder::create(&path, true).unwrap();
        let kept = [".metrics.json.x.tmp", ".notes.txt.1.tmp", "notes.txt"];
        assert_eq!(names(&path), kept, "force removes results, their remains and nothing else");
    }

    /// Below a regular file, because tests may run as root, for whom permissions do not hold.
    #[test]
    fn an_unwritable_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        for path in [file.join("run"), file] {
            for force in [false, true] {
                let error = RunFolder::create(&path, force).unwrap_err();
                assert_eq!(error.exit_code(), 1);
                assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            }
        }
    }

    #[test]
    fn a_folder_of_the_user_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mine = dir.path().join(EXEMPLARS);
        fs::create_dir(&mine).unwrap();
        fs::write(mine.join("mine.png"), "x").unwrap();
        let error = RunFolder::create(dir.path(), true).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(EXEMPLARS), "{error}");
        assert!(mine.join("mine.png").exists());
        fs::write(mine.join(EXEMPLARS_INDEX), "[]").unwrap();
        RunFolder::create(dir.path(), true).unwrap();
        assert!(!mine.exists());
    }

    #[test]
    fn what_a_killed_run_left_goes_with_the_next_that_owns_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let left = [".checkpoint.safetensors.4711.tmp", ".metrics.json.4711-3.tmp", ".tune.json.1-0.tmp"];
        for name in left {
            fs::write(dir.path().join(name), "half").unwrap();
        }
        fs::create_dir(dir.path().join(".exemplars.4711-0.tmp")).unwrap();
        RunFolder::create(dir.path(), false).expect("a folder with such files only is as good as an empty one");
        assert!(names(dir.path()).is_empty());
        fs::write(dir.path().join(left[0]), "half").unwrap();
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        RunFolder::open(dir.path()).unwrap();
        assert_eq!(names(dir.path()), ["config.json"]);
    }
}
