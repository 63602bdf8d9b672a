//! Layers in a row, the shapes between them, and the feature that classifiers of continual learning work on.

use super::parameters::{Init, Parameter, Parameters};
use super::statistics::Statistics;
use crate::error::{Error, Result};
use crate::ops::{BatchNorm, Conv2d, Mode};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// One step of a network. Numbers index the model's parameters, running statistics, and the slots of what is kept for later.
#[derive(Clone, Debug)]
pub enum Layer {
    /// A convolution.
    Conv {
        /// (O, C, KH, KW).
        weight: usize,
        /// (O).
        bias: Option<usize>,
        /// Stride and padding.
        geometry: Conv2d,
    },
    /// Batch norm, the sum with what a slot keeps, ReLU.
    BatchNorm {
        /// γ, (C).
        weight: usize,
        /// β, (C).
        bias: usize,
        /// Which running statistics.
        running: usize,
        /// The slot of what is added.
        residual: Option<usize>,
        /// Whether a ReLU follows.
        relu: bool,
        /// Added to the variance.
        epsilon: f32,
    },
    /// max(x, 0).
    Relu,
    /// The maximum of each window.
    MaxPool {
        /// Rows and columns of a window.
        size: usize,
        /// Pixels between neighbouring windows.
        stride: usize,
    },
    /// The mean of each channel.
    GlobalAvgPool,
    /// A product with a weight, and a bias.
    Linear {
        /// (O, I).
        weight: usize,
        /// (O).
        bias: usize,
    },
    /// Keeps what leaves the layer before.
    Keep(usize),
    /// Goes on with what a slot keeps.
    Resume(usize),
    /// What leaves the layer before is the feature vector φ(x).
    Feature,
}

/// Weight of a batch in the running statistics of a batch norm.
const MOMENTUM: f32 = 0.1;

/// What a network says about a batch.
#[derive(Clone, Debug)]
pub struct Output {
    /// φ(x), (N, D).
    pub features: Tensor,
    /// (N, outputs).
    pub logits: Tensor,
}

/// A place in a network where a value can be had besides features and logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    /// The value that leaves this layer.
    pub layer: usize,
    /// True for the value before the layer's own ReLU, where it has one.
    pub before_relu: bool,
}

/// A named value of a network. A name stands for the value after the ReLU that follows, if one does.
#[derive(Clone, Debug)]
pub struct Place {
    /// That of a layer, of a residual block (`layer2.1`), `stage1`, `stage2`, … or `features`.
    pub name: String,
    /// The layer that makes it.
    pub layer: usize,
    /// The layer whose ReLU follows; the same for a fused one.
    pub relu: Option<usize>,
    /// Channels, height, width.
    pub shape: [usize; 3],
}

impl Place {
    /// Where to take the value after or before the ReLU; without a ReLU both are the same.
    pub fn tap(&self, before_relu: bool) -> Tap {
        match self.relu {
            Some(relu) if !before_relu => Tap { layer: relu, before_relu: false },
            _ => Tap { layer: self.layer, before_relu: true },
        }
    }
}

/// Applies layers to a batch (N, C, H, W), whose last features and logits come out.
///
/// # Errors
/// If `x` has another shape than the layers were built for.
pub fn forward(
    layers: &[Layer],
    x: &Tensor,
    parameters: &Parameters,
    statistics: &Statistics,
    mode: Mode,
) -> Result<Output> {
    Ok(forward_with(layers, x, parameters, statistics, mode, &[])?.0)
}

