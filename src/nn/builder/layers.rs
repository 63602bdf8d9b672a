//! What each kind of layer makes of what arrives.

use super::{Builder, Fits, MOST_SLOTS, MOST_STEPS, NO_OUTPUTS, size_of};
use crate::nn::layer::Layer;
use crate::nn::layer_spec::Start;
use crate::nn::parameters::Init;
use crate::ops::{Conv2d, residual_fits};

impl Builder {
    pub(super) fn add_relu(&mut self) -> Fits<()> {
        let before = std::mem::take(&mut self.current);
        self.add(None, "ReLU".into(), 0, 0, Layer::Relu)?;
        for &place in &before {
            self.places[place].relu = Some(self.layers.len() - 1);
        }
        self.current = before;
        Ok(())
    }

    pub(super) fn add_keep(&mut self, slot: usize) -> Fits<()> {
        if slot >= MOST_SLOTS {
            return Err(format!("slot {slot}: the slots are 0 to {}", MOST_SLOTS - 1));
        }
        self.kept.resize(self.kept.len().max(slot + 1), None);
        self.kept[slot] = Some((self.shape, self.is_map));
        self.layers.push(Layer::Keep(slot));
        Ok(())
    }

    /// The mark of the feature, of so many numbers.
    pub(super) fn add_feature(&mut self, n: usize, mark: Layer) -> Fits<()> {
        if self.n_features > 0 {
            return Err("there is a feature already: a network has one".into());
        }
        self.n_features = n;
        self.layers.push(mark);
        self.add_name("features")
    }

    pub(super) fn add_max_pool(&mut self, size: usize, stride: usize, padding: usize) -> Fits<()> {
        let [c, h, w] = self.map()?;
        if size == 0 || size > h.min(w).saturating_add(padding.saturating_mul(2)) {
            return Err(format!("a map of {h}×{w} cannot be pooled by {size}"));
        }
        if padding > MOST_STEPS.min(size / 2) || stride == 0 {
            return Err("the stride is at least 1, and the padding at most half of the window".into());
        }
        let windows = |side: usize| (side + 2 * padding - size) / stride + 1;
        self.shape = [c, windows(h), windows(w)];
        let what = if stride == size { format!("max-pool {size}") } else { format!("max-pool {size} /{stride}") };
        self.add(None, what, 0, 0, Layer::MaxPool { size, stride, padding })
    }

    pub(super) fn add_concat(&mut self, slots: &[usize]) -> Fits<()> {
        let kept: Fits<Vec<_>> = slots.iter().map(|&slot| self.in_slot(slot)).collect();
        let kept = kept?;
        let Some(&([_, h, w], _)) = kept.first() else {
            return Err("\"slots\" is empty: name what is joined".into());
        };
        if kept.iter().any(|&([_, height, width], is_map)| !is_map || [height, width] != [h, w]) {
            return Err(format!("not all of the slots {slots:?} keep maps of {h}×{w}: give them one height and width"));
        }
        let shape = [kept.iter().map(|([c, ..], _)| c).sum(), h, w];
        size_of(&shape)?;
        (self.shape, self.is_map) = (shape, true);
        self.add(None, "concatenation".into(), 0, 0, Layer::Concat(slots.into()))
    }

    pub(super) fn add_resize(&mut self, slot: Option<usize>) -> Fits<()> {
        let [c, ..] = self.map()?;
        let ([_, h, w], is_map) = slot.map_or(Ok((self.input, true)), |slot| self.in_slot(slot))?;
        if !is_map {
            return Err("the slot keeps a vector, which has no height and width".into());
        }
        size_of(&[c, h, w])?;
        self.shape = [c, h, w];
        self.add(None, "bilinear resize".into(), 0, 0, Layer::Resize(slot))
    }

