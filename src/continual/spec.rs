//! The table of methods.

use super::{Method, Options, fields, flag};
use super::{agem, cumulative, der, er, ewc, finetune, fixed_representation, gdumb, icarl, lwf, mas, si};
use crate::data::Scenario::{self, Class, Domain, Permuted, Rotated, Task};
use crate::error::{Error, Result, did_you_mean};
use serde_json::Value;

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
    /// True if it must be told where a task ends, so that it does not suit a blurry stream.
    pub needs_boundaries: bool,
    /// True if the method keeps exemplars: the option `--memory` is its budget.
    pub uses_memory: bool,
    /// True if every class has a share of the budget, which may be rounded up.
    pub shares_per_class: bool,
    /// True if the method sees all data at once, as an upper reference.
    pub sees_everything: bool,
    /// The names of its own hyper-parameters, fields of [`OptionFlags`](super::OptionFlags).
    pub options: &'static [&'static str],
    /// Those of its options that trade plasticity for stability, the larger the less is forgotten, with the high values that
    /// `engram tune` begins at.
    pub trade_off: &'static [(&'static str, f32)],
    /// True if training goes by the run's learning rate.
    pub uses_lr: bool,
    /// Sets its own defaults.
    pub tune: fn(&mut Options),
    /// A learner that has seen nothing.
    pub build: fn(Options) -> Box<dyn Method>,
}

/// Every scenario.
pub const ANY: &[Scenario] = &[Class, Task, Domain, Permuted, Rotated];

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
        needs_boundaries: false,
        uses_memory: false,
        shares_per_class: false,
        sees_everything: false,
        options: &[],
        trade_off: &[],
        uses_lr: true,
        tune: |_| (),
        build: |_| panic!("bug: a row without a method"),
    };
}

impl MethodSpec {
    /// Its own hyper-parameters with their defaults, as `--penalty-weight 1000`; those that follow from the run are left out.
    pub fn defaults(&self) -> Vec<String> {
        let defaults = fields(&Options::of(self));
        let shown = |name: &&'static str| match defaults.get(*name)? {
            Value::Null => None,
            Value::Number(number) => Some(format!("{} {}", flag(name), number.as_f64()? as f32)),
            value => Some(format!("{} {}", flag(name), value.as_str()?)),
        };
        self.options.iter().filter_map(shown).collect()
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

/// Every method.
pub static ALL: &[MethodSpec] = &[
    icarl::ICARL,
    icarl::HYBRID2_SPEC,
    icarl::HYBRID3_SPEC,
    icarl::LWF_MC_SPEC,
    fixed_representation::SPEC,
    er::ER,
    er::ER_ACE,
    der::DER,
    der::DER_PP,
    gdumb::SPEC,
    agem::SPEC,
    lwf::SPEC,
    ewc::EWC,
    ewc::ONLINE,
    si::SPEC,
    mas::SPEC,
    finetune::FINETUNE,
    cumulative::SPEC,
    finetune::JOINT,
];

/// The row of this name.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn spec(name: &str) -> Result<&'static MethodSpec> {
    ALL.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|spec| spec.name).collect();
        Error::usage(format!("unknown method '{name}': there are {}{}", known.join(", "), did_you_mean(name, &known)))
    })
}
