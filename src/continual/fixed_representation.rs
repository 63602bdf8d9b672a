//! Fixed representation: the first task trains the whole network; after that only the outputs of new classes learn, on the
//! features as they are. The lower reference of the iCaRL paper (Rebuffi et al., CVPR 2017, section 4) that cannot forget,
//! and cannot learn to see.
//!
//! The loss is iCaRL's binary cross-entropy over all outputs. The target of an old class's output is what the output says, so
//! that its gradient is zero.
//!
//! Deviations: none known; the paper describes the method in one sentence.

use super::{Activation, Batch, Learner, Loss, Method, MethodSpec, TaskData};
use crate::error::Result;
use crate::ops::Mode;

struct FixedRepresentation;

impl Method for FixedRepresentation {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let mode = if batch.n_old == 0 { Mode::Train } else { Mode::Eval };
        let logits = learner.network.forward(&batch.x, mode)?.logits;
        let targets = logits.detach().mixed_targets(&batch.labels, batch.n_old)?;
        Ok(Loss::single("bce", logits.bce_with_logits(&targets)?))
    }

    fn freezes_representation(&self, task: &TaskData) -> bool {
        task.n_old > 0
    }

    fn activation(&self) -> Activation {
        Activation::Sigmoid
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "fixed-representation",
    summary: "features learned on the first task and kept; later tasks train their own outputs only",
    paper: "Rebuffi et al., CVPR 2017",
    uses_memory: false,
    sees_everything: false,
    build: |_| Box::new(FixedRepresentation),
};
