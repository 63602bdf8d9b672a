//! Which outputs may answer: the masks of task-incremental learning and of losses over some classes.

use super::{Batch, Learner, Loss, TaskData};
use crate::error::Result;
use crate::ops::Mode;
use crate::settings::{Setting, choices};
use crate::tensor::Tensor;
use std::ops::Range;

choices! {
    /// The classes that a classifier chooses among.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Candidates {
        #[default]
        /// Those seen so far.
        Seen = "seen",
        /// All of the stream, so that a class that has not come yet can be answered, wrongly.
        All = "all",
    }
}

choices! {
    /// What the cross-entropy does with outputs of classes that have not come yet.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Unseen {
        #[default]
        /// They are left out.
        Masked = "masked",
        /// They take part, and are pushed down before their classes come: toolboxes in which a head has its full width.
        Compete = "compete",
    }
}

/// Of methods whose loss is a cross-entropy.
pub const UNSEEN: Setting = Setting::choice::<Unseen>(
    "unseen",
    "HOW",
    "Outputs of classes that have not come yet; where the task is known, only its own take part",
)
.usually("masked");

/// Far below every logit: its exponential is 0, and so is the gradient.
const MASKED: f32 = -1e30;

impl Learner {
    /// The logits (N, C), those of outputs that `allowed(row, output)` does not allow far below all others; of maps (N, C, H, W) a
    /// row is an image.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn masked(&self, logits: &Tensor, allowed: impl Fn(usize, usize) -> bool) -> Result<Tensor> {
        let shape = logits.shape();
        let c = shape[1];
        let plane: usize = shape[2..].iter().product();
        let value = |i: usize| if allowed(i / c, i % c) { 0.0 } else { MASKED };
        let mask: Vec<f32> = (0..shape[0] * c).flat_map(|i| std::iter::repeat_n(value(i), plane)).collect();
        logits.add(&Tensor::from_f32(&self.device, shape, &mask)?)
    }

    /// The outputs of earlier tasks in groups that are distilled each by itself: all of them, in task-incremental learning those of each
    /// task.
    pub fn old_heads(&self, n_old: usize) -> Vec<Range<usize>> {
        let all = 0..n_old;
        match self.heads.is_empty() {
            true => Vec::from([all]),
            false => self.heads.iter().filter(|head| head.end <= n_old).cloned().collect(),
        }
    }

    /// The outputs that a task's softmax runs over.
    pub fn active_outputs(&self, task: &TaskData) -> Range<usize> {
        if self.heads.is_empty() { 0..self.n_active(task.n_seen) } else { task.labels.clone() }
    }

    fn n_active(&self, n_seen: usize) -> usize {
        match self.unseen {
            Unseen::Masked => n_seen,
            Unseen::Compete => self.network.n_outputs,
        }
    }

    /// Softmax cross-entropy, the mean over the batch: over the first `n_seen` outputs (all of them if unseen ones compete),
    /// or in task-incremental learning over the outputs of each row's own task. Of maps the mean over pixels that have a label.
    ///
    /// # Errors
    /// If there are not as many labels as rows.
    pub fn cross_entropy(&self, logits: &Tensor, labels: &[u32], n_seen: usize) -> Result<Tensor> {
        let targets = self.targets(labels)?;
        match self.heads.is_empty() {
            true => logits.cross_entropy(&targets, self.n_active(n_seen)),
            false => self.of_own_tasks(logits, labels, n_seen)?.cross_entropy(&targets, logits.shape()[1]),
        }
    }

    /// The logits (N, C), in task-incremental learning those of outputs of other tasks than each row's own far below all others.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn of_own_tasks(&self, logits: &Tensor, labels: &[u32], n_seen: usize) -> Result<Tensor> {
        if self.heads.is_empty() {
            return Ok(logits.clone());
        }
        let head = |&label: &u32| self.heads.iter().find(|head| head.contains(&(label as usize))).cloned();
        let heads: Vec<_> = labels.iter().map(|label| head(label).unwrap_or(0..n_seen)).collect();
        self.masked(logits, |row, output| heads[row].contains(&output))
    }

    /// That of a batch, in training mode: what fine-tuning minimises.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn loss_on(&self, batch: &Batch) -> Result<Loss> {
        let logits = self.network.forward(&batch.x, Mode::Train)?.logits;
        Ok(Loss::single("cross_entropy", self.cross_entropy(&logits, &batch.images.labels, batch.n_seen)?))
    }
}
