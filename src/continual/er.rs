//! Experience replay, and its variant with an asymmetric cross-entropy.
//!
//! ER (Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", 2019) trains on each batch together with as many
//! samples from a reservoir. ER-ACE (Caccia et al., "New Insights on Reducing Abrupt Representation Change in Online Continual
//! Learning", ICLR 2022) lets new images compete with the classes of their own batch and those not yet seen only, so that old
//! classes are not pushed away; the memory's cross-entropy runs over all.

use super::replay::{ReplayMemory, joined, replayed_loss};
use super::{
    Batch, Joined, Learner, Loss, MemoryUpdate, Method, MethodSpec, MethodState, Options, ReplayForward, TaskData,
};
use crate::error::Result;
use crate::ops::Mode;
use crate::rng::{Purpose, Rng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

struct Er {
    options: Options,
    asymmetric: bool,
    memory: ReplayMemory,
    /// Labels that have come so far.
    seen: BTreeSet<u32>,
}

/// What a checkpoint keeps.
#[derive(Serialize, Deserialize)]
struct Kept {
    memory: serde_json::Value,
    seen: BTreeSet<u32>,
}

impl Er {
    fn new(options: Options, asymmetric: bool) -> Er {
        let memory = ReplayMemory::new(options.memory, options.memory_policy);
        Er { options, asymmetric, memory, seen: BTreeSet::new() }
    }

    fn er(&self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let mut rng = Rng::keyed(learner.seed, Purpose::Replay, batch.key);
        let replay = self.memory.replay(learner, batch, &self.options, &mut rng);
        match (replay, self.options.replay_forward) {
            (Some(replay), ReplayForward::Joint) => {
                let both = joined(&batch.images, &replay.images);
                let logits = learner.network.forward(&learner.input(&both)?, Mode::Train)?.logits;
                Ok(Loss::single("cross_entropy", learner.cross_entropy(&logits, &both.labels, batch.n_seen)?))
            }
            (replay, _) => {
                let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
                let new = learner.cross_entropy(&logits, &batch.images.labels, batch.n_seen)?;
                let loss = Loss::single("cross_entropy", new);
                match replay {
                    None => Ok(loss),
                    Some(replay) => Ok(loss.and("replay", 1.0, replayed_loss(learner, &replay, batch.n_seen)?)),
                }
            }
        }
    }

    fn er_ace(&self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
        let labels = &batch.images.labels;
        // Where a first task can be told from the others, its classes compete as usual.
        if batch.n_old == 0 {
            return Ok(Loss::single("cross_entropy", learner.cross_entropy(&logits, labels, batch.n_seen)?));
        }
        let own: BTreeSet<u32> = labels.iter().copied().collect();
        let competes = |output: usize| own.contains(&(output as u32)) || !self.seen.contains(&(output as u32));
        let logits = learner.masked(&logits, |_, output| competes(output))?;
        let new = learner.cross_entropy(&logits, labels, batch.n_seen)?;
        let mut rng = Rng::keyed(learner.seed, Purpose::Replay, batch.key);
        let Some(replay) = self.memory.replay(learner, batch, &self.options, &mut rng) else {
            return Ok(Loss::single("cross_entropy", new));
        };
        let weight = if self.options.joined == Joined::Mean { 0.5 } else { 1.0 };
        let old = replayed_loss(learner, &replay, batch.n_seen)?;
        Ok(Loss(Vec::new()).and("cross_entropy", weight, new).and("replay", weight, old))
    }
}

impl Method for Er {
    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        if self.options.memory_update == MemoryUpdate::TaskBegin {
            self.memory.take_in_task(learner, task);
        }
        Ok(())
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        if self.options.memory_update == MemoryUpdate::TaskEnd {
            self.memory.take_in_task(learner, task);
        }
        Ok(())
    }

    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        if self.asymmetric { self.er_ace(learner, batch) } else { self.er(learner, batch) }
    }

    fn after_step(&mut self, learner: &Learner, batch: &Batch) -> Result<()> {
        self.seen.extend(&batch.images.labels);
        if self.options.memory_update == MemoryUpdate::Step {
            self.memory.take_in(learner, batch);
        }
        Ok(())
    }

    fn state(&self) -> Result<MethodState> {
        let kept = Kept { memory: self.memory.to_json(), seen: self.seen.clone() };
        let json = serde_json::to_value(kept).expect("bug: lists of samples are no JSON");
        Ok(MethodState { json, tensors: Vec::new() })
    }

    fn restore(&mut self, _learner: &Learner, state: MethodState) -> Result<()> {
        let kept: Kept = state.json()?;
        self.seen = kept.seen;
        self.memory.restore(kept.memory)
    }

    fn memory(&self) -> Option<&ReplayMemory> {
        Some(&self.memory)
    }

    fn memory_mut(&mut self) -> Option<&mut ReplayMemory> {
        Some(&mut self.memory)
    }
}

pub(super) const ER: MethodSpec = MethodSpec {
    name: "er",
    summary: "experience replay: each batch together with random samples of a memory",
    paper: "Chaudhry et al., 2019",
    equations: "L = CE(f([x; x_M]), [y; y_M]), (x_M, y_M) drawn from the memory without repetition",
    memory: "K images with labels",
    expect: "The baseline to beat with a memory, in every scenario: simple, cheap and strong. With a small memory and many \
             epochs it overfits the memory.",
    deviations: &[
        "samples are taken in during the first pass over a task's data only, so that every image is offered once",
        "new and replayed images share one forward pass and one mean (as in Mammoth); --replay-forward separate adds two \
         means (as in avalanche-lib with separate loaders)",
    ],
    uses_memory: true,
    options: &["replay_batch", "replay_forward", "memory_policy", "memory_update", "unseen"],
    build: |options| Box::new(Er::new(options, false)),
    ..MethodSpec::BASE
};

pub(super) const ER_ACE: MethodSpec = MethodSpec {
    name: "er-ace",
    summary: "experience replay in which new images compete with the classes of their batch only",
    paper: "Caccia et al., ICLR 2022",
    equations: "L = CE_C(f(x), y) + CE(f(x_M), y_M), C = the classes of the batch and those not yet seen; in the first task \
                L = CE(f(x), y)",
    memory: "K images with labels",
    expect: "Better than ER in class-incremental learning where the memory is small, at the same cost; less quick on the \
             newest task.",
    deviations: &[
        "outputs of tasks to come take part in no loss unless --unseen compete: of the classes not yet seen those of the \
         running task remain",
        "samples are taken in during the first pass over a task's data only",
    ],
    uses_memory: true,
    options: &["replay_batch", "memory_policy", "memory_update", "joined", "unseen"],
    build: |options| Box::new(Er::new(options, true)),
    ..MethodSpec::BASE
};
