//! Zhao, Cui, Song, Qiu, Liang: "Decoupled knowledge distillation", CVPR 2022.

use super::losses::decoupled;
use super::{Build, Knowledge, Layers, Scheme, SchemeSpec, Settings, Setup, Term, Training, View};
use crate::error::Result;

/// 20 of the 240 epochs of the paper.
const WARM_UP: f32 = 20.0 / 240.0;

pub const SPEC: SchemeSpec = SchemeSpec {
    name: "dkd",
    summary: "Hinton's divergence in two parts with weights of their own: the target, and the other classes",
    formula: "ce·CE + w·T²·(target·KL(b_t ‖ b_s) + rest·KL(q_t ‖ q_s)), b: target or not, q: softmax without the target; \
              w rises from 0 to 1 in the first 20/240 of the training",
    knowledge: Knowledge::Response,
    training: Training::Offline,
    paper: "Zhao et al., CVPR 2022 (α is `target`, β is `rest`)",
    deviations: &[
        "in log space, where the authors' code adds 1000 and takes logarithms of probabilities",
        "the warm-up scales with the length of the run, and rises by steps instead of epochs",
    ],
    weights: &[("ce", 1.0), ("kd", 0.0), ("target", 1.0), ("rest", 8.0)],
    temperature: 4.0,
    layers: Layers::None,
    by_label: true,
    build: Build::Teacher(|_: &Setup| Ok(Box::new(Dkd))),
    ..SchemeSpec::BASE
};

struct Dkd;

impl Scheme for Dkd {
    fn terms(&self, view: &View, settings: &Settings) -> Result<Vec<Term>> {
        let (target, rest) = decoupled(&view.student.logits, &view.teacher.logits, view.labels, settings.temperature)?;
        let warm_up = (view.progress / WARM_UP).min(1.0);
        let term = |name, value| Term { name, weight: warm_up * settings.weight(name), value };
        Ok(vec![term("target", target), term("rest", rest)])
    }
}
