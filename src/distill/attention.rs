//! Zagoruyko, Komodakis: "Paying more attention to attention", ICLR 2017.

use super::fitnets::same_size;
use super::losses::attention;
use super::{Build, Knowledge, Layers, Scheme, SchemeSpec, Settings, Setup, Term, Training, View};
use crate::error::{Error, Result};

pub const SPEC: SchemeSpec = SchemeSpec {
    name: "attention",
    summary: "where in the image the teacher's feature maps are large",
    formula: "ce·CE + at·Σ_stages mean((Q_s/‖Q_s‖ − Q_t/‖Q_t‖)²), Q = mean over channels of squared values",
    knowledge: Knowledge::Feature,
    training: Training::Offline,
    paper: "Zagoruyko and Komodakis, ICLR 2017",
    deviations: &["the mean of squares of the authors' code, weight 1000; the paper writes a norm, summed"],
    weights: &[("ce", 1.0), ("kd", 0.0), ("at", 1000.0)],
    temperature: 4.0,
    layers: Layers::Stages,
    build: Build::Teacher(|setup: &Setup| {
        for (student, teacher) in setup.pairs {
            same_size(student, teacher)?;
            if student.shape[1] * student.shape[2] == 1 {
                let name = &student.name;
                return Err(Error::usage(format!("'{name}' is a vector: attention needs maps of height and width")));
            }
        }
        Ok(Box::new(Attention))
    }),
    ..SchemeSpec::BASE
};

struct Attention;

impl Scheme for Attention {
    fn terms(&self, view: &View, settings: &Settings) -> Result<Vec<Term>> {
        let weight = settings.weight("at");
        let pairs = view.student.values.iter().zip(&view.teacher.values);
        pairs.map(|(s, t)| Ok(Term { name: "at", weight, value: attention(s, t)? })).collect()
    }
}
