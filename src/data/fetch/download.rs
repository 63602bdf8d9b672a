//! One file, from the first mirror that gives it: into NAME.part, and to NAME once its checksum is right.
//!
//! What has arrived survives a broken connection, a change of mirror and the end of the program: the next request asks
//! for the rest (HTTP Range). The checksum is taken of the whole file on disk, so a rest that does not belong to its
//! beginning is noticed; then, once, everything is fetched anew.

use super::Watcher;
use crate::data::files::{Published, md5_of, md5_of_rest, thousands};
use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// A mirror that is silent for longer is left for the next.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests to one mirror whose connection breaks after some bytes have come.
const TRIES: usize = 4;

/// What every file here begins with: they are all gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A gzip file to fetch.
#[derive(Clone, Debug)]
pub struct Download {
    /// In the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// In hexadecimal.
    pub md5: String,
}

impl From<(String, Published)> for Download {
    fn from((name, Published { bytes, md5 }): (String, Published)) -> Download {
        Download { name, bytes, md5: md5.to_string() }
    }
}

/// How a request ended, short of success.
enum Trouble {
    /// This mirror does not help; the next may.
    Refused(String),
    /// The connection broke after some bytes came.
    Broken(String),
    /// No mirror can help.
    Fatal(Error),
}

/// Fetches a file into `dir`, which must exist, and returns its path. `mirrors` are addresses that end with a slash; a
/// right file under its name, or NAME.part from an earlier try, is used.
///
/// # Errors
/// [`Error::Network`] with the reason of every mirror; a file that cannot be written, or that another process is
/// fetching; [`Error::Interrupted`].
pub fn download(
    item: &Download,
    mirrors: &[String],
    dir: &Path,
    watcher: &mut dyn Watcher,
    interrupted: &AtomicBool,
) -> Result<PathBuf> {
    let path = dir.join(&item.name);
    let is_there = path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == item.bytes);
    if is_there && md5_of(&path)? == item.md5 {
        watcher.note(&format!("{} is there and right", path.display()));
        return Ok(path);
    }
    let mut part = Part::open(dir.join(format!("{}.part", item.name)), item)?;
    let mut reasons = Vec::new();
    let mut fetch = || -> Result<bool> {
        for mirror in mirrors {
            let url = format!("{mirror}{}", item.name);
            match from_mirror(&url, &mut part, watcher, interrupted) {
                Ok(()) => return Ok(true),
                Err(Trouble::Fatal(error)) => return Err(error),
                Err(Trouble::Refused(reason) | Trouble::Broken(reason)) => {
                    watcher.note(&format!("{url}: {reason}"));
                    reasons.push(format!("  {url}: {reason}"));
                }
            }
        }
        Ok(false)
    };
    let outcome = fetch();
    let is_empty = part.length == 0;
    let part_path = part.close(matches!(outcome, Ok(true)))?;
    if is_empty {
        // An empty file is no use to the next try. That it stays is not worth a second complaint.
        let _ = std::fs::remove_file(&part_path);
    }
    if !outcome? {
        let name = &item.name;
        return Err(Error::Network(format!("{name} could not be downloaded:\n{}", reasons.join("\n"))));
    }
    std::fs::rename(&part_path, &path).map_err(Error::io(&path, "write"))?;
    Ok(path)
}

/// Completes the file from one mirror.
fn from_mirror(url: &str, part: &mut Part, watcher: &mut dyn Watcher, interrupted: &AtomicBool) -> Result<(), Trouble> {
    let mut tries = 0;
    loop {
        let from = part.length;
        if from < part.item.bytes {
            let outcome = request(url, part, watcher, interrupted);
            watcher.stopped();
            match outcome {
                Err(Trouble::Broken(_)) if part.length > from && tries + 1 < TRIES => {
                    tries += 1;
                    continue;
                }
                other => other?,
            }
        }
        let md5 = part.md5().map_err(Trouble::Fatal)?;
        if md5 == part.item.md5 {
            return Ok(());
        }
        part.restart().map_err(Trouble::Fatal)?;
        if from == 0 {
            return Err(Trouble::Refused(format!("another file: its MD5 is {md5}, not {}", part.item.md5)));
        }
        watcher.note(&format!("{}: what was there does not fit; starting over", part.item.name));
    }
}

