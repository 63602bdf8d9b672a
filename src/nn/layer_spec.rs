//! Layers as a file of a network lists them, one entry each.

use super::layer::OutputKind;
use serde::{Deserialize, Serialize};

/// An entry of a list of layers, for [`Builder::push`](super::Builder::push). In JSON:
/// `{"kind": "conv", "name": "conv1", "out": 32, "kernel": 3, "padding": 1}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LayerSpec {
    /// A convolution with a square kernel.
    Conv {
        /// Its parameters are `NAME.weight` and `NAME.bias`.
        name: String,
        /// Channels that arrive; not checked if `None`.
        #[serde(rename = "in", skip_serializing_if = "Option::is_none", default)]
        inputs: Option<usize>,
        /// Channels of the result. `None` where it answers for the pixels of a list: as many as there are classes.
        #[serde(rename = "out", skip_serializing_if = "Option::is_none", default)]
        outputs: Option<usize>,
        /// Rows and columns of the kernel.
        kernel: usize,
        /// Pixels between neighbouring outputs.
        #[serde(default = "one")]
        stride: usize,
        /// Zeros around the image.
        #[serde(default)]
        padding: usize,
        /// Pixels between neighbouring elements of the kernel.
        #[serde(default = "one")]
        dilation: usize,
        /// Whether a number is added to each channel.
        #[serde(default = "yes")]
        bias: bool,
        /// What parameters are before training.
        #[serde(default = "he")]
        init: Start,
    },
    /// A batch norm, the sum with what a slot keeps, and a ReLU.
    BatchNorm {
        /// Its parameters are `NAME.weight` and `NAME.bias`.
        name: String,
        /// Channels that arrive; not checked if `None`.
        #[serde(rename = "in", skip_serializing_if = "Option::is_none", default)]
        inputs: Option<usize>,
        /// The slot of what is added; nothing if `None`. It has the same shape, or is larger by a stride and has fewer channels:
        /// then every other pixel of it counts, and channels of zeros stand on both sides.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        add: Option<usize>,
        /// Whether a ReLU follows.
        #[serde(default)]
        relu: bool,
        /// Added to the variance.
        #[serde(default = "usual_epsilon")]
        epsilon: f32,
    },
    /// max(x, 0).
    Relu {},
    /// The maximum of windows.
    MaxPool {
        /// Rows and columns of a window.
        size: usize,
        /// Pixels between neighbouring windows: windows touch if `None`.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        stride: Option<usize>,
        /// Pixels around the image that do not count.
        #[serde(skip_serializing_if = "is_zero", default)]
        padding: usize,
    },
    /// The mean of each channel.
    GlobalAvgPool {},
    /// A product with a weight, and a bias.
    Linear {
        /// Its parameters are `NAME.weight` and `NAME.bias`.
        name: String,
        /// Numbers that arrive; not checked if `None`.
        #[serde(rename = "in", skip_serializing_if = "Option::is_none", default)]
        inputs: Option<usize>,
        /// Numbers of the result. In a list the last layer has `None`: as many as there are classes.
        #[serde(rename = "out", skip_serializing_if = "Option::is_none", default)]
        outputs: Option<usize>,
        /// What parameters are before training.
        #[serde(default)]
        init: Start,
    },
    /// Keeps what left the layer before in a slot.
    Keep {
        /// Its number.
        slot: usize,
    },
    /// Goes on with what a slot keeps.
    Resume {
        /// Its number.
        slot: usize,
    },
    /// The sum with what a slot keeps, which has the same shape.
    Add {
        /// Its number.
        slot: usize,
    },
    /// What left the layer before is the feature vector φ(x).
    Feature {},
    /// The mean of each channel as a map of one pixel.
    ImagePool {},
    /// The channels of what slots keep, behind each other.
    Concat {
        /// Their numbers, in order.
        slots: Vec<usize>,
    },
    /// Maps of another height and width, linearly between pixels.
    Resize {
        /// The slot that keeps a map of the height and width that is wanted; those of the images if `None`.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        slot: Option<usize>,
    },
    /// Half the sum with what a slot keeps, which has the same shape: two branches as one.
    Mean {
        /// Its number.
        slot: usize,
    },
    /// What left the layer before are the feature vectors of pixels, which the last convolution classifies.
    FeatureMap {},
    /// Names what left the layer before, so that distillation can compare it.
    Name {
        /// The name.
        name: String,
    },
    /// A stage ends: what left the layer before is called `stage1`, `stage2`, … too.
    Stage {},
}

/// What the parameters of a layer with n inputs are before training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Weight and bias uniform in ±1/√n, as in PyTorch.
    #[default]
    Uniform,
    /// The weight normal with variance 2/n (He et al. 2015), the bias zero.
    He,
    /// The weight normal with variance 1/n, the bias zero.
    Normal,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn he() -> Start {
    Start::He
}

fn usual_epsilon() -> f32 {
    1e-5
}

impl LayerSpec {
    /// The place in a list of the layer with an output per class, and what it answers for: a linear layer at the end for
    /// images, a convolution that is resized to the images for pixels.
    pub fn classifier(layers: &[LayerSpec]) -> Option<(usize, OutputKind)> {
        match layers {
            [before @ .., LayerSpec::Linear { .. }] => Some((before.len(), OutputKind::Classes)),
            [before @ .., LayerSpec::Conv { .. }, LayerSpec::Resize { slot: None }] => {
                Some((before.len(), OutputKind::Pixels))
            }
            _ => None,
        }
    }

    /// How many outputs a layer with weights has.
    pub fn outputs_mut(&mut self) -> Option<&mut Option<usize>> {
        match self {
            LayerSpec::Conv { outputs, .. } | LayerSpec::Linear { outputs, .. } => Some(outputs),
            _ => None,
        }
    }

    /// The name or the kind, for messages.
    pub fn label(&self) -> &str {
        match self {
            LayerSpec::Conv { name, .. } | LayerSpec::BatchNorm { name, .. } | LayerSpec::Linear { name, .. } => name,
            LayerSpec::Name { name } => name,
            LayerSpec::Relu {} => "relu",
            LayerSpec::MaxPool { .. } => "max-pool",
            LayerSpec::GlobalAvgPool {} => "global-avg-pool",
            LayerSpec::Keep { .. } => "keep",
            LayerSpec::Resume { .. } => "resume",
            LayerSpec::Add { .. } => "add",
            LayerSpec::Feature {} => "feature",
            LayerSpec::ImagePool {} => "image-pool",
            LayerSpec::Concat { .. } => "concat",
            LayerSpec::Resize { .. } => "resize",
            LayerSpec::FeatureMap {} => "feature-map",
            LayerSpec::Mean { .. } => "mean",
            LayerSpec::Stage {} => "stage",
        }
    }
}
