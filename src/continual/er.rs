//! Experience replay, and its variant with an asymmetric cross-entropy.
//!
//! ER (Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", 2019) trains on each batch together with as many
//! samples from a reservoir. ER-ACE (Caccia et al., "New Insights on Reducing Abrupt Representation Change in Online Continual
//! Learning", ICLR 2022) lets new images compete with the classes of their own batch and those not yet seen only, so that old
//! classes are not pushed away; the memory's cross-entropy runs over all.

use super::memory::MEMORY;
use super::outputs::UNSEEN;
use super::replay::{MEMORY_POLICY, REPLAY_BATCH, ReplayMemory, joined, replayed_loss};
use super::{Batch, Keeps, Learner, Loss, Method, MethodSpec, TaskData};
use crate::error::Result;
use crate::ops::Mode;
use crate::rng::{Purpose, Rng};
use crate::settings::{Setting, Values, choices};
use std::collections::BTreeSet;

choices! {
    /// Whether replayed images share the new images' forward pass.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum ReplayForward {
        #[default]
        /// One pass and one mean, in which a memory batch of b_m beside b new images weighs b_m/(b + b_m).
        Joint = "joint",
        /// Two passes, whose means are added.
        Separate = "separate",
    }
}

choices! {
    /// When a replay memory takes samples in.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum MemoryUpdate {
        #[default]
        /// After each step of the first pass over a task's data: what is replayed may be of the running task.
        Step = "step",
        /// All of a task's samples before its first step, as avalanche-lib's ER-ACE does.
        TaskBegin = "task-begin",
        /// All of a task's samples after its last step, as avalanche-lib's Replay does: only earlier tasks are replayed.
        TaskEnd = "task-end",
    }
}

choices! {
    /// How the loss on new images and that on replayed ones become one.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Joined {
        #[default]
        /// Their sum.
        Sum = "sum",
        /// Their mean, as avalanche-lib's ER-ACE has it.
        Mean = "mean",
    }
}

const REPLAY_FORWARD: Setting = Setting::choice::<ReplayForward>(
    "replay_forward",
    "HOW",
    "Whether replayed images share a forward pass with new ones",
)
.usually("joint");

const MEMORY_UPDATE: Setting =
    Setting::choice::<MemoryUpdate>("memory_update", "WHEN", "When samples are taken in").usually("step");

const JOINED: Setting = Setting::choice::<Joined>("joined", "HOW", "How ER-ACE's two losses become one").usually("sum");

struct Er {
    replay_batch: Option<usize>,
    replay_forward: ReplayForward,
    memory_update: MemoryUpdate,
    /// Of ER-ACE.
    joined: Option<Joined>,
    asymmetric: bool,
    memory: ReplayMemory,
    /// Labels that have come so far.
    seen: BTreeSet<u32>,
}

impl Er {
    fn new(settings: &Values, asymmetric: bool) -> Er {
        Er {
            replay_batch: settings.find("replay_batch"),
            replay_forward: settings.find("replay_forward").unwrap_or_default(),
            memory_update: settings.get("memory_update"),
            joined: settings.find("joined"),
            asymmetric,
            memory: ReplayMemory::new(settings.get("memory"), settings.get("memory_policy")),
            seen: BTreeSet::new(),
        }
    }

    fn er(&self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let mut rng = Rng::keyed(learner.seed, Purpose::Replay, batch.key);
        let replay = self.memory.replay(learner, batch, self.replay_batch, &mut rng);
        match (replay, self.replay_forward) {
            (Some(replay), ReplayForward::Joint) => {
                let both = joined(&batch.images, &replay.images);
                let logits = learner.network.forward(&learner.input(&both)?, Mode::Train)?.logits;
                Ok(Loss::single("cross_entropy", learner.cross_entropy(&logits, &both.labels, batch.n_seen)?))
            }
            (replay, _) => {
                let loss = learner.loss_on(batch)?;
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
        let Some(replay) = self.memory.replay(learner, batch, self.replay_batch, &mut rng) else {
            return Ok(Loss::single("cross_entropy", new));
        };
        let weight = if self.joined == Some(Joined::Mean) { 0.5 } else { 1.0 };
        let old = replayed_loss(learner, &replay, batch.n_seen)?;
        Ok(Loss(Vec::new()).and("cross_entropy", weight, new).and("replay", weight, old))
    }
}

impl Method for Er {
    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        if self.memory_update == MemoryUpdate::TaskBegin {
            self.memory.take_in_task(learner, task);
        }
        Ok(())
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        if self.memory_update == MemoryUpdate::TaskEnd {
            self.memory.take_in_task(learner, task);
        }
        Ok(())
    }

    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        if self.asymmetric { self.er_ace(learner, batch) } else { self.er(learner, batch) }
    }

    fn after_step(&mut self, learner: &Learner, batch: &Batch) -> Result<()> {
        self.seen.extend(&batch.images.labels);
        if self.memory_update == MemoryUpdate::Step {
            self.memory.take_in(learner, batch);
        }
        Ok(())
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("memory", &mut self.memory), ("seen", &mut self.seen)]
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
    options: &[MEMORY, REPLAY_BATCH, REPLAY_FORWARD, MEMORY_POLICY, MEMORY_UPDATE, UNSEEN],
    build: |settings| Box::new(Er::new(settings, false)),
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
    options: &[MEMORY, REPLAY_BATCH, MEMORY_POLICY, MEMORY_UPDATE, JOINED, UNSEEN],
    build: |settings| Box::new(Er::new(settings, true)),
    ..MethodSpec::BASE
};
