//! Cumulative training: every task goes on from the last network, on all data so far. The upper reference of a stream.

use super::outputs::UNSEEN;
use super::{Batch, Held, Learner, Loss, Method, MethodSpec, MethodState, TaskData};
use crate::error::Result;
use crate::ops::Mode;

struct Cumulative {
    /// Samples of earlier tasks.
    old: Vec<u32>,
    image_bytes: u64,
}

impl Method for Cumulative {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
        Ok(Loss::single("cross_entropy", learner.cross_entropy(&logits, &batch.images.labels, batch.n_seen)?))
    }

    fn training_set(&self, task: &TaskData) -> Vec<u32> {
        [task.samples.concat(), self.old.clone()].concat()
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.image_bytes = learner.image_bytes();
        self.old.extend(task.samples.concat());
        Ok(())
    }

    fn state(&self) -> Result<MethodState> {
        let json = serde_json::to_value(&self.old).expect("bug: a list of samples is no JSON");
        Ok(MethodState { json, tensors: Vec::new() })
    }

    fn restore(&mut self, learner: &Learner, state: MethodState) -> Result<()> {
        self.image_bytes = learner.image_bytes();
        self.old = state.json()?;
        Ok(())
    }

    fn held(&self) -> Held {
        Held { exemplars: self.old.len() as u64 * (self.image_bytes + 4), ..Held::default() }
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "cumulative",
    summary: "cross-entropy on all data so far, task after task (upper reference that keeps everything)",
    equations: "L = CE(f(x), y), (x, y) from this and all earlier tasks",
    memory: "all images so far",
    expect: "What a stream allows without any limit on memory and time.",
    is_reference: true,
    options: &[UNSEEN],
    build: |_| Box::new(Cumulative { old: Vec::new(), image_bytes: 0 }),
    ..MethodSpec::BASE
};
