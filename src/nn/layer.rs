//! Layers in a row, and the feature that classifiers of continual learning work on.

use super::parameters::Parameters;
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
        /// Pixels around the image that do not count.
        padding: usize,
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
    /// The sum with what a slot keeps.
    Add(usize),
    /// What leaves the layer before is the feature vector φ(x).
    Feature,
    /// The mean of each channel as a map of one pixel.
    ImagePool,
    /// The channels of what slots keep, behind each other.
    Concat(Vec<usize>),
    /// Maps of the height and width of what a slot keeps, of the images if there is none.
    Resize(Option<usize>),
    /// What leaves the layer before are the feature vectors of pixels.
    FeatureMap,
    /// Between what leaves the layer before and what a slot keeps: the mean of both, or as [`Pass::mixes`] says.
    Mean(usize),
}

/// What a network answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// Each image: logits are (N, outputs), features (N, D).
    Classes,
    /// Each pixel: logits are (N, outputs, H, W), as large as the images, features (N, D, h, w).
    Pixels,
}

/// Weight of a batch in the running statistics of a batch norm.
pub const MOMENTUM: f32 = 0.1;

/// What a network says about a batch.
#[derive(Clone, Debug)]
pub struct Output {
    /// φ(x), (N, D); of a network for pixels (N, D, h, w), where a stride makes h and w smaller than the images.
    pub features: Tensor,
    /// (N, outputs); of a network for pixels (N, outputs, H, W).
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

/// How a batch goes through layers.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// What batch norms go by.
    pub mode: Mode,
    /// Where values are taken on the way.
    pub taps: &'a [Tap],
    /// For each [`Layer::Mean`] in order a weight per channel, (C): what is kept counts as much, what arrives the rest. Empty for
    /// the mean everywhere.
    pub mixes: &'a [Tensor],
}

impl Pass<'_> {
    /// One that takes no values and mixes nothing.
    pub fn of(mode: Mode) -> Pass<'static> {
        Pass { mode, taps: &[], mixes: &[] }
    }
}

/// Applies layers to a batch (N, C, H, W): the last features and logits, and the values at the taps in their order. A value before
/// a fused ReLU costs a pass of its own.
///
/// # Errors
/// If `x` has another shape than the layers were built for, there is no such layer to tap, or there are other mixes than means.
pub fn forward(
    layers: &[Layer],
    x: &Tensor,
    parameters: &Parameters,
    statistics: &Statistics,
    pass: Pass,
) -> Result<(Output, Vec<Tensor>)> {
    let Pass { mode, taps, mixes } = pass;
    let mut mixes = mixes_of(layers, mixes)?;
    let mut tapped: Vec<Option<Tensor>> = vec![None; taps.len()];
    let (parameters, size) = (parameters.tensors(), x.shape());
    let (mut x, mut features) = (x.clone(), None);
    let mut slots: Vec<Option<Tensor>> = Vec::new();
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
                match split {
                    true => before.insert(y).relu()?,
                    false => y,
                }
            }
            Layer::Keep(slot) => {
                slots.resize(slots.len().max(slot + 1), None);
                slots[slot] = Some(x.clone());
                x
            }
            Layer::Feature => {
                let x = as_rows(x)?;
                features = Some(x.clone());
                x
            }
            Layer::FeatureMap => {
                features = Some(x.clone());
                x
            }
            Layer::Mean(slot) => mean_or_mix(&x, &kept(&slots, slot)?, mixes.next())?,
            ref plain => plain_layer(plain, &x, parameters, &slots, size)?,
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

/// The mixes of a pass in order: one for each mean, or none at all.
fn mixes_of<'a>(layers: &[Layer], mixes: &'a [Tensor]) -> Result<std::slice::Iter<'a, Tensor>> {
    let n_means = layers.iter().filter(|layer| matches!(layer, Layer::Mean(_))).count();
    match mixes.is_empty() || mixes.len() == n_means {
        true => Ok(mixes.iter()),
        false => Err(Error::op("forward", format!("{} mixes for {n_means} means", mixes.len()))),
    }
}

/// Between what arrives and what was kept.
fn mean_or_mix(x: &Tensor, kept: &Tensor, mix: Option<&Tensor>) -> Result<Tensor> {
    match mix {
        Some(mix) => x.lerp_channels(kept, mix),
        None => x.add(kept)?.scale(0.5),
    }
}

/// A layer without statistics, of what arrives and of what was kept; `size` is that of the images.
fn plain_layer(
    layer: &Layer,
    x: &Tensor,
    parameters: &[Tensor],
    slots: &[Option<Tensor>],
    size: Shape,
) -> Result<Tensor> {
    match *layer {
        Layer::Relu => x.relu(),
        Layer::MaxPool { size, stride, padding } => x.max_pool2d(size, stride, padding),
        Layer::GlobalAvgPool => x.global_avg_pool(),
        Layer::Linear { weight, bias } => x.linear(&parameters[weight], Some(&parameters[bias])),
        Layer::Resume(slot) => kept(slots, slot),
        Layer::Add(slot) => x.add(&kept(slots, slot)?),
        Layer::ImagePool => {
            let shape = x.shape();
            x.global_avg_pool()?.reshape([shape[0], shape[1], 1, 1])
        }
        Layer::Concat(ref parts) => {
            let parts: Result<Vec<Tensor>> = parts.iter().map(|&slot| kept(slots, slot)).collect();
            Tensor::concat_channels(&parts?.iter().collect::<Vec<_>>())
        }
        Layer::Resize(slot) => {
            let like = slot.map_or(Ok(size), |slot| kept(slots, slot).map(|kept| kept.shape()))?;
            let [.., height, width] = *like else { return Err(Error::op("forward", "bug: no map to resize to")) };
            x.resize_bilinear(height, width)
        }
        Layer::Conv { .. }
        | Layer::BatchNorm { .. }
        | Layer::Keep(_)
        | Layer::Feature
        | Layer::FeatureMap
        | Layer::Mean(_) => {
            unreachable!("bug: a layer that the forward pass does itself")
        }
    }
}

/// What a slot keeps for a shortcut.
fn kept(slots: &[Option<Tensor>], slot: usize) -> Result<Tensor> {
    slots.get(slot).cloned().flatten().ok_or_else(|| Error::op("forward", "bug: a slot is read before it is kept"))
}

/// A row per image.
fn as_rows(x: Tensor) -> Result<Tensor> {
    let (n, d) = x.shape().rows_cols();
    if x.shape().len() == 2 { Ok(x) } else { x.reshape([n, d]) }
}
