//! Compiled kernels on disk, in the user's folder for caches: what a driver compiled once starts at once the next time.
//!
//! A file that cannot be read, belongs to another driver or was damaged is as good as none, and one that cannot be written is
//! not missed: nothing here is an error.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

/// Moves the folder; empty, it turns the cache off.
const VARIABLE: &str = "ENGRAM_CACHE_DIR";
/// A file larger than this starts over: kernels of older versions stay in it for ever.
const MAX_BYTES: usize = 64 << 20;
/// Begins a file; then the checksum of the rest follows. wgpu checks that the rest is of this driver, but not that it is whole.
const MAGIC: &[u8; 8] = b"engram\x00\x01";

/// What the driver has compiled, and the file it is kept in.
pub(super) struct DiskCache {
    pub(super) raw: wgpu::PipelineCache,
    path: PathBuf,
    /// What the file held.
    found: Option<Vec<u8>>,
}

impl DiskCache {
    /// The cache of an adapter, if its backend has one and there is a folder for it.
    pub(super) fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Option<DiskCache> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = folder()?.join(file_name(info)?);
        let found = fs::read(&path).ok().filter(|bytes| bytes.len() <= MAX_BYTES);
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("kernels"),
            data: found.as_deref().and_then(unwrap),
            fallback: true,
        };
        // SAFETY: data is what `get_data` gave: only `wrap` begins a file like this, and the checksum says that it is whole.
        let raw = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(DiskCache { raw, path, found })
    }

    /// Writes all that was compiled if there is anything new, through a second file, so that there is never half of one.
    pub(super) fn save(&self) {
        let Some(data) = self.raw.get_data() else { return };
        if data.len() > MAX_BYTES - HEADER {
            let _ = fs::remove_file(&self.path);
            return;
        }
        let file = wrap(&data);
        if self.found.as_ref() == Some(&file) {
            return;
        }
        // Another device may be closed at this moment, in this process or another.
        let draft = self.path.with_extension(format!("{}-{}.tmp", process::id(), std::ptr::from_ref(self).addr()));
        let written = self.path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&draft, file));
        if written.and_then(|()| fs::rename(&draft, &self.path)).is_err() {
            let _ = fs::remove_file(&draft);
        }
    }
}

const HEADER: usize = MAGIC.len() + 4;

fn wrap(data: &[u8]) -> Vec<u8> {
    [MAGIC, &checksum(data)[..], data].concat()
}

fn unwrap(file: &[u8]) -> Option<&[u8]> {
    let (sum, data) = file.strip_prefix(MAGIC)?.split_at_checked(HEADER - MAGIC.len())?;
    (sum == checksum(data)).then_some(data)
}

fn checksum(data: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    crc.sum().to_le_bytes()
}

/// A file per adapter and driver; another version of the driver replaces it.
fn file_name(info: &wgpu::AdapterInfo) -> Option<String> {
    let driver: String = info.driver.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Some(format!("{}_{driver}.bin", wgpu::util::pipeline_cache_key(info)?))
}

/// Where systems want files that can be made again.
fn folder() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).map(PathBuf::from);
    if let Some(folder) = variable(VARIABLE) {
        return Some(folder).filter(|folder| !folder.as_os_str().is_empty());
    }
    let home = || variable("HOME").filter(|home| home.is_absolute());
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        let given = variable("XDG_CACHE_HOME").filter(|folder: &PathBuf| Path::is_absolute(folder));
        given.or_else(|| home().map(|home| home.join(".cache")))
    };
    base.map(|base| base.join("engram"))
}

#[cfg(test)]
mod tests {
    use super::{unwrap, wrap};

    #[test]
    fn only_whole_files_are_taken() {
        let data: Vec<u8> = (0..=255).collect();
        let file = wrap(&data);
        assert_eq!(unwrap(&file), Some(&data[..]));
        assert_eq!(unwrap(&wrap(&[])), Some(&[][..]));
        for n in 0..file.len() {
            assert_eq!(unwrap(&file[..n]), None, "the first {n} bytes");
            let mut damaged = file.clone();
            damaged[n] ^= 1;
            assert_eq!(unwrap(&damaged), None, "byte {n}");
        }
        assert_eq!(unwrap(&[&file[..], &[0]].concat()), None);
    }
}
