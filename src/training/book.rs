//! Losses are written down on the device and read together, a few dozen steps at a time: reading waits for everything that the
//! device still has to do. Where they are read, divergence is noticed.

use super::{Objective, Plan, Step};
use crate::device::{self, Array, DType, Device};
use crate::error::{Error, Result};
use crate::nn::Loss;
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// A term of a loss as it was written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermRecord {
    /// Of the training, from 0.
    pub step: usize,
    /// From 0.
    pub epoch: usize,
    /// Its name; terms of several layers share one.
    pub term: String,
    /// What the value is multiplied with in the loss.
    pub weight: f32,
    /// Without the weight.
    #[serde(with = "exact")]
    pub value: f32,
    /// ‖weight · ∂value/∂θ‖₂ over the parameters of the first trainee, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "exact_if_known")]
    pub gradient_norm: Option<f32>,
}

/// Numbers of which infinities come back too: JSON has none, so those are text.
mod exact {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Read {
        Number(f64),
        Text(String),
    }

    pub fn serialize<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
        match value.is_finite() {
            true => serializer.serialize_f64(f64::from(*value)),
            false => serializer.collect_str(value),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
        match Read::deserialize(deserializer)? {
            Read::Number(value) => Ok(value as f32),
            Read::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

/// The same where there may be none.
mod exact_if_known {
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::exact::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
        super::exact::deserialize(deserializer).map(Some)
    }
}

/// Words between numbers, so that each can be bound by itself.
const APART: usize = 64;
/// Numbers that are kept unread; more where a single loss has more.
const ROOM: usize = 256;

enum What {
    /// Of the whole loss.
    Total,
    /// Of a term without its weight; `is_total` if it is the whole loss, too.
    Value { term: &'static str, weight: f32, is_total: bool },
    /// The square of the gradient norm of the term before.
    SquaredNorm,
}

/// What is written down of a training and not read yet.
pub(super) struct Book<'a> {
    device: &'a Device,
    plan: &'a Plan,
    /// Number i is at word 64·i.
    numbers: Option<Array>,
    entries: Vec<(Step, What)>,
}

impl<'a> Book<'a> {
    pub fn new(device: &'a Device, plan: &'a Plan) -> Book<'a> {
        Book { device, plan, numbers: None, entries: Vec::new() }
    }

    /// Writes down the terms of a loss, if they are wanted of this step, and their sum, if that is to be read soon. Gradients are
    /// overwritten.
    pub fn note(
        &mut self,
        (loss, total): (&Loss, &Tensor),
        step: Step,
        read_soon: bool,
        objective: &mut impl Objective,
    ) -> Result<()> {
        let log = self.plan.log.filter(|log| step.index.is_multiple_of(log.every));
        let Some(log) = log else {
            return if read_soon { self.note_total(total, step, objective) } else { Ok(()) };
        };
        self.make_room(2 * loss.0.len() + 1, objective)?;
        let is_total = loss.0.len() == 1 && loss.0[0].weight == 1.0;
        if !is_total {
            self.write(total, step, What::Total)?;
        }
        for term in &loss.0 {
            let what = What::Value { term: term.name, weight: term.weight, is_total };
            self.write(&term.value, step, what)?;
            if log.gradient_norms {
                let trainees = objective.trainees();
                let parameters = trainees[0].parameters;
                parameters.backward(&term.weighted()?)?;
                let gradients = parameters.gradients().expect("bug: frozen parameters had a backward pass").clone();
                let gradients = Tensor::constant(gradients);
                self.write(&gradients.mul(&gradients)?.sum()?, step, What::SquaredNorm)?;
            }
        }
        Ok(())
    }

    /// Writes down a whole loss.
    pub fn note_total(&mut self, total: &Tensor, step: Step, objective: &mut impl Objective) -> Result<()> {
        self.make_room(1, objective)?;
        self.write(total, step, What::Total)
    }

    fn make_room(&mut self, n: usize, objective: &mut impl Objective) -> Result<()> {
        let room = self.numbers.as_ref().map_or(0, |numbers| numbers.n_elements() / APART);
        if self.entries.len() + n > room {
            self.read(objective)?;
        }
        if n > room {
            self.numbers = Some(Array::empty(self.device, [n.max(ROOM) * APART], DType::F32)?);
        }
        Ok(())
    }

    fn write(&mut self, value: &Tensor, step: Step, what: What) -> Result<()> {
        let numbers = self.numbers.as_ref().expect("bug: no room was made");
        device::copy(value.array(), &numbers.slice(self.entries.len() * APART, value.shape())?)?;
        self.entries.push((step, what));
        Ok(())
    }

    /// Reads what was written down, tells the objective of terms, and returns the last loss.
    ///
    /// # Errors
    /// [`Error::Training`] if a loss is no number: training has diverged.
    pub fn read(&mut self, objective: &mut impl Objective) -> Result<Option<f32>> {
        let entries = std::mem::take(&mut self.entries);
        let Some(numbers) = self.numbers.as_ref().filter(|_| !entries.is_empty()) else { return Ok(None) };
        let numbers = numbers.slice(0, [entries.len() * APART])?.to_vec()?;
        let mut numbers = numbers.into_iter().step_by(APART);
        let mut last = None;
        let mut entries = entries.into_iter().peekable();
        while let (Some((step, what)), Some(value)) = (entries.next(), numbers.next()) {
            if let What::Total | What::Value { is_total: true, .. } = what {
                last = Some(self.finite(value, step)?);
            }
            if let What::Value { term, weight, .. } = what {
                let has_norm = entries.next_if(|(_, next)| matches!(next, What::SquaredNorm)).is_some();
                let gradient_norm = if has_norm { numbers.next().map(f32::sqrt) } else { None };
                let (epoch, step, term) = (step.epoch(), step.index, term.into());
                objective.record(TermRecord { step, epoch, term, weight, value, gradient_norm });
            }
        }
        Ok(last)
    }

    fn finite(&self, loss: f32, step: Step) -> Result<f32> {
        if loss.is_finite() {
            return Ok(loss);
        }
        let (epoch, batch) = (step.epoch() + 1, step.index + 1);
        Err(self.diverged(&format!("the loss is {loss} in epoch {epoch}, step {batch}")))
    }

    /// The loss is read before the step it leads to: the last step may still have broken the weights.
    pub fn check_weights(&self, objective: &mut impl Objective) -> Result<()> {
        for trainee in objective.trainees() {
            let weights = Tensor::constant(trainee.parameters.values().clone());
            if !weights.sum()?.item()?.is_finite() {
                return Err(self.diverged("the weights are no longer numbers after the last step"));
            }
        }
        Ok(())
    }

    fn diverged(&self, how: &str) -> Error {
        let Plan { what, advice, .. } = self.plan;
        Error::Training(format!("training diverged ({what}): {how}. {advice}"))
    }
}

#[cfg(test)]
mod tests {
    use super::TermRecord;

    #[test]
    fn logged_losses_come_back_to_the_bit() {
        for value in [0.1f32, 1e-45, f32::MAX, -0.0, f32::INFINITY, f32::NEG_INFINITY, 1.0 / 3.0] {
            for gradient_norm in [None, Some(value)] {
                let row = TermRecord { step: 3, epoch: 2, term: "ce".into(), weight: 0.1, value, gradient_norm };
                let text = serde_json::to_string(&row).unwrap();
                let back: TermRecord = serde_json::from_str(&text).unwrap();
                let bits = |x: &TermRecord| [x.weight, x.value, x.gradient_norm.unwrap_or(0.0)].map(f32::to_bits);
                assert_eq!(
                    (bits(&back), back.gradient_norm.is_some()),
                    (bits(&row), row.gradient_norm.is_some()),
                    "{text}"
                );
            }
        }
    }
}
