//! Cumulative training: every task goes on from the last network, on all data so far. The upper reference of a stream.

use super::outputs::UNSEEN;
use super::spec::CLASSES_AND_MASKS;
use super::{Batch, Held, Keeps, Learner, Loss, Method, MethodSpec, Plain, TaskData};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

struct Cumulative {
    old: Old,
}

/// Samples of earlier tasks.
#[derive(Serialize, Deserialize)]
struct Old(Vec<u32>);

impl Plain for Old {
    fn count(&self, learner: &Learner, held: &mut Held) {
        held.exemplars += self.0.len() as u64 * (learner.image_bytes() + learner.label_bytes());
    }
}

impl Method for Cumulative {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        learner.loss_on(batch)
    }

    fn training_set(&self, task: &TaskData) -> Vec<u32> {
        let mut all = task.samples.concat();
        // An image with masks may return with a later task.
        let new: HashSet<u32> = all.iter().copied().collect();
        all.extend(self.old.0.iter().filter(|sample| !new.contains(sample)));
        all
    }

    fn end_task(&mut self, _learner: &Learner, task: &TaskData) -> Result<()> {
        let old: HashSet<u32> = self.old.0.iter().copied().collect();
        self.old.0.extend(task.samples.concat().into_iter().filter(|sample| !old.contains(sample)));
        Ok(())
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("old", &mut self.old)]
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
    build: |_| Box::new(Cumulative { old: Old(Vec::new()) }),
    ..MethodSpec::BASE
};
