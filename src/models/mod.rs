//! Floor 4a: the models, as a table of layer lists.

mod resnet;
mod settings;
mod vgg;
mod weights;

use crate::device::Device;
use crate::error::{Error, Result, did_you_mean};
use crate::nn::{self, Builder, Layer, LayerInfo, Output, Parameters, Place, Statistics, Tap};
use crate::ops::{Conv2d, Mode};
use crate::settings::{Choose, Setting};
use crate::tensor::Tensor;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
pub use settings::{MODEL, ModelSettings, NORMALIZED, RESIDUAL};
use std::path::Path;
use weights::WeightFile;

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
}

impl Default for Options {
    fn default() -> Self {
        Options { width: 1.0, shortcut: None, last_relu: true, bn_epsilon: 1e-5 }
    }
}

impl Options {
    fn scaled(&self, channels: usize) -> usize {
        ((channels as f32 * self.width).round() as usize).max(1)
    }
}

/// The shortcuts of He et al. 2016, section 3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shortcut {
    /// Every other pixel, and zero channels on both sides: no parameters.
    A,
    /// A 1×1 convolution and a batch norm.
    B,
}

impl Choose for Shortcut {
    const NAMED: &'static [(Self, &'static str, &'static str)] = &[
        (Shortcut::A, "a", "Every other pixel, and zero channels on both sides: no parameters"),
        (Shortcut::B, "b", "A 1×1 convolution and a batch norm"),
    ];
}

/// A row of the model table.
pub struct ModelSpec {
    /// As on the command line.
    pub name: &'static str,
    /// The layers, in one line.
    pub summary: &'static str,
    /// The images it is usually given: channels, height, width.
    pub input: [usize; 3],
    /// What may be set about it, beside the width.
    pub settings: &'static [Setting],
    /// The layers, with as many outputs as the last argument says.
    body: fn(&mut Builder, &Options, usize),
}

const GREY: [usize; 3] = [1, 28, 28];
const RGB: [usize; 3] = [3, 32, 32];

/// Every model.
pub static ALL: &[ModelSpec] = &[
    ModelSpec {
        name: "mlp",
        summary: "linear 256 – ReLU – linear 256 (feature) – ReLU – linear",
        input: GREY,
        settings: &[],
        body: |b, options, n_outputs| {
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
        settings: &[],
        body: |b, options, n_outputs| convolutional(b, options, 3, 128, n_outputs),
    },
    ModelSpec {
        name: "cnn5",
        summary: "5×5 conv 32 – ReLU – pool 2 – 5×5 conv 64 – ReLU – pool 2 – linear 256 (feature) – ReLU – linear",
        input: GREY,
        settings: &[],
        body: |b, options, n_outputs| convolutional(b, options, 5, 256, n_outputs),
    },
    ModelSpec {
        name: "resnet20",
        summary: "residual network for CIFAR, 3 stages of 3 blocks, 16-32-64 channels (He et al. 2016)",
        input: RGB,
        settings: RESIDUAL,
        body: |b, options, n_outputs| resnet::cifar(b, options, 3, n_outputs),
    },
    ModelSpec {
        name: "resnet32",
        summary: "the same with 5 blocks a stage: the network of iCaRL",
        input: RGB,
        settings: RESIDUAL,
        body: |b, options, n_outputs| resnet::cifar(b, options, 5, n_outputs),
    },
    ModelSpec {
        name: "resnet44",
        summary: "the same with 7 blocks a stage",
        input: RGB,
        settings: RESIDUAL,
        body: |b, options, n_outputs| resnet::cifar(b, options, 7, n_outputs),
    },
    ModelSpec {
        name: "resnet56",
        summary: "the same with 9 blocks a stage",
        input: RGB,
        settings: RESIDUAL,
        body: |b, options, n_outputs| resnet::cifar(b, options, 9, n_outputs),
    },
    ModelSpec {
        name: "resnet18",
        summary: "residual network, 4 stages of 2 blocks, 64-128-256-512 channels, stem for small images",
        input: RGB,
        settings: RESIDUAL,
        body: |b, options, n_outputs| resnet::imagenet(b, options, [2, 2, 2, 2], n_outputs),
    },
    ModelSpec {
        name: "resnet34",
        summary: "the same with 3, 4, 6 and 3 blocks",
        input: RGB,
        settings: RESIDUAL,
        body: |b, options, n_outputs| resnet::imagenet(b, options, [3, 4, 6, 3], n_outputs),
    },
    ModelSpec {
        name: "vgg11",
        summary: "8 convolutions with batch norm in 5 stages, one linear layer (Simonyan and Zisserman 2015)",
        input: RGB,
        settings: NORMALIZED,
        body: vgg::vgg11,
    },
    ModelSpec {
        name: "vgg11-slim",
        summary: "6 convolutions without batch norm, linear 500 – 500: the continual-learning literature's (Aljundi 2019)",
        input: RGB,
        settings: &[],
        body: vgg::vgg11_slim,
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

/// Every model.
pub fn all() -> Vec<&'static ModelSpec> {
    ALL.iter().collect()
}

/// The row of this name.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn spec(name: &str) -> Result<&'static ModelSpec> {
    ALL.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|spec| spec.name).collect();
        Error::usage(format!("unknown model '{name}': there are {}{}", known.join(", "), did_you_mean(name, &known)))
    })
}