/// As [`forward`], with the values at `taps` in their order. A value before a fused ReLU costs a pass of its own.
///
/// # Errors
/// As [`forward`]; if there is no such layer.
pub fn forward_with(
    layers: &[Layer],
    x: &Tensor,
    parameters: &Parameters,
    statistics: &Statistics,
    mode: Mode,
    taps: &[Tap],
) -> Result<(Output, Vec<Tensor>)> {
    let mut tapped: Vec<Option<Tensor>> = vec![None; taps.len()];
    let parameters = parameters.tensors();
    let mut x = x.clone();
    let mut features = None;
    let mut slots: Vec<Option<Tensor>> = Vec::new();
    let kept = |slots: &[Option<Tensor>], slot: usize| {
        slots.get(slot).cloned().flatten().ok_or_else(|| Error::op("forward", "bug: a slot is read before it is kept"))
    };
    // A convolution waits for the batch norm after it, which may be folded in.
    let mut waiting = None;
    for (i, layer) in layers.iter().enumerate() {
        let before_relu = taps.contains(&Tap { layer: i, before_relu: true });
        let mut before = None;
        x = match *layer {
            Layer::Conv { weight, bias, geometry }
                if matches!(layers.get(i + 1), Some(Layer::BatchNorm { .. }))
                    && taps.iter().all(|tap| tap.layer != i) =>
            {
                waiting = Some((weight, bias, geometry));
                x
            }
            Layer::Conv { weight, bias, geometry } => {
                x.conv2d(&parameters[weight], bias.map(|bias| &parameters[bias]), geometry)?
            }
            Layer::BatchNorm { weight, bias, running, residual, relu, epsilon } => {
                let residual = residual.map(|slot| kept(&slots, slot)).transpose()?;
                let split = relu && before_relu;
                let norm = BatchNorm {
                    weight: &parameters[weight],
                    bias: &parameters[bias],
                    running: &statistics.arrays()[running],
                    mode,
                    momentum: MOMENTUM,
                    epsilon,
                    residual: residual.as_ref(),
                    relu: relu && !split,
                };
                let y = match waiting.take() {
                    Some((weight, bias, geometry)) => {
                        let bias = bias.map(|bias: usize| &parameters[bias]);
                        x.conv2d_batch_norm(&parameters[weight], bias, geometry, &norm)?
                    }
                    None => x.batch_norm(&norm)?,
                };
                if split {
                    before = Some(y.clone());
                    y.relu()?
                } else {
                    y
                }
            }
            Layer::Relu => x.relu()?,
            Layer::MaxPool { size, stride } => x.max_pool2d(size, stride)?,
            Layer::GlobalAvgPool => x.global_avg_pool()?,
            Layer::Linear { weight, bias } => x.linear(&parameters[weight], Some(&parameters[bias]))?,
            Layer::Keep(slot) => {
                slots.resize(slots.len().max(slot + 1), None);
                slots[slot] = Some(x.clone());
                x
            }
            Layer::Resume(slot) => kept(&slots, slot)?,
            Layer::Feature => {
                let (n, d) = x.shape().rows_cols();
                let x = if x.shape().len() == 2 { x } else { x.reshape([n, d])? };
                features = Some(x.clone());
                x
            }
        };
        for (value, tap) in tapped.iter_mut().zip(taps).filter(|(_, tap)| tap.layer == i) {
            *value = Some(before.clone().filter(|_| tap.before_relu).unwrap_or_else(|| x.clone()));
        }
    }
    let features = features.ok_or_else(|| Error::op("forward", "bug: a model without a feature"))?;
    let tapped: Option<Vec<Tensor>> = tapped.into_iter().collect();
    let tapped = tapped.ok_or_else(|| Error::op("forward", "a tap names a layer that there is not"))?;
    Ok((Output { features, logits: x }, tapped))
}

/// A line of the table of layers.
#[derive(Clone, Debug)]
pub struct LayerInfo {
    /// As PyTorch would name it, and empty for layers without parameters.
    pub name: String,
    /// What it does, for example `conv 3×3 /2`.
    pub what: String,
    /// Channels, height, width of its result.
    pub shape: [usize; 3],
    /// Weights and biases.
    pub n_parameters: usize,
    /// Multiply–accumulates for one image.
    pub macs: u64,
}

/// Collects layers and follows the shape through them.
///
/// ```
/// use engram::nn::{self, Builder, Parameters, Statistics};
/// use engram::ops::Mode;
/// use engram::{Device, Tensor};
/// let device = Device::cpu();
/// let mut builder = Builder::new([1, 8, 8]);
/// builder.linear("hidden", 16);
/// builder.feature();
/// builder.relu();
/// builder.linear("last", 3);
/// let parameters = Parameters::new(&device, builder.parameters, 1)?;
/// assert_eq!(parameters.n_parameters(), 64 * 16 + 16 + 16 * 3 + 3);
///
/// let statistics = Statistics::new(&device, builder.norms)?; // none: there is no batch norm
/// let x = Tensor::from_f32(&device, [5, 1, 8, 8], &[0.5; 5 * 64])?;
/// let output = nn::forward(&builder.layers, &x, &parameters, &statistics, Mode::Train)?;
/// assert_eq!(*output.logits.shape(), [5, 3]);
/// # Ok::<(), engram::Error>(())
/// ```
pub struct Builder {
    /// So far, in order.
    pub layers: Vec<Layer>,
    /// Those the layers index.
    pub parameters: Vec<Parameter>,
    /// Names and channels of the batch norms.
    pub norms: Vec<(String, usize)>,
    /// One line per layer.
    pub table: Vec<LayerInfo>,
    /// Named values, in order.
    pub places: Vec<Place>,
    /// Those of them that name what left the last layer.
    current: Vec<usize>,
    /// Channels, height, width of what leaves the last layer; a vector is (D, 1, 1).
    pub shape: [usize; 3],
    /// D, the length of the feature vector; 0 before [`Builder::feature`].
    pub n_features: usize,
    /// ε of batch norms.
    pub epsilon: f32,
    /// Why the layers cannot be built for these images.
    pub refusal: Option<String>,
}

