//! All parameters of a model in one flat buffer, their gradients in a second.
//!
//! Each parameter is a 256-byte aligned slice; the padding is zero and stays zero. Parameters with weight decay form a
//! prefix. So an optimiser step, a copy of the old network, a penalty, a checkpoint are one kernel or one copy.

use crate::device::{self, Array, DType, Device, Precision};
use crate::error::{Error, Result};
use crate::ops::GradientScale;
use crate::rng::{Purpose, Rng};
use crate::shape::Shape;
use crate::tensor::{Gradients, Tensor};

/// Words between starts of slices.
const ALIGNMENT: usize = 64;

/// A parameter before it has a place.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// As PyTorch would name it, for example `conv1.weight`.
    pub name: String,
    /// One to four axes.
    pub shape: Shape,
    /// Its values before training.
    pub init: Init,
    /// True if weight decay acts on it.
    pub decay: bool,
}

/// How a parameter's initial values are drawn.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    /// Uniform in ±bound.
    Uniform(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// All the same.
    Constant(f32),
}

impl Init {
    fn draw(self, rng: &mut Rng) -> f32 {
        match self {
            Init::Uniform(bound) => rng.range(-bound, bound),
            Init::Normal(std) => std * rng.normal(),
            Init::Constant(value) => value,
        }
    }
}

/// The parameters of a model.
///
/// ```
/// use engram::nn::{Init, Parameter, Parameters};
/// use engram::{Device, Tensor};
/// let init = Init::Uniform(1.0);
/// let entry = |name: &str, n: usize| Parameter { name: name.into(), shape: [n].into(), init, decay: true };
/// let parameters = Parameters::new(&Device::cpu(), vec![entry("w", 3), entry("unused", 2)], 1)?;
/// parameters.set("w", &[3], &[1.0, 2.0, 3.0])?;
///
/// let w = &parameters.tensors()[0];
/// parameters.backward(&w.mul(w)?.sum()?)?;
/// let flat = parameters.gradients().unwrap().to_vec()?;
/// assert_eq!(flat[..4], [2.0, 4.0, 6.0, 0.0]); // 2w, then padding
/// assert_eq!(flat[64..66], [0.0, 0.0]); // each parameter starts 256-byte aligned
///
/// let old = parameters.snapshot()?; // a frozen copy
/// parameters.set("w", &[3], &[0.0; 3])?;
/// assert_eq!(old.tensors()[0].to_vec()?, [1.0, 2.0, 3.0]);
/// # Ok::<(), engram::Error>(())
/// ```
pub struct Parameters {
    device: Device,
    entries: Vec<Parameter>,
    /// Where each parameter starts, in words.
    offsets: Vec<usize>,
    values: Array,
    gradients: Option<Array>,
    /// Where products are computed from f16.
    scale: Option<GradientScale>,
    tensors: Vec<Tensor>,
    n_decayed: usize,
}

