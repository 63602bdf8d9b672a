//! The fine-tuning at the end of a task: the last layer alone, on features as they are, each class with the same weight.

use super::{Gd, copy_of};
use crate::continual::{Learner, Loss, Method, TaskData};
use crate::data::{self, NO_LABEL};
use crate::error::{Error, Result};
use crate::models::Network;
use crate::nn::{Parameter, Parameters};
use crate::ops::Mode;
use crate::optim::Optimizer;
use crate::tensor::{Tensor, no_grad};
use crate::training::{Fall, Objective, Recipe, Schedule, Silent, Step, Trainee, Trainer, batches_from};
use std::ops::Range;

/// What the learning rate is multiplied with, at the start, after half of the epochs and after three quarters.
const DROP: f32 = 0.1;

/// A weight for each label up to the last of `group`: those of the group n/(classes·n_k), n_k how many of `labels` are k and n how many
/// are of the group, so that each class counts alike and the mean weight is 1; others 1.
///
/// ```
/// use engram::continual::gd::class_weights;
/// assert_eq!(class_weights(&[0, 1, 1, 1, 2], &(0..2)), [2.0, 2.0 / 3.0]);
/// assert_eq!(class_weights(&[0, 2, 2], &(1..3)), [1.0, 1.0, 0.5]);
/// ```
pub fn class_weights(labels: &[u32], group: &Range<usize>) -> Vec<f32> {
    let mut counts = vec![0usize; group.end];
    labels.iter().filter(|&&label| (label as usize) < group.end).for_each(|&label| counts[label as usize] += 1);
    let n: usize = counts[group.clone()].iter().sum();
    let weight = |(label, &own): (usize, &usize)| match group.contains(&label) && own > 0 {
        true => n as f32 / (group.len() * own) as f32,
        false => 1.0,
    };
    counts.iter().enumerate().map(weight).collect()
}

/// −(1/N)·Σ_n w_n·log p(y_n), p the softmax of each row. Shapes: (N, C), labels and weights N each → \[1\].
///
/// # Errors
/// If there are not as many labels and weights as rows, or a label is no column.
pub fn weighted_cross_entropy(logits: &Tensor, labels: &[u32], weights: &[f32]) -> Result<Tensor> {
    let (n, c) = logits.shape().rows_cols();
    if labels.len() != n || weights.len() != n || labels.iter().any(|&label| label as usize >= c) {
        return Err(Error::op("weighted_cross_entropy", format!("labels and weights do not fit {}", logits.shape())));
    }
    let mut of_label = vec![0.0; n * c];
    for (row, (&label, weight)) in labels.iter().zip(weights).enumerate() {
        of_label[row * c + label as usize] = -weight / n as f32;
    }
    logits.log_softmax(1.0)?.mul(&Tensor::from_f32(&logits.device(), [n, c], &of_label)?)?.sum()
}

/// T²/N·Σ_n w_n·KL(p_t ‖ p_s), p the softmax of each row divided by T. Shapes: both (N, C), weights N → \[1\]; the teacher gets no gradient.
///
/// # Errors
/// If the shapes differ, there are not as many weights as rows, or T is not positive.
pub fn weighted_kl_div(student: &Tensor, teacher: &Tensor, temperature: f32, weights: &[f32]) -> Result<Tensor> {
    let (n, c) = student.shape().rows_cols();
    if weights.len() != n {
        return Err(Error::op("weighted_kl_div", format!("{} weights for {}", weights.len(), student.shape())));
    }
    let scale = temperature * temperature / n as f32;
    let by_row: Vec<f32> = (0..n * c).map(|i| weights[i / c] * scale).collect();
    let (log_p, shares) = no_grad(|| -> Result<_> {
        let by_row = Tensor::from_f32(&student.device(), [n, c], &by_row)?;
        Ok((teacher.log_softmax(temperature)?, teacher.softmax(temperature)?.mul(&by_row)?))
    })?;
    log_p.sub(&student.log_softmax(temperature)?)?.mul(&shares)?.sum()
}

impl Gd {
    /// Tunes the last layer of the learner's network.
    pub(super) fn fine_tune(&self, learner: &Learner, task: &TaskData) -> Result<()> {
        let labels = labels_of(learner, task, &self.training_set(task));
        let n_epochs = self.balanced_epochs;
        let (half, three_quarters) = (n_epochs / 2, (3 * n_epochs).div_ceil(4));
        let drops = if half > 0 { vec![half, three_quarters] } else { Vec::new() };
        let lr = DROP * self.recipe.schedule.lr;
        let recipe = Recipe {
            epochs: n_epochs,
            schedule: Schedule { fall: Fall::Steps { at: drops, factor: DROP }, ..Schedule::constant(lr) },
            ..self.recipe.clone()
        };
        let batches = self.batches(&recipe, learner, task, 2);
        let plan = recipe.plan(format!("the last layer after task {}", task.index + 1), &batches);
        // Batch norms go on averaging: on a copy, so that an interruption leaves the network as it was.
        let network = copy_of(learner)?;
        let head = last_layer(learner)?;
        let optimizer = self.optimizer(&head)?;
        let groups = learner.old_heads(task.n_old).into_iter().chain([task.labels.clone(), 0..task.n_seen]);
        let weights = groups.map(|group| (class_weights(&labels, &group), group)).collect();
        let mut objective = LastLayer { method: self, learner, task, network, head, optimizer, weights };
        Trainer::new(&learner.device, &mut Silent, task.interrupted).run(
            &plan,
            batches_from(batches, 0)?,
            &mut objective,
        )?;
        learner.network.copy_weights_of(&objective.network)?;
        put_back(&objective.head, learner)
    }
}