impl ModelSpec {
    /// The layers of this model.
    ///
    /// # Errors
    /// If the images are too small for it, or the options mean nothing.
    fn build(&self, input: [usize; 3], n_outputs: usize, options: &Options) -> Result<Builder> {
        if !(options.width > 0.0 && options.width <= 64.0) {
            return Err(Error::usage(format!("--width {}: a factor between 0 and 64", options.width)));
        }
        if !(options.bn_epsilon > 0.0 && options.bn_epsilon < 1.0) {
            return Err(Error::usage(format!("--bn-epsilon {}: a number between 0 and 1", options.bn_epsilon)));
        }
        let mut builder = Builder::new(input);
        builder.epsilon = options.bn_epsilon;
        let [c, h, w] = input;
        if input.contains(&0) || n_outputs == 0 {
            builder.refusal = Some("an axis or the number of outputs is 0".into());
        } else {
            (self.body)(&mut builder, options, n_outputs);
        }
        if let Some(why) = builder.refusal {
            return Err(Error::usage(format!("images of {c}×{h}×{w} do not suit the model '{}': {why}", self.name)));
        }
        Ok(builder)
    }

    /// One line per layer, without building the network.
    ///
    /// # Errors
    /// If the images are too small for it, or the options mean nothing.
    pub fn layers(&self, input: [usize; 3], n_outputs: usize, options: &Options) -> Result<Vec<LayerInfo>> {
        Ok(self.build(input, n_outputs, options)?.table)
    }
}

/// A network on a device. Where a ReLU follows the feature, the feature is what enters it, so its numbers have both signs.
pub struct Network {
    layers: Vec<Layer>,
    places: Vec<Place>,
    /// Weights and biases, in one flat buffer.
    pub parameters: Parameters,
    /// Running means and variances of batch norms.
    pub statistics: Statistics,
    /// As in the table of models.
    pub name: &'static str,
    /// What was changed about the model.
    pub options: Options,
    /// Channels, height, width.
    pub input: [usize; 3],
    /// D, the length of the feature vector.
    pub n_features: usize,
    /// Outputs, one per class of the whole stream.
    pub n_outputs: usize,
    /// Multiply–accumulates of one forward pass of one image.
    pub macs: u64,
    first_layer_macs: u64,
}

impl Network {
    /// A freshly initialised network for images of `input` = (channels, height, width), with the model's usual options.
    ///
    /// # Errors
    /// If the model is unknown, the images are too small for it, or the device is out of memory.
    pub fn new(name: &str, input: [usize; 3], n_outputs: usize, device: &Device, seed: u64) -> Result<Network> {
        Self::with_options(name, &Options::default(), input, n_outputs, device, seed)
    }

    /// As [`Network::new`], with these options.
    pub fn with_options(
        name: &str,
        options: &Options,
        input: [usize; 3],
        n_outputs: usize,
        device: &Device,
        seed: u64,
    ) -> Result<Network> {
        let spec = spec(name)?;
        let builder = spec.build(input, n_outputs, options)?;
        let with_weights = |layer: &&LayerInfo| layer.macs > 0;
        Ok(Network {
            parameters: Parameters::new(device, builder.parameters, seed)?,
            statistics: Statistics::new(device, builder.norms)?,
            name: spec.name,
            options: *options,
            input,
            n_features: builder.n_features,
            n_outputs,
            macs: builder.table.iter().map(|layer| layer.macs).sum(),
            first_layer_macs: builder.table.iter().find(with_weights).map_or(0, |layer| layer.macs),
            layers: builder.layers,
            places: builder.places,
        })
    }

    /// Floating-point operations of forward and backward of one image; the first layer needs no gradient of its input.
    pub fn training_flop(&self) -> f64 {
        (6 * self.macs - 2 * self.first_layer_macs) as f64
    }

    /// Bytes of parameters and running statistics.
    pub fn bytes(&self) -> u64 {
        self.parameters.bytes() + self.statistics.bytes()
    }

