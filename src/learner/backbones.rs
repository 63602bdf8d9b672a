//! Trained networks that are part of the program, for their features.

use crate::error::{Error, did_you_mean};
use crate::models;

/// A backbone that is part of the program. `datasets/README.md` says how it was trained.
#[derive(Debug)]
pub struct BackboneSpec {
    /// As on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub summary: &'static str,
    /// Its row in the table of models.
    pub model: &'static str,
    /// What is changed about the model.
    pub options: models::Options,
    /// Channels, height, width.
    pub input: [usize; 3],
    /// Outputs of the last layer, which features do without.
    pub n_outputs: usize,
    /// A pixel byte p enters it as (p/255 − mean)/std, by channel.
    pub mean: &'static [f32],
    /// See `mean`.
    pub std: &'static [f32],
    /// A safetensors file.
    pub weights: &'static [u8],
}

/// Every backbone that is part of the program. The first is the usual one.
pub static BACKBONES: &[BackboneSpec] = &[BackboneSpec {
    name: "natural32",
    summary: "ResNet-20 trained on CIFAR-100: photographs of things, 32×32 pixels in colour, 64 features",
    model: "resnet20",
    options: models::Options {
        width: 1.0,
        shortcut: None,
        last_relu: true,
        bn_epsilon: 1e-5,
        stem: models::Stem::Small,
    },
    input: [3, 32, 32],
    n_outputs: 100,
    mean: &[0.5071, 0.4865, 0.4409],
    std: &[0.2673, 0.2564, 0.2762],
    weights: include_bytes!("natural32.safetensors"),
}];

impl BackboneSpec {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static BackboneSpec> {
        BACKBONES.iter().find(|spec| spec.name == name)
    }

    /// That there is none of this name; `other` is what may stand in its place.
    pub fn unknown(name: &str, other: &str) -> Error {
        let known: Vec<&str> = BACKBONES.iter().map(|spec| spec.name).collect();
        let near = did_you_mean(name, &known);
        Error::usage(format!("unknown backbone '{name}': there is {}, or {other}{near}", known.join(", ")))
    }
}
