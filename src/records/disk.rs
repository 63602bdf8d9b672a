//! The only place that changes the files of a run.

use super::faults::{Step, step};
use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Replaces the file as a whole or leaves it as it was. A link of this name is replaced, not followed.
///
/// # Errors
/// If the file cannot be written; an earlier one is whole then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes).map_err(Error::io(path, "write"))
}

/// The file that a link leads to; any other path as it is.
pub fn behind_link(path: &Path) -> PathBuf {
    let behind = if path.is_symlink() { path.canonicalize().ok() } else { None };
    behind.unwrap_or_else(|| path.to_path_buf())
}

/// Fills a temporary neighbour of `path` and renames it; a neighbour, because a rename is atomic only within one file system.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (temporary, file) = temporary_file(path)?;
    // Who may read the old one may read the new one, and nobody else; some file systems have no such thing.
    #[cfg(unix)]
    if let Ok(before) = fs::symlink_metadata(path)
        && before.is_file()
    {
        let _ = file.set_permissions(before.permissions());
    }
    let result = fill(file, bytes).and_then(|()| rename(&temporary, path));
    if result.is_err() {
        // The error worth telling is the first one.
        let _ = remove_file(&temporary);
    }
    result
}

/// Writes a file and waits until it is on the disk: without that a power cut after the rename could leave an empty file under
/// the final name.
fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first)?;
    step(Step::Takes)?;
    file.write_all(second)?;
    step(Step::Takes)?;
    file.sync_data()
}

/// A new file that no other process writes to, whatever lies in the folder.
fn temporary_file(path: &Path) -> io::Result<(PathBuf, File)> {
    step(Step::Takes)?;
    unused(path, |name| OpenOptions::new().write(true).create_new(true).open(name))
}

/// Finds out whether files can be made beside `path`.
pub(super) fn try_out(path: &Path) -> io::Result<()> {
    let (temporary, _) = temporary_file(path)?;
    remove_file(&temporary)
}

/// A new folder beside `path` that no other process writes to.
pub(super) fn temporary_folder(path: &Path) -> io::Result<PathBuf> {
    step(Step::Takes)?;
    unused(path, |name| fs::create_dir(name)).map(|(name, ())| name)
}

/// Processes of several containers may have one number.
fn unused<T>(path: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(PathBuf, T)> {
    let mut n = 0;
    loop {
        let name = temporary_name(path, n);
        match make(&name) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && n < 1000 => n += 1,
            made => return Ok((name, made?)),
        }
    }
}

/// `.NAME.PROCESS-N.tmp` beside the file.
fn temporary_name(path: &Path, n: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{n}.tmp", std::process::id()))
}

/// The result that a file of this name was to become, if it is a neighbour that a killed process left.
pub(super) fn result_of_temporary(name: &str) -> Option<&str> {
    let (result, made_by) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let (process, n) = made_by.split_once('-').unwrap_or((made_by, "0"));
    [process, n].iter().all(|part| part.parse::<u32>().is_ok()).then_some(result)
}

/// A file of a folder that nobody reads yet. It is not waited for: see [`sync`].
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    step(Step::Takes)?;
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(bytes)
}

/// Brings a file that was written to the disk. Windows does so for who may write to it only.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    step(Step::Takes)?;
    OpenOptions::new().write(true).open(path)?.sync_data()
}

/// Moves, and brings the folder's list of names to the disk.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step(Step::Takes)?;
    fs::rename(from, to)?;
    step(Step::Takes)?;
    sync_folder(to.parent().unwrap_or(Path::new("")))
}

/// Makes a folder and its parents.
///
/// # Errors
/// If it cannot be made.
pub fn create_folder(path: &Path) -> Result<()> {
    make_folder(path).map_err(Error::io(path, "create the folder"))
}

/// Makes a folder that nobody else has, of this name or, where that is taken, of this name with a number.
///
/// # Errors
/// If it cannot be made.
pub fn create_numbered_folder(inside: &Path, name: &str) -> Result<PathBuf> {
    create_folder(inside)?;
    let mut path = inside.join(name);
    for n in 2..1000 {
        match step(Step::Takes).and_then(|()| fs::create_dir(&path)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => path = inside.join(format!("{name}-{n}")),
            made => return made.map(|()| path.clone()).map_err(Error::io(&path, "create the folder")),
        }
    }
    Err(Error::usage(format!("{}: too many folders of this name; choose an --out", path.display())))
}

pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    step(Step::Takes)?;
    fs::create_dir_all(path)
}

/// Removes a file or a link, if there is one.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    step(Step::Frees)?;
    gone(fs::remove_file(path))
}

/// Removes a folder with everything in it, or a link, if there is one.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    step(Step::Frees)?;
    gone(fs::remove_dir_all(path))
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Names are lost in a power cut unless their folder is brought to the disk. Not every system and file system can do that.
fn sync_folder(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    match File::open(path).and_then(|folder| folder.sync_all()) {
        Err(e) if ![io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported].contains(&e.kind()) => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::{Fault, under};
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_write_that_fails_anywhere_leaves_a_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.json");
        let (written, n_steps) = under(Fault::None, || write_atomically(&path, b"old and whole"));
        written.unwrap();
        assert!(n_steps >= 5, "made, half written, written, renamed, names on the disk: {n_steps}");
        for step in 0..n_steps {
            write_atomically(&path, b"old and whole").unwrap();
            for fault in [Fault::FailsAt(step), Fault::FullFrom(step)] {
                let (written, _) = under(fault, || write_atomically(&path, b"new"));
                assert!(written.unwrap_err().to_string().contains("metrics.json: cannot write"));
                let left = fs::read(&path).unwrap();
                assert!(left == b"old and whole" || left == b"new", "{fault:?}: {left:?}");
                assert_eq!(names(dir.path()), ["metrics.json"], "the temporary file is gone after {fault:?}");
            }
            // What a killed process leaves does not keep others from writing.
            under(Fault::KilledAt(step), || write_atomically(&path, b"newer")).0.unwrap_err();
            write_atomically(&path, b"newest").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"newest");
            for name in names(dir.path()).iter().filter(|name| *name != "metrics.json") {
                assert_eq!(result_of_temporary(name), Some("metrics.json"));
                fs::remove_file(dir.path().join(name)).unwrap();
            }
        }
    }

    #[test]
    fn two_commands_of_one_second_have_folders_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<PathBuf> =
            (0..3).map(|_| create_numbered_folder(&dir.path().join("runs"), "er-1200").unwrap()).collect();
        let names: Vec<_> = names.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["er-1200", "er-1200-2", "er-1200-3"]);
    }

    #[test]
    fn a_rename_that_fails_removes_the_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.json");
        fs::create_dir(&path).unwrap();
        let error = write_atomically(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("metrics.json"), "{error}");
        assert_eq!(names(dir.path()), ["metrics.json"]);
    }

    /// A folder from a stranger may hold links where temporary files would be.
    #[test]
    #[cfg(unix)]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, path) = (dir.path().join("outside"), dir.path().join("report.html"));
        fs::write(&outside, "mine").unwrap();
        for link in [temporary_name(&path, 0), temporary_name(&path, 1), path.clone()] {
            std::os::unix::fs::symlink(&outside, link).unwrap();
        }
        write_atomically(&path, b"page").unwrap();
        assert_eq!((fs::read(&outside).unwrap(), fs::read(&path).unwrap()), (b"mine".into(), b"page".into()));
        assert!(!path.is_symlink());
    }
}
