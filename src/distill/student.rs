//! A student as what a training works towards.

use super::Distiller;
use crate::error::Result;
use crate::models::Network;
use crate::nn::{Loss, Parameters};
use crate::ops::Mode;
use crate::optim::Optimizer;
use crate::tensor::Tensor;
use crate::training::{Objective, Step, Trainee};

/// A network that learns from labels and, if there is a distiller, from its teachers; what the scheme trains along is trained by
/// the same backward pass. A batch is images (N, C, H, W) and labels (N), u32.
pub struct Student<'a> {
    network: &'a Network,
    distiller: Option<&'a Distiller>,
    optimizer: Optimizer,
    /// What is trained along, with an optimiser of its own.
    along: Option<(&'a Parameters, Optimizer)>,
}

impl<'a> Student<'a> {
    /// A student whose parameters, and those of what is trained along, get optimisers from `optimizer`.
    ///
    /// # Errors
    /// Those of `optimizer`.
    pub fn new(
        network: &'a Network,
        distiller: Option<&'a Distiller>,
        optimizer: impl Fn(&Parameters) -> Result<Optimizer>,
    ) -> Result<Student<'a>> {
        let own = optimizer(&network.parameters)?;
        let along = distiller.and_then(Distiller::parameters);
        let along = along.map(|parameters| Ok((parameters, optimizer(parameters)?))).transpose()?;
        Ok(Student { network, distiller, optimizer: own, along })
    }
}

impl Objective for Student<'_> {
    type Batch = (Tensor, Tensor);

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        let own = Trainee { parameters: &self.network.parameters, optimizer: &mut self.optimizer };
        let along = self.along.as_mut().map(|(parameters, optimizer)| Trainee { parameters, optimizer });
        [own].into_iter().chain(along).collect()
    }

    fn loss(&mut self, (x, labels): (Tensor, Tensor), step: Step) -> Result<Loss> {
        match self.distiller {
            Some(distiller) => distiller.loss(self.network, &x, &labels, step.progress() as f32),
            None => {
                let logits = self.network.forward(&x, Mode::Train)?.logits;
                Ok(Loss::single("ce", logits.cross_entropy(&labels, self.network.n_outputs)?))
            }
        }
    }
}
