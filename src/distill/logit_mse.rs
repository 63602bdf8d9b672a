//! Ba and Caruana: "Do deep nets really need to be deep?", NIPS 2014.

use super::{Build, Knowledge, Layers, Scheme, SchemeSpec, Settings, Setup, Term, Training, View};
use crate::error::Result;

pub const SPEC: SchemeSpec = SchemeSpec {
    name: "logit-mse",
    summary: "the teacher's logits by squared error, without the labels",
    formula: "ce·CE + mse·mean((z_s − z_t)²), mean over batch and classes",
    knowledge: Knowledge::Response,
    training: Training::Offline,
    paper: "Ba and Caruana, NIPS 2014",
    deviations: &["the mean over classes instead of half the sum: a factor C/2 on the weight"],
    weights: &[("ce", 0.0), ("kd", 0.0), ("mse", 1.0)],
    temperature: 4.0,
    layers: Layers::None,
    build: Build::Teacher(|_: &Setup| Ok(Box::new(LogitMse))),
    ..SchemeSpec::BASE
};

struct LogitMse;

impl Scheme for LogitMse {
    fn terms(&self, view: &View, settings: &Settings) -> Result<Vec<Term>> {
        let value = view.student.logits.mse(&view.teacher.logits)?;
        Ok(vec![Term { name: "mse", weight: settings.weight("mse"), value }])
    }
}
