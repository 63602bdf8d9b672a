//! Tung, Mori: "Similarity-preserving knowledge distillation", ICCV 2019.

use super::losses::similarity;
use super::{Build, Knowledge, Layers, Scheme, SchemeSpec, Settings, Setup, Term, Training, View};
use crate::error::Result;

pub const SPEC: SchemeSpec = SchemeSpec {
    name: "similarity",
    summary: "which samples of a batch excite the same features",
    formula: "ce·CE + sp·‖G_s − G_t‖²/B², G = F·Fᵀ with rows of length 1",
    knowledge: Knowledge::Relation,
    training: Training::Offline,
    paper: "Tung and Mori, ICCV 2019",
    deviations: &[],
    weights: &[("ce", 1.0), ("kd", 0.0), ("sp", 3000.0)],
    temperature: 4.0,
    layers: Layers::LastStage,
    build: Build::Teacher(|_: &Setup| Ok(Box::new(Similarity))),
    ..SchemeSpec::BASE
};

struct Similarity;

impl Scheme for Similarity {
    fn terms(&self, view: &View, settings: &Settings) -> Result<Vec<Term>> {
        let weight = settings.weight("sp");
        let pairs = view.student.values.iter().zip(&view.teacher.values);
        pairs.map(|(s, t)| Ok(Term { name: "sp", weight, value: similarity(s, t)? })).collect()
    }
}
