//! Fixed representation: the first task trains the whole network; after that only the outputs of new classes learn, on the
//! features as they are. The lower reference of the iCaRL paper (Rebuffi et al., CVPR 2017, section 4) that cannot forget,
//! and cannot learn to see.
//!
//! The loss is iCaRL's binary cross-entropy over all outputs. The target of an old class's output is what the output says, so
//! that its gradient is zero.

use super::icarl::LOSS;
use super::{Activation, Batch, Learner, Loss, Method, MethodSpec, TaskData};
use crate::data::Scenario;
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
    summary: "features learned on the first task and kept; later tasks train outputs only, and keep the old ones",
    paper: "Rebuffi et al., CVPR 2017",
    equations: "first task: BCE(f(x), onehot(y)); later: the same, with respect to all outputs but those of old classes",
    deviations: &[LOSS],
    expect: "Cannot forget its features, and cannot learn to see: good only if the first task is large and typical.",
    scenarios: &[Scenario::Class, Scenario::Task],
    needs_boundaries: true,
    build: |_| Box::new(FixedRepresentation),
    ..MethodSpec::BASE
};
