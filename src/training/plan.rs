//! What a training goes through: steps, epochs, batches, and what is written down of them.

use super::Schedule;
use crate::data::{self, Augment, Batch, Images, Loader};
use crate::error::Result;
use crate::nn::Parameters;
use crate::optim::{Decay, Kind, Optimizer, Velocity};
use serde::Serialize;
use std::sync::Arc;

/// Where a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Of the whole training, from 0.
    pub index: usize,
    /// Steps of an epoch.
    pub per_epoch: usize,
    /// Epochs of the whole training.
    pub n_epochs: usize,
}

impl Step {
    /// Of the whole training, from 0.
    pub fn epoch(self) -> usize {
        self.index / self.per_epoch
    }

    /// Of this epoch, from 0.
    pub fn batch(self) -> usize {
        self.index % self.per_epoch
    }

    /// Of the whole training.
    pub fn n_steps(self) -> usize {
        self.per_epoch * self.n_epochs
    }

    /// The part of the training that is over, in 0..1.
    pub fn progress(self) -> f64 {
        self.index as f64 / self.n_steps() as f64
    }
}

/// Which losses are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Those of each so-many-th step, from the first on; at least 1.
    pub every: usize,
    /// Whether with the gradient norm of each term, for which it takes a backward pass of its own.
    pub gradient_norms: bool,
}

/// The points that a curve needs.
const N_POINTS: usize = 20;
/// Losses are not written down less often.
const MOST_APART: usize = 50;

impl Log {
    /// Often enough for a curve over so many steps, and at least every 50.
    pub fn for_curve(n_steps: usize) -> Log {
        Log { every: (n_steps / N_POINTS).clamp(1, MOST_APART), gradient_norms: false }
    }
}

/// What a training goes through.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is trained: `task 2`.
    pub what: String,
    /// Passes over the batches.
    pub n_epochs: usize,
    /// Batches of a pass.
    pub per_epoch: usize,
    /// Above 0 where an interrupted training goes on.
    pub first_step: usize,
    /// The learning rate.
    pub schedule: Schedule,
    /// Which losses are written down, if any.
    pub log: Option<Log>,
    /// What a person can do if the training diverges, as a sentence.
    pub advice: String,
}

impl Plan {
    /// Of the whole training.
    pub fn n_steps(&self) -> usize {
        self.per_epoch * self.n_epochs
    }

    /// The step of this number.
    pub fn step(&self, index: usize) -> Step {
        Step { index, per_epoch: self.per_epoch, n_epochs: self.n_epochs }
    }
}

/// How a network is trained, on whatever images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recipe {
    /// Passes over the images.
    pub epochs: usize,
    /// Images per step.
    pub batch_size: usize,
    /// Whether a last batch that is not full is left out.
    pub drop_last: bool,
    /// The learning rate.
    pub schedule: Schedule,
    /// Which optimiser.
    pub optimizer: Kind,
    /// Of SGD, in 0..1.
    pub momentum: f32,
    /// What the velocity of SGD sums up.
    pub velocity: Velocity,
    /// λ of the L2 penalty, whose gradient is λ·w.
    pub weight_decay: f32,
    /// What the penalty acts on.
    pub decay: Decay,
}

impl Recipe {
    /// An optimiser for these parameters.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn optimizer(&self, parameters: &Parameters) -> Result<Optimizer> {
        let optimizer = Optimizer::new(self.optimizer, self.momentum, self.weight_decay, parameters)?;
        Ok(optimizer.decaying(self.decay).with_velocity(self.velocity))
    }

    /// The batches of all epochs. `first_epoch` is the number of those that the run has behind it.
    pub fn batches(
        &self,
        images: Arc<Images>,
        samples: Vec<u32>,
        label_of_class: Vec<u32>,
        augment: Augment,
        seed: u64,
        first_epoch: usize,
    ) -> data::Plan {
        data::Plan {
            images,
            samples: Arc::new(samples),
            label_of_class: Arc::new(label_of_class),
            batch_size: self.batch_size,
            seed,
            first_epoch: first_epoch as u64,
            n_epochs: self.epochs as u64,
            augment,
            drop_last: self.drop_last,
        }
    }

    /// A training over these batches.
    pub fn plan(&self, what: impl Into<String>, batches: &data::Plan) -> Plan {
        Plan {
            what: what.into(),
            n_epochs: self.epochs,
            per_epoch: batches.batches_per_epoch(),
            first_step: 0,
            schedule: self.schedule.clone(),
            log: None,
            advice: "Use a smaller learning rate".into(),
        }
    }
}

/// The batches from a step on, prepared ahead on a thread of their own.
///
/// # Errors
/// As [`Loader::new`].
pub fn batches_from(mut plan: data::Plan, first_step: usize) -> Result<impl Iterator<Item = Batch>> {
    let per_epoch = plan.batches_per_epoch().max(1);
    let n_done = (first_step / per_epoch) as u64;
    (plan.first_epoch, plan.n_epochs) = (plan.first_epoch + n_done, plan.n_epochs - n_done);
    Ok(Loader::new(plan)?.skip(first_step % per_epoch).map(|(_, batch)| batch))
}
