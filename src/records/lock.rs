//! A folder has one writer at a time. The system ends a lock with its process, so a killed run leaves none.

use super::behind_link;
use crate::error::{Error, Result};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// Held while a folder or a file is written to.
#[derive(Debug)]
pub struct Lock {
    _held: Option<File>,
    /// To be removed in the end.
    file: Option<PathBuf>,
}

/// Beside the files of a run where a folder itself cannot be locked: on Windows, and on some network file systems.
const FILE: &str = ".lock";

/// What came of trying.
enum Tried {
    Held(Lock),
    InUse,
    /// The file system has no locks.
    Unknown,
}

impl Lock {
    /// Locks a folder.
    ///
    /// # Errors
    /// [`Error::Usage`] if another process, or another part of this one, writes into it.
    pub fn of(folder: &Path) -> Result<Lock> {
        // Who only asks whether a folder is in use holds it for a moment.
        for _ in 0..20 {
            match attempt(folder) {
                Tried::Held(lock) => return Ok(lock),
                Tried::Unknown => return Ok(Lock { _held: None, file: None }),
                Tried::InUse => sleep(Duration::from_millis(10)),
            }
        }
        Err(Error::usage(format!(
            "{}: another process is writing into this folder: wait for it, or choose another --out",
            folder.display()
        )))
    }

    /// Locks a file that is read, changed and replaced as a whole, by an empty file `.NAME.lock` beside it.
    ///
    /// # Errors
    /// [`Error::Usage`] if another process, or another part of this one, is about to change it; if its folder cannot be written to.
    pub fn of_file(path: &Path) -> Result<Lock> {
        let path = &behind_link(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}.lock"));
        for _ in 0..20 {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&beside);
            let file = file.map_err(Error::io(path, "write beside the file"))?;
            match file.try_lock() {
                // Whoever held it before has removed it: this lock is on a file that nobody else finds.
                Ok(()) if !is_at(&file, &beside) => {}
                Ok(()) => return Ok(Lock { _held: Some(file), file: Some(beside) }),
                Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(10)),
                // A file system without locks.
                Err(TryLockError::Error(_)) => return Ok(Lock { _held: None, file: Some(beside) }),
            }
        }
        Err(Error::usage(format!("{}: another process is changing this file: wait for it", path.display())))
    }
}

/// Whether this is the file of that name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |own: std::fs::Metadata, named: std::fs::Metadata| own.ino() == named.ino() && own.dev() == named.dev();
    file.metadata().ok().zip(path.symlink_metadata().ok()).is_some_and(|(own, named)| same(own, named))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Whether somebody writes into a folder now.
pub fn is_in_use(folder: &Path) -> bool {
    matches!(attempt(folder), Tried::InUse)
}

fn attempt(folder: &Path) -> Tried {
    let of_file = |file: &File| match file.try_lock() {
        Ok(()) => Some(true),
        Err(TryLockError::WouldBlock) => Some(false),
        Err(TryLockError::Error(_)) => None,
    };
    if cfg!(unix)
        && let Ok(file) = File::open(folder)
    {
        match of_file(&file) {
            Some(true) => return Tried::Held(Lock { _held: Some(file), file: None }),
            Some(false) => return Tried::InUse,
            None => {}
        }
    }
    let path = folder.join(FILE);
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return Tried::Unknown;
    }
    let Ok(file) = File::options().read(true).write(true).create(true).truncate(false).open(&path) else {
        return Tried::Unknown;
    };
    match of_file(&file) {
        Some(true) => Tried::Held(Lock { _held: Some(file), file: Some(path) }),
        Some(false) => Tried::InUse,
        None => {
            let _ = std::fs::remove_file(path);
            Tried::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::of(dir.path()).unwrap();
        assert!(is_in_use(dir.path()));
        let error = Lock::of(dir.path()).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("another process"), "{error}");
        drop(first);
        assert!(!is_in_use(dir.path()));
        Lock::of(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a lock leaves nothing");
    }

    #[test]
    fn a_file_is_changed_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("parts.engram");
        let first = Lock::of_file(&path).unwrap();
        let error = Lock::of_file(&path).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("parts.engram: another process"), "{error}");
        drop(first);
        // Many at once: at any time one of them.
        let busy = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let Ok(_lock) = Lock::of_file(&path) else { continue };
                        assert_eq!(busy.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        busy.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a lock leaves nothing");
    }
}
