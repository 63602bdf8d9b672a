//! Floor 4a: the models, as a table of layer lists.

pub mod export;
mod deeplab;
mod list;
mod network;
mod preact;
mod resnet;
mod settings;
mod vgg;
mod weights;
mod wide_resnet;

use crate::error::{Error, Result, by_name};
pub use crate::nn::OutputKind;
use crate::nn::{Builder, LayerInfo};
use crate::ops::Conv2d;
use crate::settings::{Setting, choices};
pub use list::{Cut, LayerList};
pub use network::{Network, Product};
use serde::{Deserialize, Serialize};
pub use settings::{MODEL, ModelSettings, NORMALIZED, RESIDUAL, STEMMED, option_rows};
use std::sync::RwLock;

/// What may be changed about a model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Factor on the number of channels of every layer.
    pub width: f32,
    /// What stands in for the identity where a residual block changes the shape; the model's own choice if `None`.
    pub shortcut: Option<Shortcut>,
    /// Whether a residual network's last block ends in a ReLU. iCaRL's does not: its features have both signs.
    pub last_relu: bool,
    /// ε of batch norms.
    pub bn_epsilon: f32,
    /// What stands before the stages of a residual network of four.
    #[serde(default, skip_serializing_if = "Stem::is_usual")]
    pub stem: Stem,
}

impl Default for Options {
    fn default() -> Self {
        Options { width: 1.0, shortcut: None, last_relu: true, bn_epsilon: 1e-5, stem: Stem::Small }
    }
}

impl Options {
    /// This number of channels, wider or narrower by the factor.
    pub fn scaled(&self, channels: usize) -> usize {
        ((channels as f32 * self.width).round() as usize).max(1)
    }
}

choices! {
    /// The shortcuts of He et al. 2016, section 3.3.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Shortcut {
        /// Every other pixel, and zero channels on both sides: no parameters.
        A = "a",
        /// A 1×1 convolution and a batch norm.
        B = "b",
    }
}

choices! {
    /// What stands before the stages of a residual network.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Stem {
        #[default]
        /// A 3×3 convolution, for small images.
        Small = "small",
        /// A 7×7 convolution with stride 2 and a 3×3 max-pool with stride 2: torchvision's, for 224×224.
        Large = "large",
    }
}

impl Stem {
    fn is_usual(&self) -> bool {
        *self == Stem::Small
    }
}

/// A row of the model table. `examples/custom_model.rs` registers one of its own.
///
/// ```
/// use engram::models::{self, ModelSpec, Network, Options};
/// static TINY: ModelSpec = ModelSpec {
///     name: "tiny",
///     summary: "linear 16 (feature) – ReLU – linear",
///     build: |b, options, n_outputs| {
///         b.linear("fc1", options.scaled(16));
///         b.feature();
///         b.relu();
///         b.linear("fc2", n_outputs);
///     },
///     ..ModelSpec::BASE
/// };
/// models::register(&TINY)?;
/// assert_eq!(models::spec("tiny")?.layers([1, 28, 28], 10, &Options::default())?.len(), 3);
/// # Ok::<(), engram::Error>(())
/// ```
#[derive(Debug)]
pub struct ModelSpec {
    /// As on the command line.
    pub name: &'static str,
    /// The layers, in one line.
    pub summary: &'static str,
    /// The images it is usually given: channels, height, width.
    pub input: [usize; 3],
    /// Whether it answers for images or for pixels.
    pub kind: OutputKind,
    /// What may be set about it, beside the width: [`RESIDUAL`], [`STEMMED`], [`NORMALIZED`] or nothing. [`Options`] has the values.
    pub settings: &'static [Setting],
    /// Calls the builder layer by layer. [`Builder::feature`] comes once; the last layer is linear, with as many outputs as the
    /// last argument says. For pixels it is [`Builder::feature_map`], a convolution with so many channels, and
    /// [`Builder::resize`].
    pub build: fn(&mut Builder, &Options, usize),
}

/// What the name of a convolution ends in that keeps what a second branch learnt.
pub const KEPT_BRANCH: &str = "_kept";

const GREY: [usize; 3] = [1, 28, 28];
const RGB: [usize; 3] = [3, 32, 32];
const SCENE: [usize; 3] = [3, 64, 64];

