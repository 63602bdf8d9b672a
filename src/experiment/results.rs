//! What a run leaves behind: the folder with `metrics.json`, `timing.json`, `accuracy.csv` and the others. Every file is written under a temporary name and renamed, so a reader (or a crash) never meets half a
//! file, and a failed write leaves the earlier one whole.

use super::checkpoint::CHECKPOINT_FILE;
use super::exemplars;
pub use super::scores::{AnyTime, ClassifierResult, LoopSeconds, LossRow, MemoryBytes, Metrics, Timing};
pub use super::scores::{main_classifier, ordered_classifiers};
use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The files of a complete run, in the order in which a reader wants them. `--force` removes these, a checkpoint, a
/// distillation's [`TERMS_FILE`], the folder of exemplars ([`exemplars::FOLDER`]), what a killed run left of their writing,
/// and nothing else.
pub const RESULT_FILES: [&str; 9] = [
    "report.html",
    "config.json",
    "metrics.json",
    "timing.json",
    "accuracy.csv",
    "losses.csv",
    "model.json",
    "model.safetensors",
    "class_means.safetensors",
];

/// The terms of the loss of a distillation, step by step.
pub const TERMS_FILE: &str = "terms.csv";

/// The folder that receives a run's results.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder and its parents and proves that it can be written, before hours of training are spent.
    ///
    /// A folder with something in it is refused; with `force` it is used again and earlier [`RESULT_FILES`] go.
    ///
    /// # Errors
    /// If the folder is refused (wrong use), or cannot be made, written or cleared.
    pub fn create(path: &Path, force: bool) -> Result<RunFolder> {
        if !force && path.is_dir() {
            let mut entries = fs::read_dir(path).map_err(Error::io(path, "read the folder"))?;
            if entries.next().is_some() {
                return Err(Error::usage(format!(
                    "{}: the folder already holds something; choose another --out, or --force to replace the results \
                     in it",
                    path.display()
                )));
            }
        }
        fs::create_dir_all(path).map_err(Error::io(path, "create the folder"))?;
        let probe = temporary_name(&path.join(PROBE));
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(Error::io(path, "write into the folder"))?;
        for entry in fs::read_dir(path).map_err(Error::io(path, "read the folder"))? {
            let old = entry.map_err(Error::io(path, "read the folder"))?.path();
            let name = old.file_name().unwrap_or_default().to_string_lossy();
            if is_own(&name) || is_temporary(&name) {
                let removed = if old.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) };
                match removed {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io(old, "remove")(e)),
                    _ => {}
                }
            }
        }
        exemplars::remove(path)?;
        Ok(RunFolder { path: path.to_path_buf() })
    }

    /// The folder of a run that is to go on.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none.
    pub fn open(path: &Path) -> Result<RunFolder> {
        if !path.is_dir() {
            return Err(Error::usage(format!("{}: there is no such run folder", path.display())));
        }
        Ok(RunFolder { path: path.to_path_buf() })
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
        let path = self.path.join(name);
        let json = serde_json::to_string_pretty(value)
            .map_err(|e| Error::file(&path, format!("cannot be expressed as JSON: {e}")))?;
        write_atomically(&path, (flat_lists(&json) + "\n").as_bytes())
    }

    /// Replaces a folder inside by one with these files; their names may have one folder of their own.
    pub fn write_folder(&self, name: &str, files: &[(String, Vec<u8>)]) -> Result<()> {
        let target = self.path.join(name);
        let new = temporary_name(&target);
        let fill = || {
            for (name, bytes) in files {
                let path = new.join(name);
                fs::create_dir_all(path.parent().expect("it is inside the new folder"))?;
                fs::write(path, bytes)?;
            }
            // The old folder leaves its name whole: removing it takes time, in which the process may be killed.
            let old = self.path.join(format!(".{name}.0.tmp"));
            let clear = || match fs::remove_dir_all(&old) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            };
            if target.exists() {
                clear()?;
                fs::rename(&target, &old)?;
            }
            fs::rename(&new, &target)?;
            clear()
        };
        let result = fill();
        if result.is_err() {
            let _ = fs::remove_dir_all(&new);
        }
        result.map_err(Error::io(&target, "write"))
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_atomically(&self.path.join(name), bytes)
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path, "remove")(e)),
            _ => Ok(()),
        }
    }

    /// Writes `accuracy.csv`, see [`accuracy_csv`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_accuracy_csv(&self, metrics: &Metrics) -> Result<()> {
        self.write_bytes("accuracy.csv", accuracy_csv(metrics).as_bytes())
    }
}

/// The logged terms of the loss, `task,epoch,step,term,weight,value`: the step counts within the task, from 0.
pub fn losses_csv(rows: &[LossRow]) -> String {
    let mut csv = String::from("task,epoch,step,term,weight,value\n");
    for LossRow { task, epoch, step, term, weight, value } in rows {
        let _ = writeln!(csv, "{task},{epoch},{step},{term},{weight},{value}");
    }
    csv
}