impl Builder {
    /// An empty row of layers for images of (channels, height, width).
    pub fn new(input: [usize; 3]) -> Builder {
        Builder {
            layers: Vec::new(),
            parameters: Vec::new(),
            norms: Vec::new(),
            table: Vec::new(),
            places: Vec::new(),
            current: Vec::new(),
            shape: input,
            n_features: 0,
            epsilon: 1e-5,
            refusal: None,
        }
    }

    fn parameter(&mut self, name: String, sizes: &[usize], init: Init, decay: bool) -> usize {
        let shape = Shape::new(sizes).expect("bug: a layer without outputs");
        self.parameters.push(Parameter { name, shape, init, decay });
        self.parameters.len() - 1
    }

    fn add(&mut self, name: &str, what: String, n_parameters: usize, macs: usize, layer: Layer) {
        self.table.push(LayerInfo { name: name.into(), what, shape: self.shape, n_parameters, macs: macs as u64 });
        self.layers.push(layer);
        self.current.clear();
        if !name.is_empty() {
            self.name(name);
        }
    }

    /// Names what left the last layer, and the ReLU behind it if that has come.
    pub fn name(&mut self, name: &str) {
        let place = match self.current.first() {
            Some(&same) => Place { name: name.into(), ..self.places[same].clone() },
            None => {
                let layer = self.layers.len() - 1;
                let fused = matches!(self.layers[layer], Layer::BatchNorm { relu: true, .. });
                Place { name: name.into(), layer, relu: fused.then_some(layer), shape: self.shape }
            }
        };
        self.current.push(self.places.len());
        self.places.push(place);
    }

    /// Declares that a stage of the network ends: what left the last layer is called `stage1`, `stage2`, … too.
    pub fn end_stage(&mut self) {
        let n = self.places.iter().filter(|place| place.name.starts_with("stage")).count();
        self.name(&format!("stage{}", n + 1));
    }

    /// A convolution with square kernel. The weight is normal with variance 2/fan_in (He et al. 2015), the bias zero.
    pub fn conv(&mut self, name: &str, out_channels: usize, kernel: usize, geometry: Conv2d, bias: bool) {
        let std = (2.0 / (self.shape[0] * kernel * kernel) as f32).sqrt();
        self.conv_with(name, out_channels, kernel, geometry, Init::Normal(std), bias.then_some(Init::Constant(0.0)));
    }

    /// A convolution whose weight and bias start as in PyTorch: uniform in ±1/√fan_in.
    pub fn conv_uniform(&mut self, name: &str, out_channels: usize, kernel: usize, geometry: Conv2d) {
        let init = Init::Uniform(1.0 / ((self.shape[0] * kernel * kernel) as f32).sqrt());
        self.conv_with(name, out_channels, kernel, geometry, init, Some(init));
    }

    fn conv_with(
        &mut self,
        name: &str,
        out_channels: usize,
        kernel: usize,
        geometry: Conv2d,
        weight_init: Init,
        bias_init: Option<Init>,
    ) {
        let [c, h, w] = self.shape;
        let (Some(p), Some(q)) = (geometry.outputs(h, kernel), geometry.outputs(w, kernel)) else {
            self.refuse(format!("a {kernel}×{kernel} convolution does not fit a map of {h}×{w}"));
            return;
        };
        let weight = self.parameter(format!("{name}.weight"), &[out_channels, c, kernel, kernel], weight_init, true);
        let bias = bias_init.map(|init| self.parameter(format!("{name}.bias"), &[out_channels], init, false));
        self.shape = [out_channels, p, q];
        let macs = self.shape.iter().product::<usize>() * c * kernel * kernel;
        let n_parameters = out_channels * (c * kernel * kernel + usize::from(bias.is_some()));
        let mut what = format!("conv {kernel}×{kernel}");
        if geometry.stride > 1 {
            what += &format!(" /{}", geometry.stride);
        }
        if geometry.dilation > 1 {
            what += &format!(" by {}", geometry.dilation);
        }
        self.add(name, what, n_parameters, macs, Layer::Conv { weight, bias, geometry });
    }