/// Every model.
pub static ALL: &[ModelSpec] = &[
    ModelSpec {
        name: "mlp",
        summary: "linear 256 – ReLU – linear 256 (feature) – ReLU – linear",
        input: GREY,
        kind: OutputKind::Classes,
        settings: &[],
        build: |b, options, n_outputs| {
            b.linear("fc1", options.scaled(256));
            b.relu();
            b.end_stage();
            b.linear("fc2", options.scaled(256));
            b.feature();
            b.relu();
            b.end_stage();
            b.linear("fc3", n_outputs);
        },
    },
    ModelSpec {
        name: "cnn",
        summary: "3×3 conv 32 – ReLU – pool 2 – 3×3 conv 64 – ReLU – pool 2 – linear 128 (feature) – ReLU – linear",
        input: GREY,
        kind: OutputKind::Classes,
        settings: &[],
        build: |b, options, n_outputs| convolutional(b, options, 3, 128, n_outputs),
    },
    ModelSpec {
        name: "cnn5",
        summary: "5×5 conv 32 – ReLU – pool 2 – 5×5 conv 64 – ReLU – pool 2 – linear 256 (feature) – ReLU – linear",
        input: GREY,
        kind: OutputKind::Classes,
        settings: &[],
        build: |b, options, n_outputs| convolutional(b, options, 5, 256, n_outputs),
    },
    ModelSpec {
        name: "resnet20",
        summary: "residual network for CIFAR, 3 stages of 3 blocks, 16-32-64 channels (He et al. 2016)",
        input: RGB,
        kind: OutputKind::Classes,
        settings: RESIDUAL,
        build: |b, options, n_outputs| resnet::cifar(b, options, 3, n_outputs),
    },
    ModelSpec {
        name: "resnet32",
        summary: "the same with 5 blocks a stage: the network of iCaRL",
        input: RGB,
        kind: OutputKind::Classes,
        settings: RESIDUAL,
        build: |b, options, n_outputs| resnet::cifar(b, options, 5, n_outputs),
    },
    ModelSpec {
        name: "resnet44",
        summary: "the same with 7 blocks a stage",
        input: RGB,
        kind: OutputKind::Classes,
        settings: RESIDUAL,
        build: |b, options, n_outputs| resnet::cifar(b, options, 7, n_outputs),
    },
    ModelSpec {
        name: "resnet56",
        summary: "the same with 9 blocks a stage",
        input: RGB,
        kind: OutputKind::Classes,
        settings: RESIDUAL,
        build: |b, options, n_outputs| resnet::cifar(b, options, 9, n_outputs),
    },
    ModelSpec {
        name: "resnet110",
        summary: "the same with 18 blocks a stage",
        input: RGB,
        kind: OutputKind::Classes,
        settings: RESIDUAL,
        build: |b, options, n_outputs| resnet::cifar(b, options, 18, n_outputs),
    },
    ModelSpec {
        name: "wrn16-2",
        summary: "wide residual network, 16 layers, twice as wide (Zagoruyko and Komodakis 2016)",
        input: RGB,
        kind: OutputKind::Classes,
        settings: NORMALIZED,
        build: |b, options, n_outputs| wide_resnet::cifar(b, options, 2, 2, n_outputs),
    },
    ModelSpec {
        name: "wrn28-4",
        summary: "the same with 28 layers, four times as wide",
        input: RGB,
        kind: OutputKind::Classes,
        settings: NORMALIZED,
        build: |b, options, n_outputs| wide_resnet::cifar(b, options, 4, 4, n_outputs),
    },
    ModelSpec {
        name: "resnet18",
        summary: "residual network, 4 stages of 2 blocks, 64-128-256-512 channels (`--stem large` is torchvision's)",
        input: RGB,
        kind: OutputKind::Classes,
        settings: STEMMED,
        build: |b, options, n_outputs| resnet::imagenet(b, options, [2, 2, 2, 2], n_outputs),
    },
    ModelSpec {
        name: "resnet34",
        summary: "the same with 3, 4, 6 and 3 blocks",
        input: RGB,
        kind: OutputKind::Classes,
        settings: STEMMED,
        build: |b, options, n_outputs| resnet::imagenet(b, options, [3, 4, 6, 3], n_outputs),
    },
    ModelSpec {
        name: "preact-resnet18",
        summary: "residual network, batch norms before convolutions, 4 stages of 2 blocks, 64-128-256-512 channels",
        input: RGB,
        kind: OutputKind::Classes,
        settings: NORMALIZED,
        build: |b, options, n_outputs| preact::imagenet(b, options, [2, 2, 2, 2], n_outputs),
    },
    ModelSpec {
        name: "vgg11",
        summary: "8 convolutions with batch norm in 5 stages, one linear layer (Simonyan and Zisserman 2015)",
        input: RGB,
        kind: OutputKind::Classes,
        settings: NORMALIZED,
        build: vgg::vgg11,
    },
    ModelSpec {
        name: "vgg11-slim",
        summary: "6 convolutions without batch norm, linear 500 – 500: the continual-learning literature's (Aljundi 2019)",
        input: RGB,
        kind: OutputKind::Classes,
        settings: &[],
        build: vgg::vgg11_slim,
    },
    ModelSpec {
        name: "fcn3",
        summary: "for pixels: 3×3 conv 16 – ReLU – 3×3 conv 32 /2 (feature) – ReLU – 1×1 conv – resize",
        input: SCENE,
        kind: OutputKind::Pixels,
        settings: &[],
        build: deeplab::fcn3,
    },
    ModelSpec {
        name: "deeplab-lite",
        summary: "for pixels: 3 residual blocks, 32-64-96 channels, output stride 4, atrous pyramid of 4 branches, 64 channels",
        input: SCENE,
        kind: OutputKind::Pixels,
        settings: NORMALIZED,
        build: deeplab::lite,
    },
    ModelSpec {
        name: "deeplab-lite-rc",
        summary: "the same with a second branch beside its convolutions, which RCIL folds after each task",
        input: SCENE,
        kind: OutputKind::Pixels,
        settings: NORMALIZED,
        build: deeplab::lite_with_branches,
    },
    ModelSpec {
        name: "deeplab-resnet18",
        summary: "for pixels: DeepLab-v3 on ResNet-18, output stride 16, atrous pyramid of 5 branches, 256 channels",
        input: SCENE,
        kind: OutputKind::Pixels,
        settings: NORMALIZED,
        build: |b, options, n_outputs| deeplab::v3(b, options, [2, 2, 2, 2], n_outputs),
    },
    ModelSpec {
        name: "deeplab-resnet34",
        summary: "the same on ResNet-34",
        input: SCENE,
        kind: OutputKind::Pixels,
        settings: NORMALIZED,
        build: |b, options, n_outputs| deeplab::v3(b, options, [3, 4, 6, 3], n_outputs),
    },
];