/// The accuracy matrices in long form, `classifier,after_task,task,accuracy`, one line per known entry and, with
/// `seen` for a task, one for the accuracy over all classes seen. Tasks count from 0 as in `metrics.json`.
pub fn accuracy_csv(metrics: &Metrics) -> String {
    let mut csv = String::from("classifier,after_task,task,accuracy\n");
    for (name, result) in &metrics.classifiers {
        for (t, (row, seen)) in result.matrix.iter().zip(&result.seen_accuracy).enumerate() {
            for (i, accuracy) in row.iter().enumerate() {
                if let Some(accuracy) = accuracy {
                    let _ = writeln!(csv, "{name},{t},{i},{accuracy}");
                }
            }
            let _ = writeln!(csv, "{name},{t},seen,{seen}");
        }
    }
    csv
}

/// Indented JSON with each list that holds no list and no object on one line.
pub(super) fn flat_lists(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find(['"', '[']) {
        let (before, from) = rest.split_at(at);
        out += before;
        let (token, after) = if from.starts_with('"') { from.split_at(string_end(from)) } else { from.split_at(1) };
        out += token;
        rest = after;
        if token == "["
            && let Some((end, list)) = plain_list(after)
        {
            out += &list;
            rest = &after[end..];
        }
    }
    out + rest
}

/// Where the string that `json` starts with ends.
fn string_end(json: &str) -> usize {
    let mut escaped = false;
    let end = json.char_indices().skip(1).find(|&(_, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |(at, _)| at + 1)
}

/// If the list whose content `json` starts with is plain: where it ends, and its content on one line.
fn plain_list(json: &str) -> Option<(usize, String)> {
    let mut line = String::new();
    let mut at = 0;
    loop {
        let rest = &json[at..];
        match rest.chars().next()? {
            ']' => return Some((at, line)),
            '[' | '{' => return None,
            '"' => {
                let end = string_end(rest);
                line += &rest[..end];
                at += end;
                continue;
            }
            ',' => line += ", ",
            c if c.is_whitespace() => {}
            c => line.push(c),
        }
        at += rest.chars().next()?.len_utf8();
    }
}

/// Replaces the file as a whole or leaves it as it was.
///
/// # Errors
/// If the file cannot be written; an earlier one is whole then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_by(path, |file| file.write_all(bytes)).map_err(Error::io(path, "write"))
}

/// Lets `write` fill a temporary neighbour of `path`, then renames it; a neighbour, because a rename is atomic only
/// within one file system.
fn replace_by(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary_name(path);
    let result = File::create(&temporary)
        .and_then(|mut file| {
            write(&mut file)?;
            // Without this a power cut after the rename could leave an empty file under the final name.
            file.sync_data()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // It may never have been created; the error worth telling is the first one.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// Whether a file of this name is a run's.
fn is_own(name: &str) -> bool {
    RESULT_FILES.contains(&name) || [CHECKPOINT_FILE, TERMS_FILE].contains(&name)
}

/// Whether a file is called as [`temporary_name`] calls the neighbour of a result: what a process that was killed leaves.
fn is_temporary(name: &str) -> bool {
    let inside = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp"));
    inside.and_then(|inside| inside.rsplit_once('.')).is_some_and(|(result, process)| {
        (is_own(result) || [PROBE, exemplars::FOLDER].contains(&result)) && process.parse::<u32>().is_ok()
    })
}

/// Written once to find out whether a folder can be.
const PROBE: &str = "probe";

/// The most main memory this process ever held (`VmHWM` on Linux); `None` where the system does not tell.
pub fn peak_host_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn plain_lists_are_written_on_one_line() {
        let value =
            serde_json::json!({ "a": [1, 2.5, null], "b": [[1, 2], []], "c": [{ "d": ["x, [\"y\\", "é"] }], "e[": 1 });
        let flat = flat_lists(&serde_json::to_string_pretty(&value).unwrap());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&flat).unwrap(), value);
        for line in [r#"  "a": [1, 2.5, null],"#, "    [1, 2],", "    []", r#"      "d": ["x, [\"y\\", "é"]"#] {
            assert!(flat.lines().any(|l| l == line), "no {line:?} in {flat}");
        }
    }

    #[test]
    fn an_interrupted_write_leaves_the_old_file_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.json");
        write_atomically(&path, b"old and whole").unwrap();
        let failed = replace_by(&path, |file| {
            file.write_all(b"new, but on")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old and whole");
        assert_eq!(names(dir.path()), ["metrics.json"], "the temporary file is gone");
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
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

    #[test]
    fn an_existing_run_is_refused_without_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/run");
        let folder = RunFolder::create(&path, false).unwrap();
        assert!(names(&path).is_empty());
        RunFolder::create(&path, false).expect("an empty folder is as good as none");
        folder.write_json("metrics.json", &[1, 2]).unwrap();
        folder.write_bytes("notes.txt", b"mine").unwrap();
        // What a killed run may leave, and what is not ours.
        for name in [".model.safetensors.4711.tmp", ".probe.1.tmp", ".notes.txt.1.tmp", ".metrics.json.x.tmp"] {
            fs::write(path.join(name), "half").unwrap();
        }
        let before = names(&path);

        let error = RunFolder::create(&path, false).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert!(message.contains("--force") && message.contains("--out") && message.contains("run"), "{message}");
        assert_eq!(names(&path), before, "a refusal touches nothing");

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
    fn peak_memory_is_plausible_on_linux() {
        let peak = peak_host_bytes();
        assert_eq!(peak.is_some(), cfg!(target_os = "linux"));
        assert!(peak.is_none_or(|bytes| bytes > 100_000), "{peak:?}");
    }
}
