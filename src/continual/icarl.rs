//! iCaRL: Incremental Classifier and Representation Learning (Rebuffi, Kolesnikov, Sperl, Lampert; CVPR 2017).
//!
//! The network learns all outputs by binary cross-entropy; outputs of old classes are held at what the old network said.
//! A bounded set of exemplars, chosen by herding, is trained on with the new classes, and a test image belongs to the class
//! whose exemplars' mean feature is nearest. The five algorithm boxes of the paper are five functions here:
//!
//! | box | function | what it does |
//! |---|---|---|
//! | 1 CLASSIFY | `classify` | nearest mean of exemplars |
//! | 2 INCREMENTALTRAIN | `incremental_train` | what happens to the memory after a task's training |
//! | 3 UPDATEREPRESENTATION | `update_representation` | the loss of one batch |
//! | 4 CONSTRUCTEXEMPLARSET | `construct_exemplar_set` | herding |
//! | 5 REDUCEEXEMPLARSET | `reduce_exemplar_set` | keep the first m |
//!
//! Deviations from the paper, as its authors' code has them:
//! - The paper stores the old outputs before the update; the frozen old network is evaluated on each (augmented) batch
//!   instead. Without augmentation the two are the same numbers.
//! - m = ⌈K/t⌉ by default, so the memory may exceed K by less than one exemplar per class (`--memory-rounding floor`
//!   keeps it below).
//! - The loss is the mean, not the sum, over batch and outputs. It runs over all outputs; those of classes not seen yet
//!   have target 0.
//! - For natural images class means average over mirror images too.

use super::{Activation, Batch, Held, Learner, Loss, Method, MethodSpec, Options, TaskData};
use super::{distances_to_means, exemplars_per_class};
use crate::error::{Error, Result};
use crate::models::Network;
use crate::nn::Output;
use crate::ops::Mode;
use crate::tensor::{Tensor, no_grad};

/// The state of iCaRL between batches.
pub struct Icarl {
    options: Options,
    /// P: samples of each class, in the order herding chose them.
    exemplars: Vec<Vec<u32>>,
    /// The network before this task; absent in the first.
    old: Option<Network>,
    /// μ of the exemplars of each class, (classes seen, D).
    exemplar_means: Option<Tensor>,
    /// μ of all training data of each class seen so far: only for the reference classifier `ncm`.
    data_means: Option<Tensor>,
    seen: Vec<Vec<u32>>,
    image_bytes: u64,
}

impl Icarl {
    /// A learner that has seen nothing.
    pub fn new(options: Options) -> Icarl {
        Icarl {
            options,
            exemplars: Vec::new(),
            old: None,
            exemplar_means: None,
            data_means: None,
            seen: Vec::new(),
            image_bytes: 0,
        }
    }

    /// Box 1, CLASSIFY: y* = argmin_y ‖φ(x) − μ_y‖ over normalised features.
    fn classify(features: &Tensor, means: Option<&Tensor>) -> Result<Tensor> {
        let means = means.ok_or_else(|| Error::op("classify", "no class has been learned yet"))?;
        distances_to_means(features, means)?.argmin_rows(means.shape()[0])
    }

    /// Box 2, INCREMENTALTRAIN, after the representation has been updated: m = K/t, reduce the old exemplar sets, construct
    /// those of the new classes.
    fn incremental_train(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        let m = exemplars_per_class(self.options.memory, task.n_seen, self.options.rounding);
        self.reduce_exemplar_set(m);
        for samples in &task.samples {
            let chosen = Self::construct_exemplar_set(learner, samples, m)?;
            self.exemplars.push(chosen);
        }
        Ok(())
    }

    /// Box 3, UPDATEREPRESENTATION: one binary cross-entropy over all outputs. Targets of old outputs are the old network's
    /// probabilities on this very batch, also for exemplars; the other targets are hard.
    fn update_representation(&self, learner: &Learner, batch: &Batch) -> Result<Tensor> {
        let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
        let targets = match &self.old {
            Some(old) => {
                no_grad(|| old.forward(&batch.x, Mode::Eval)?.logits.mixed_targets(&batch.labels, batch.n_old))?
            }
            None => logits.mixed_targets(&batch.labels, 0)?,
        };
        logits.bce_with_logits(&targets)
    }

    /// Box 4, CONSTRUCTEXEMPLARSET: the m samples whose running mean stays closest to the class mean, in order of choice.
    fn construct_exemplar_set(learner: &Learner, samples: &[u32], m: usize) -> Result<Vec<u32>> {
        let features = learner.normalized_features(samples, false)?;
        let picks = features.herding(m.min(samples.len()))?.to_u32()?;
        Ok(picks.into_iter().map(|pick| samples[pick as usize]).collect())
    }

    /// Box 5, REDUCEEXEMPLARSET: the first m of each class, which herding chose to be kept longest.
    fn reduce_exemplar_set(&mut self, m: usize) {
        for exemplars in &mut self.exemplars {
            exemplars.truncate(m);
        }
    }
}

impl Method for Icarl {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        Ok(Loss::single("bce", self.update_representation(learner, batch)?))
    }

    fn training_set(&self, task: &TaskData) -> Vec<u32> {
        task.samples.iter().chain(&self.exemplars).flatten().copied().collect()
    }

    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.old = if task.n_old > 0 { Some(learner.network.snapshot()?) } else { None };
        Ok(())
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.image_bytes = learner.image_bytes();
        self.incremental_train(learner, task)?;
        self.exemplar_means = Some(learner.class_means(&self.exemplars)?);
        self.seen.extend_from_slice(&task.samples);
        self.data_means = Some(learner.class_means(&self.seen)?);
        Ok(())
    }

    fn classifiers(&self) -> &'static [&'static str] {
        &["nme", "network", "ncm"]
    }

    fn predict(&self, output: &Output, n_seen: usize, classifier: &str) -> Result<Tensor> {
        match classifier {
            "nme" | "ncm" => Self::classify(&output.features, self.class_means(classifier)),
            "network" => output.logits.argmax_rows(n_seen),
            _ => Err(Error::usage(format!("there is no classifier '{classifier}'"))),
        }
    }

    fn class_means(&self, classifier: &str) -> Option<&Tensor> {
        match classifier {
            "nme" => self.exemplar_means.as_ref(),
            "ncm" => self.data_means.as_ref(),
            _ => None,
        }
    }

    fn activation(&self) -> Activation {
        Activation::Sigmoid
    }

    fn held(&self) -> Held {
        Held {
            exemplars: self.image_bytes * self.exemplars.iter().map(Vec::len).sum::<usize>() as u64,
            // In the first task there is none; from then on one is needed at every step.
            old_network: self.old.as_ref().map_or(0, |old| old.bytes()),
            class_means: self.exemplar_means.as_ref().map_or(0, |means| 4 * means.n_elements() as u64),
        }
    }

    fn exemplars(&self) -> &[Vec<u32>] {
        &self.exemplars
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "icarl",
    summary: "exemplars by herding, distillation by binary cross-entropy, nearest mean of exemplars",
    paper: "Rebuffi et al., CVPR 2017",
    uses_memory: true,
    sees_everything: false,
    build: |options| Box::new(Icarl::new(options)),
};