fn convolutional(b: &mut Builder, options: &Options, kernel: usize, n_features: usize, n_outputs: usize) {
    for (name, channels) in [("conv1", 32), ("conv2", 64)] {
        b.conv_uniform(name, options.scaled(channels), kernel, Conv2d::new(1, kernel / 2));
        b.relu();
        b.end_stage();
        b.max_pool(2);
    }
    b.linear("fc1", options.scaled(n_features));
    b.feature();
    b.relu();
    b.linear("fc2", n_outputs);
}

/// Models from outside the crate.
static OTHERS: RwLock<Vec<&'static ModelSpec>> = RwLock::new(Vec::new());

/// Adds a model of your own to the table: the command line, distillation and saved runs know it from then on.
///
/// # Errors
/// [`Error::Usage`] if the name is taken.
pub fn register(model: &'static ModelSpec) -> Result<()> {
    if all().iter().any(|known| known.name == model.name) {
        return Err(Error::usage(format!("there is a model '{}' already", model.name)));
    }
    OTHERS.write().expect("bug: a panic while a model was registered").push(model);
    Ok(())
}

/// Every model: those of the crate, then those that were registered.
pub fn all() -> Vec<&'static ModelSpec> {
    let others = OTHERS.read().expect("bug: a panic while a model was registered");
    ALL.iter().chain(others.iter().copied()).collect()
}

/// Whether the crate's own table has a model of this name, so that a saved run need not list its layers.
pub fn is_built_in(name: &str) -> bool {
    ALL.iter().any(|spec| spec.name == name)
}

/// The row of this name.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn spec(name: &str) -> Result<&'static ModelSpec> {
    by_name("model", name, all(), |spec| spec.name)
}

impl ModelSpec {
    /// A row that says nothing yet: what is left out of a row of your own.
    pub const BASE: ModelSpec = ModelSpec {
        name: "",
        summary: "",
        input: GREY,
        kind: OutputKind::Classes,
        settings: &[],
        build: |_, _, _| panic!("bug: a row without a network"),
    };

    /// The layers of this model.
    ///
    /// # Errors
    /// If the images are too small for it, or the options mean nothing.
    fn built(&self, input: [usize; 3], n_outputs: usize, options: &Options) -> Result<Builder> {
        if !(options.width > 0.0 && options.width <= 64.0) {
            return Err(Error::usage(format!("--width {}: a factor between 0 and 64", options.width)));
        }
        if !(options.bn_epsilon > 0.0 && options.bn_epsilon < 1.0) {
            return Err(Error::usage(format!("--bn-epsilon {}: a number between 0 and 1", options.bn_epsilon)));
        }
        let mut builder = Builder::new(input);
        builder.epsilon = options.bn_epsilon;
        (self.build)(&mut builder, options, n_outputs);
        builder.finish(n_outputs);
        if let Some(why) = builder.refusal {
            let [c, h, w] = input;
            return Err(Error::usage(format!("images of {c}×{h}×{w} do not suit the model '{}': {why}", self.name)));
        }
        if builder.kind != self.kind {
            let (kind, name) = (builder.kind, self.name);
            return Err(Error::usage(format!(
                "the row of the model '{name}' says {:?}, its layers make {kind:?}",
                self.kind
            )));
        }
        Ok(builder)
    }

    /// One line per layer, without building the network.
    ///
    /// # Errors
    /// If the images are too small for it, or the options mean nothing.
    pub fn layers(&self, input: [usize; 3], n_outputs: usize, options: &Options) -> Result<Vec<LayerInfo>> {
        Ok(self.built(input, n_outputs, options)?.table)
    }
}