    /// Features and logits of a batch (N, C, H, W). `mode` says what batch norms go by.
    ///
    /// # Errors
    /// If the images are of another size, or the device is out of memory.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Output> {
        nn::forward(&self.layers, x, &self.parameters, &self.statistics, mode)
    }

    /// As [`Network::forward`], with the values at `taps` in their order.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn forward_with(&self, x: &Tensor, mode: Mode, taps: &[Tap]) -> Result<(Output, Vec<Tensor>)> {
        nn::forward_with(&self.layers, x, &self.parameters, &self.statistics, mode, taps)
    }

    /// The values that have names: of layers, residual blocks (`layer2.1`), stages (`stage1`, …) and the `features`.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Where to take the value of this name: after the ReLU that follows it, or before with `:pre` behind the name; and its
    /// channels, height and width.
    ///
    /// ```
    /// use engram::{Device, Tensor, models::Network, ops::Mode};
    /// let network = Network::new("resnet20", [3, 32, 32], 10, &Device::cpu(), 1)?;
    /// let (after, shape) = network.tap("stage2")?;
    /// let (before, _) = network.tap("stage2:pre")?; // the sum of the last block, before its ReLU
    /// assert_eq!(shape, [32, 16, 16]);
    /// let x = Tensor::from_f32(&Device::cpu(), [1, 3, 32, 32], &[0.5; 3072])?;
    /// let (_, values) = network.forward_with(&x, Mode::Eval, &[after, before])?;
    /// assert_eq!(values[0].to_vec()?, values[1].relu()?.to_vec()?);
    /// # Ok::<(), engram::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is none; the message lists those there are.
    pub fn tap(&self, name: &str) -> Result<(Tap, [usize; 3])> {
        let (name, before_relu) = name.strip_suffix(":pre").map_or((name, false), |name| (name, true));
        match self.places.iter().find(|place| place.name == name) {
            Some(place) => Ok((place.tap(before_relu), place.shape)),
            None => {
                let known: Vec<&str> = self.places.iter().map(|place| place.name.as_str()).collect();
                let message =
                    format!("the model '{}' has no layer '{name}': there are {}", self.name, known.join(", "));
                Err(Error::usage(message))
            }
        }
    }

    /// A frozen copy with the same weights and running statistics.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn snapshot(&self) -> Result<Network> {
        let (parameters, statistics) = (self.parameters.snapshot()?, self.statistics.snapshot()?);
        Ok(Network { layers: self.layers.clone(), places: self.places.clone(), parameters, statistics, ..*self })
    }

    /// The weights and running statistics in the safetensors format, under PyTorch's names.
    ///
    /// # Errors
    /// If the adapter was lost.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let parameters = self.parameters.to_host()?;
        let statistics = self.statistics.to_host()?;
        let all = parameters.iter().map(|(name, shape, values)| (*name, shape.to_vec(), values));
        let all = all.chain(statistics.iter().map(|(name, values)| (name.as_str(), vec![values.len()], values)));
        let views = all.map(|(name, shape, values)| {
            let view = TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(values));
            (name, view.expect("bug: a parameter's size is not its shape's"))
        });
        safetensors::serialize(views, None)
            .map_err(|e| Error::Training(format!("the weights cannot be serialised: {e}")))
    }

    /// Overwrites weights and running statistics by those of a file: f32, or f16, bf16 and f64, which are converted, under
    /// PyTorch's names, with or without a common prefix such as `module.`. Returns what was done to the file's numbers and
    /// names, in words; nothing, as a rule.
    ///
    /// # Errors
    /// If the file is not of this architecture, or holds a number that is not finite; the message names the tensor.
    pub fn load_safetensors(&self, path: &Path) -> Result<Vec<String>> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let (parameters, statistics) = (self.parameters.to_host()?, self.statistics.to_host()?);
        let names = parameters.iter().map(|(name, shape, _)| (*name, shape.to_vec()));
        let names = names.chain(statistics.iter().map(|(name, values)| (name.as_str(), vec![values.len()])));
        let mut file = WeightFile::open(path, &bytes, names.clone().map(|(name, _)| name))?;
        let all: Result<Vec<_>> = names.map(|(name, shape)| file.read(name, &shape)).collect();
        let mut values = all?;
        file.nothing_is_left(self.name)?;
        let statistics = values.split_off(parameters.len());
        // Only a file that fits in every part changes the network.
        for ((name, shape, _), values) in parameters.iter().zip(values) {
            self.parameters.set(name, shape, &values)?;
        }
        self.statistics.set(&statistics)?;
        Ok(file.notes())
    }
}
