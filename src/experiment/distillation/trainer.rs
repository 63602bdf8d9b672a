//! The loop that trains one network on one set of images, a teacher or a student.

use super::results::{DistillResults, TermRecord};
use crate::continual::Learner;
use crate::data::{Augmentation, Loader, Plan};
use crate::device::Device;
use crate::distill::Distiller;
use crate::error::{Error, Result};
use crate::nn::{Loss, Parameters};
use crate::ops::Mode;
use crate::optim::{Optimizer, TrainingSettings};
use crate::tensor::Tensor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// Steps between read-backs of the loss.
const LOSS_INTERVAL: usize = 50;
/// How often the terms of a loss are written down, in a whole training.
const N_RECORDS: usize = 10;

/// A training begins.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmStarted {
    /// Whose, such as `distilled, seed 2`.
    pub what: String,
    /// Steps of the optimiser.
    pub n_steps: usize,
}

/// Listens to a distillation. Every event may be ignored.
pub trait Watch {
    /// A training begins.
    fn training(&mut self, _started: &ArmStarted) {}
    /// Steps that are done; the loss where it was read.
    fn step(&mut self, _done: usize, _loss: Option<f32>) {}
    /// The teachers are there, and the students of an earlier attempt.
    fn teachers_ready(&mut self, _results: &DistillResults) {}
    /// A student is trained and measured, and written if there is a folder.
    fn student_finished(&mut self, _results: &DistillResults) {}
}

/// Ignores everything.
pub struct Quiet;

impl Watch for Quiet {}

/// What trainings share.
pub struct Trainer<'a> {
    /// Where they run.
    pub device: &'a Device,
    /// Random changes of images.
    pub augment: Augmentation,
    /// Told what happens.
    pub watch: &'a mut dyn Watch,
    /// Ends a training between two steps.
    pub interrupted: &'a AtomicBool,
    /// Of all trainings so far.
    pub terms: Vec<TermRecord>,
}

/// One training.
pub(super) struct Job<'a> {
    pub learner: &'a Learner,
    pub samples: Arc<Vec<u32>>,
    pub recipe: &'a TrainingSettings,
    pub seed: u64,
    pub distiller: Option<&'a Distiller>,
    pub fraction: f64,
}

impl<'a> Trainer<'a> {
    /// With nothing done yet.
    pub fn new(
        device: &'a Device,
        augment: Augmentation,
        watch: &'a mut dyn Watch,
        interrupted: &'a AtomicBool,
    ) -> Trainer<'a> {
        Trainer { device, augment, watch, interrupted, terms: Vec::new() }
    }

    /// Trains to the last epoch and returns the seconds it took.
    pub(super) fn train(&mut self, what: &str, job: &Job) -> Result<f64> {
        let Job { learner, recipe, distiller, .. } = *job;
        let network = &learner.network;
        let n_classes = network.n_outputs as u32;
        let plan = Plan {
            images: learner.images(),
            samples: job.samples.clone(),
            label_of_class: Arc::new((0..n_classes).collect()),
            batch_size: recipe.batch_size,
            seed: job.seed,
            first_epoch: 0,
            n_epochs: recipe.epochs as u64,
            augment: self.augment.into(),
            drop_last: false,
        };
        let n_steps = plan.batches_per_epoch() * recipe.epochs;
        let optimizer = |parameters: &Parameters| {
            Optimizer::new(recipe.optimizer, recipe.momentum, recipe.weight_decay, parameters)
        };
        let mut own = optimizer(&network.parameters)?;
        // A regressor is trained like the student, by the same backward pass.
        let mut along =
            distiller.and_then(Distiller::parameters).map(|p| Ok::<_, Error>((p, optimizer(p)?))).transpose()?;
        self.watch.training(&ArmStarted { what: what.into(), n_steps });
        let started = Instant::now();
        let mut latest = None;
        for (step, (epoch, images)) in Loader::new(plan)?.enumerate() {
            if self.interrupted.load(Relaxed) {
                return Err(Error::Interrupted);
            }
            let x = learner.input(&images)?;
            let labels = Tensor::from_u32(self.device, [images.len()], &images.labels)?;
            let progress = step as f64 / n_steps as f64;
            let loss = match distiller {
                Some(distiller) => distiller.loss(network, &x, &labels, progress as f32)?,
                None => {
                    let logits = network.forward(&x, Mode::Train)?.logits;
                    Loss::single("ce", logits.cross_entropy(&labels, n_classes as usize)?)
                }
            };
            if distiller.is_some() && step % n_steps.div_ceil(N_RECORDS) == 0 {
                self.record(job, &loss, step, epoch as usize)?;
            }
            let loss = loss.total()?;
            network.parameters.backward(&loss)?;
            if let Some((parameters, _)) = &along {
                parameters.follow(&network.parameters)?;
            }
            let lr = recipe.course().at(recipe.lr, progress);
            own.step(&network.parameters, lr)?;
            if let Some((parameters, optimizer)) = &mut along {
                optimizer.step(parameters, lr)?;
            }
            self.device.flush()?;
            let read = step % LOSS_INTERVAL == 0;
            self.watch.step(step + 1, if read { Some(read_loss(&loss, what, step)?) } else { None });
            latest = Some((step, loss.detach()));
        }
        if let Some((step, loss)) = latest {
            read_loss(&loss, what, step)?;
        }
        self.device.synchronize()?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Writes down value, weight and gradient norm of each term.
    fn record(&mut self, job: &Job, loss: &Loss, step: usize, epoch: usize) -> Result<()> {
        let parameters = &job.learner.network.parameters;
        for term in &loss.0 {
            parameters.backward(&term.weighted()?)?;
            let gradient = parameters.gradients().expect("bug: a student without gradients").clone();
            let gradient = Tensor::constant(gradient);
            self.terms.push(TermRecord {
                seed: job.seed,
                fraction: job.fraction,
                step,
                epoch,
                term: term.name.into(),
                weight: term.weight,
                value: term.value.item()?,
                gradient_norm: gradient.mul(&gradient)?.sum()?.item()?.sqrt(),
            });
        }
        Ok(())
    }
}

fn read_loss(loss: &Tensor, what: &str, step: usize) -> Result<f32> {
    let loss = loss.item()?;
    if loss.is_finite() {
        return Ok(loss);
    }
    Err(Error::Training(format!(
        "training of the {what} diverged: the loss is {loss} at step {}. Use a smaller --lr (--teacher-lr for a teacher), or \
         smaller weights of the terms",
        step + 1
    )))
}
