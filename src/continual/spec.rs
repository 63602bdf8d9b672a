//! The table of methods.

use super::{ALL, Method};
use crate::data::{Scenario, Target};
use crate::error::{Error, Result, by_name};
use crate::settings::{Origin, Setting, Usual, Values, flag};
use std::sync::RwLock;

/// A row of the method table.
#[derive(Debug)]
pub struct MethodSpec {
    /// As on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where it is from; `–` for a baseline.
    pub paper: &'static str,
    /// What is minimised, and what is kept.
    pub equations: &'static str,
    /// What it holds from task to task, in words.
    pub memory: &'static str,
    /// What to expect of it, for whoever chooses a method.
    pub expect: &'static str,
    /// What differs from the paper, and why.
    pub deviations: &'static [&'static str],
    /// The scenarios it suits.
    pub scenarios: &'static [Scenario],
    /// What it learns from: a class for each image, one for each pixel, or both. The runner refuses other data sets.
    pub targets: &'static [Target],
    /// True if it must be told where a task ends, so that it does not suit a blurry stream.
    pub needs_boundaries: bool,
    /// True if it may use all data of earlier tasks, as an upper reference: no method for a stream.
    pub is_reference: bool,
    /// True if the method sees all data at once.
    pub sees_everything: bool,
    /// Its own settings. One that is called `memory` is K, the exemplars it keeps over all classes.
    pub options: &'static [Setting],
    /// Defaults of its settings that differ in a scenario, as texts by name.
    pub in_scenario: &'static [(Scenario, &'static [(&'static str, &'static str)])],
    /// Settings of a run that play no part.
    pub ignores: &'static [&'static str],
    /// Those of its options that trade plasticity for stability, the larger the less is forgotten, with the high values that
    /// `engram tune` begins at.
    pub trade_off: &'static [(&'static str, f32)],
    /// A learner that has seen nothing, from the resolved settings of a run.
    pub build: fn(&Values) -> Box<dyn Method>,
}

/// Every scenario.
pub const ANY: &[Scenario] = Scenario::ALL;

/// A class for each image.
pub const CLASSES: &[Target] = &[Target::Class];
/// A class for each image, or one for each pixel.
pub const CLASSES_AND_MASKS: &[Target] = &[Target::Class, Target::Mask];

/// A class for each pixel.
pub const MASKS: &[Target] = &[Target::Mask];

impl MethodSpec {
    /// A row that says nothing yet: what is left out of a row of your own.
    pub const BASE: MethodSpec = MethodSpec {
        name: "",
        summary: "",
        paper: "–",
        equations: "",
        memory: "nothing",
        expect: "",
        deviations: &[],
        scenarios: ANY,
        targets: CLASSES,
        needs_boundaries: false,
        is_reference: false,
        sees_everything: false,
        options: &[],
        in_scenario: &[],
        ignores: &[],
        trade_off: &[],
        build: |_| panic!("bug: a row without a method"),
    };
}

impl MethodSpec {
    /// Its own settings with their defaults, as `--penalty-weight 1000`; those that follow from the run are left out.
    pub fn defaults(&self) -> Vec<String> {
        let shown = |row: &Setting| match row.default {
            Usual::Is(default) => Some(format!("{} {default}", row.flag())),
            _ => None,
        };
        self.options.iter().filter_map(shown).collect()
    }

    /// The defaults of its settings in a scenario, where they are others.
    ///
    /// # Errors
    /// If the row names a setting that the method has not.
    pub(crate) fn recipe(&self, scenario: Scenario) -> Result<Values> {
        let rows: Vec<&'static Setting> = self.options.iter().collect();
        let pairs = self.in_scenario.iter().find(|(of, _)| *of == scenario).map_or(&[][..], |(_, pairs)| pairs);
        Values::of(&rows, pairs, &Origin::Recipe(format!("{} --scenario {}", self.name, scenario.name())))
    }

    /// Whether it has a setting of this name of its own.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|row| row.name == name)
    }

    /// Whether it keeps exemplars: `--memory` is their number over all classes.
    pub fn uses_memory(&self) -> bool {
        self.has("memory")
    }

    /// Whether training goes by this setting of a run.
    pub fn goes_by(&self, name: &str) -> bool {
        !self.ignores.contains(&name)
    }

    /// That it has no setting of this name, in words.
    pub(crate) fn refuse(&self, name: &str) -> Error {
        let own: Vec<String> = self.options.iter().map(Setting::flag).collect();
        let own = if own.is_empty() { "no options of its own".to_string() } else { own.join(", ") };
        Error::usage(format!("{} has no {}: it has {own}", self.name, flag(name)))
    }

    /// The scenarios it suits, in words.
    pub fn suits(&self) -> String {
        let mut names: Vec<&str> = self.scenarios.iter().map(|scenario| scenario.name()).collect();
        if self.scenarios == ANY {
            names = vec!["all"];
        }
        if !self.needs_boundaries && self.scenarios == ANY {
            names.push("blurry");
        }
        names.join(", ")
    }
}

/// Methods from outside the crate.
static OTHERS: RwLock<Vec<&'static MethodSpec>> = RwLock::new(Vec::new());

/// Adds a method of your own to the table: the command line, comparisons and checkpoints know it from then on.
///
/// # Errors
/// [`Error::Usage`] if the name is taken.
pub fn register(method: &'static MethodSpec) -> Result<()> {
    if all().iter().any(|known| known.name == method.name) {
        return Err(Error::usage(format!("there is a method '{}' already", method.name)));
    }
    OTHERS.write().expect("bug: a panic while a method was registered").push(method);
    Ok(())
}

/// Every method: those of the crate, then those that were registered.
pub fn all() -> Vec<&'static MethodSpec> {
    let others = OTHERS.read().expect("bug: a panic while a method was registered");
    ALL.iter().chain(others.iter().copied()).collect()
}

/// The row of this name.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn spec(name: &str) -> Result<&'static MethodSpec> {
    by_name("method", name, all(), |spec| spec.name)
}
