//! Settings as rows. A [`Setting`] is what may be set: its name, what it means, what values it takes, its default. Rows stand
//! with what they belong to (a data set's in `data`, a method's in the method's own file); flags and their help, configuration
//! files, checks and the report are made from them.
//!
//! ```
//! use engram::settings::{Origin, Setting, Values, resolve};
//! const RATE: Setting = Setting::number("rate", "RATE", "How fast").positive().usually("0.1");
//! const STEPS: Setting = Setting::whole("steps", "N", "How often").usually("3");
//! let given = Values::default().set(&STEPS, "5", Origin::Flag)?;
//! let values = resolve("this", &[&RATE, &STEPS], given)?;
//! assert_eq!((values.get::<f32>("rate"), values.get::<usize>("steps")), (0.1, 5));
//! assert_eq!(values.origin("rate"), Some(&Origin::Default));
//! # Ok::<(), engram::Error>(())
//! ```

mod document;
mod kind;
mod resolve;
mod values;

pub use document::Document;
pub use kind::{Choice, Choose, Kind, Range};
pub(crate) use kind::{choices, line_of, named};
pub use resolve::{between, resolve};
pub use values::{FromValue, Origin, Values, text};

/// A setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// As in a configuration file; a flag has `-` in place of `_`.
    pub name: &'static str,
    /// What stands for the value in a help text.
    pub value_name: &'static str,
    /// What it means, in a line or two.
    pub help: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Where nothing is set.
    pub default: Usual,
    /// Without this it has no effect.
    pub needs: Option<Needs>,
    /// True if it says where a run is and leaves its results as they are.
    pub is_place: bool,
    /// An environment variable that sets it where no flag does.
    pub variable: Option<&'static str>,
}

/// What a setting is where nothing is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usual {
    /// This value.
    Is(&'static str),
    /// No value, which means this.
    Open(&'static str),
    /// What follows from other settings, in words.
    Follows(&'static str),
}

/// What a setting needs to have an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Another setting.
    pub setting: &'static str,
    /// Its values that will do, `folder:*` for all that begin so; if there are none here, any.
    pub is: &'static [&'static str],
    /// Why, and what to set in its place.
    pub why: &'static str,
}

impl Setting {
    /// With no default.
    pub const fn new(name: &'static str, value_name: &'static str, kind: Kind, help: &'static str) -> Setting {
        let default = Usual::Open("");
        Setting { name, value_name, help, kind, default, needs: None, is_place: false, variable: None }
    }

    /// A whole number from 1 on.
    pub const fn whole(name: &'static str, value_name: &'static str, help: &'static str) -> Setting {
        Setting::new(name, value_name, Kind::Whole { least: 1, most: u64::MAX }, help)
    }

    /// A number from 0 on.
    pub const fn number(name: &'static str, value_name: &'static str, help: &'static str) -> Setting {
        Setting::new(name, value_name, Kind::Number(Range::FROM_ZERO), help)
    }

    /// True or false.
    pub const fn switch(name: &'static str, help: &'static str) -> Setting {
        Setting::new(name, "BOOL", Kind::Switch, help)
    }

    /// One of the values of an enum.
    pub const fn choice<T: Choose>(name: &'static str, value_name: &'static str, help: &'static str) -> Setting {
        Setting::new(name, value_name, Kind::Choice(T::choices), help)
    }

    /// A number above 0.
    pub const fn positive(self) -> Setting {
        Setting { kind: Kind::Number(Range::POSITIVE), ..self }
    }

    /// A whole number between these.
    pub const fn between(self, least: u64, most: u64) -> Setting {
        Setting { kind: Kind::Whole { least, most }, ..self }
    }

    /// With this default.
    pub const fn usually(self, text: &'static str) -> Setting {
        Setting { default: Usual::Is(text), ..self }
    }

    /// Without a value unless one is set, which means this.
    pub const fn open(self, meaning: &'static str) -> Setting {
        Setting { default: Usual::Open(meaning), ..self }
    }

    /// With a default that follows from other settings.
    pub const fn follows(self, how: &'static str) -> Setting {
        Setting { default: Usual::Follows(how), ..self }
    }

    /// Without effect unless another setting has one of these values, or any if none is named.
    pub const fn needs(self, setting: &'static str, is: &'static [&'static str], why: &'static str) -> Setting {
        Setting { needs: Some(Needs { setting, is, why }), ..self }
    }

    /// A setting of the place where a run is.
    pub const fn place(self) -> Setting {
        Setting { is_place: true, ..self }
    }

    /// Set by this environment variable where no flag is given.
    pub const fn variable(self, variable: &'static str) -> Setting {
        Setting { variable: Some(variable), ..self }
    }

    /// As a flag: `--batch-size`.
    pub fn flag(&self) -> String {
        flag(self.name)
    }

    /// What it means, with its default.
    pub fn help_text(&self) -> String {
        match self.default {
            Usual::Open("") => self.help.to_string(),
            Usual::Is(default) | Usual::Open(default) | Usual::Follows(default) => {
                format!("{} [default: {default}]", self.help)
            }
        }
    }
}

/// `batch_size` as `--batch-size`.
pub fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}
