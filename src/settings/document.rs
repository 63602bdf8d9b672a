//! Values that are a name, or a file of JSON that was read.

use super::{FromValue, Values, flag};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// No file that people write by hand is nearly so large.
const MOST_BYTES: u64 = 4 << 20;

/// A name, or a file of JSON with what it holds, so that settings stay whole when the file is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// A name.
    Name(String),
    /// A file.
    File {
        /// As it was given.
        path: String,
        /// What it holds.
        content: Value,
    },
}

impl FromValue for Document {
    fn from_value(value: &Value) -> Option<Document> {
        match value {
            Value::String(name) => Some(Document::Name(name.clone())),
            Value::Object(fields) if fields.len() == 2 => {
                let (path, content) = (fields.get("file")?.as_str()?.to_string(), fields.get("content")?.clone());
                Some(Document::File { path, content })
            }
            _ => None,
        }
    }
}

impl Values {
    /// With the content of the file that the setting of this name gives the path of: one that ends in `.json`. A name stays a
    /// name, and a file that was read before is not read again.
    ///
    /// # Errors
    /// If the file cannot be read, is too large, or is no JSON.
    pub fn read_file(mut self, name: &str) -> Result<Values> {
        if let Some((value, _)) = self.0.get_mut(name)
            && let Value::String(path) = value
            && path.ends_with(".json")
        {
            let content = read(path).map_err(|why| Error::usage(format!("{} {path}: {why}", flag(name))))?;
            *value = json!({ "file": path, "content": content });
        }
        Ok(self)
    }
}

fn read(path: &str) -> std::result::Result<Value, String> {
    let cannot = |e: std::io::Error| format!("cannot read this file: {e}");
    let found = Path::new(path).metadata().map_err(cannot)?;
    if !found.is_file() {
        return Err("this is no file".into());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("this file is larger than {MOST_BYTES} bytes"));
    }
    // Editors of some systems begin a file with a mark of its encoding.
    let json = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    serde_json::from_slice(json).map_err(|e| format!("no valid JSON: {e}"))
}

/// The path of a file that was read.
pub(super) fn path(value: &Value) -> Option<&str> {
    value.as_object()?.get("file")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Kind, Origin, Setting};

    const NET: Setting = Setting::new("net", "NAME", Kind::NameOrFile, "A network");

    #[test]
    fn names_stay_names_and_files_are_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
        let given = |name: &str| Values::default().set(&NET, name, Origin::Flag).unwrap().read_file("net");
        std::fs::write(at("a.json"), "\u{feff}{\"b\": [1, 2]}").unwrap();
        std::fs::write(at("bad.json"), "{\"b\": [1,").unwrap();
        std::fs::write(at("large.json"), " ".repeat(MOST_BYTES as usize + 1)).unwrap();
        std::fs::create_dir(at("folder.json")).unwrap();
        let read = given(&at("a.json")).unwrap();
        let document = Document::File { path: at("a.json"), content: json!({"b": [1, 2]}) };
        assert_eq!(read.find::<Document>("net"), Some(document));
        std::fs::remove_file(at("a.json")).unwrap();
        assert_eq!(read.clone().read_file("net").unwrap(), read, "what was read is whole without its file");
        let recorded = Values::from_json(&[&NET], &read.to_json(), Path::new("config.json")).unwrap();
        assert_eq!(recorded.value("net"), read.value("net"));
        assert_eq!(given("cnn").unwrap().find::<Document>("net"), Some(Document::Name("cnn".into())));
        let files = [("a", "cannot read"), ("bad", "no valid JSON"), ("folder", "no file"), ("large", "larger than")];
        for (name, why) in files {
            let error = given(&at(&format!("{name}.json"))).unwrap_err().to_string();
            assert!(error.contains(why) && error.starts_with("--net "), "{name}: {error}");
        }
        let fields = json!({"net": {"file": 1, "content": 2}});
        assert!(Values::from_json(&[&NET], fields.as_object().unwrap(), Path::new("config.json")).is_err());
    }
}
