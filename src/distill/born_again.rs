//! Furlanello, Lipton, Tschannen, Itti, Anandkumar: "Born-again neural networks", ICML 2018.
//!
//! The loss is Hinton's; the teacher is the network of the generation before, which has the student's own architecture.

use super::hinton::Hinton;
use super::{Build, Knowledge, SchemeSpec, Setup, Training};
use crate::settings::Setting;

const GENERATIONS: Setting = Setting::whole(
    "generations",
    "N",
    "Born-again networks, each taught by the one before; the first by the student that saw labels alone",
)
.between(1, 100)
.usually("3");

pub const SPEC: SchemeSpec = SchemeSpec {
    name: "born-again",
    summary: "generations of one architecture, each taught by the outputs of the one before",
    formula: "ce·CE(z_k, y) + kd·T²·KL(softmax(z_{k−1}/T) ‖ softmax(z_k/T)), z_0 from labels alone",
    knowledge: Knowledge::Response,
    training: Training::SelfTaught,
    paper: "Furlanello et al., ICML 2018",
    deviations: &[
        "all generations see the same images in the same order; each starts from weights of its own, the pair's other student \
         is generation 0",
        "the ensemble is the mean of probabilities of all generations but generation 0",
        "the variants without labels, or with permuted outputs, are not there",
    ],
    weights: &[("ce", 1.0), ("kd", 1.0)],
    temperature: 1.0,
    options: &[GENERATIONS],
    build: Build::Teacher(|_: &Setup| Ok(Box::new(Hinton))),
    ..SchemeSpec::BASE
};