    pub(super) fn add_conv(
        &mut self,
        name: &str,
        out: usize,
        kernel: usize,
        geometry: Conv2d,
        bias: bool,
        init: Start,
    ) -> Fits<()> {
        let [c, h, w] = self.map()?;
        let Conv2d { stride, padding, dilation } = geometry;
        if let Some(large) = [kernel, stride, padding, dilation].into_iter().find(|&number| number > MOST_STEPS) {
            return Err(format!("{large}: kernel, stride, padding and dilation are at most {MOST_STEPS}"));
        }
        if [out, kernel, stride, dilation].contains(&0) {
            return Err("outputs, kernel, stride and dilation are at least 1".into());
        }
        let (Some(p), Some(q)) = (geometry.outputs(h, kernel), geometry.outputs(w, kernel)) else {
            return Err(format!("a {kernel}×{kernel} convolution does not fit a map of {h}×{w}"));
        };
        let shape = [out, p, q];
        let n = size_of(&shape)?;
        let fan_in = size_of(&[c, kernel * kernel])?;
        let weight =
            self.parameter(format!("{name}.weight"), &[out, c, kernel, kernel], weight_init(init, fan_in), true)?;
        let bias = match bias {
            true => Some(self.parameter(format!("{name}.bias"), &[out], bias_init(init, fan_in), false)?),
            false => None,
        };
        self.shape = shape;
        let n_parameters = out * (fan_in + usize::from(bias.is_some()));
        let mut what = format!("conv {kernel}×{kernel}");
        if stride > 1 {
            what += &format!(" /{stride}");
        }
        if dilation > 1 {
            what += &format!(" by {dilation}");
        }
        self.add(Some(name), what, n_parameters, n as u64 * fan_in as u64, Layer::Conv { weight, bias, geometry })
    }

    pub(super) fn add_batch_norm(&mut self, name: &str, residual: Option<usize>, relu: bool, epsilon: f32) -> Fits<()> {
        if !(epsilon > 0.0 && epsilon < 1.0) {
            return Err(format!("epsilon {epsilon}: a number between 0 and 1"));
        }
        let [c, h, w] = self.shape;
        if let Some(slot) = residual {
            let (kept, is_map) = self.in_slot(slot)?;
            let same = kept == self.shape && is_map == self.is_map;
            let [kept_c, kept_h, kept_w] = kept;
            let smaller = is_map && self.is_map && residual_fits(&[1, c, h, w], &[1, kept_c, kept_h, kept_w]);
            if !same && !smaller {
                return Err(format!(
                    "slot {slot} keeps {kept_c}×{kept_h}×{kept_w}, which cannot be added to {c}×{h}×{w}: give both the same \
                     shape, for example by a 1×1 convolution on the way of the slot"
                ));
            }
        }
        let weight = self.parameter(format!("{name}.weight"), &[c], Init::Constant(1.0), true)?;
        let bias = self.parameter(format!("{name}.bias"), &[c], Init::Constant(0.0), false)?;
        self.norms.push((name.into(), c));
        let parts =
            ["batch norm", if residual.is_some() { " + residual" } else { "" }, if relu { ", ReLU" } else { "" }];
        let running = self.norms.len() - 1;
        let layer = Layer::BatchNorm { weight, bias, running, residual, relu, epsilon };
        self.add(Some(name), parts.concat(), 2 * c, 0, layer)
    }

    pub(super) fn add_linear(
        &mut self,
        name: &str,
        expected: Option<usize>,
        outputs: Option<usize>,
        init: Start,
    ) -> Fits<()> {
        let n: usize = self.shape.iter().product();
        let Some(out) = outputs else {
            return Err(NO_OUTPUTS.into());
        };
        if let Some(expected) = expected.filter(|expected| *expected != n) {
            let [c, h, w] = self.shape;
            return Err(format!("it takes {expected} numbers, and {n} arrive ({c}×{h}×{w})"));
        }
        size_of(&[out])?;
        let weight = self.parameter(format!("{name}.weight"), &[out, n], weight_init(init, n), true)?;
        let bias = self.parameter(format!("{name}.bias"), &[out], bias_init(init, n), false)?;
        (self.shape, self.is_map) = ([out, 1, 1], false);
        self.add(Some(name), "linear".into(), out * (n + 1), n as u64 * out as u64, Layer::Linear { weight, bias })
    }
}

fn weight_init(init: Start, fan_in: usize) -> Init {
    match init {
        Start::Uniform => Init::Uniform(1.0 / (fan_in as f32).sqrt()),
        Start::He => Init::Normal((2.0 / fan_in as f32).sqrt()),
        Start::Normal => Init::Normal(1.0 / (fan_in as f32).sqrt()),
    }
}

fn bias_init(init: Start, fan_in: usize) -> Init {
    match init {
        Start::Uniform => weight_init(init, fan_in),
        Start::He | Start::Normal => Init::Constant(0.0),
    }
}
