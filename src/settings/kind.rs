//! What values a setting takes.

use super::{Document, FromValue, Setting};
use crate::error::{Error, Result};
use serde_json::{Number, Value};

/// What values a setting takes.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// A name, or a path that ends in `.json`: [`Document`].
    NameOrFile,
    /// A file or a folder.
    Path,
    /// True or false.
    Switch,
    /// A whole number.
    Whole {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// A number.
    Number(Range),
    /// One of several words.
    Choice(fn() -> Vec<Choice>),
    /// Several, with commas between them.
    List(&'static Kind),
}

/// Where a number must lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The smallest number.
    pub low: f32,
    /// True if the smallest number is not one of them.
    pub above: bool,
    /// All lie below it.
    pub below: f32,
    /// For a person.
    pub words: &'static str,
}

impl Range {
    /// 0 or more.
    pub const FROM_ZERO: Range =
        Range { low: 0.0, above: false, below: f32::INFINITY, words: "0 or a positive number" };
    /// More than 0.
    pub const POSITIVE: Range = Range { low: 0.0, above: true, below: f32::INFINITY, words: "a positive number" };
    /// Any finite number.
    pub const ANY: Range = Range { low: f32::MIN, above: false, below: f32::INFINITY, words: "a number" };
    /// 0 or more, and less than 1.
    pub const BELOW_ONE: Range = Range { low: 0.0, above: false, below: 1.0, words: "0 or a positive number below 1" };
    /// More than 0, at most 1.
    pub const PART: Range = Range { low: 0.0, above: true, below: 1.000_000_1, words: "above 0 and at most 1" };

    fn has(&self, value: f32) -> bool {
        value.is_finite() && value >= self.low && value < self.below && !(self.above && value == self.low)
    }
}

/// A word that a setting takes, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// As on the command line and in files.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// An enum whose values have names.
pub trait Choose: Copy + PartialEq + 'static {
    /// Each value, its name, and what it means.
    const NAMED: &'static [(Self, &'static str, &'static str)];

    /// Names and meanings.
    fn choices() -> Vec<Choice> {
        Self::NAMED.iter().map(|&(_, name, help)| Choice { name, help }).collect()
    }

    /// As on the command line and in files.
    fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(value, ..)| *value == self).expect("bug: a value without a name").1
    }

    /// The value of this name.
    fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(_, own, _)| *own == name).map(|(value, ..)| *value)
    }
}

