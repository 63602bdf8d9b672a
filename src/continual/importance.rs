//! What EWC, SI and MAS share: importances of parameters, the values they are held at, and the quadratic penalty on both.

use super::{Learner, MethodState};
use crate::device::{self, Array, DType};
use crate::error::{Error, Result};
use crate::ops::{add_penalty_gradient, penalty};
use crate::settings::Setting;
use crate::tensor::Tensor;

/// Of quadratic penalties.
pub const PENALTY_WEIGHT: Setting = Setting::number(
    "penalty_weight",
    "WEIGHT",
    "λ of EWC and MAS, c of SI: what the quadratic penalty is multiplied with",
)
.usually("1");

/// Of importances that are measured on images.
pub const FISHER_SAMPLES: Setting =
    Setting::whole("fisher_samples", "N", "Images that importances are measured on, at most").usually("1000");

/// weight · Σ Ω_i (θ_i − θ*_i)² on the flat parameter vector.
pub(super) struct Quadratic {
    /// Ω.
    pub importance: Array,
    /// θ*.
    pub anchor: Array,
    /// The largest of Ω.
    pub largest: f32,
}

/// A vector of zeros as long as the parameters.
pub(super) fn zeros(learner: &Learner) -> Result<Array> {
    let values = learner.network.parameters.values();
    let zeros = Array::empty(&learner.device, values.shape(), DType::F32)?;
    device::fill(&zeros, 0.0)?;
    Ok(zeros)
}

/// A copy of the parameters.
pub(super) fn copied(learner: &Learner) -> Result<Array> {
    let values = learner.network.parameters.values();
    let copy = Array::empty(&learner.device, values.shape(), DType::F32)?;
    device::copy(values, &copy)?;
    Ok(copy)
}

impl Quadratic {
    /// No importance anywhere.
    pub fn none(learner: &Learner) -> Result<Quadratic> {
        Ok(Quadratic { importance: zeros(learner)?, anchor: copied(learner)?, largest: 0.0 })
    }

    /// Σ Ω (θ − θ*)², without a gradient.
    pub fn value(&self, learner: &Learner) -> Result<Tensor> {
        penalty(learner.network.parameters.values(), &self.anchor, &self.importance)
    }

    /// Adds the gradient of `weight` times that to the gradients of the loss.
    pub fn add_gradient(&self, learner: &Learner, weight: f32) -> Result<()> {
        let parameters = &learner.network.parameters;
        let gradients = parameters.gradients().ok_or_else(|| Error::op("penalty", "the parameters are frozen"))?;
        add_penalty_gradient(gradients, parameters.values(), &self.anchor, &self.importance, 2.0 * weight)
    }

    /// With what a task adds to Ω, held at the parameters as they are.
    pub fn raised(before: Option<Quadratic>, learner: &Learner, new: &[f32]) -> Result<Quadratic> {
        let mut quadratic = match before {
            Some(quadratic) => quadratic,
            None => Quadratic::none(learner)?,
        };
        let importance: Vec<f32> = quadratic.importance.to_vec()?.iter().zip(new).map(|(old, new)| old + new).collect();
        quadratic.set(&importance, &learner.network.parameters.values().to_vec()?)?;
        Ok(quadratic)
    }

    /// Replaces Ω and θ*.
    pub fn set(&mut self, importance: &[f32], anchor: &[f32]) -> Result<()> {
        self.largest = importance.iter().copied().fold(0.0, f32::max);
        self.importance.write(importance)?;
        self.anchor.write(anchor)
    }

    /// Bytes of Ω and θ*.
    pub fn bytes(&self) -> u64 {
        8 * self.importance.n_elements() as u64
    }

    /// For a checkpoint.
    pub fn state(&self) -> Result<Vec<(String, Vec<f32>)>> {
        Ok(vec![("importance".into(), self.importance.to_vec()?), ("anchor".into(), self.anchor.to_vec()?)])
    }

    /// What [`Quadratic::state`] said; `None` if it said nothing.
    pub fn restored(learner: &Learner, state: &mut MethodState) -> Result<Option<Quadratic>> {
        let (Some(importance), Some(anchor)) = (state.take("importance"), state.take("anchor")) else {
            return Ok(None);
        };
        let mut quadratic = Quadratic::none(learner)?;
        quadratic.set(&importance, &anchor)?;
        Ok(Some(quadratic))
    }
}
