//! A student as what a training works towards.

use super::Companions;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::nn::{Loss, Parameters};
use crate::ops::Mode;
use crate::optim::Optimizer;
use crate::tensor::Tensor;
use crate::training::{Objective, Schedule, Step, Trainee};

/// A network that learns from labels and, if it has companions, with them; what is trained beside it is trained by the same
/// backward pass, or each in its turn. A batch is images (N, C, H, W) and labels (N), u32.
pub struct Student<'a> {
    network: &'a Network,
    companions: Option<&'a dyn Companions>,
    /// The network's own first, then those of what is trained beside it.
    trained: Vec<(&'a Parameters, Optimizer)>,
    /// For steps in turns.
    schedule: Option<Schedule>,
}

impl<'a> Student<'a> {
    /// A student whose parameters, and those of what is trained beside it, get optimisers from `optimizer`.
    ///
    /// # Errors
    /// Those of `optimizer`.
    pub fn new(
        network: &'a Network,
        companions: Option<&'a dyn Companions>,
        optimizer: impl Fn(&Parameters) -> Result<Optimizer>,
    ) -> Result<Student<'a>> {
        let along = companions.map(Companions::along).unwrap_or_default();
        let all = std::iter::once(&network.parameters).chain(along);
        let trained = all.map(|parameters| Ok((parameters, optimizer(parameters)?))).collect::<Result<Vec<_>>>()?;
        Ok(Student { network, companions, trained, schedule: None })
    }

    /// With the learning rate of companions that learn in turns; all others go by the plan of the training.
    pub fn in_turns_at(self, schedule: Schedule) -> Student<'a> {
        Student { schedule: Some(schedule), ..self }
    }

    /// How many take a step of their own on each batch.
    fn n_turns(&self) -> usize {
        if self.companions.is_some_and(Companions::in_turns) { self.trained.len() } else { 1 }
    }
}

impl Objective for Student<'_> {
    type Batch = (Tensor, Tensor);

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        // In turns, all but the last have had theirs when a loss is handed out.
        let n_done = self.n_turns() - 1;
        let rest = self.trained.iter_mut().skip(n_done);
        rest.map(|(parameters, optimizer)| Trainee { parameters, optimizer }).collect()
    }

    fn loss(&mut self, (x, labels): (Tensor, Tensor), step: Step) -> Result<Loss> {
        let Some(companions) = self.companions else {
            let logits = self.network.forward(&x, Mode::Train)?.logits;
            return Ok(Loss::single("ce", logits.cross_entropy(&labels, self.network.n_outputs)?));
        };
        if !companions.in_turns() {
            return companions.loss(self.network, &x, &labels, step);
        }
        let Some(schedule) = &self.schedule else {
            return Err(Error::op("student", "steps in turns need the learning rate: Student::in_turns_at"));
        };
        let (last, lr) = (self.trained.len() - 1, schedule.at(step));
        for (i, (parameters, optimizer)) in self.trained.iter_mut().enumerate().take(last) {
            let loss = companions.turn(i, self.network, &x, &labels, step)?.total()?;
            Trainee { parameters, optimizer }.learn(&loss, lr)?;
        }
        companions.turn(last, self.network, &x, &labels, step)
    }
}