    /// A batch norm, the sum with what a slot keeps, and ReLU.
    pub fn batch_norm(&mut self, name: &str, residual: Option<usize>, relu: bool) {
        let c = self.shape[0];
        let weight = self.parameter(format!("{name}.weight"), &[c], Init::Constant(1.0), true);
        let bias = self.parameter(format!("{name}.bias"), &[c], Init::Constant(0.0), false);
        self.norms.push((name.into(), c));
        let parts =
            ["batch norm", if residual.is_some() { " + residual" } else { "" }, if relu { ", ReLU" } else { "" }];
        let (running, epsilon) = (self.norms.len() - 1, self.epsilon);
        let layer = Layer::BatchNorm { weight, bias, running, residual, relu, epsilon };
        self.add(name, parts.concat(), 2 * c, 0, layer);
    }

    /// max(x, 0).
    pub fn relu(&mut self) {
        let before = std::mem::take(&mut self.current);
        self.add("", "ReLU".into(), 0, 0, Layer::Relu);
        for &place in &before {
            self.places[place].relu = Some(self.layers.len() - 1);
        }
        self.current = before;
    }

    /// The maximum of windows of `size` × `size` that touch; what does not fill a window is left out.
    pub fn max_pool(&mut self, size: usize) {
        let [c, h, w] = self.shape;
        if h < size || w < size {
            self.refuse(format!("a map of {h}×{w} cannot be pooled by {size}"));
            return;
        }
        self.shape = [c, h / size, w / size];
        self.add("", format!("max-pool {size}"), 0, 0, Layer::MaxPool { size, stride: size });
    }

    /// The mean of each channel.
    pub fn global_avg_pool(&mut self) {
        self.shape = [self.shape[0], 1, 1];
        self.add("", "global average pool".into(), 0, 0, Layer::GlobalAvgPool);
    }

    /// A linear layer whose weight and bias start as in PyTorch: uniform in ±1/√fan_in.
    pub fn linear(&mut self, name: &str, outputs: usize) {
        let inputs: usize = self.shape.iter().product();
        let init = Init::Uniform(1.0 / (inputs as f32).sqrt());
        self.linear_with(name, outputs, init, init);
    }

    /// A linear layer whose weight is normal with variance 1/fan_in and whose bias is zero.
    pub fn linear_normal(&mut self, name: &str, outputs: usize) {
        let inputs: usize = self.shape.iter().product();
        self.linear_with(name, outputs, Init::Normal(1.0 / (inputs as f32).sqrt()), Init::Constant(0.0));
    }

    fn linear_with(&mut self, name: &str, outputs: usize, weight_init: Init, bias_init: Init) {
        let inputs: usize = self.shape.iter().product();
        let weight = self.parameter(format!("{name}.weight"), &[outputs, inputs], weight_init, true);
        let bias = self.parameter(format!("{name}.bias"), &[outputs], bias_init, false);
        self.shape = [outputs, 1, 1];
        self.add(name, "linear".into(), outputs * (inputs + 1), inputs * outputs, Layer::Linear { weight, bias });
    }

    /// Keeps what left the last layer in a slot.
    pub fn keep(&mut self, slot: usize) {
        self.layers.push(Layer::Keep(slot));
    }

    /// Goes on with what a slot keeps, which has this shape.
    pub fn resume(&mut self, slot: usize, shape: [usize; 3]) {
        self.shape = shape;
        self.layers.push(Layer::Resume(slot));
    }

    /// Declares what left the last layer to be φ(x).
    pub fn feature(&mut self) {
        self.n_features = self.shape.iter().product();
        self.shape = [self.n_features, 1, 1];
        self.layers.push(Layer::Feature);
        self.name("features");
    }

    fn refuse(&mut self, why: String) {
        self.refusal.get_or_insert(why);
    }
}
