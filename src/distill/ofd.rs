//! Heo, Kim, Yun, Park, Kwak, Choi: "A comprehensive overhaul of feature distillation", ICCV 2019.

use super::fitnets::same_size;
use super::losses::{connected, margin, margin_relu, partial_error};
use super::{Build, Compared, Knowledge, Layers, Scheme, SchemeSpec, Seen, Settings, Setup, TeacherMode, Term};
use super::{Training, View, seed_along};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{Init, Parameter, Parameters, Statistics};
use crate::shape::Shape;
use crate::tensor::Tensor;

pub const SPEC: SchemeSpec = SchemeSpec {
    name: "ofd",
    summary: "features before the ReLU of each stage, cut off at a margin: the overhaul of features",
    formula: "ce·CE + ofd·Σ_{i=1..K} 2^(i−K)·1/B·Σ (r_i − t_i)², without those where r ≤ t ≤ 0; r = BN(1×1 conv(f_s)), t = \
              max(f_t, margin), margin = E[x | x < 0] of x ~ N(β, γ²) of the teacher's batch norm",
    knowledge: Knowledge::Feature,
    training: Training::Offline,
    paper: "Heo et al., ICCV 2019",
    deviations: &[
        "the squares are summed over channels and pixels, as in the authors' code: where they outweigh the labels at the first \
         step (the closing table says by how much), --weight ofd=1e-4 is the authors' advice",
        "the teacher's batch norms go by the batch, as the authors', but their running statistics stay; --teacher-mode eval is \
         the other way",
        "without a batch norm before the ReLU the margin is the mean of negative values over the training images, where the \
         authors suggest a running mean",
    ],
    weights: &[("ce", 1.0), ("kd", 0.0), ("ofd", 1e-3)],
    layers: Layers::StagesBeforeRelu,
    teacher_mode: TeacherMode::BatchStatistics,
    build: Build::Teacher(|setup: &Setup| Ok(Box::new(Ofd::new(setup)?))),
    ..SchemeSpec::BASE
};

/// The sum of a channel's negative values, and their number.
type Negatives = Vec<(f64, u64)>;

/// Where the teacher's values of a stage are cut off.
enum Margins {
    Known(Tensor),
    /// By what was seen of the teacher.
    Measured(Negatives),
}

struct Ofd {
    /// Weight, γ and β of each compared layer; none between twins.
    connectors: Option<Parameters>,
    statistics: Statistics,
    margins: Vec<Margins>,
}

impl Ofd {
    fn new(setup: &Setup) -> Result<Ofd> {
        let (mut entries, mut norms, mut margins) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (student, teacher)) in setup.pairs.iter().enumerate() {
            same_size(student, teacher)?;
            let ([s, ..], [t, height, width]) = (student.shape, teacher.shape);
            let shape = if height * width > 1 { Shape::new(&[t, s, 1, 1])? } else { Shape::new(&[t, s])? };
            // He's, by what goes out.
            let init = Init::Normal((2.0 / t as f32).sqrt());
            let entry =
                |name: &str, shape, init, decay| Parameter { name: format!("connector{i}.{name}"), shape, init, decay };
            entries.push(entry("weight", shape, init, true));
            entries.push(entry("norm.weight", [t].into(), Init::Constant(1.0), true));
            entries.push(entry("norm.bias", [t].into(), Init::Constant(0.0), false));
            norms.push((format!("connector{i}.norm"), t));
            margins.push(known_margins(setup, teacher)?);
        }
        let new = || Parameters::new(setup.device, entries, seed_along(setup.seed, 0));
        let connectors = (!setup.twins).then(new).transpose()?;
        Ok(Ofd { connectors, statistics: Statistics::new(setup.device, norms)?, margins })
    }
}

fn known_margins(setup: &Setup, teacher: &Compared) -> Result<Margins> {
    match setup.teacher.norm_of(&teacher.name)? {
        Some((gamma, beta)) => {
            let all = gamma.iter().zip(&beta).map(|(g, b)| margin(f64::from(*g), f64::from(*b)) as f32);
            tensor(setup.device, &all.collect::<Vec<f32>>()).map(Margins::Known)
        }
        None => Ok(Margins::Measured(vec![(0.0, 0); teacher.shape[0]])),
    }
}

fn tensor(device: &Device, margins: &[f32]) -> Result<Tensor> {
    Tensor::from_f32(device, [margins.len()], margins)
}

impl Margins {
    fn tensor(&self, device: &Device) -> Result<Tensor> {
        match self {
            Margins::Known(tensor) => Ok(tensor.clone()),
            Margins::Measured(negatives) if negatives.iter().all(|(_, n)| *n == 0) => Err(Error::op(
                "ofd",
                "no batch norm before the teacher's ReLU says where to cut, and nothing was measured: call \
                 Companions::prepare with the training images first",
            )),
            Margins::Measured(negatives) => {
                let mean = |(sum, n): &(f64, u64)| if *n == 0 { 0.0 } else { (sum / *n as f64) as f32 };
                tensor(device, &negatives.iter().map(mean).collect::<Vec<f32>>())
            }
        }
    }
}

impl Scheme for Ofd {
    fn terms(&self, view: &View, settings: &Settings) -> Result<Vec<Term>> {
        let (n, weight) = (self.margins.len(), settings.weight("ofd"));
        let mut terms = Vec::new();
        let pairs = view.student.values.iter().zip(&view.teacher.values);
        for (i, ((student, teacher), margins)) in pairs.zip(&self.margins).enumerate() {
            let hit = match &self.connectors {
                Some(all) => connected(student, &all.tensors()[3 * i..3 * i + 3], &self.statistics.arrays()[i])?,
                None => student.clone(),
            };
            let target = margin_relu(teacher, &margins.tensor(&teacher.device())?)?;
            let target = if target.shape() == hit.shape() { target } else { target.reshape(hit.shape())? };
            let weight = weight * 0.5f32.powi((n - 1 - i) as i32);
            terms.push(Term { name: "ofd", weight, value: partial_error(&hit, &target)? });
        }
        Ok(terms)
    }

    fn parameters(&self) -> Option<&Parameters> {
        self.connectors.as_ref()
    }

    fn wants_to_see(&self) -> bool {
        self.margins.iter().any(|margins| matches!(margins, Margins::Measured(_)))
    }

    fn see(&mut self, teacher: &Seen) -> Result<()> {
        for (margins, value) in self.margins.iter_mut().zip(&teacher.values) {
            let Margins::Measured(negatives) = margins else { continue };
            let pixels = value.n_elements() / (value.shape()[0] * negatives.len());
            for (i, plane) in value.to_vec()?.chunks_exact(pixels).enumerate() {
                let c = i % negatives.len();
                for x in plane.iter().filter(|x| **x < 0.0) {
                    negatives[c].0 += f64::from(*x);
                    negatives[c].1 += 1;
                }
            }
        }
        Ok(())
    }
}
