//! The files of known data sets: what they are called, how long they are, and whether one on disk is the published one.
//!
//! MD5 is what the publishers name. It finds every damage and every wrong answer of a server; nobody has found a second
//! file for a given MD5, which is what it would take to pass off another data set as one of these.

use crate::error::{Error, Result};
use md5::{Digest, Md5};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Checksums of the files that `fetch` unpacked from an archive, in the format of `md5sum`.
pub const SUMS: &str = "MD5SUMS";

/// A file as it was published.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Its size.
    pub bytes: u64,
    /// In hexadecimal.
    pub md5: &'static str,
}

/// A file of a data set.
#[derive(Clone, Copy, Debug)]
pub struct FileSpec {
    /// The name of the uncompressed file.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
    /// Its MD5, where one is published.
    pub md5: Option<&'static str>,
    /// The same as NAME.gz, where it is published so; then either may be there.
    pub gz: Option<Published>,
}

impl FileSpec {
    /// The file in `dir`, plain or as .gz.
    pub fn find(&self, dir: &Path) -> Option<PathBuf> {
        let plain = dir.join(self.name);
        let gz = self.gz.map(|_| dir.join(self.gz_name()));
        [Some(plain), gz].into_iter().flatten().find(|path| path.is_file())
    }

    /// NAME.gz.
    pub fn gz_name(&self) -> String {
        format!("{}.gz", self.name)
    }

    /// Compares the file in `dir` with the published one.
    ///
    /// # Errors
    /// If it, or the file [`SUMS`] beside it, cannot be read.
    pub fn check(&self, dir: &Path) -> Result<FileState> {
        let Some(path) = self.find(dir) else { return Ok(FileState::Missing) };
        let is_gz = path.extension().is_some_and(|extension| extension == "gz");
        let (bytes, md5) = match self.gz {
            Some(gz) if is_gz => (gz.bytes, Some(gz.md5.to_string())),
            _ => (self.bytes, self.md5.map(String::from).or(recorded_sum(dir, self.name)?)),
        };
        let found = path.metadata().map_err(Error::io(&path, "read"))?.len();
        if found != bytes {
            let reason = format!("{} bytes, but the published file has {}", thousands(found), thousands(bytes));
            return Ok(FileState::Wrong { path, reason });
        }
        let Some(md5) = md5 else { return Ok(FileState::Unchecked(path)) };
        let found = md5_of(&path)?;
        if found != md5 {
            return Ok(FileState::Wrong { path, reason: format!("its MD5 is {found}, not {md5}") });
        }
        Ok(FileState::Right { path, md5 })
    }
}

/// How a file compares with the published one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// As it should be.
    Right {
        /// Where it is.
        path: PathBuf,
        /// In hexadecimal.
        md5: String,
    },
    /// Of the right length; no checksum is known.
    Unchecked(PathBuf),
    /// Not as it should be.
    Wrong {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is none.
    Missing,
}

/// The MD5 of a file in hexadecimal.
///
/// # Errors
/// If it cannot be read.
pub fn md5_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    md5_of_rest(&mut file).map_err(Error::io(path, "read"))
}

/// The MD5 of all that can still be read, in hexadecimal.
pub fn md5_of_rest(reader: &mut impl Read) -> std::io::Result<String> {
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// The MD5 of bytes in hexadecimal.
pub fn md5_of_bytes(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// The MD5 of a picture's bytes, by which it is known again.
pub fn digest(pixels: &[u8]) -> u128 {
    u128::from_be_bytes(Md5::digest(pixels).into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the file [`SUMS`] of a folder says about a file.
pub(super) fn recorded_sum(dir: &Path, name: &str) -> Result<Option<String>> {
    let path = dir.join(SUMS);
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
    let of_name = |line: &str| {
        let (md5, rest) = line.split_once(char::is_whitespace)?;
        (rest.trim_start_matches([' ', '*']) == name).then(|| md5.to_ascii_lowercase())
    };
    Ok(text.lines().find_map(of_name))
}

/// 1234567 as "1,234,567".
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    groups.iter().map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}
