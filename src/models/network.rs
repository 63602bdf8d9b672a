//! A network on a device.

use super::weights::WeightFile;
use super::{LayerList, Options, spec};
use crate::device::{self, Device};
use crate::error::{Error, Result};
use crate::nn::{self, Builder, Layer, LayerInfo, Output, OutputKind, Parameters, Pass, Place, Statistics, Tap};
use crate::ops::{Conv2d, GradientScale, Mode};
use crate::tensor::Tensor;
use safetensors::tensor::{Dtype, TensorView};
use std::path::Path;
use std::sync::Arc;

/// A network on a device. Where a ReLU follows the feature, the feature is what enters it, so its numbers have both signs.
pub struct Network {
    layers: Vec<Layer>,
    places: Vec<Place>,
    list: Arc<LayerList>,
    /// Weights and biases, in one flat buffer.
    pub parameters: Parameters,
    /// Running means and variances of batch norms.
    pub statistics: Statistics,
    /// As in the table of models, or of the file that lists the layers.
    pub name: String,
    /// What was changed about the model.
    pub options: Options,
    /// Channels, height, width.
    pub input: [usize; 3],
    /// Whether it answers for images or for pixels.
    pub kind: OutputKind,
    /// D, the length of the feature vector of an image or a pixel.
    pub n_features: usize,
    /// Outputs, one per class of the whole stream.
    pub n_outputs: usize,
    /// Multiply–accumulates of one forward pass of one image.
    pub macs: u64,
    first_layer_macs: u64,
}

