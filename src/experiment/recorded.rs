//! Configuration files: those that people write, and those that runs leave.

use super::config::{Recorded, every_row};
use crate::error::{Error, Result};
use crate::records::sealed;
use crate::settings::Setting;
use serde_json::{Map, Value};
use std::path::Path;

/// The settings of a configuration file. A run's own [`CONFIG_FILE`](super::CONFIG_FILE) is such a file.
///
/// # Errors
/// If it cannot be read, is no JSON, or has a field that is unknown or of the wrong kind.
pub fn recorded_by(path: &Path) -> Result<Recorded> {
    Recorded::of(&every_row(), fields(path)?, path)
}

/// The settings of a run, or of several, that is to go on, from a file of this name in its folder.
///
/// # Errors
/// As [`recorded_by`]; if the file was changed since the run began.
pub fn recorded_in(folder: &Path, name: &str) -> Result<Recorded> {
    own_settings(&every_row(), folder, name)
}

/// Settings that are part of a file.
///
/// # Errors
/// As [`recorded_by`].
pub fn recorded_as(settings: Value, path: &Path) -> Result<Recorded> {
    Recorded::of(&every_row(), object(settings, path)?, path)
}

/// The same for settings of these rows.
pub(super) fn own_settings(rows: &[&'static Setting], folder: &Path, name: &str) -> Result<Recorded> {
    let path = folder.join(name);
    let value = sealed::read_value(folder, name)?;
    if sealed::is_intact(&value) == Some(false) {
        return Err(Error::file(
            &path,
            "damaged, or changed since the run began: put it back as it was, or start a new run with --config",
        ));
    }
    Recorded::of(rows, object(value, &path)?, &path)
}

/// The fields of a file of JSON.
pub(super) fn fields(path: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    // Editors of some systems begin a file with a mark of its encoding.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let value = serde_json::from_str(text)
        .map_err(|e| Error::usage(format!("{}: no valid configuration: {e}", path.display())))?;
    object(value, path)
}

fn object(value: Value, path: &Path) -> Result<Map<String, Value>> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(Error::usage(format!("{}: no valid configuration: it is no JSON object", path.display()))),
    }
}
