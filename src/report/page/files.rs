//! What a page is made of: the files of a run folder, read back.

use crate::continual::OptionFlags;
use crate::error::{Error, Result};
use crate::experiment::Overrides;
use crate::experiment::command_line::{quoted, setting_text};
use crate::experiment::exemplars::{self, ClassExemplars};
use crate::experiment::results::{Metrics, Timing};
use crate::experiment::saved::ModelCard;
use clap::Args;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// A run folder in memory.
pub(super) struct RunFiles {
    pub folder: PathBuf,
    pub config: Map<String, Value>,
    pub metrics: Metrics,
    pub timing: Timing,
    pub card: ModelCard,
    /// Of each class: what is known of its exemplars, and the pictures as PNG files.
    pub exemplars: Vec<(ClassExemplars, Vec<Vec<u8>>)>,
}

impl RunFiles {
    /// Reads what the last finished task left.
    pub fn read(folder: &Path) -> Result<RunFiles> {
        // First, because it says best what is wrong with a folder that holds no run.
        let card = ModelCard::read(folder)?;
        let mut exemplars = Vec::new();
        for class in exemplars::read(folder)?.unwrap_or_default() {
            let pictures = class.pictures.iter().map(|name| read_picture(&folder.join(exemplars::FOLDER).join(name)));
            let pictures = pictures.collect::<Result<Vec<_>>>()?;
            exemplars.push((class, pictures));
        }
        let metrics: Metrics = read_json(&folder.join("metrics.json"))?;
        if metrics.classifiers.values().any(|result| result.matrix.is_empty()) {
            return Err(Error::file(folder.join("metrics.json"), "it has no results"));
        }
        Ok(RunFiles {
            folder: folder.to_path_buf(),
            config: read_json(&folder.join("config.json"))?,
            metrics,
            timing: read_json(&folder.join("timing.json"))?,
            card,
            exemplars,
        })
    }

    /// A setting as text; empty if it was left open.
    pub fn setting(&self, name: &str) -> String {
        let own = || self.config.get("options").and_then(|options| options.get(name));
        self.config.get(name).or_else(own).map(setting_text).unwrap_or_default()
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
        let confusion = self.metrics.classifiers.values().next().map(|result| &result.confusion);
        confusion.into_iter().flatten().flatten().map(|&n| u64::from(n)).sum()
    }

    /// Every setting of the run with its flag and its explanation, in the order of `--help`.
    pub fn settings(&self) -> Vec<Setting> {
        let command = Overrides::augment_args(clap::Command::new("engram"));
        let options = OptionFlags::augment_args(clap::Command::new("engram"));
        let setting = |arg: &clap::Arg| {
            let value = self.setting(arg.get_id().as_str());
            if value.is_empty() && options.get_arguments().any(|option| option.get_id() == arg.get_id()) {
                return None; // an option of other methods
            }
            let help = arg.get_help().map(|help| help.to_string()).unwrap_or_default();
            let help = help.split(" [default").next().unwrap_or_default().to_string();
            Some(Setting { flag: arg.get_long()?.to_string(), value, help })
        };
        command.get_arguments().filter_map(setting).collect()
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

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    serde_json::from_str(&text).map_err(|e| Error::file(path, format!("damaged, or not written by engram: {e}")))
}

fn read_picture(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(Error::io(path, "read"))?;
    match bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        true => Ok(bytes),
        false => Err(Error::file(path, "no PNG picture")),
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
