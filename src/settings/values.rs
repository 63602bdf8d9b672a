//! What is set, and where it was set.

use super::{Choose, Setting, document, flag};
use crate::error::{Error, Result, did_you_mean};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value is from. The later in this list, the more it counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The setting's own default.
    Default,
    /// What the data set, the command or another setting calls for.
    Recipe(String),
    /// A recipe of the literature, by name.
    Preset(String),
    /// A configuration file.
    File(PathBuf),
    /// The command line, or a program that uses the library.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Origin::Default => write!(f, "default"),
            Origin::Recipe(of) => write!(f, "recipe of {of}"),
            Origin::Preset(name) => write!(f, "preset {name}"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Flag => write!(f, "flag"),
        }
    }
}

impl Origin {
    /// True if somebody set it for this run, so that it must not be without effect.
    pub fn is_asked_for(&self) -> bool {
        matches!(self, Origin::File(_) | Origin::Flag)
    }
}

/// Values by the name of their setting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(pub(super) BTreeMap<&'static str, (Value, Origin)>);

impl Values {
    /// With a value, as a person types it.
    ///
    /// # Errors
    /// If the setting takes no such value.
    pub fn set(mut self, row: &'static Setting, text: &str, origin: Origin) -> Result<Values> {
        let value = row.kind.parse(text);
        let value = value.map_err(|why| Error::usage(format!("{} {text}: {why}", row.flag())))?;
        self.0.insert(row.name, (value, origin));
        Ok(self)
    }

    /// With a value that is one already.
    pub fn with(mut self, row: &'static Setting, value: Value, origin: Origin) -> Values {
        self.0.insert(row.name, (value, origin));
        self
    }

    /// Names and texts, such as `("batch_size", "32")`, of settings of these rows.
    ///
    /// # Errors
    /// If no row has such a name, or it takes no such value.
    pub fn of(rows: &[&'static Setting], pairs: &[(&str, &str)], origin: &Origin) -> Result<Values> {
        pairs
            .iter()
            .try_fold(Values::default(), |values, (name, text)| values.set(row(rows, name, "")?, text, origin.clone()))
    }

    /// The fields of a configuration file; those that are null are left out.
    ///
    /// # Errors
    /// If no row has such a name, or a value is of another kind.
    pub fn from_json(rows: &[&'static Setting], fields: &Map<String, Value>, path: &Path) -> Result<Values> {
        let mut values = Values::default();
        let wrong = |why: String| Error::usage(format!("{}: no valid configuration: {why}", path.display()));
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            let row = row(rows, name, "unknown field ").map_err(|e| wrong(e.to_string()))?;
            let value = row.kind.take(value).map_err(|why| wrong(format!("'{name}' is {value}: {why}")))?;
            values.0.insert(row.name, (value, Origin::File(path.to_path_buf())));
        }
        Ok(values)
    }

    /// These, and where they are silent those of `other`.
    pub fn or(self, other: Values) -> Values {
        let mut all = other.0;
        all.extend(self.0);
        Values(all)
    }

    /// The same as a recipe, of which what does not suit is left out.
    pub fn as_recipe(self, of: &str) -> Values {
        let origin = Origin::Recipe(of.into());
        Values(self.0.into_iter().map(|(name, (value, _))| (name, (value, origin.clone()))).collect())
    }

    /// Those of these rows.
    pub fn only(&self, rows: &[&'static Setting]) -> Values {
        let own = self.0.iter().filter(|(name, _)| rows.iter().any(|row| row.name == **name));
        Values(own.map(|(name, value)| (*name, value.clone())).collect())
    }

    /// All but the one of this name.
    pub fn without(mut self, name: &str) -> Values {
        self.0.remove(name);
        self
    }

    /// The names of what is set.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// The value of this name as JSON has it.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).map(|(value, _)| value)
    }

    /// Where the value of this name is from.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.0.get(name).map(|(_, origin)| origin)
    }

    /// The value of this name, if it is set.
    pub fn find<T: FromValue>(&self, name: &str) -> Option<T> {
        let value = self.value(name)?;
        Some(
            T::from_value(value)
                .unwrap_or_else(|| panic!("bug: the setting {name} is {value}, which is of another kind")),
        )
    }

    /// The value of this name in a resolved set of values.
    ///
    /// # Panics
    /// If there is none: a bug of whoever wrote the rows.
    pub fn get<T: FromValue>(&self, name: &str) -> T {
        self.find(name).unwrap_or_else(|| panic!("bug: the setting {name} has no value"))
    }

    /// As the fields of a configuration file.
    pub fn to_json(&self) -> Map<String, Value> {
        self.0.iter().map(|(name, (value, _))| (name.to_string(), value.clone())).collect()
    }
}

/// The row of this name.
pub(super) fn row(rows: &[&'static Setting], name: &str, before: &str) -> Result<&'static Setting> {
    rows.iter().find(|row| row.name == name).copied().ok_or_else(|| {
        let known: Vec<&str> = rows.iter().map(|row| row.name).collect();
        let near = did_you_mean(name, &known);
        Error::usage(match before {
            "" => format!("there is no {}{near}", flag(name)),
            _ if near.is_empty() => format!("{before}'{name}': there are {}", known.join(", ")),
            _ => format!("{before}'{name}'{near}"),
        })
    })
}

/// A value as a flag takes it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        // 10 and 1e-5, not 10.0 and 0.00001.
        Value::Number(number) if number.is_f64() => {
            let text = number.to_string();
            text.strip_suffix(".0").map_or(text.clone(), str::to_string)
        }
        // Of a file that was read, its path.
        other => document::path(other).map_or_else(|| other.to_string(), str::to_string),
    }
}

/// What a value is read as.
pub trait FromValue: Sized {
    /// `None` if it is of another kind.
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Option<bool> {
        value.as_bool()
    }
}

impl FromValue for u64 {
    fn from_value(value: &Value) -> Option<u64> {
        value.as_u64()
    }
}

impl FromValue for usize {
    fn from_value(value: &Value) -> Option<usize> {
        value.as_u64()?.try_into().ok()
    }
}

impl FromValue for u32 {
    fn from_value(value: &Value) -> Option<u32> {
        value.as_u64()?.try_into().ok()
    }
}

impl FromValue for f32 {
    fn from_value(value: &Value) -> Option<f32> {
        value.as_f64().map(|number| number as f32)
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Option<f64> {
        value.as_f64()
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<String> {
        value.as_str().map(str::to_string)
    }
}

impl FromValue for PathBuf {
    fn from_value(value: &Value) -> Option<PathBuf> {
        value.as_str().map(PathBuf::from)
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(value: &Value) -> Option<Vec<T>> {
        value.as_array()?.iter().map(T::from_value).collect()
    }
}

impl<T: Choose> FromValue for T {
    fn from_value(value: &Value) -> Option<T> {
        T::named(value.as_str()?)
    }
}
