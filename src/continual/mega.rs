//! MEGA (Guo, Liu, Yang and Rosing, "Improved Schemes for Episodic Memory-based Lifelong Learning", NeurIPS 2020), its first form:
//! the loss on the memory counts as much more as it is larger than the loss on new images.

use super::memory::MEMORY;
use super::outputs::UNSEEN;
use super::replay::{MEMORY_POLICY, REPLAY_BATCH, ReplayMemory, replayed_loss};
use super::{Batch, Keeps, Learner, Loss, Method, MethodSpec, TaskData};
use crate::error::Result;
use crate::ops::Mode;
use crate::rng::{Purpose, Rng};
use crate::settings::Setting;

const LEAST_LOSS: Setting =
    Setting::number("least_loss", "EPSILON", "ε: with a loss on new images below it a step goes by the memory alone")
        .usually("1e-3");

struct Mega {
    replay_batch: Option<usize>,
    least_loss: f32,
    memory: ReplayMemory,
}

/// (α₁, α₂), what the losses on new images and on the memory are multiplied with: (1, l_M/l) if l > ε, else (0, 1).
///
/// ```
/// use engram::continual::mega_weights;
/// assert_eq!(mega_weights(2.0, 3.0, 1e-3), (1.0, 1.5));
/// assert_eq!(mega_weights(1e-4, 3.0, 1e-3), (0.0, 1.0));
/// ```
pub fn mega_weights(new: f32, memory: f32, least: f32) -> (f32, f32) {
    if new > least { (1.0, memory / new) } else { (0.0, 1.0) }
}

impl Method for Mega {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
        let new = learner.cross_entropy(&logits, &batch.images.labels, batch.n_seen)?;
        let mut rng = Rng::keyed(learner.seed, Purpose::Replay, batch.key);
        let Some(replay) = self.memory.replay(learner, batch, self.replay_batch, &mut rng) else {
            return Ok(Loss::single("cross_entropy", new));
        };
        let old = replayed_loss(learner, &replay, batch.n_seen)?;
        let (own, theirs) = mega_weights(new.item()?, old.item()?, self.least_loss);
        Ok(Loss(Vec::new()).and("cross_entropy", own, new).and("replay", theirs, old))
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
    name: "mega",
    summary: "new images and the memory learnt together, the memory the more the larger its loss is beside the new one",
    paper: "Guo et al., NeurIPS 2020",
    equations: "L = α₁·CE(f(x), y) + α₂·CE(f(x_M), y_M), the weights constant in a step: (1, l_M/l) if l > ε, else (0, 1), with l and \
                l_M the values of both",
    memory: "K images with labels of earlier tasks",
    expect: "Between experience replay and A-GEM: as quick as both, but for two losses that are read in each step.",
    deviations: &[
        "MEGA-I; MEGA-II, which goes by the angle between both gradients, is left out",
        "the memory is a reservoir over all samples of earlier tasks, filled when a task ends; the paper keeps as many of each task as fit",
    ],
    needs_boundaries: true,
    options: &[MEMORY, REPLAY_BATCH, MEMORY_POLICY, LEAST_LOSS, UNSEEN],
    build: |settings| {
        let memory = ReplayMemory::new(settings.get("memory"), settings.get("memory_policy"));
        Box::new(Mega { replay_batch: settings.find("replay_batch"), least_loss: settings.get("least_loss"), memory })
    },
    ..MethodSpec::BASE
};
