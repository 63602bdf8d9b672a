//! What may be set about a network.

use super::{Options, Shortcut, spec};
use crate::error::{Error, Result};
use crate::settings::{Kind, Setting, Values};

/// Those of every model.
pub const MODEL: &[Setting] = &[
    Setting::new("model", "NAME", Kind::Text, "Network: a name from `engram models`").usually("cnn"),
    Setting::number("width", "FACTOR", "Factor on the channels of every layer").positive().usually("1"),
];

const SHORTCUT: Setting = Setting::choice::<Shortcut>(
    "shortcut",
    "KIND",
    "Shortcuts of a residual network: a (no parameters) or b (1×1 convolutions)",
)
.open("the model's");

const LAST_RELU: Setting =
    Setting::switch("last_relu", "Whether a residual network's last block ends in a ReLU").usually("true");

const BN_EPSILON: Setting = Setting::number("bn_epsilon", "EPSILON", "ε of batch norms").positive().usually("1e-5");

/// Those of residual networks.
pub const RESIDUAL: &[Setting] = &[SHORTCUT, LAST_RELU, BN_EPSILON];

/// Those of networks with batch norms and without shortcuts.
pub const NORMALIZED: &[Setting] = &[BN_EPSILON];

/// Which network, and what is changed about it.
#[derive(Clone, Debug)]
pub struct ModelSettings {
    /// The network by name.
    pub model: String,
    /// What is changed.
    pub options: Options,
}

impl ModelSettings {
    /// The rows for the model that these values name: everybody's and its own.
    ///
    /// # Errors
    /// An unknown model.
    pub fn rows(given: &Values) -> Result<Vec<&'static Setting>> {
        let name = given.find::<String>("model").unwrap_or_else(|| "cnn".into());
        Ok(MODEL.iter().chain(spec(&name)?.settings).collect())
    }

    /// Resolved values as what they mean.
    pub fn of(values: &Values) -> ModelSettings {
        let usual = Options::default();
        ModelSettings {
            model: values.get("model"),
            options: Options {
                width: values.get("width"),
                shortcut: values.find("shortcut"),
                last_relu: values.find("last_relu").unwrap_or(usual.last_relu),
                bn_epsilon: values.find("bn_epsilon").unwrap_or(usual.bn_epsilon),
            },
        }
    }

    /// That the model of these values has no setting of this name, which others have; `None` if none has.
    pub fn refuse(given: &Values, name: &str) -> Option<Error> {
        let others = super::all().into_iter().filter(|spec| spec.settings.iter().any(|row| row.name == name));
        let others: Vec<&str> = others.map(|spec| spec.name).collect();
        let model = given.find::<String>("model").unwrap_or_else(|| "cnn".into());
        let flag = crate::settings::flag(name);
        (!others.is_empty())
            .then(|| Error::usage(format!("{flag} has no effect here: {model} has none; {} have", others.join(", "))))
    }
}
