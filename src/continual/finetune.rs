//! The two baselines around every method: fine-tuning, which does nothing against forgetting, and joint training, which
//! has nothing to forget.
//!
//! Both minimise softmax cross-entropy over the classes seen so far and classify by the largest output. Fine-tuning gets
//! one task after the other; `joint` gets all data as a single task, so its accuracy matrix has one row.

use super::outputs::UNSEEN;
use super::spec::CLASSES_AND_MASKS;
use super::{Batch, Learner, Loss, Method, MethodSpec};
use crate::error::Result;

struct Finetune;

impl Method for Finetune {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        learner.loss_on(batch)
    }
}

pub(super) const FINETUNE: MethodSpec = MethodSpec {
    name: "finetune",
    summary: "cross-entropy over the classes seen so far, nothing against forgetting (lower reference)",
    equations: "L = CE(f(x), y)",
    expect: "In class-incremental learning it ends with the last task's classes and nothing else: about 1/T of what joint \
             training reaches.",
    targets: CLASSES_AND_MASKS,
    options: &[UNSEEN],
    build: |_| Box::new(Finetune),
    ..MethodSpec::BASE
};

pub(super) const JOINT: MethodSpec = MethodSpec {
    name: "joint",
    summary: "cross-entropy on all classes at once (upper reference)",
    equations: "L = CE(f(x), y)",
    memory: "all data at once",
    expect: "What the network can reach on the data without any forgetting; no method for a stream.",
    is_reference: true,
    targets: CLASSES_AND_MASKS,
    sees_everything: true,
    ignores: &["later_lr"],
    build: |_| Box::new(Finetune),
    ..MethodSpec::BASE
};