/// A layer that multiplies its input with a weight.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// The weight's number among the parameters: (O, I), or (O, C, KH, KW) of a convolution.
    pub weight: usize,
    /// Where its input is to be had; `None` for the images themselves.
    pub input: Option<Tap>,
    /// Stride, padding and dilation of a convolution.
    pub geometry: Option<Conv2d>,
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
        let builder = spec.built(input, n_outputs, options)?;
        Self::of(builder, spec.name, *options, input, n_outputs, device, seed)
    }

    /// A freshly initialised network of these layers; `name` is what messages call it.
    ///
    /// # Errors
    /// If the images are of another size than the list says, or the device is out of memory.
    pub fn from_list(
        name: &str,
        list: &LayerList,
        input: [usize; 3],
        n_outputs: usize,
        device: &Device,
        seed: u64,
    ) -> Result<Network> {
        let builder = list.built(name, input, n_outputs)?;
        Self::of(builder, name, Options::default(), input, n_outputs, device, seed)
    }

    fn of(
        builder: Builder,
        name: &str,
        options: Options,
        input: [usize; 3],
        n_outputs: usize,
        device: &Device,
        seed: u64,
    ) -> Result<Network> {
        let with_weights = |layer: &&LayerInfo| layer.macs > 0;
        Ok(Network {
            list: Arc::new(LayerList::of(input, &builder)),
            parameters: Parameters::new(device, builder.parameters, seed)?,
            statistics: Statistics::new(device, builder.norms)?,
            name: name.into(),
            options,
            input,
            kind: builder.kind,
            n_features: builder.n_features,
            n_outputs,
            macs: builder.table.iter().map(|layer| layer.macs).sum(),
            first_layer_macs: builder.table.iter().find(with_weights).map_or(0, |layer| layer.macs),
            layers: builder.layers,
            places: builder.places,
        })
    }

    /// A network of the same layers as a seed initialises it.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn fresh(&self, device: &Device, seed: u64) -> Result<Network> {
        let network = Self::from_list(&self.name, &self.list, self.input, self.n_outputs, device, seed)?;
        Ok(Network { options: self.options, ..network })
    }

    /// Takes over weights, running statistics and the scale of gradients of a network of the same layers.
    ///
    /// # Errors
    /// If the other has other layers, or the device was lost.
    pub fn copy_weights_of(&self, other: &Network) -> Result<()> {
        device::copy(other.parameters.values(), self.parameters.values())?;
        let scale = |network: &Network| network.parameters.gradient_scale().map(GradientScale::state).cloned();
        let statistics = |network: &Network| network.statistics.values().cloned();
        for (from, to) in [(statistics(other), statistics(self)), (scale(other), scale(self))] {
            if let (Some(from), Some(to)) = (from, to) {
                device::copy(&from, &to)?;
            }
        }
        Ok(())
    }

    /// Its layers, whose numbers index parameters and running statistics.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Its layers as a list that a file can hold.
    pub fn list(&self) -> &LayerList {
        &self.list
    }

    /// Floating-point operations of forward and backward of one image; the first layer needs no gradient of its input.
    pub fn training_flop(&self) -> f64 {
        (6 * self.macs - 2 * self.first_layer_macs) as f64
    }

    /// Bytes of parameters and running statistics.
    pub fn bytes(&self) -> u64 {
        self.parameters.bytes() + self.statistics.bytes()
    }

    /// Features and logits of a batch (N, C, H, W). `mode` says what batch norms go by. A network for pixels takes images of any
    /// height and width that its layers leave something of.
    ///
    /// # Errors
    /// If the images are of another size, or the device is out of memory.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Output> {
        Ok(self.pass(x, Pass::of(mode))?.0)
    }

    /// As [`Network::forward`], with the values at `taps` in their order.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn forward_with(&self, x: &Tensor, mode: Mode, taps: &[Tap]) -> Result<(Output, Vec<Tensor>)> {
        self.pass(x, Pass { taps, ..Pass::of(mode) })
    }

    /// As [`Network::forward_with`], with what else a pass may be told.
    ///
    /// # Errors
    /// As [`Network::forward`]; if there are other mixes than places where two branches meet.
    pub fn pass(&self, x: &Tensor, pass: Pass) -> Result<(Output, Vec<Tensor>)> {
        nn::forward(&self.layers, x, &self.parameters, &self.statistics, pass)
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

    /// Every layer that multiplies its input with a weight, in order; the last of them makes the logits.
    pub fn products(&self) -> Vec<Product> {
        let of = |(i, layer): (usize, &Layer)| {
            let input = i.checked_sub(1).map(|layer| Tap { layer, before_relu: false });
            match *layer {
                Layer::Conv { weight, geometry, .. } => Some(Product { weight, input, geometry: Some(geometry) }),
                Layer::Linear { weight, .. } => Some(Product { weight, input, geometry: None }),
                _ => None,
            }
        };
        self.layers.iter().enumerate().filter_map(of).collect()
    }

    /// γ and β of the batch norm that makes the value before the ReLU of this name; `None` if no batch norm makes it.
    ///
    /// # Errors
    /// If there is no such name, or the device was lost.
    pub fn norm_of(&self, name: &str) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
        let (tap, _) = self.tap(&format!("{}:pre", name.strip_suffix(":pre").unwrap_or(name)))?;
        let Layer::BatchNorm { weight, bias, .. } = self.layers[tap.layer] else { return Ok(None) };
        let parameters = self.parameters.tensors();
        Ok(Some((parameters[weight].to_vec()?, parameters[bias].to_vec()?)))
    }

    /// The names of its stages, in order.
    pub fn stages(&self) -> Vec<&Place> {
        let of_stage = |place: &&Place| {
            let number = place.name.strip_prefix("stage");
            number.is_some_and(|number| number.parse::<usize>().is_ok())
        };
        self.places.iter().filter(of_stage).collect()
    }

    /// A frozen copy with the same weights and running statistics.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn snapshot(&self) -> Result<Network> {
        let (parameters, statistics) = (self.parameters.snapshot()?, self.statistics.snapshot()?);
        let (layers, places, list) = (self.layers.clone(), self.places.clone(), self.list.clone());
        Ok(Network { layers, places, list, parameters, statistics, name: self.name.clone(), ..*self })
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
        self.load_bytes(&std::fs::read(path).map_err(Error::io(path, "read"))?, path)
    }

    /// The same of the bytes of such a file, but for the last layer, which may be of another number of outputs and stays as it
    /// is.
    ///
    /// # Errors
    /// As [`Network::load_safetensors`].
    pub fn load_features(&self, bytes: &[u8], path: &Path) -> Result<()> {
        let n = self.parameters.to_host()?.len();
        self.load_first(bytes, path, n - 2).map(drop)
    }

    /// The same of the bytes of such a file, which messages call `path`.
    ///
    /// # Errors
    /// As [`Network::load_safetensors`].
    pub fn load_bytes(&self, bytes: &[u8], path: &Path) -> Result<Vec<String>> {
        self.load_first(bytes, path, usize::MAX)
    }

    /// The first `n` parameters, and all running statistics.
    fn load_first(&self, bytes: &[u8], path: &Path, n: usize) -> Result<Vec<String>> {
        let (mut parameters, statistics) = (self.parameters.to_host()?, self.statistics.to_host()?);
        let others: Vec<String> = parameters.drain(n.min(parameters.len())..).map(|(name, ..)| name.into()).collect();
        let names = parameters.iter().map(|(name, shape, _)| (*name, shape.to_vec()));
        let names = names.chain(statistics.iter().map(|(name, values)| (name.as_str(), vec![values.len()])));
        let mut file = WeightFile::open(path, bytes, names.clone().map(|(name, _)| name))?;
        let all: Result<Vec<_>> = names.map(|(name, shape)| file.read(name, &shape)).collect();
        let mut values = all?;
        file.nothing_is_left(&self.name, &others)?;
        let statistics = values.split_off(parameters.len());
        // Only a file that fits in every part changes the network.
        for ((name, shape, _), values) in parameters.iter().zip(values) {
            self.parameters.set(name, shape, &values)?;
        }
        self.statistics.set(&statistics)?;
        Ok(file.notes())
    }
}
