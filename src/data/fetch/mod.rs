//! Downloads of known data sets: mirror by mirror, resumable, checked, and never under its final name before it is right.
//!
//! Nothing here prints: whoever starts a download hands over a [`Watcher`].

mod archive;
mod download;

pub use archive::unpack;
pub use download::{Download, download};

use super::files::{FileState, Published, thousands};
use super::{DatasetSpec, Presence};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Hears how a download goes. Every event may be ignored.
pub trait Watcher {
    /// Something worth a line, such as a file that is already there, or why a mirror is left for the next.
    fn note(&mut self, _line: &str) {}
    /// Bytes of a file begin to arrive; `from` of its `bytes` are there from an earlier try.
    fn started(&mut self, _name: &str, _url: &str, _from: u64, _bytes: u64) {}
    /// So much of the file is there.
    fn reached(&mut self, _position: u64) {}
    /// No more bytes of this file for now, whether or not it is complete.
    fn stopped(&mut self) {}
}

/// Ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Watcher for Silent {}

/// Brings the files of a data set into `data_dir/NAME`, from `mirror` (the address of a folder) or from the built-in ones.
/// Returns the folder where the files are, which is another one if they were already there. A file that is there and right
/// is left alone; one that is wrong is replaced.
///
/// # Errors
/// [`Error::Network`] if no mirror gives a file: the message has every mirror's reason, and what to put where by hand. A
/// folder or file that cannot be written; what has arrived is kept for the next try. [`Error::Usage`] for an address that is
/// none of the web. [`Error::Interrupted`].
pub fn fetch(
    spec: &DatasetSpec,
    data_dir: &Path,
    mirror: Option<&str>,
    watcher: &mut dyn Watcher,
    interrupted: &AtomicBool,
) -> Result<PathBuf> {
    let Some(origin) = &spec.origin else {
        watcher.note(&format!("{} is built in: there is nothing to download", spec.name));
        return Ok(data_dir.to_path_buf());
    };
    let dir = match spec.presence(data_dir) {
        Presence::Present(dir) => dir,
        _ => data_dir.join(spec.name),
    };
    let mut wanted = Vec::new();
    for file in spec.files {
        match file.check(&dir)? {
            FileState::Right { path, .. } => watcher.note(&format!("{} is there and right", path.display())),
            FileState::Unchecked(path) => {
                watcher.note(&format!("{} is there and of the right length", path.display()));
            }
            FileState::Wrong { path, reason } => {
                watcher.note(&format!("{} is wrong and will be replaced: {reason}", path.display()));
                wanted.push(file);
            }
            FileState::Missing => wanted.push(file),
        }
    }
    if wanted.is_empty() {
        return Ok(dir);
    }
    let mirrors: Vec<String> = match mirror {
        Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
            return Err(Error::usage(format!("--mirror {url}: it must begin with https:// or http://")));
        }
        Some(url) => vec![format!("{}/", url.trim_end_matches('/'))],
        None => origin.mirrors.iter().map(|url| url.to_string()).collect(),
    };
    // What is wrong in a folder that several data sets may share is left there.
    let dir = data_dir.join(spec.name);
    std::fs::create_dir_all(&dir).map_err(Error::io(&dir, "create"))?;
    let downloads: Vec<Download> = match origin.archive {
        Some((name, Published { bytes, md5 })) => {
            vec![Download { name: name.to_string(), bytes, md5: md5.to_string() }]
        }
        None => wanted.iter().filter_map(|file| Some((file.gz_name(), file.gz?))).map(Download::from).collect(),
    };
    for (i, item) in downloads.iter().enumerate() {
        let path = download(item, &mirrors, &dir, watcher, interrupted).map_err(|error| match error {
            Error::Network(reasons) => Error::Network(format!("{reasons}\n{}", by_hand(spec, &downloads[i..], &dir))),
            other => other,
        })?;
        if origin.archive.is_some() {
            watcher.note(&format!("unpacking {}", path.display()));
            unpack(&path, spec.files, &dir)?;
            std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
        }
    }
    Ok(dir)
}

/// What to do where there is no network.
fn by_hand(spec: &DatasetSpec, missing: &[Download], dir: &Path) -> String {
    let mut text = format!("By hand: put into the folder {}", dir.display());
    for Download { name, bytes, md5 } in missing {
        text += &format!("\n  {name}  {} bytes  MD5 {md5}", thousands(*bytes));
    }
    if spec.origin.as_ref().is_some_and(|origin| origin.archive.is_some()) {
        text += "\nand run this command again: it unpacks the file without a network.";
    } else {
        text += &format!("\nand look with `engram datasets verify {}`.", spec.name);
    }
    text + " Another mirror: --mirror URL, the address of the folder that holds them."
}
