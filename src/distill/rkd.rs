//! Park, Kim, Lu, Cho: "Relational knowledge distillation", CVPR 2019.

use super::losses::{flat, relation_angle, relation_distance};
use super::{Build, Knowledge, Layers, Scheme, SchemeSpec, Settings, Setup, Term, Training, View};
use crate::error::Result;

pub const SPEC: SchemeSpec = SchemeSpec {
    name: "rkd",
    summary: "distances and angles between the samples of a batch",
    formula: "ce·CE + distance·mean_ij h(d_ij/μ of both) + angle·mean_ijk h(cos ∠ijk of both), h Huber's loss with δ = 1, μ \
              the mean of the positive distances",
    knowledge: Knowledge::Relation,
    training: Training::Offline,
    paper: "Park et al., CVPR 2019",
    deviations: &[
        "the square root under a distance has gradient 0 at 0, where the authors' code clamps at 1e-12",
        "features are taken as they are, not normalised",
    ],
    weights: &[("ce", 1.0), ("kd", 0.0), ("distance", 25.0), ("angle", 50.0)],
    temperature: 4.0,
    layers: Layers::Features,
    build: Build::Teacher(|_: &Setup| Ok(Box::new(Rkd))),
    ..SchemeSpec::BASE
};

struct Rkd;

impl Scheme for Rkd {
    fn terms(&self, view: &View, settings: &Settings) -> Result<Vec<Term>> {
        let mut terms = Vec::new();
        for (student, teacher) in view.student.values.iter().zip(&view.teacher.values) {
            let (student, teacher) = (flat(student)?, flat(teacher)?);
            for (name, loss) in [("distance", relation_distance as fn(&_, &_) -> _), ("angle", relation_angle)] {
                let weight = settings.weight(name);
                if weight != 0.0 {
                    terms.push(Term { name, weight, value: loss(&student, &teacher)? });
                }
            }
        }
        Ok(terms)
    }
}
