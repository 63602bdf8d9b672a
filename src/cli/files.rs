//! The picture files that a command line names.

use crate::data::folder::left_out;
use crate::data::pictures::is_picture;
use crate::error::{Error, Result};
use crate::report::message;
use std::path::PathBuf;

/// The files that are meant: those of a folder in the order of their names but for hidden ones, and of `-` those that standard input lists.
///
/// # Errors
/// If a folder cannot be read or has no picture in it.
pub fn pictures(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in named {
        if path.as_os_str() == "-" {
            for line in std::io::stdin().lines() {
                all.push(line.map_err(Error::io("standard input", "read"))?.into());
            }
        } else if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(Error::io(path, "read the folder"))?;
            let (mut inside, others): (Vec<PathBuf>, Vec<PathBuf>) =
                entries.flatten().filter(is_visible).map(|entry| entry.path()).partition(|path| is_picture(path));
            let counted: Vec<String> =
                left_out(&others).into_iter().map(|one| format!("{} {}", one.n, one.reason)).collect();
            let counted = counted.join(", ");
            if inside.is_empty() {
                let found = if counted.is_empty() { counted } else { format!(", but {counted}") };
                return Err(Error::file(path, format!("no picture is in this folder{found}")));
            }
            if !counted.is_empty() {
                eprint!("{}", message(&format!("note: left out of {}: {counted}", path.display())));
            }
            inside.sort();
            all.extend(inside);
        } else {
            all.push(path.clone());
        }
    }
    Ok(all)
}

fn is_visible(entry: &std::fs::DirEntry) -> bool {
    !entry.file_name().to_string_lossy().starts_with('.')
}
