//! Reading back: regular files inside a folder and nothing else, whatever the folder holds, and JSON with a checksum of itself.

use super::json::flat_lists;
use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

/// No file of JSON that a run writes is nearly so large.
const MOST_JSON: u64 = 256 << 20;

/// The field that holds the checksum.
const CHECKSUM: &str = "checksum";

/// The bytes of a file inside a folder, at most `limit` of them. A name that leads out of the folder, a link, a pipe or a device
/// is refused: the folder may come from a stranger.
///
/// # Errors
/// If there is no such file, it is too large, or cannot be read.
pub fn read(folder: &Path, name: &str, limit: u64) -> Result<Vec<u8>> {
    let mut path = folder.to_path_buf();
    let refuse = |path: &Path, why: &str| Err(Error::file(path, format!("{why}; it is not read")));
    for part in Path::new(name).components() {
        let Component::Normal(part) = part else {
            return refuse(&folder.join(name), "this name leads out of the folder");
        };
        path.push(part);
        let found = path.symlink_metadata().map_err(Error::io(&path, "read"))?;
        if found.is_symlink() {
            return refuse(&path, "a link, where a run has a file of its own");
        }
    }
    let found = path.symlink_metadata().map_err(Error::io(&path, "read"))?;
    if !found.is_file() {
        return refuse(&path, "no regular file");
    }
    if found.len() > limit {
        return refuse(&path, &format!("{} bytes are more than such a file may have, {limit}", found.len()));
    }
    let mut bytes = Vec::new();
    File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(Error::io(&path, "read"))?;
    Ok(bytes)
}

/// The text of a file inside a folder as JSON.
///
/// # Errors
/// As [`read`]; if it is no JSON.
pub fn read_value(folder: &Path, name: &str) -> Result<Value> {
    let bytes = read(folder, name, MOST_JSON)?;
    serde_json::from_slice(&bytes).map_err(|e| not_ours(&folder.join(name), &e))
}

/// The same as a value. A checksum, if the file has one, must be right.
///
/// # Errors
/// As [`read_value`]; if the file was changed, or holds something else.
pub fn read_json<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T> {
    let value = read_value(folder, name)?;
    if is_intact(&value) == Some(false) {
        return Err(Error::file(folder.join(name), "damaged or changed: its checksum is another one"));
    }
    serde_json::from_value(value).map_err(|e| not_ours(&folder.join(name), &e))
}

fn not_ours(path: &Path, why: &serde_json::Error) -> Error {
    Error::file(path, format!("damaged, or not written by engram: {why}"))
}

/// Whether a value is as it was written; `None` if it carries no checksum.
pub fn is_intact(value: &Value) -> Option<bool> {
    let mut value = value.clone();
    let theirs = value.as_object_mut()?.remove(CHECKSUM)?;
    Some(theirs.as_str() == Some(&checksum(value.to_string().as_bytes())))
}

#[derive(Serialize)]
struct Sealed<'a, T> {
    #[serde(flatten)]
    value: &'a T,
    checksum: String,
}

/// Indented JSON of a value that is an object, with a checksum as its last field.
///
/// # Errors
/// If the value cannot be expressed as JSON.
pub fn sealed<T: Serialize>(value: &T) -> serde_json::Result<String> {
    // Through text: a number is what a reader will make of it.
    let plain: Value = serde_json::from_str(&serde_json::to_string(value)?)?;
    let sealed = Sealed { value, checksum: checksum(plain.to_string().as_bytes()) };
    Ok(flat_lists(&serde_json::to_string_pretty(&sealed)?) + "\n")
}

/// CRC-32, in hexadecimal.
pub fn checksum(bytes: &[u8]) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    format!("{:08x}", crc.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, serde::Deserialize, Debug, PartialEq)]
    struct Example {
        name: String,
        rate: f32,
        list: Vec<u32>,
    }

    #[test]
    fn every_change_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let example = Example { name: "a \"b\"".into(), rate: 0.1, list: vec![1, 2, 3] };
        let text = sealed(&example).unwrap();
        let write = |text: &str| std::fs::write(dir.path().join("x.json"), text).unwrap();
        write(&text);
        assert_eq!(read_json::<Example>(dir.path(), "x.json").unwrap(), example);
        assert!(text.contains("[1, 2, 3]") && text.find("name") < text.find("rate"), "{text}");
        for (from, to) in [("0.1", "0.2"), ("3]", "4]"), ("a ", "b "), ("\"checksum\": \"", "\"checksum\": \"0")] {
            write(&text.replace(from, to));
            let error = read_json::<Example>(dir.path(), "x.json").unwrap_err().to_string();
            assert!(error.contains("x.json") && error.contains("damaged"), "{error}");
        }
        write(r#"{ "name": "by hand", "rate": 1, "list": [] }"#);
        assert_eq!(read_json::<Example>(dir.path(), "x.json").unwrap().name, "by hand");
    }

    #[test]
    #[cfg(unix)]
    fn nothing_outside_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::fs::write(folder.join("sub/own"), "own").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), folder.join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), folder.join("out")).unwrap();
        assert_eq!(read(&folder, "sub/own", 3).unwrap(), b"own");
        for name in ["../secret", "/etc/hostname", "link", "out/secret", "sub", "sub/../../secret", "", "/dev/zero"] {
            assert!(read(&folder, name, 100).is_err(), "{name:?} was read");
        }
        assert!(read(&folder, "sub/own", 2).is_err(), "a file of more than the limit was read");
    }
}