/// Asks for what is missing and appends it.
fn request(url: &str, part: &mut Part, watcher: &mut dyn Watcher, interrupted: &AtomicBool) -> Result<(), Trouble> {
    let item = part.item;
    let refused = |reason: String| Err(Trouble::Refused(reason));
    if interrupted.load(Relaxed) {
        return Err(Trouble::Fatal(Error::Interrupted));
    }
    let config = ureq::Agent::config_builder()
        .timeout_resolve(Some(PATIENCE))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .http_status_as_error(false)
        .user_agent(concat!("engram/", env!("CARGO_PKG_VERSION")))
        .build();
    let mut request = ureq::Agent::from(config).get(url);
    if part.length > 0 {
        request = request.header("Range", format!("bytes={}-", part.length));
    }
    let response = request.call().map_err(|error| Trouble::Refused(plain(error)))?;
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(String::from);
    if status != 200 && status != 206 {
        let reason = response.status().canonical_reason().unwrap_or_default();
        return refused(format!("HTTP {status} {reason}").trim_end().to_string());
    }
    if header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
        return refused("answers with a web page instead of the file".into());
    }
    // Where the answer begins, and how long the whole file is.
    let (from, total) = match status {
        206 => match header("content-range").as_deref().and_then(parse_range) {
            Some(range) => range,
            None => return refused("answers a request for the rest with a part that it does not name".into()),
        },
        _ => (0, header("content-length").and_then(|length| length.trim().parse().ok())),
    };
    if let Some(total) = total.filter(|&total| total != item.bytes) {
        return refused(format!("its file has {} bytes, expected {}", thousands(total), thousands(item.bytes)));
    }
    if from != 0 && from != part.length {
        return refused(format!("answers with the bytes from {from}, asked for those from {}", part.length));
    }

    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    let mut n = read(&mut body, &mut buffer, 2).map_err(|reason| part.broken(&reason))?;
    if from == 0 && n > 0 {
        if buffer[..n.min(2)] != GZIP[..n.min(2)] {
            return refused("answers with something else: no gzip data".into());
        }
        // A server that does not know Range sends everything.
        part.restart().map_err(Trouble::Fatal)?;
    }
    watcher.started(&item.name, url, part.length, item.bytes);
    while n > 0 {
        if part.length + n as u64 > item.bytes {
            part.restart().map_err(Trouble::Fatal)?;
            return refused(format!("sends more than the {} bytes of the file", thousands(item.bytes)));
        }
        part.append(&buffer[..n]).map_err(Trouble::Fatal)?;
        watcher.reached(part.length);
        if interrupted.load(Relaxed) {
            return Err(Trouble::Fatal(Error::Interrupted));
        }
        n = read(&mut body, &mut buffer, 1).map_err(|reason| part.broken(&reason))?;
    }
    if part.length < item.bytes {
        return Err(part.broken("the connection ended"));
    }
    Ok(())
}

/// Reads at least `least` bytes, fewer only at the end.
fn read(body: &mut impl Read, buffer: &mut [u8], least: usize) -> Result<usize, String> {
    let mut n = 0;
    while n < least {
        match body.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(n)
}

/// The first byte and the whole length of "bytes 100-199/200"; the length may be "*".
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.parse().ok()?;
    Some((first, total.parse().ok()))
}

/// A transport error without the library's prefixes.
fn plain(error: ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::HostNotFound => "host not found (is there a network?)".into(),
        other => other.to_string(),
    }
}

/// NAME.part: what has arrived so far.
struct Part<'a> {
    item: &'a Download,
    path: PathBuf,
    file: File,
    length: u64,
}

impl<'a> Part<'a> {
    /// Opens what an earlier try left, or begins; no other process may have it open.
    fn open(path: PathBuf, item: &'a Download) -> Result<Part<'a>> {
        let open = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = open.map_err(Error::io(&path, "write"))?;
        if let Err(std::fs::TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::file(&path, "another process is downloading this file; wait for it to end"));
        }
        let length = file.metadata().map_err(Error::io(&path, "read"))?.len();
        let mut part = Part { item, path, file, length };
        if part.length > item.bytes {
            part.restart()?;
        }
        Ok(part)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| {
            // Some of the bytes may have found a place.
            self.length = self.file.metadata().map_or(self.length, |metadata| metadata.len());
            let (left, path) = (self.item.bytes - self.length, self.path.display());
            let message = format!(
                "cannot write: {error}. {} more bytes are needed; what has arrived is kept in {path}, so free some space and \
                 run the command again",
                thousands(left)
            );
            Error::file(&self.path, message)
        })?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Of the whole file. It is read by the handle that holds the lock: on Windows no other may. Writes append wherever
    /// reading ended.
    fn md5(&mut self) -> Result<String> {
        let mut read = || {
            self.file.seek(SeekFrom::Start(0))?;
            md5_of_rest(&mut self.file)
        };
        read().map_err(Error::io(&self.path, "read"))
    }

    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(Error::io(&self.path, "write"))?;
        self.length = 0;
        Ok(())
    }

    fn broken(&self, reason: &str) -> Trouble {
        let (have, all) = (thousands(self.length), thousands(self.item.bytes));
        Trouble::Broken(format!("broke off after {have} of {all} bytes ({reason})"))
    }

    /// Closes the file and gives up its lock; a complete one is brought to the disk first.
    fn close(self, complete: bool) -> Result<PathBuf> {
        if complete {
            self.file.sync_all().map_err(Error::io(&self.path, "write"))?;
        }
        Ok(self.path)
    }
}
