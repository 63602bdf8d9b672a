//! What is trained, and what a batch's loss is.

use super::{LoopSeconds, Step, TermRecord};
use crate::error::Result;
use crate::models::Network;
use crate::nn::{self, Loss, Parameters};
use crate::ops::Mode;
use crate::optim::{Optimizer, step_all};
use crate::tensor::Tensor;

/// Parameters that are trained, and what moves them.
pub struct Trainee<'a> {
    /// Of a network, or of what is trained along with one.
    pub parameters: &'a Parameters,
    /// With the state that belongs to them.
    pub optimizer: &'a mut Optimizer,
}

impl Trainee<'_> {
    /// One step down the gradient of a loss, for a loop of one's own.
    ///
    /// # Errors
    /// As [`backward`](nn::backward) and [`Optimizer::step`].
    pub fn learn(&mut self, loss: &Tensor, lr: f32) -> Result<()> {
        self.parameters.backward(loss)?;
        self.optimizer.step(self.parameters, lr)
    }
}

/// What a training works towards: whom it trains, and what a batch's loss is. Only these two are required.
///
/// Two networks that learn from the labels and from each other (Zhang et al., "Deep Mutual Learning", CVPR 2018):
///
/// ```
/// use engram::models::Network;
/// use engram::nn::Loss;
/// use engram::ops::Mode;
/// use engram::optim::{Kind, Optimizer};
/// use engram::training::{Objective, Step, Trainee, learn};
/// use engram::{Device, Result, Tensor};
///
/// struct Mutual([(Network, Optimizer); 2]);
///
/// impl Objective for Mutual {
///     type Batch = (Tensor, Tensor);
///     fn trainees(&mut self) -> Vec<Trainee<'_>> {
///         self.0.iter_mut().map(|(network, optimizer)| Trainee { parameters: &network.parameters, optimizer }).collect()
///     }
///     fn loss(&mut self, (x, labels): (Tensor, Tensor), _: Step) -> Result<Loss> {
///         let [(a, _), (b, _)] = &self.0;
///         let [a, b] = [a.forward(&x, Mode::Train)?.logits, b.forward(&x, Mode::Train)?.logits];
///         Ok(Loss::single("ce a", a.cross_entropy(&labels, 2)?)
///             .and("ce b", 1.0, b.cross_entropy(&labels, 2)?)
///             .and("a from b", 0.5, a.kl_div(&b.detach(), 2.0)?)
///             .and("b from a", 0.5, b.kl_div(&a.detach(), 2.0)?))
///     }
/// }
///
/// let device = Device::cpu();
/// let new = |seed| -> Result<(Network, Optimizer)> {
///     let network = Network::new("mlp", [1, 4, 4], 2, &device, seed)?;
///     let optimizer = Optimizer::new(Kind::Sgd, 0.9, 0.0, &network.parameters)?;
///     Ok((network, optimizer))
/// };
/// let mut pair = Mutual([new(1)?, new(2)?]);
/// let x = Tensor::from_f32(&device, [2, 1, 4, 4], &[[0.0; 16], [1.0; 16]].concat())?;
/// let labels = Tensor::from_u32(&device, [2], &[0, 1])?;
/// for index in 0..20 {
///     let step = Step { index, per_epoch: 20, n_epochs: 1 };
///     let loss = pair.loss((x.clone(), labels.clone()), step)?.total()?;
///     learn(&mut pair, &loss, 0.05)?;
/// }
/// # Ok::<(), engram::Error>(())
/// ```
/// A [`Trainer`](super::Trainer) does the same and more: batches, the rate, losses, interruptions.
pub trait Objective {
    /// What a step learns from.
    type Batch;

    /// Whose gradients a backward pass computes, and who then moves: always the same, in the same order.
    fn trainees(&mut self) -> Vec<Trainee<'_>>;

    /// The loss of a batch. One without terms skips the step.
    ///
    /// # Errors
    /// Whatever ends the training.
    fn loss(&mut self, batch: Self::Batch, step: Step) -> Result<Loss>;

    /// After the gradients of the loss are known and before they are used: where penalties and projections act.
    ///
    /// # Errors
    /// Whatever ends the training.
    fn adjust_gradients(&mut self) -> Result<()> {
        Ok(())
    }

    /// After every batch, also where the step was skipped.
    ///
    /// # Errors
    /// Whatever ends the training.
    fn after_step(&mut self) -> Result<()> {
        Ok(())
    }

    /// After every batch, for measurements that are no part of learning: their time is counted apart.
    ///
    /// # Errors
    /// Whatever ends the training.
    fn measure(&mut self, _step: Step) -> Result<()> {
        Ok(())
    }

    /// A term of a loss that the plan wants written down, some steps after it was computed.
    fn record(&mut self, _term: TermRecord) {}

    /// Before `step`, whenever it is time for a checkpoint, and before an interruption ends the training: keeps what is needed to
    /// go on from there. The seconds are those of the training so far.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn keep(&mut self, _step: Step, _seconds: &LoopSeconds) -> Result<()> {
        Ok(())
    }
}

/// One step of everyone that an objective trains: the gradients of `loss` by one backward pass, then what the objective does about
/// them, then the optimisers.
///
/// # Errors
/// As [`backward`](nn::backward), [`Objective::adjust_gradients`] and [`step_all`].
pub fn learn(objective: &mut impl Objective, loss: &Tensor, lr: f32) -> Result<()> {
    let trainees = objective.trainees();
    let all: Vec<&Parameters> = trainees.iter().map(|trainee| trainee.parameters).collect();
    nn::backward(loss, &all)?;
    drop(trainees);
    objective.adjust_gradients()?;
    step_all(objective.trainees().into_iter().map(|Trainee { parameters, optimizer }| (parameters, optimizer)), lr)
}

/// Plain classification: the mean cross-entropy of a network's outputs. A batch is images (N, C, H, W) and labels (N), u32.
pub struct CrossEntropy<'a> {
    /// Trained as a whole.
    pub network: &'a Network,
    /// Of its parameters.
    pub optimizer: Optimizer,
}

impl Objective for CrossEntropy<'_> {
    type Batch = (Tensor, Tensor);

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        vec![Trainee { parameters: &self.network.parameters, optimizer: &mut self.optimizer }]
    }

    fn loss(&mut self, (x, labels): (Tensor, Tensor), _: Step) -> Result<Loss> {
        let logits = self.network.forward(&x, Mode::Train)?.logits;
        Ok(Loss::single("cross_entropy", logits.cross_entropy(&labels, self.network.n_outputs)?))
    }
}
