//! Averaged gradient episodic memory (Chaudhry et al., "Efficient Lifelong Learning with A-GEM", ICLR 2019): a step may not
//! raise the mean loss on a batch of earlier tasks' samples; a gradient that would is projected onto the nearest one that
//! does not. Two dot products and an axpy on the flat gradient vector, on the device.

use super::memory::MEMORY;
use super::outputs::UNSEEN;
use super::replay::{MEMORY_POLICY, REPLAY_BATCH, ReplayMemory, replayed_loss};
use super::{Batch, Keeps, Learner, Loss, Method, MethodSpec, TaskData};
use crate::device::{self, Array, DType};
use crate::error::{Error, Result};
use crate::ops::project;
use crate::rng::{Purpose, Rng};

struct Agem {
    replay_batch: Option<usize>,
    memory: ReplayMemory,
    /// Room for the gradient of the new images.
    gradient: Option<Array>,
}

impl Method for Agem {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        learner.loss_on(batch)
    }

    fn adjust_gradients(&mut self, learner: &Learner, batch: &Batch) -> Result<()> {
        let mut rng = Rng::keyed(learner.seed, Purpose::Replay, batch.key);
        let Some(replay) = self.memory.replay(learner, batch, self.replay_batch, &mut rng) else { return Ok(()) };
        let parameters = &learner.network.parameters;
        let gradients = parameters.gradients().ok_or_else(|| Error::op("a-gem", "the parameters are frozen"))?;
        let own = match self.gradient.take() {
            Some(own) => own,
            None => Array::empty(&learner.device, gradients.shape(), DType::F32)?,
        };
        device::copy(gradients, &own)?;
        parameters.backward(&replayed_loss(learner, &replay, batch.n_seen)?)?;
        project(&own, gradients)?;
        device::copy(&own, gradients)?;
        self.gradient = Some(own);
        Ok(())
    }

    /// Only now: the memory speaks for earlier tasks.
    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.memory.take_in_task(learner, task);
        Ok(())
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("memory", &mut self.memory)]
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "a-gem",
    summary: "a step that would raise the loss on the memory is projected onto the nearest that does not",
    paper: "Chaudhry et al., ICLR 2019",
    equations: "g = ∂CE(f(x), y), r = ∂CE(f(x_M), y_M); g ← g − (⟨g,r⟩/⟨r,r⟩)·r if ⟨g,r⟩ < 0",
    memory: "K images with labels of earlier tasks",
    expect: "Helps in task-incremental learning; in class-incremental learning hardly better than fine-tuning.",
    deviations: &[
        "the memory is a reservoir over all samples of earlier tasks, filled when a task ends; the paper keeps as many of \
         each task as fit",
        "the memory's forward pass moves running statistics of batch norms too, as in the authors' code",
    ],
    needs_boundaries: true,
    options: &[MEMORY, REPLAY_BATCH, MEMORY_POLICY, UNSEEN],
    build: |settings| {
        let memory = ReplayMemory::new(settings.get("memory"), settings.get("memory_policy"));
        Box::new(Agem { replay_batch: settings.find("replay_batch"), memory, gradient: None })
    },
    ..MethodSpec::BASE
};
