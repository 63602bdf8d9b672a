//! What may be set about a network.

use super::{LayerList, Network, Options, Shortcut, Stem, all, spec};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::LayerInfo;
use crate::settings::{Document, Kind, Setting, Values, flag};
use std::path::Path;
use std::sync::Arc;

/// Which model; and what may be set about every row of the table.
pub const MODEL: &[Setting] = &[
    Setting::new(
        "model",
        "NAME",
        Kind::NameOrFile,
        "Network: a name from `engram models`, or a file of layers as `engram models show NAME --json` prints it",
    )
    .usually("cnn"),
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

const STEM: Setting =
    Setting::choice::<Stem>("stem", "KIND", "What stands before the stages of a residual network of four")
        .usually("small");

/// Those of residual networks of four stages.
pub const STEMMED: &[Setting] = &[SHORTCUT, LAST_RELU, BN_EPSILON, STEM];

/// Those of networks with batch norms and without shortcuts.
pub const NORMALIZED: &[Setting] = &[BN_EPSILON];

/// Everything that may be set about some row of the table, beside which it is.
pub fn option_rows() -> Vec<&'static Setting> {
    let mut rows: Vec<&'static Setting> = MODEL[1..].iter().collect();
    for row in all().into_iter().flat_map(|model| model.settings) {
        if !rows.iter().any(|known| known.name == row.name) {
            rows.push(row);
        }
    }
    rows
}

/// Which network, and what is changed about it.
#[derive(Clone, Debug)]
pub struct ModelSettings {
    /// What it is called: a name from the table, or that of a file.
    pub model: String,
    /// What is changed about a row of the table.
    pub options: Options,
    /// All of it, where the table does not have it.
    pub layers: Option<Arc<LayerList>>,
}

fn named(given: &Values) -> Document {
    given.find("model").unwrap_or_else(|| Document::Name("cnn".into()))
}

/// The last part of a path.
fn file_name(path: &str) -> String {
    Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy().into_owned())
}

impl ModelSettings {
    /// With the list of layers, if these values name a file of one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read_file(given: Values) -> Result<Values> {
        given.read_file("model")
    }

    /// The rows for the model that these values name: everybody's and its own. What a file says is final.
    ///
    /// # Errors
    /// An unknown model.
    pub fn rows(given: &Values) -> Result<Vec<&'static Setting>> {
        Ok(match named(given) {
            Document::Name(name) => MODEL.iter().chain(spec(&name)?.settings).collect(),
            Document::File { .. } => MODEL[..1].iter().collect(),
        })
    }

    /// Resolved values as what they mean.
    ///
    /// # Errors
    /// An unknown model, or a file whose layers do not fit one another.
    pub fn of(values: &Values) -> Result<ModelSettings> {
        let usual = Options::default();
        let options = Options {
            width: values.find("width").unwrap_or(usual.width),
            shortcut: values.find("shortcut"),
            last_relu: values.find("last_relu").unwrap_or(usual.last_relu),
            bn_epsilon: values.find("bn_epsilon").unwrap_or(usual.bn_epsilon),
            stem: values.find("stem").unwrap_or(usual.stem),
        };
        Ok(match named(values) {
            Document::Name(name) => ModelSettings { model: spec(&name)?.name.into(), options, layers: None },
            Document::File { path, content } => {
                let layers = Some(Arc::new(LayerList::from_json(&content, &path)?));
                ModelSettings { model: file_name(&path), options, layers }
            }
        })
    }

    /// The images that it is usually given.
    ///
    /// # Errors
    /// An unknown model.
    pub fn input(&self) -> Result<[usize; 3]> {
        match &self.layers {
            Some(list) => Ok(list.input),
            None => Ok(spec(&self.model)?.input),
        }
    }

    /// One line per layer, without building the network.
    ///
    /// # Errors
    /// If it does not suit such images, or the options mean nothing.
    pub fn table(&self, input: [usize; 3], n_outputs: usize) -> Result<Vec<LayerInfo>> {
        match &self.layers {
            Some(list) => list.table(&self.model, input, n_outputs),
            None => spec(&self.model)?.layers(input, n_outputs, &self.options),
        }
    }

    /// Its layers as a file has them.
    ///
    /// # Errors
    /// As [`ModelSettings::table`].
    pub fn list(&self, input: [usize; 3]) -> Result<LayerList> {
        match &self.layers {
            Some(list) => list.table(&self.model, input, 1).map(|_| LayerList::clone(list)),
            None => LayerList::of_model(spec(&self.model)?, input, &self.options),
        }
    }

    /// A freshly initialised network.
    ///
    /// # Errors
    /// If it does not suit such images, or the device is out of memory.
    pub fn network(&self, input: [usize; 3], n_outputs: usize, device: &Device, seed: u64) -> Result<Network> {
        match &self.layers {
            Some(list) => Network::from_list(&self.model, list, input, n_outputs, device, seed),
            None => Network::with_options(&self.model, &self.options, input, n_outputs, device, seed),
        }
    }

    /// That the model of these values has no setting of this name, which others have; `None` if none has.
    pub fn refuse(given: &Values, name: &str) -> Option<Error> {
        if !option_rows().iter().any(|row| row.name == name) {
            return None;
        }
        let flag = flag(name);
        let model = match named(given) {
            Document::Name(model) => model,
            Document::File { path, .. } => {
                return Some(Error::usage(format!(
                    "{flag} has no effect here: {path} says what every layer is; change it there, or print another list with \
                     `engram models show NAME {flag} … --json`"
                )));
            }
        };
        let others = all().into_iter().filter(|spec| spec.settings.iter().any(|row| row.name == name));
        let others: Vec<&str> = others.map(|spec| spec.name).collect();
        Some(Error::usage(format!("{flag} has no effect here: {model} has none; {} have", others.join(", "))))
    }
}
