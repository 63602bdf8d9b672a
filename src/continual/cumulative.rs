//! Cumulative training: every task goes on from the last network, on all data so far. The upper reference of a stream.

use super::outputs::UNSEEN;
use super::spec::CLASSES_AND_MASKS;
use super::{Batch, Held, Learner, Loss, Method, MethodSpec, MethodState, TaskData};
use crate::error::Result;
use crate::ops::Mode;
use std::collections::HashSet;

struct Cumulative {
    /// Samples of earlier tasks.
    old: Vec<u32>,
    /// Of an image with what is said about it.
    sample_bytes: u64,
}

impl Method for Cumulative {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
        Ok(Loss::single("cross_entropy", learner.cross_entropy(&logits, &batch.images.labels, batch.n_seen)?))
    }

    fn training_set(&self, task: &TaskData) -> Vec<u32> {
        let mut all = task.samples.concat();
        // An image with masks may return with a later task.
        let new: HashSet<u32> = all.iter().copied().collect();
        all.extend(self.old.iter().filter(|sample| !new.contains(sample)));
        all
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.sample_bytes = learner.image_bytes() + learner.label_bytes();
        let old: HashSet<u32> = self.old.iter().copied().collect();
        self.old.extend(task.samples.concat().into_iter().filter(|sample| !old.contains(sample)));
        Ok(())
    }

    fn state(&self) -> Result<MethodState> {
        let json = serde_json::to_value(&self.old).expect("bug: a list of samples is no JSON");
        Ok(MethodState { json, tensors: Vec::new() })
    }

    fn restore(&mut self, learner: &Learner, state: MethodState) -> Result<()> {
        self.sample_bytes = learner.image_bytes() + learner.label_bytes();
        self.old = state.json()?;
        Ok(())
    }

    fn held(&self) -> Held {
        Held { exemplars: self.old.len() as u64 * self.sample_bytes, ..Held::default() }
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "cumulative",
    summary: "cross-entropy on all data so far, task after task (upper reference that keeps everything)",
    equations: "L = CE(f(x), y), (x, y) from this and all earlier tasks",
    memory: "all images so far",
    expect: "What a stream allows without any limit on memory and time.",
    is_reference: true,
    targets: CLASSES_AND_MASKS,
    options: &[UNSEEN],
    build: |_| Box::new(Cumulative { old: Vec::new(), sample_bytes: 0 }),
    ..MethodSpec::BASE
};
