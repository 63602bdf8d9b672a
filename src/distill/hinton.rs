//! Hinton, Vinyals, Dean: "Distilling the knowledge in a neural network", NIPS workshop 2014, arXiv 1503.02531.
//!
//! Both terms, cross-entropy and T²·KL(teacher‖student), are everybody's: this scheme adds nothing.

use super::{Build, Knowledge, Layers, Scheme, SchemeSpec, Settings, Setup, Term, Training, View};
use crate::error::Result;

pub const SPEC: SchemeSpec = SchemeSpec {
    name: "hinton",
    summary: "the teacher's softened probabilities beside the labels",
    formula: "ce·CE(z_s, y) + kd·T²·KL(softmax(z_t/T) ‖ softmax(z_s/T)), summed over classes, mean over the batch",
    knowledge: Knowledge::Response,
    training: Training::Offline,
    paper: "Hinton, Vinyals, Dean 2015, arXiv 1503.02531",
    deviations: &[
        "the divergence instead of the soft cross-entropy: the gradients are the same, and 0 means agreement",
        "weights 0.1 and 0.9 and T = 4 are RepDistiller's; the paper gives no weights",
    ],
    weights: &[("ce", 0.1), ("kd", 0.9)],
    temperature: 4.0,
    layers: Layers::None,
    build: Build::Teacher(|_: &Setup| Ok(Box::new(Hinton))),
    ..SchemeSpec::BASE
};

pub(super) struct Hinton;

impl Scheme for Hinton {
    fn terms(&self, _view: &View, _settings: &Settings) -> Result<Vec<Term>> {
        Ok(Vec::new())
    }
}
