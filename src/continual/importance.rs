//! What EWC, SI and MAS share: importances of parameters, the values they are held at, and the quadratic penalty on both.

use super::{Held, Keep, Learner, Loss, MethodState};
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

/// weight · Σ Ω_i (θ_i − θ*_i)² on the flat parameter vector; nothing until something is held.
pub(super) struct Penalty {
    weight: f32,
    /// Importances above it count as this much.
    limit: Option<f32>,
    quadratic: Option<Quadratic>,
}

struct Quadratic {
    /// Ω.
    importance: Array,
    /// θ*.
    anchor: Array,
    /// The largest of Ω.
    largest: f32,
    /// Ω before it was limited; empty where it is not.
    unlimited: Vec<f32>,
    /// What the penalty is where θ = θ*, over its weight.
    constant: f32,
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

impl Penalty {
    /// No importance anywhere.
    pub fn new(weight: f32, limit: Option<f32>) -> Penalty {
        Penalty { weight, limit, quadratic: None }
    }

    /// The loss with the penalty, whose gradient is left to [`Penalty::add_gradient`].
    pub fn added_to(&self, loss: Loss, learner: &Learner) -> Result<Loss> {
        let Some(Quadratic { importance, anchor, constant, .. }) = &self.quadratic else { return Ok(loss) };
        let mut value = penalty(learner.network.parameters.values(), anchor, importance)?;
        if *constant > 0.0 {
            value = value.add(&Tensor::from_f32(&learner.device, [1], &[*constant])?)?;
        }
        Ok(loss.and("penalty", self.weight, value))
    }

    /// Adds its gradient to the gradients of the loss.
    pub fn add_gradient(&self, learner: &Learner) -> Result<()> {
        let Some(Quadratic { importance, anchor, .. }) = &self.quadratic else { return Ok(()) };
        let parameters = &learner.network.parameters;
        let gradients = parameters.gradients().ok_or_else(|| Error::op("penalty", "the parameters are frozen"))?;
        add_penalty_gradient(gradients, parameters.values(), anchor, importance, 2.0 * self.weight)
    }

    /// Its largest second derivative.
    pub fn stiffness(&self) -> Option<f32> {
        self.quadratic.as_ref().map(|quadratic| 2.0 * self.weight * quadratic.largest)
    }

    /// Ω, without its limit, and θ*; before anything is held, zeros and the parameters as they are.
    pub fn held(&self, learner: &Learner) -> Result<[Vec<f32>; 2]> {
        match &self.quadratic {
            Some(Quadratic { importance, anchor, unlimited, .. }) => {
                Ok([if unlimited.is_empty() { importance.to_vec()? } else { unlimited.clone() }, anchor.to_vec()?])
            }
            None => {
                let w = learner.network.parameters.values().to_vec()?;
                Ok([vec![0.0; w.len()], w])
            }
        }
    }

    /// Replaces Ω and θ*.
    pub fn hold(&mut self, learner: &Learner, mut importance: Vec<f32>, anchor: &[f32]) -> Result<()> {
        let mut unlimited = Vec::new();
        if let Some(limit) = self.limit {
            unlimited.clone_from(&importance);
            importance.iter_mut().for_each(|total| *total = total.min(limit));
        }
        let largest = importance.iter().copied().fold(0.0, f32::max);
        let (omega, theta) = (zeros(learner)?, zeros(learner)?);
        let kept = Quadratic { importance: omega, anchor: theta, largest, unlimited, constant: 0.0 };
        kept.importance.write(&importance)?;
        kept.anchor.write(anchor)?;
        self.quadratic = Some(kept);
        Ok(())
    }

    /// Adds Σ F (θ − θ*)² at the parameters θ* as they are to what is held, kept as one: Σ_t F_t (θ − θ*_t)² = A(θ − m)² + a
    /// constant, with A = Σ F_t and m = Σ F_t θ*_t / A.
    pub fn add(&mut self, learner: &Learner, new: &[f32]) -> Result<()> {
        let mut constant = self.quadratic.as_ref().map_or(0.0, |quadratic| f64::from(quadratic.constant));
        let w = learner.network.parameters.values().to_vec()?;
        let [mut importance, mut anchor] = self.held(learner)?;
        for (((a, m), &f), &w) in importance.iter_mut().zip(&mut anchor).zip(new).zip(&w) {
            if f != 0.0 {
                let share = f / (*a + f);
                constant += f64::from(*a * share) * f64::from(w - *m).powi(2);
                *a += f;
                *m += share * (w - *m);
            }
        }
        self.hold(learner, importance, &anchor)?;
        if let Some(quadratic) = &mut self.quadratic {
            quadratic.constant = constant as f32;
        }
        Ok(())
    }

    /// Adds to Ω, held at the parameters as they are.
    pub fn raise(&mut self, learner: &Learner, new: &[f32]) -> Result<()> {
        let [old, _] = self.held(learner)?;
        let importance: Vec<f32> = old.iter().zip(new).map(|(old, new)| old + new).collect();
        self.hold(learner, importance, &learner.network.parameters.values().to_vec()?)
    }
}

impl Keep for Penalty {
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()> {
        let Some(quadratic) = &self.quadratic else { return Ok(()) };
        state.put(format!("{name}.importance"), quadratic.importance.to_vec()?);
        state.put(format!("{name}.anchor"), quadratic.anchor.to_vec()?);
        if !quadratic.unlimited.is_empty() {
            state.put(format!("{name}.unlimited"), quadratic.unlimited.clone());
        }
        state.put(format!("{name}.constant"), vec![quadratic.constant]);
        Ok(())
    }

    fn load(&mut self, name: &str, learner: &Learner, state: &mut MethodState) -> Result<()> {
        self.quadratic = None;
        let Some(limited) = state.take(&format!("{name}.importance")) else { return Ok(()) };
        let importance = state.take(&format!("{name}.unlimited")).unwrap_or(limited);
        self.hold(learner, importance, &state.need(&format!("{name}.anchor"))?)?;
        if let Some(quadratic) = &mut self.quadratic {
            let constant = state.need(&format!("{name}.constant"))?;
            quadratic.constant =
                constant.first().copied().ok_or_else(|| Error::op("penalty", "its constant is missing"))?;
        }
        Ok(())
    }

    fn count(&self, _learner: &Learner, held: &mut Held) {
        if let Some(Quadratic { importance, unlimited, .. }) = &self.quadratic {
            held.importance += 8 * importance.n_elements() as u64 + 4 * unlimited.len() as u64;
        }
    }
}
