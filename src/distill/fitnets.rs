//! Romero, Ballas, Kahou, Chassang, Gatta, Bengio: "FitNets: hints for thin deep nets", ICLR 2015.

use super::{
    Build, Compared, Knowledge, Layers, Scheme, SchemeSpec, Settings, Setup, Term, Training, View, seed_along,
};
use crate::error::{Error, Result};
use crate::nn::{Init, Parameter, Parameters};
use crate::ops::Conv2d;
use crate::shape::Shape;

pub const SPEC: SchemeSpec = SchemeSpec {
    name: "fitnets",
    summary: "features inside the teacher, which a linear map of the student's must hit",
    formula: "ce·CE + hint·mean((r(f_s) − f_t)²), r linear (1×1 convolution for maps) and trained along",
    knowledge: Knowledge::Feature,
    training: Training::Offline,
    paper: "Romero et al., ICLR 2015",
    deviations: &[
        "one stage, hint and labels together, as in RepDistiller (weight 100); the paper trains the hint first",
        "the regressor is 1×1 and keeps height and width; the paper's may shrink them",
        "no batch norm and ReLU behind the regressor, as RepDistiller has: SGD at 0.1 diverges on residual networks with \
         weights of 100 and 30, not with 10",
    ],
    weights: &[("ce", 1.0), ("kd", 0.0), ("hint", 100.0)],
    temperature: 4.0,
    layers: Layers::Features,
    build: Build::Teacher(|setup: &Setup| Ok(Box::new(FitNets::new(setup)?))),
    ..SchemeSpec::BASE
};

struct FitNets {
    /// Weight and bias of each compared layer; none between twins.
    regressors: Option<Parameters>,
}

impl FitNets {
    fn new(setup: &Setup) -> Result<FitNets> {
        let mut entries = Vec::new();
        for (i, (student, teacher)) in setup.pairs.iter().enumerate() {
            same_size(student, teacher)?;
            let ([s, ..], [t, height, width]) = (student.shape, teacher.shape);
            let maps = height * width > 1;
            let shape = if maps { Shape::new(&[t, s, 1, 1])? } else { Shape::new(&[t, s])? };
            let init = Init::Uniform(1.0 / (s as f32).sqrt());
            entries.push(Parameter { name: format!("regressor{i}.weight"), shape, init, decay: true });
            entries.push(Parameter { name: format!("regressor{i}.bias"), shape: [t].into(), init, decay: false });
        }
        let new = || Parameters::new(setup.device, entries, seed_along(setup.seed, 0));
        Ok(FitNets { regressors: (!setup.twins).then(new).transpose()? })
    }
}

/// Fails unless maps of student and teacher have one height and width.
pub(super) fn same_size(student: &Compared, teacher: &Compared) -> Result<()> {
    let ([_, h, w], [_, height, width]) = (student.shape, teacher.shape);
    if (h, w) == (height, width) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "'{}' of the student is {h}×{w} and '{}' of the teacher {height}×{width}: choose layers of one size with --layers \
         STUDENT=TEACHER",
        student.name, teacher.name
    )))
}

impl Scheme for FitNets {
    fn terms(&self, view: &View, settings: &Settings) -> Result<Vec<Term>> {
        let weight = settings.weight("hint") / view.teacher.values.len() as f32;
        let mut terms = Vec::new();
        let pairs = view.student.values.iter().zip(&view.teacher.values);
        for (i, (student, teacher)) in pairs.enumerate() {
            let regressor = self.regressors.as_ref().map(|all| &all.tensors()[2 * i..2 * i + 2]);
            let hit = match regressor {
                None => student.clone(),
                Some([w, b]) if w.shape().len() == 2 => student.linear(w, Some(b))?,
                Some(regressor) => student.conv2d(&regressor[0], Some(&regressor[1]), Conv2d::new(1, 0))?,
            };
            let target =
                if teacher.shape().len() == hit.shape().len() { teacher } else { &teacher.reshape(hit.shape())? };
            terms.push(Term { name: "hint", weight, value: hit.mse(target)? });
        }
        Ok(terms)
    }

    fn parameters(&self) -> Option<&Parameters> {
        self.regressors.as_ref()
    }
}
