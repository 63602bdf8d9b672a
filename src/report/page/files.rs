//! What a page is made of: the files of a run folder, read back.

use super::losses::{self, Losses};
use crate::error::{Error, Result};
use crate::experiment::command_line::quoted;
use crate::experiment::exemplars::{self, ClassExemplars};
use crate::experiment::results::{Metrics, Score, Timing};
use crate::experiment::saved::ModelCard;
use crate::experiment::segmented;
use crate::experiment::{for_target, rows};
use crate::records::lock::is_in_use;
use crate::records::sealed::{self, read_json};
use crate::session::goes_on;
use crate::settings::{Setting as Row, text};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pictures of exemplars are as small as the images of a data set.
const MOST_OF_PICTURE: u64 = 16 << 20;
/// A line is some 40 bytes, and a task has some dozens.
const MOST_OF_LOSSES: u64 = 64 << 20;

/// A run folder in memory.
pub(super) struct RunFiles {
    pub folder: PathBuf,
    pub config: Map<String, Value>,
    pub metrics: Metrics,
    pub timing: Timing,
    pub card: ModelCard,
    /// Of each class: what is known of its exemplars, and the pictures as PNG files.
    pub exemplars: Vec<(ClassExemplars, Vec<Vec<u8>>)>,
    pub losses: Losses,
    /// Of runs on images with masks: a picture after each task, as PNG files.
    pub segmented: Vec<Vec<u8>>,
    /// Whether a learner can go on from it.
    pub goes_on: bool,
}

impl RunFiles {
    /// Reads what the last finished task left. A run that writes its results just now is waited for.
    pub fn read(folder: &Path) -> Result<RunFiles> {
        const TRIES: usize = 20;
        for _ in 0..TRIES {
            let files = RunFiles::read_once(folder);
            let is_whole = files.as_ref().is_ok_and(|files| files.card.n_tasks_learnt == files.n_tasks_done());
            if is_whole || !is_in_use(folder) {
                return files;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        RunFiles::read_once(folder)
    }

    fn read_once(folder: &Path) -> Result<RunFiles> {
        // First, because it says best what is wrong with a folder that holds no run.
        let card = ModelCard::read(folder)?;
        let mut exemplars = Vec::new();
        for class in exemplars::read(folder)?.unwrap_or_default() {
            let pictures =
                class.pictures.iter().map(|name| read_picture(folder, &format!("{}/{name}", exemplars::FOLDER)));
            let pictures = pictures.collect::<Result<Vec<_>>>()?;
            exemplars.push((class, pictures));
        }
        let metrics = Metrics::read(folder)?;
        let segmented = (0..metrics.memory_bytes.len()).map(segmented::file);
        let segmented = segmented.filter(|name| metrics.score == Score::MeanIou && folder.join(name).is_file());
        let segmented = segmented.map(|name| read_picture(folder, &name)).collect::<Result<Vec<_>>>()?;
        let timing: Timing = read_json(folder, "timing.json")?;
        if timing.seconds().any(|seconds| !(0.0..1e12).contains(&seconds)) {
            return Err(Error::file(folder.join("timing.json"), "damaged: it holds a time that no run can have taken"));
        }
        Ok(RunFiles {
            folder: folder.to_path_buf(),
            goes_on: goes_on(folder, &card.method),
            config: read_json(folder, "config.json")?,
            metrics,
            timing,
            card,
            exemplars,
            losses: read_losses(folder),
            segmented,
        })
    }

    /// A setting as text; empty if it was left open.
    pub fn setting(&self, name: &str) -> String {
        self.config.get(name).map(text).unwrap_or_default()
    }

    /// The name of a class by its number in the data set.
    pub fn class_name(&self, class: u32) -> String {
        let known = self.card.classes.iter().find(|known| known.class == class);
        known.map_or_else(|| class.to_string(), |known| known.name.clone())
    }

    pub fn n_tasks_done(&self) -> usize {
        self.metrics.classifiers.values().map(|result| result.matrix.len()).min().unwrap_or(0)
    }

    /// The number of test images of all classes seen.
    pub fn n_tested(&self) -> u64 {
        if !self.metrics.n_tested.is_empty() {
            return self.metrics.n_tested.iter().map(|&n| u64::from(n)).sum();
        }
        let confusion = self.metrics.classifiers.values().next().map(|result| &result.confusion);
        confusion.into_iter().flatten().flatten().map(|&n| u64::from(n)).sum()
    }

    /// Every setting of the run with its flag and its explanation, in the order of `--help`.
    pub fn settings(&self) -> Vec<Setting> {
        let Ok(method) = crate::continual::spec(&self.metrics.method) else { return Vec::new() };
        settings_of(&for_target(rows(method), self.card.target), &self.config)
    }

    /// The command that repeats the run.
    pub fn command(&self) -> String {
        command(&self.metrics.method, &self.settings())
    }
}

/// A setting of a run.
pub(super) struct Setting {
    /// Without the dashes.
    pub flag: String,
    /// Empty if it was left open.
    pub value: String,
    pub help: String,
}

/// The settings of these rows in the fields of a configuration file.
pub(super) fn settings_of(rows: &[&'static Row], config: &Map<String, Value>) -> Vec<Setting> {
    let setting = |row: &&'static Row| {
        let value = config.get(row.name).map(text).unwrap_or_default();
        Setting { flag: row.name.replace('_', "-"), value, help: row.help.into() }
    };
    rows.iter().map(setting).collect()
}

/// The command line with every setting that has a value.
pub(super) fn command(method: &str, settings: &[Setting]) -> String {
    let mut line = format!("engram {method}");
    for Setting { flag, value, .. } in settings {
        let left_out = value.is_empty() || (flag == "seeds" && value == "1");
        if !left_out {
            line += &format!(" --{flag} {}", quoted(value));
        }
    }
    line
}

/// Nothing, where a run wrote down no loss.
fn read_losses(folder: &Path) -> Losses {
    let bytes = sealed::read(folder, "losses.csv", MOST_OF_LOSSES).unwrap_or_default();
    losses::read(&String::from_utf8_lossy(&bytes))
}

fn read_picture(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let bytes = sealed::read(folder, name, MOST_OF_PICTURE)?;
    match bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        true => Ok(bytes),
        false => Err(Error::file(folder.join(name), "no PNG picture")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_has_every_setting_that_has_a_value() {
        let setting = |flag: &str, value: &str| Setting { flag: flag.into(), value: value.into(), help: String::new() };
        let settings =
            [setting("lr", "0.001"), setting("threads", ""), setting("seeds", "1"), setting("data-dir", "a b")];
        assert_eq!(command("icarl", &settings), "engram icarl --lr 0.001 --data-dir 'a b'");
    }
}
