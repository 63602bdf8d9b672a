//! Floor 7: knowledge distillation. A student network learns from labels and from what a trained teacher says about the same
//! images. Losses are functions ([`losses`]), a scheme is one file and one row in [`ALL`].
//!
//! Rows are sorted as in the survey of Gou et al. (2021): what is passed on (the outputs, features inside, relations between
//! samples) and who teaches (a network that is trained before: offline; networks that are trained at once: online; the network
//! itself).

mod attention;
mod born_again;
mod byot;
mod companions;
mod distiller;
mod dkd;
mod dml;
mod fitnets;
mod hinton;
mod logit_mse;
pub mod losses;
mod ofd;
mod one;
mod rkd;
mod settings;
mod similarity;
mod student;
mod teachers;

pub use companions::{Answer, Companions};
pub use distiller::Distiller;
pub use dml::Peers;
pub use settings::SCHEME;
pub use student::Student;
pub use teachers::{TeacherMean, TeacherMode, combined};

use crate::device::Device;
use crate::error::{Error, Result, by_name};
use crate::models::Network;
use crate::nn::{Parameters, Term};
use crate::settings::{Origin, Setting, Values, resolve};
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

impl Knowledge {
    /// Every kind.
    pub const ALL: [Knowledge; 3] = [Knowledge::Response, Knowledge::Feature, Knowledge::Relation];

    /// For a person.
    pub fn name(self) -> &'static str {
        match self {
            Knowledge::Response => "response",
            Knowledge::Feature => "feature",
            Knowledge::Relation => "relation",
        }
    }
}

/// Who teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Training {
    /// A network that is trained before the student.
    Offline,
    /// Networks that are trained with the student.
    Online,
    /// The network itself.
    SelfTaught,
}

impl Training {
    /// Every kind.
    pub const ALL: [Training; 3] = [Training::Offline, Training::Online, Training::SelfTaught];

    /// For a person.
    pub fn name(self) -> &'static str {
        match self {
            Training::Offline => "offline",
            Training::Online => "online",
            Training::SelfTaught => "self",
        }
    }

    /// The same in a few words.
    pub fn describe(self) -> &'static str {
        match self {
            Training::Offline => "offline: a network that is trained before the student",
            Training::Online => "online: networks that are trained with the student, no teacher is needed",
            Training::SelfTaught => "self: the network itself, no teacher is needed",
        }
    }
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
    /// The same, also where stages are vectors, and before the ReLU.
    StagesBeforeRelu,
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
            Layers::StagesBeforeRelu => {
                "each stage of the student with the last of the teacher that has the same height and width, before the ReLU \
                 (--layers)"
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
    /// Its place in the survey: who teaches.
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
    /// What batch norms of the teacher go by.
    pub teacher_mode: TeacherMode,
    /// Whether its own terms look at labels.
    pub by_label: bool,
    /// Settings of its own.
    pub options: &'static [Setting],
    build: Build,
}

/// What a scheme is made by.
#[derive(Clone, Copy, Debug)]
enum Build {
    /// A part of the loss, from what a trained network says of the same images.
    Teacher(fn(&Setup) -> Result<Box<dyn Scheme>>),
    /// Everybody who is trained with the student.
    Together(fn(&Beginning) -> Result<Box<dyn Companions>>),
}

/// What a scheme with a teacher is built for.
struct Setup<'a> {
    device: &'a Device,
    /// Names, and channels, height and width, of what is compared: of the student, of the teacher.
    pairs: &'a [(Compared, Compared)],
    teacher: &'a Network,
    /// Whether student and teacher are of one architecture, and nothing is trained along.
    twins: bool,
    seed: u64,
}

/// What a scheme without one is built for.
struct Beginning<'a> {
    device: &'a Device,
    student: &'a Network,
    settings: &'a Settings,
    seed: u64,
}

/// Keys what is trained beside a student: the i-th of them must not start with the student's own first numbers.
pub fn seed_along(seed: u64, i: usize) -> u64 {
    seed.wrapping_add((i as u64 + 1) << 40)
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
    /// What only this scheme has.
    pub own: Values,
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

    /// Whether it must see what the teacher says of the training images before the first step.
    fn wants_to_see(&self) -> bool {
        false
    }

    /// What the teacher says of some of them.
    fn see(&mut self, _teacher: &Seen) -> Result<()> {
        Ok(())
    }

    /// What is trained along with the student and thrown away with the teacher.
    fn parameters(&self) -> Option<&Parameters> {
        None
    }
}

/// Every scheme.
pub static ALL: &[SchemeSpec] = &[
    hinton::SPEC,
    dkd::SPEC,
    logit_mse::SPEC,
    fitnets::SPEC,
    attention::SPEC,
    ofd::SPEC,
    rkd::SPEC,
    similarity::SPEC,
    dml::SPEC,
    one::SPEC,
    byot::SPEC,
    born_again::SPEC,
];

/// The row of this name.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn spec(name: &str) -> Result<&'static SchemeSpec> {
    by_name("scheme", name, ALL, |spec| spec.name)
}

impl SchemeSpec {
    /// What a row need not say.
    const BASE: SchemeSpec = SchemeSpec {
        name: "",
        summary: "",
        formula: "",
        knowledge: Knowledge::Response,
        training: Training::Offline,
        paper: "",
        deviations: &[],
        weights: &[],
        temperature: 4.0,
        layers: Layers::None,
        teacher_mode: TeacherMode::Eval,
        by_label: false,
        options: &[],
        build: Build::Teacher(|_| panic!("bug: a row without a scheme")),
    };

    /// The usual settings.
    pub fn settings(&self) -> Settings {
        self.settings_with(&[]).expect("bug: a default that is none")
    }

    /// The usual settings, and these of the scheme's own, such as `("branches", "2")`.
    ///
    /// # Errors
    /// [`Error::Usage`] if it has no such setting, or the value is none.
    pub fn settings_with(&self, own: &[(&str, &str)]) -> Result<Settings> {
        let rows: Vec<&'static Setting> = self.options.iter().collect();
        Ok(Settings {
            temperature: self.temperature,
            weights: self.weights.to_vec(),
            layers: Vec::new(),
            teacher_mode: self.teacher_mode,
            teacher_mean: TeacherMean::Probabilities,
            own: resolve(self.name, &rows, Values::of(&rows, own, &Origin::Flag)?)?,
        })
    }

    /// Whether a teacher is trained before the students.
    pub fn has_teacher(&self) -> bool {
        self.training == Training::Offline
    }

    /// Whether a network learns from one of its kind that learned before it, and so on.
    pub fn has_generations(&self) -> bool {
        self.training == Training::SelfTaught && matches!(self.build, Build::Teacher(_))
    }

    /// Those that a student learns with. `teachers` are trained: those of an offline scheme, the generation before of one with
    /// generations, else none. `seed` keys what is trained along.
    ///
    /// # Errors
    /// [`Error::Usage`] if something does not fit together: see [`Distiller::new`], and the rows' own settings.
    pub fn companions(
        &'static self,
        settings: &Settings,
        teachers: Vec<Network>,
        student: &Network,
        device: &Device,
        seed: u64,
    ) -> Result<Box<dyn Companions>> {
        match self.build {
            Build::Teacher(_) => Ok(Box::new(Distiller::new(self, settings.clone(), teachers, student, device, seed)?)),
            Build::Together(build) => {
                settings.check(self.name)?;
                build(&Beginning { device, student, settings, seed })
            }
        }
    }
}
