//! Floor 7: knowledge distillation. A student network learns from labels and from what a trained teacher says about the same
//! images. Losses are functions ([`losses`]), a scheme is one file and one row in [`ALL`].
//!
//! Rows are sorted as in the survey of Gou et al. (2021): what is passed on (the outputs, features inside, relations between
//! samples) and when the teacher is trained (before: offline).

mod attention;
mod distiller;
mod dkd;
mod fitnets;
mod hinton;
mod logit_mse;
pub mod losses;
mod rkd;
mod settings;
mod similarity;
mod student;
mod teachers;

pub use distiller::Distiller;
pub use settings::SCHEME;
pub use student::Student;
pub use teachers::{TeacherMean, TeacherMode, combined};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{Parameters, Term};
use crate::tensor::Tensor;

/// What is passed on from teacher to student.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// The outputs.
    Response,
    /// Values inside.
    Feature,
    /// How samples lie to each other.
    Relation,
}

/// When the teacher is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Training {
    /// Before the student.
    Offline,
}

/// Which layers a scheme compares unless somebody says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layers {
    /// None: outputs only.
    None,
    /// The penultimate features of both.
    Features,
    /// The last stage of both.
    LastStage,
    /// Each stage of the student, with the last one of the teacher that has maps of the same size.
    Stages,
}

impl Layers {
    /// For a person.
    pub fn describe(self) -> &'static str {
        match self {
            Layers::None => "none: outputs only",
            Layers::Features => "features, the penultimate layer of both, after its ReLU if it has one (--layers)",
            Layers::LastStage => "the last stage of both (--layers)",
            Layers::Stages => {
                "each stage of the student with the last of the teacher that has maps of the same size (--layers)"
            }
        }
    }
}

/// A row of the table of schemes.
#[derive(Debug)]
pub struct SchemeSpec {
    /// As on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The loss.
    pub formula: &'static str,
    /// Its place in the survey: what is passed on.
    pub knowledge: Knowledge,
    /// Its place in the survey: when the teacher is trained.
    pub training: Training,
    /// Where it is from.
    pub paper: &'static str,
    /// What differs from the paper, and why.
    pub deviations: &'static [&'static str],
    /// Names and usual weights of the terms of the loss.
    pub weights: &'static [(&'static str, f32)],
    /// T.
    pub temperature: f32,
    /// Which layers are compared.
    pub layers: Layers,
    build: fn(&Setup) -> Result<Box<dyn Scheme>>,
}

/// What a scheme is built for.
struct Setup<'a> {
    device: &'a Device,
    /// Names, and channels, height and width, of what is compared: of the student, of the teacher.
    pairs: &'a [(Compared, Compared)],
    seed: u64,
}

/// A value of a network that a scheme compares.
struct Compared {
    name: String,
    shape: [usize; 3],
}

/// What may be set about a scheme.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// T > 0, what logits are divided by.
    pub temperature: f32,
    /// The weight of each term, by its name in the row of the scheme.
    pub weights: Vec<(&'static str, f32)>,
    /// Names of layers of student and teacher; those of the row if empty.
    pub layers: Vec<(String, String)>,
    /// How batch norms of the teacher work.
    pub teacher_mode: TeacherMode,
    /// What is averaged over several teachers.
    pub teacher_mean: TeacherMean,
}

impl Settings {
    /// The weight of a term.
    pub fn weight(&self, name: &str) -> f32 {
        self.weights.iter().find(|(own, _)| *own == name).map_or(0.0, |(_, weight)| *weight)
    }

    /// Changes the weight of a term.
    ///
    /// # Errors
    /// If the scheme has no such term, or the weight is negative or no number.
    pub fn set_weight(&mut self, name: &str, weight: f32) -> Result<()> {
        let known: Vec<&str> = self.weights.iter().map(|(name, _)| *name).collect();
        let Some((_, own)) = self.weights.iter_mut().find(|(own, _)| *own == name) else {
            let message =
                format!("--weight {name}={weight}: the scheme has no such term: there are {}", known.join(", "));
            return Err(Error::usage(message));
        };
        if !(weight >= 0.0 && weight.is_finite()) {
            return Err(Error::usage(format!("--weight {name}={weight}: it must be 0 or a positive number")));
        }
        *own = weight;
        Ok(())
    }

    /// Fails if T or the weights make no sense for the scheme of this name.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check(&self, scheme: &str) -> Result<()> {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(Error::usage(format!("--temperature {}: it must be a positive number", self.temperature)));
        }
        if self.weights.iter().all(|(_, weight)| *weight == 0.0) {
            let known: Vec<&str> = self.weights.iter().map(|(name, _)| *name).collect();
            let message =
                format!("all weights of '{scheme}' are 0: there is nothing to learn. Terms: {}", known.join(", "));
            return Err(Error::usage(message));
        }
        if self.weights.iter().all(|(name, weight)| *name == "ce" || *weight == 0.0) {
            let message = format!("all weights of '{scheme}' but that of ce are 0: nothing comes from the teacher");
            return Err(Error::usage(message));
        }
        Ok(())
    }
}

/// What a network says about a batch, and the values that a scheme compares.
pub struct Seen {
    /// (N, classes); of several teachers their mean.
    pub logits: Tensor,
    /// In the order of the compared layers.
    pub values: Vec<Tensor>,
}

/// What a scheme makes its loss of.
pub struct View<'a> {
    /// With gradients.
    pub student: &'a Seen,
    /// Without.
    pub teacher: &'a Seen,
    /// (N), u32.
    pub labels: &'a Tensor,
    /// The part of the training that is over, in 0..1.
    pub progress: f32,
}

/// The scheme's own part of a loss; cross-entropy and Hinton's term are everybody's and added by the [`Distiller`].
trait Scheme {
    /// Its terms, with the weights of the settings.
    fn terms(&self, view: &View, settings: &Settings) -> Result<Vec<Term>>;

    /// What is trained along with the student and thrown away with the teacher.
    fn parameters(&self) -> Option<&Parameters> {
        None
    }
}

/// Every scheme.
pub static ALL: &[SchemeSpec] =
    &[hinton::SPEC, dkd::SPEC, logit_mse::SPEC, fitnets::SPEC, attention::SPEC, rkd::SPEC, similarity::SPEC];

/// The row of this name.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn spec(name: &str) -> Result<&'static SchemeSpec> {
    ALL.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|spec| spec.name).collect();
        Error::usage(format!("unknown scheme '{name}': there are {}", known.join(", ")))
    })
}

impl SchemeSpec {
    /// The usual settings.
    pub fn settings(&self) -> Settings {
        Settings {
            temperature: self.temperature,
            weights: self.weights.to_vec(),
            layers: Vec::new(),
            teacher_mode: TeacherMode::Eval,
            teacher_mean: TeacherMean::Probabilities,
        }
    }
}