impl Parameters {
    /// Lays out and initialises parameters. The initial values of a parameter depend on the seed and on its position in
    /// the list alone.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn new(device: &Device, entries: Vec<Parameter>, seed: u64) -> Result<Parameters> {
        let padded = |entry: &Parameter| entry.shape.n_elements().next_multiple_of(ALIGNMENT);
        let n_decayed = entries.iter().filter(|entry| entry.decay).map(padded).sum();
        let (mut next_decayed, mut next_other) = (0, n_decayed);
        let mut offsets = Vec::new();
        for entry in &entries {
            let next = if entry.decay { &mut next_decayed } else { &mut next_other };
            offsets.push(*next);
            *next += padded(entry);
        }
        let mut values = vec![0.0; next_other];
        for (i, (entry, &offset)) in entries.iter().zip(&offsets).enumerate() {
            let mut rng = Rng::keyed(seed, Purpose::Init, i as u64);
            for value in &mut values[offset..offset + entry.shape.n_elements()] {
                *value = entry.init.draw(&mut rng);
            }
        }
        let values = Array::from_f32(device, [values.len()], &values)?;
        let gradients = Array::empty(device, values.shape(), DType::F32)?;
        device::fill(&gradients, 0.0)?;
        Self::over(device.clone(), entries, offsets, values, Some(gradients), n_decayed)
    }

    fn over(
        device: Device,
        entries: Vec<Parameter>,
        offsets: Vec<usize>,
        values: Array,
        gradients: Option<Array>,
        n_decayed: usize,
    ) -> Result<Parameters> {
        let mut tensors = Vec::new();
        for (entry, &offset) in entries.iter().zip(&offsets) {
            let value = values.slice(offset, entry.shape)?;
            tensors.push(match &gradients {
                Some(gradients) => Tensor::parameter(value, gradients.slice(offset, entry.shape)?),
                None => Tensor::constant(value),
            });
        }
        let scaled = gradients.is_some() && device.precision() != Precision::Full;
        let scale = if scaled { Some(GradientScale::new(&device)?) } else { None };
        Ok(Parameters { device, entries, offsets, values, gradients, scale, tensors, n_decayed })
    }

    /// A frozen copy: the same values, without gradients.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn snapshot(&self) -> Result<Parameters> {
        let values = Array::empty(&self.device, self.values.shape(), DType::F32)?;
        device::copy(&self.values, &values)?;
        Self::over(self.device.clone(), self.entries.clone(), self.offsets.clone(), values, None, self.n_decayed)
    }

    /// The parameters in order of declaration.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// All values, with padding: (words).
    pub fn values(&self) -> &Array {
        &self.values
    }

    /// All gradients, laid out like the values; `None` for a frozen copy.
    pub fn gradients(&self) -> Option<&Array> {
        self.gradients.as_ref()
    }

    /// The scale of the loss in a backward pass, where products are computed from f16.
    pub fn gradient_scale(&self) -> Option<&GradientScale> {
        self.scale.as_ref()
    }

    /// Words at the start on which weight decay acts.
    pub fn n_decayed(&self) -> usize {
        self.n_decayed
    }

    /// Number of parameters, without padding.
    pub fn n_parameters(&self) -> usize {
        self.entries.iter().map(|entry| entry.shape.n_elements()).sum()
    }

    /// Bytes of the flat buffer.
    pub fn bytes(&self) -> u64 {
        4 * self.values.n_elements() as u64
    }

    /// Writes the gradient of `loss` into the flat gradient buffer: [`backward`] for one set of parameters.
    ///
    /// # Errors
    /// As [`backward`].
    pub fn backward(&self, loss: &Tensor) -> Result<()> {
        backward(loss, &[self])
    }

    /// The same for ⟨`cotangent`, `output`⟩, without a scale.
    ///
    /// # Errors
    /// As [`Parameters::backward`], and if the shapes differ.
    pub fn backward_with(&self, output: &Tensor, cotangent: Array) -> Result<()> {
        self.receive(&output.backward_with(cotangent)?)
    }

    /// Takes what a backward pass found out about these parameters. What they have a part in lies in their buffer already; the
    /// slice of a parameter that the pass did not reach still holds an older gradient, and is zeroed here. A pass that several
    /// sets of parameters have a part in must be received by each.
    ///
    /// # Errors
    /// If the parameters are frozen.
    pub fn receive(&self, gradients: &Gradients) -> Result<()> {
        let Some(flat) = &self.gradients else {
            return Err(Error::op("backward", "the parameters are frozen"));
        };
        for ((tensor, entry), &offset) in self.tensors.iter().zip(&self.entries).zip(&self.offsets) {
            if gradients.get(tensor).is_none() {
                device::fill(&flat.slice(offset, entry.shape)?, 0.0)?;
            }
        }
        Ok(())
    }

    /// Names, shapes and host copies of all values, in order of declaration.
    ///
    /// # Errors
    /// If the adapter was lost.
    pub fn to_host(&self) -> Result<Vec<(&str, Shape, Vec<f32>)>> {
        let all = self.values.to_vec()?;
        let entries = self.entries.iter().zip(&self.offsets);
        Ok(entries
            .map(|(entry, &offset)| {
                let values = all[offset..offset + entry.shape.n_elements()].to_vec();
                (entry.name.as_str(), entry.shape, values)
            })
            .collect())
    }

    /// Brings everything but the last layer's outputs from number `n_kept` on back to the values of a copy. The last layer
    /// is the last weight (outputs, D) and the last bias (outputs).
    pub fn restore_all_but_outputs(&self, copy: &Parameters, n_kept: usize) -> Result<()> {
        let last = |decay: bool| self.entries.iter().rposition(|entry| entry.decay == decay);
        for (decay, start) in [(true, 0), (false, self.n_decayed)] {
            let Some(i) = last(decay) else { continue };
            let (outputs, width) = self.entries[i].shape.rows_cols();
            let n = self.offsets[i] - start + n_kept.min(outputs) * width;
            if n > 0 {
                device::copy(&copy.values.slice(start, [n])?, &self.values.slice(start, [n])?)?;
            }
        }
        Ok(())
    }

    /// What was declared, in order, and where each begins in the flat buffer, in words.
    pub fn places(&self) -> impl Iterator<Item = (&Parameter, usize)> {
        self.entries.iter().zip(self.offsets.iter().copied())
    }

    /// Where the last layer begins in the flat buffer: its weight, the last of those that decay, and its bias, the last of the
    /// others, if there is one. Both reach to the end of their kind.
    pub fn last_layer(&self) -> (usize, Option<usize>) {
        let last = |decay: bool| {
            let i = self.entries.iter().rposition(|entry| entry.decay == decay)?;
            Some(self.offsets[i])
        };
        (last(true).unwrap_or(0), last(false))
    }

    /// Sets the gradients of the last layer to 0.
    ///
    /// # Errors
    /// If the parameters are frozen.
    pub fn clear_last_layer_gradients(&self) -> Result<()> {
        let gradients = self.gradients().ok_or_else(|| Error::op("gradients", "the parameters are frozen"))?;
        let (weight, bias) = self.last_layer();
        for (entry, start) in self.places().filter(|(_, start)| *start == weight || Some(*start) == bias) {
            device::fill(&gradients.slice(start, entry.shape)?, 0.0)?;
        }
        Ok(())
    }

    /// Host copies of all gradients, in order of declaration.
    ///
    /// # Errors
    /// If the parameters are frozen.
    pub fn gradients_to_host(&self) -> Result<Vec<Vec<f32>>> {
        let gradients = self.gradients.as_ref().ok_or_else(|| Error::op("gradients", "the parameters are frozen"))?;
        let all = gradients.to_vec()?;
        let slices = self.entries.iter().zip(&self.offsets);
        Ok(slices.map(|(entry, &offset)| all[offset..offset + entry.shape.n_elements()].to_vec()).collect())
    }

    /// Overwrites the parameter of this name.
    ///
    /// # Errors
    /// If there is none, or its shape is another.
    pub fn set(&self, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        let Some(i) = self.entries.iter().position(|entry| entry.name == name) else {
            return Err(Error::usage(format!("the model has no parameter '{name}'")));
        };
        let own = self.entries[i].shape;
        if *own != *shape {
            return Err(Error::usage(format!("'{name}' has shape {shape:?} in the file and {own} in the model")));
        }
        self.tensors[i].array().write(values)
    }
}

/// Writes the gradient of `loss` into the flat gradient buffer of each set of parameters, by one backward pass; a parameter that
/// the loss does not depend on gets zeros.
///
/// On a device that computes products from f16 ([`Precision`]) the loss is multiplied by a power of two on the way, and the
/// gradients are divided by it at the end: what is in the buffers is the gradient, exactly. If something overflowed anywhere, its
/// gradient is 0, the next step is skipped, and the power halves; after 2,000 steps without that it doubles. The device keeps
/// count, and nothing is read back. The scale is that of the first set that has one, for all of them.
///
/// # Errors
/// If `loss` is no single number or depends on no parameter, or a set of parameters is frozen.
pub fn backward(loss: &Tensor, all: &[&Parameters]) -> Result<()> {
    let scale = all.iter().find_map(|parameters| parameters.gradient_scale()).filter(|_| loss.n_elements() == 1);
    let gradients = match scale {
        Some(scale) => loss.backward_with(scale.cotangent(loss.shape())?)?,
        None => loss.backward()?,
    };
    for parameters in all {
        parameters.receive(&gradients)?;
        if let (Some(scale), Some(gradients)) = (scale, parameters.gradients()) {
            scale.unscale(gradients)?;
        }
    }
    Ok(())
}
