//! C, the teacher of a new task: it learns the task's own outputs, and is kept unsure of what is none of them.

use super::{Gd, copy_of};
use crate::continual::{Learner, Loss, TaskData};
use crate::data;
use crate::error::Result;
use crate::models::Network;
use crate::ops::Mode;
use crate::optim::Optimizer;
use crate::tensor::Tensor;
use crate::training::{Objective, Silent, Step, Trainee, Trainer, batches_from};
use std::ops::Range;

impl Gd {
    /// C, from the learner's weights on, on the task's images and the exemplars of earlier ones.
    pub(super) fn train_teacher(&self, learner: &Learner, task: &TaskData) -> Result<Network> {
        let network = copy_of(learner)?;
        let batches = self.batches(&self.recipe, learner, task, 1);
        let plan = self.recipe.plan(format!("the teacher of task {}", task.index + 1), &batches);
        let optimizer = self.optimizer(&network.parameters)?;
        let (outputs, confidence_weight) = (task.labels.clone(), self.confidence_weight);
        let mut objective = OwnTask { learner, network, optimizer, outputs, confidence_weight };
        Trainer::new(&learner.device, &mut Silent, task.interrupted).run(
            &plan,
            batches_from(batches, 0)?,
            &mut objective,
        )?;
        Ok(objective.network)
    }
}

/// Cross-entropy over the outputs of one task, and on images of other tasks the distance from even odds.
struct OwnTask<'a> {
    learner: &'a Learner,
    network: Network,
    optimizer: Optimizer,
    outputs: Range<usize>,
    confidence_weight: f32,
}

impl Objective for OwnTask<'_> {
    type Batch = data::Batch;

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        vec![Trainee { parameters: &self.network.parameters, optimizer: &mut self.optimizer }]
    }

    fn loss(&mut self, images: data::Batch, _: Step) -> Result<Loss> {
        let logits = self.network.forward(&self.learner.input(&images)?, Mode::Train)?.logits;
        let log_p = logits.narrow_channels(self.outputs.clone())?.log_softmax(1.0)?;
        let (n, k) = log_p.shape().rows_cols();
        let own: Vec<Option<usize>> = (images.labels.iter())
            .map(|&label| self.outputs.contains(&(label as usize)).then(|| label as usize - self.outputs.start))
            .collect();
        let n_own = own.iter().flatten().count();
        let sum = |weight: &dyn Fn(Option<usize>, usize) -> f32| -> Result<Tensor> {
            let weights: Vec<f32> = (0..n * k).map(|i| weight(own[i / k], i % k)).collect();
            log_p.mul(&Tensor::from_f32(&self.learner.device, [n, k], &weights)?)?.sum()?.scale(-1.0)
        };
        let mut loss = Loss(Vec::new());
        if n_own > 0 {
            let of_label = |own: Option<usize>, c| if own == Some(c) { 1.0 / n_own as f32 } else { 0.0 };
            loss = loss.and("cross_entropy", 1.0, sum(&of_label)?);
        }
        if n_own < n {
            // KL(uniform ‖ p) = −log k − the mean of log p.
            let share = 1.0 / ((n - n_own) * k) as f32;
            let even = Tensor::from_f32(&self.learner.device, [1], &[-(k as f32).ln()])?;
            let unsure = sum(&|own, _| if own.is_none() { share } else { 0.0 })?.add(&even)?;
            loss = loss.and("confidence", self.confidence_weight, unsure);
        }
        Ok(loss)
    }
}