/// Declares an enum whose values have names, each with what it means: the comment on a value is its line in the help, too. The first
/// value may be the default.
macro_rules! choices {
    (
        $(#[$of_type:meta])*
        pub enum $type:ident {
            #[default]
            $(#[doc = $first_doc:literal])+
            $first:ident = $first_name:literal,
            $($(#[doc = $doc:literal])+ $value:ident = $name:literal,)*
        }
    ) => {
        $(#[$of_type])*
        pub enum $type {
            #[default]
            $(#[doc = $first_doc])+
            $first,
            $($(#[doc = $doc])+ $value,)*
        }
        $crate::settings::named! {
            $type: $first $first_name ($($first_doc)+) $($value $name ($($doc)+))*
        }
    };
    (
        $(#[$of_type:meta])*
        pub enum $type:ident {
            $($(#[doc = $doc:literal])+ $value:ident = $name:literal,)+
        }
    ) => {
        $(#[$of_type])*
        pub enum $type {
            $($(#[doc = $doc])+ $value,)+
        }
        $crate::settings::named! { $type: $($value $name ($($doc)+))+ }
    };
}
pub(crate) use choices;

/// The table of names of [`choices!`].
macro_rules! named {
    ($type:ident: $($value:ident $name:literal ($($doc:literal)+))+) => {
        impl $crate::settings::Choose for $type {
            const NAMED: &'static [(Self, &'static str, &'static str)] =
                &[$(($type::$value, $name, $crate::settings::line_of(concat!($($doc),+)))),+];
        }
    };
}
pub(crate) use named;

/// A comment as a line of help: without white space around it, and without the full stop.
pub(crate) const fn line_of(comment: &'static str) -> &'static str {
    let line = match comment.as_bytes().trim_ascii() {
        [line @ .., b'.'] => line,
        line => line,
    };
    match std::str::from_utf8(line) {
        Ok(line) => line,
        Err(_) => panic!("bug: a comment was cut inside a letter"),
    }
}

impl Kind {
    /// What a person types, as a value.
    ///
    /// # Errors
    /// What is needed instead.
    pub fn parse(&self, text: &str) -> std::result::Result<Value, String> {
        match self {
            Kind::Text | Kind::NameOrFile | Kind::Path => Ok(text.into()),
            Kind::Switch => match text {
                "true" => Ok(true.into()),
                "false" => Ok(false.into()),
                _ => Err("true or false is needed".into()),
            },
            Kind::Whole { .. } => match text.parse::<u64>() {
                Ok(number) => Ok(number.into()),
                Err(e) if *e.kind() == std::num::IntErrorKind::PosOverflow => Err("this number is too large".into()),
                Err(_) => Err("a whole number is needed, 0 or more".into()),
            },
            Kind::Number(_) => {
                let number: f64 = text.parse().map_err(|_| "a number is needed, such as 0.1 or 1e-3".to_string())?;
                let number = Number::from_f64(number).filter(|_| (number as f32).is_finite());
                number.map(Value::Number).ok_or_else(|| "a finite number is needed".into())
            }
            Kind::Choice(choices) => {
                let choices = choices();
                match choices.iter().any(|choice| choice.name == text) {
                    true => Ok(text.into()),
                    false => Err(format!("one of these is needed: {}", names(&choices))),
                }
            }
            Kind::List(kind) => {
                let values = text.split(',').map(|text| kind.parse(text)).collect::<std::result::Result<Vec<_>, _>>();
                values.map(Value::Array)
            }
        }
    }

    /// A value of a JSON file as this kind has it: a number that may have a fraction may be written without.
    pub(super) fn take(&self, value: &Value) -> std::result::Result<Value, String> {
        match (self, value) {
            (Kind::NameOrFile, value) if Document::from_value(value).is_some() => Ok(value.clone()),
            (Kind::Text | Kind::Path | Kind::Choice(_), Value::String(text)) => self.parse(text),
            (Kind::Switch, Value::Bool(_)) => Ok(value.clone()),
            (Kind::Whole { .. }, Value::Number(number)) if number.is_u64() => Ok(value.clone()),
            (Kind::Number(_), Value::Number(number)) => self.parse(&number.to_string()),
            (Kind::List(kind), Value::Array(values)) => {
                let values = values.iter().map(|value| kind.take(value)).collect::<std::result::Result<Vec<_>, _>>();
                values.map(Value::Array)
            }
            _ => Err(format!("{} is needed", self.words())),
        }
    }

    fn words(&self) -> String {
        match self {
            Kind::Text => "a text".into(),
            Kind::NameOrFile => "a name, or the path of a file that ends in .json,".into(),
            Kind::Path => "a path".into(),
            Kind::Switch => "true or false".into(),
            Kind::Whole { .. } => "a whole number, 0 or more,".into(),
            Kind::Number(_) => "a number".into(),
            Kind::Choice(choices) => format!("one of {}", names(&choices())),
            Kind::List(kind) => format!("a list, each of it {},", kind.words()),
        }
    }

    /// Refuses a value outside the range.
    pub(super) fn check(&self, row: &Setting, value: &Value) -> Result<()> {
        let flag = row.flag();
        match (self, value) {
            (Kind::Whole { least, most }, Value::Number(number)) => match number.as_u64() {
                Some(n) if n < *least => Err(Error::usage(format!("{flag} must be at least {least}"))),
                Some(n) if n > *most => Err(Error::usage(format!("{flag} {n}: at most {most}"))),
                _ => Ok(()),
            },
            (Kind::Number(range), Value::Number(number)) => {
                let number = number.as_f64().unwrap_or(f64::NAN) as f32;
                match range.has(number) {
                    true => Ok(()),
                    false => Err(Error::usage(format!("{flag} {number}: it must be {}", range.words))),
                }
            }
            (Kind::List(_), Value::Array(values)) if values.is_empty() => {
                Err(Error::usage(format!("{flag}: the list is empty")))
            }
            (Kind::List(kind), Value::Array(values)) => values.iter().try_for_each(|value| kind.check(row, value)),
            _ => Ok(()),
        }
    }
}

fn names(choices: &[Choice]) -> String {
    choices.iter().map(|choice| choice.name).collect::<Vec<_>>().join(", ")
}