/// The label of each sample in this task.
fn labels_of(learner: &Learner, task: &TaskData, samples: &[u32]) -> Vec<u32> {
    let label = |&sample: &u32| task.label_of_class.get(learner.class_of(sample) as usize).copied();
    samples.iter().map(|sample| label(sample).unwrap_or(NO_LABEL)).collect()
}

/// The last layer's weight (outputs, features) and bias, if it has one: where they lie among the network's parameters.
fn places(learner: &Learner) -> Result<Vec<(Parameter, usize)>> {
    let network = &learner.network;
    let (weight, bias) = network.parameters.last_layer();
    let shape = [network.n_outputs, network.n_features];
    let of = |place: usize| network.parameters.places().find(|(_, start)| *start == place);
    let Some(found) = of(weight).filter(|(entry, _)| entry.shape[..] == shape) else {
        return Err(Error::usage(format!(
            "gd tunes a last layer that makes {} outputs of {} features, and {} has none: choose another model, or --balanced-epochs 0",
            shape[0], shape[1], network.name
        )));
    };
    let bias = bias.and_then(of).filter(|(entry, _)| entry.shape[..] == shape[..1]);
    Ok([Some(found), bias].into_iter().flatten().map(|(entry, start)| (entry.clone(), start)).collect())
}

/// A copy that can be trained.
fn last_layer(learner: &Learner) -> Result<Parameters> {
    let places = places(learner)?;
    let head = Parameters::new(&learner.device, places.iter().map(|(entry, _)| entry.clone()).collect(), learner.seed)?;
    let (network, mut values) = (learner.network.parameters.values().to_vec()?, head.values().to_vec()?);
    for ((entry, from), (_, to)) in places.iter().zip(head.places()) {
        let n = entry.shape.n_elements();
        values[to..to + n].copy_from_slice(&network[*from..from + n]);
    }
    head.values().write(&values)?;
    Ok(head)
}

fn put_back(head: &Parameters, learner: &Learner) -> Result<()> {
    let (mut network, values) = (learner.network.parameters.values().to_vec()?, head.values().to_vec()?);
    for ((entry, to), (_, from)) in places(learner)?.iter().zip(head.places()) {
        let n = entry.shape.n_elements();
        network[*to..to + n].copy_from_slice(&values[from..from + n]);
    }
    learner.network.parameters.values().write(&network)
}

/// The losses of the method, with weights by class.
struct LastLayer<'a> {
    method: &'a Gd,
    learner: &'a Learner,
    task: &'a TaskData<'a>,
    /// Makes the features.
    network: Network,
    head: Parameters,
    optimizer: Optimizer,
    /// By label, for each group of outputs that has a loss; 1 beyond them.
    weights: Vec<(Vec<f32>, Range<usize>)>,
}

impl LastLayer<'_> {
    fn weights(&self, group: &Range<usize>, labels: &[u32]) -> Vec<f32> {
        let (weights, _) = self.weights.iter().find(|(_, own)| own == group).expect("bug: a group without weights");
        labels.iter().map(|&label| weights.get(label as usize).copied().unwrap_or(1.0)).collect()
    }
}

impl Objective for LastLayer<'_> {
    type Batch = data::Batch;

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        vec![Trainee { parameters: &self.head, optimizer: &mut self.optimizer }]
    }

    fn loss(&mut self, images: data::Batch, _: Step) -> Result<Loss> {
        let (learner, n_seen) = (self.learner, self.task.n_seen);
        let x = learner.input(&images)?;
        let features = no_grad(|| self.network.forward(&x, Mode::Train))?.features;
        let tensors = self.head.tensors();
        let logits = features.linear(&tensors[0], tensors.get(1))?;
        let seen = learner.of_own_tasks(&logits, &images.labels, n_seen)?.narrow_channels(0..n_seen)?;
        let ce = weighted_cross_entropy(&seen, &images.labels, &self.weights(&(0..n_seen), &images.labels))?;
        let sizes = (self.task.n_old, n_seen);
        self.method.with_teachers(learner, sizes, (&logits, &x), ce, |group, student, teacher| {
            weighted_kl_div(student, teacher, self.method.temperature, &self.weights(group, &images.labels))
        })
    }
}
