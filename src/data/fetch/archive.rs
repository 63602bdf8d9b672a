//! The wanted files of a .tar.gz, all of them or none.

use crate::data::files::{FileSpec, SUMS, md5_of, thousands};
use crate::error::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Unpacks `files` from wherever in the archive they are into `dir`, and writes their checksums beside them ([`SUMS`]).
/// Only regular files with a wanted name are looked at, and only the last part of their name is used, so nothing can be
/// written elsewhere. They get their names once all of them are there.
///
/// # Errors
/// A damaged archive; a file that is missing in it or of the wrong length; a file that cannot be written. Then `dir` is
/// as it was.
pub fn unpack(archive: &Path, files: &[FileSpec], dir: &Path) -> Result<()> {
    let partial = |name: &str| dir.join(format!("{name}.part"));
    let result = extract(archive, files, &partial).and_then(|()| {
        let mut sums = String::new();
        for file in files {
            sums += &format!("{}  {}\n", md5_of(&partial(file.name))?, file.name);
        }
        let sums_path = partial(SUMS);
        std::fs::write(&sums_path, sums).map_err(Error::io(&sums_path, "write"))?;
        for name in files.iter().map(|file| file.name).chain([SUMS]) {
            let path = dir.join(name);
            std::fs::rename(partial(name), &path).map_err(Error::io(&path, "write"))?;
        }
        Ok(())
    });
    if result.is_err() {
        for name in files.iter().map(|file| file.name).chain([SUMS]) {
            // The first error is the one to report, whether or not the remains can be removed.
            let _ = std::fs::remove_file(partial(name));
        }
    }
    result
}

fn extract(archive: &Path, files: &[FileSpec], partial: &dyn Fn(&str) -> PathBuf) -> Result<()> {
    let damaged = |e: std::io::Error| Error::file(archive, format!("damaged archive ({e}); remove it and fetch again"));
    let file = File::open(archive).map_err(Error::io(archive, "open"))?;
    let mut tar = tar::Archive::new(MultiGzDecoder::new(BufReader::new(file)));
    let mut missing: Vec<&FileSpec> = files.iter().collect();
    for entry in tar.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let is_named = |file: &&FileSpec| path.file_name().is_some_and(|name| name == file.name);
        let Some(file_idx) = missing.iter().position(is_named) else { continue };
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let spec = missing.swap_remove(file_idx);
        let path = partial(spec.name);
        let mut file = File::create(&path).map_err(Error::io(&path, "write"))?;
        // Reading and writing fail for different reasons, so the copy is done by hand.
        let mut body = entry.take(spec.bytes + 1);
        let (mut buffer, mut length) = (vec![0; 1 << 16], 0);
        loop {
            let n = body.read(&mut buffer).map_err(damaged)?;
            if n == 0 {
                break;
            }
            std::io::Write::write_all(&mut file, &buffer[..n]).map_err(Error::io(&path, "write"))?;
            length += n as u64;
        }
        file.sync_all().map_err(Error::io(&path, "write"))?;
        if length != spec.bytes {
            let found = if length > spec.bytes { "more".into() } else { thousands(length) };
            let message = format!("{} should have {} bytes in it, found {found}", spec.name, thousands(spec.bytes));
            return Err(Error::file(archive, message));
        }
    }
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|file| file.name).collect();
        return Err(Error::file(archive, format!("does not hold {}", names.join(", "))));
    }
    Ok(())
}
