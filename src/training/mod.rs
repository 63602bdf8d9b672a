//! Floor 5: the one training loop. A [`Trainer`] leads an [`Objective`] through the batches of a [`Plan`]: methods of continual
//! learning, students and teachers, plain cross-entropy, several networks at once. What is around a training (tasks, pairs of
//! students, seeds) and what becomes of its events lies above.

mod book;
mod clock;
mod events;
mod objective;
mod plan;
mod schedule;
mod seconds;
mod settings;

pub use book::TermRecord;
pub use clock::CheckpointClock;
pub use events::{Listener, Progress, Silent, Started};
pub use objective::{CrossEntropy, Objective, Trainee, learn};
pub use plan::{Log, Plan, Recipe, Step, batches_from};
pub use schedule::{Fall, Schedule, WarmUp};
pub use seconds::LoopSeconds;
pub use settings::{FallKind, HEAD_LR, LATER_LR, RESET_OPTIMIZER, TRAINING, training_recipe, within_epochs};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use book::Book;
use seconds::Laps;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// Steps between two times that losses are read.
const READ_EVERY: usize = 50;

/// What trainings share.
///
/// ```
/// use engram::models::Network;
/// use engram::optim::{Kind, Optimizer};
/// use engram::training::{CrossEntropy, Plan, Schedule, Silent, Trainer};
/// use engram::{Device, Tensor};
/// use std::sync::atomic::AtomicBool;
/// let device = Device::cpu();
/// let network = Network::new("mlp", [1, 4, 4], 2, &device, 1)?;
/// let optimizer = Optimizer::new(Kind::Adam, 0.9, 0.0, &network.parameters)?;
/// let x = Tensor::from_f32(&device, [2, 1, 4, 4], &[[0.0; 16], [1.0; 16]].concat())?;
/// let labels = Tensor::from_u32(&device, [2], &[0, 1])?;
///
/// let plan = Plan {
///     what: "an example".into(),
///     n_epochs: 50,
///     per_epoch: 1,
///     first_step: 0,
///     schedule: Schedule::constant(0.01),
///     log: None,
///     advice: "Use a smaller rate".into(),
/// };
/// let (mut listener, never) = (Silent, AtomicBool::new(false));
/// let mut trainer = Trainer::new(&device, &mut listener, &never);
/// let batches = std::iter::repeat((x, labels)).take(plan.n_steps());
/// let trained = trainer.run(&plan, batches, &mut CrossEntropy { network: &network, optimizer })?;
/// assert!(trained.loss.unwrap() < 0.01);
/// # Ok::<(), engram::Error>(())
/// ```
pub struct Trainer<'a, L: ?Sized> {
    /// Where they run.
    pub device: &'a Device,
    /// Told what happens.
    pub listener: &'a mut L,
    /// Ends a training between two steps.
    pub interrupted: &'a AtomicBool,
    /// Says when a checkpoint is due.
    pub checkpoints: CheckpointClock,
}

/// What is left of a training beside trained networks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trained {
    /// The loss of the last step; `None` if there was none.
    pub loss: Option<f32>,
    /// Where the time went.
    pub seconds: LoopSeconds,
}

impl<'a, L: Listener + ?Sized> Trainer<'a, L> {
    /// A trainer that begins now.
    pub fn new(device: &'a Device, listener: &'a mut L, interrupted: &'a AtomicBool) -> Trainer<'a, L> {
        Trainer { device, listener, interrupted, checkpoints: CheckpointClock::default() }
    }

    /// Trains to the last batch. `batches` begin with that of the plan's first step.
    ///
    /// # Errors
    /// [`Error::Interrupted`], once the objective has kept what it needs to go on; [`Error::Training`] if a loss or the weights are
    /// no longer numbers; those of the objective and of the device.
    pub fn run<O: Objective>(
        &mut self,
        plan: &Plan,
        batches: impl IntoIterator<Item = O::Batch>,
        objective: &mut O,
    ) -> Result<Trained> {
        let mut laps = Laps::new();
        let mut book = Book::new(self.device, plan);
        self.listener.training(&Started { what: plan.what.clone(), n_steps: plan.n_steps() });
        let mut latest: Option<(Step, Tensor)> = None;
        for (index, batch) in (plan.first_step..).zip(batches) {
            laps.end(|parts| &mut parts.loading);
            let step = plan.step(index);
            self.pause(step, &mut book, &laps.seconds, objective)?;
            laps.end(|parts| &mut parts.checkpoints);

            let loss = objective.loss(batch, step)?;
            let mut reads = index.is_multiple_of(READ_EVERY);
            if loss.0.is_empty() {
                reads = false;
            } else {
                let total = loss.total()?;
                book.note((&loss, &total), step, reads, objective)?;
                learn(objective, &total, plan.schedule.at(step))?;
                latest = Some((step, total.detach()));
            }
            drop(loss);
            objective.after_step()?;
            self.device.flush()?;
            if reads {
                // What a device still has to do is no part of reading a loss.
                self.device.synchronize()?;
            }
            laps.end(|parts| &mut parts.steps);

            let loss = if reads { book.read(objective)? } else { None };
            laps.end(|parts| &mut parts.logging);
            objective.measure(step)?;
            laps.end(|parts| &mut parts.evaluation);
            self.listener.progress(&Progress { epoch: step.epoch(), batch: index + 1, loss });
            laps.end(|parts| &mut parts.progress);
        }
        self.device.synchronize()?;
        laps.end(|parts| &mut parts.steps);
        let mut loss = None;
        if let Some((step, total)) = latest {
            book.note_total(&total, step, objective)?;
            loss = book.read(objective)?;
            book.check_weights(objective)?;
        }
        laps.end(|parts| &mut parts.logging);
        Ok(Trained { loss, seconds: laps.seconds })
    }

    /// Before a step: keeps what is needed to go on, if it is time for that, and ends the training, if that is wanted.
    fn pause(
        &mut self,
        step: Step,
        book: &mut Book,
        seconds: &LoopSeconds,
        objective: &mut impl Objective,
    ) -> Result<()> {
        let interrupted = self.interrupted.load(Relaxed);
        if interrupted || self.checkpoints.is_due() {
            let started = Instant::now();
            // What is kept includes every loss so far, and no weights that are no numbers.
            book.read(objective)?;
            objective.keep(step, seconds)?;
            self.checkpoints.written(started.elapsed());
        }
        if interrupted { Err(Error::Interrupted) } else { Ok(()) }
    }
}
