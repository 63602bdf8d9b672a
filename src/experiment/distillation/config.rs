//! Everything that decides a distillation, resolved and checked.

use super::overrides::DistillOverrides;
use crate::data::{Augmentation, Labels, LoadOptions, Normalize, Source};
use crate::device::Precision;
use crate::distill::{self, SchemeSpec, Settings, TeacherMean, TeacherMode};
use crate::error::{Error, Result};
use crate::models;
use crate::optim::{Decay, Kind};
use crate::training::{self, Fall, Schedule, WarmUp};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a learning rate falls over a whole training, step by step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Course {
    /// To 0 at the end, as [`Fall::Cosine`].
    #[default]
    Cosine,
    /// It does not.
    Constant,
}

/// How a network is trained.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Recipe {
    /// Passes over the images.
    pub epochs: usize,
    /// Images per step.
    pub batch_size: usize,
    /// Which optimiser.
    pub optimizer: Kind,
    /// The rate at the start.
    pub lr: f32,
    /// How it falls.
    pub schedule: Course,
    /// Of SGD, in 0..1.
    pub momentum: f32,
    /// λ of the L2 penalty on weights.
    pub weight_decay: f32,
}

impl Recipe {
    /// For a trainer.
    pub fn training(&self) -> training::Recipe {
        let fall = match self.schedule {
            Course::Cosine => Fall::Cosine,
            Course::Constant => Fall::Constant,
        };
        training::Recipe {
            epochs: self.epochs,
            batch_size: self.batch_size,
            drop_last: false,
            schedule: Schedule { lr: self.lr, fall, warm_up: WarmUp::default() },
            optimizer: self.optimizer,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            decay: Decay::Weights,
        }
    }
}

/// A distillation, resolved.
#[derive(Clone, Debug)]
pub struct DistillConfig {
    /// Of engram.
    pub version: &'static str,
    /// The name of the scheme.
    pub scheme: &'static str,
    /// Names of the teachers' networks.
    pub teacher: Vec<String>,
    /// Files of their weights; empty if they are trained here.
    pub teacher_weights: Vec<PathBuf>,
    /// Factor on the teachers' channels.
    pub teacher_width: f32,
    /// The name of the student's network.
    pub student: String,
    /// Factor on the student's channels.
    pub student_width: f32,
    /// The name of the data set.
    pub dataset: String,
    /// Where its files lie.
    pub data_dir: PathBuf,
    /// Which labels of a set that has two kinds.
    pub labels: Labels,
    /// What pictures of a folder become.
    pub image_format: String,
    /// Random changes of training images.
    pub augment: Augmentation,
    /// What was asked for.
    pub device: String,
    /// How products are computed.
    pub precision: Precision,
    /// What it turned out to be.
    pub adapter: String,
    /// CPU threads; all if `None`.
    pub threads: Option<usize>,
    /// T.
    pub temperature: f32,
    /// Weight of each term of the loss.
    pub weights: Vec<(&'static str, f32)>,
    /// Layers of student and teacher that are compared; the scheme's own if empty.
    pub layers: Vec<(String, String)>,
    /// What the teachers' batch norms go by.
    pub teacher_mode: TeacherMode,
    /// What is averaged over several teachers.
    pub teacher_mean: TeacherMean,
    /// Labelled images of the students; all if `None`.
    pub limit: Option<usize>,
    /// Those of the teachers.
    pub teacher_limit: Option<usize>,
    /// Parts of the students' images, in falling order of use.
    pub train_fraction: Vec<f64>,
    /// A class without images for the students.
    pub omit_class: Option<u32>,
    /// How both students are trained.
    pub recipe: Recipe,
    /// How teachers are trained.
    pub teacher_recipe: Recipe,
    /// The first pair's.
    pub seed: u64,
    /// Pairs.
    pub seeds: usize,
    /// The first teacher's.
    pub teacher_seed: u64,
    /// Where trained teachers are kept.
    pub teacher_cache: PathBuf,
}

impl DistillConfig {
    /// Refuses what makes no sense, for a data set of so many classes.
    pub(super) fn check(&self, n_classes: usize) -> Result<()> {
        for name in self.teacher.iter().chain([&self.student]) {
            models::spec(name)?;
        }
        let (n, files) = (self.teacher.len(), self.teacher_weights.len());
        if files != 0 && files != n {
            return Err(Error::usage(format!("{files} files of weights for {n} teachers: one for each, or none")));
        }
        let sizes = [
            ("--epochs", self.recipe.epochs),
            ("--teacher-epochs", self.teacher_recipe.epochs),
            ("--batch-size", self.recipe.batch_size),
            ("--teacher-batch-size", self.teacher_recipe.batch_size),
            ("--seeds", self.seeds),
            ("--threads", self.threads.unwrap_or(1)),
            ("--limit", self.limit.unwrap_or(1)),
            ("--teacher-limit", self.teacher_limit.unwrap_or(1)),
            ("--teacher", self.teacher.len()),
        ];
        for (flag, value) in sizes {
            if value == 0 {
                return Err(Error::usage(format!("{flag} must be at least 1")));
            }
        }
        let positive = [("--lr", self.recipe.lr), ("--teacher-lr", self.teacher_recipe.lr)];
        for (flag, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::usage(format!("{flag} {value}: it must be a positive number")));
            }
        }
        let (momentum, decay) = (self.recipe.momentum, self.recipe.weight_decay);
        if !(0.0..1.0).contains(&momentum) {
            return Err(Error::usage(format!("--momentum {momentum}: it must be 0 or a positive number below 1")));
        }
        if !(decay >= 0.0 && decay.is_finite()) {
            return Err(Error::usage(format!("--weight-decay {decay}: it must be 0 or a positive number")));
        }
        if let Some(part) = self.train_fraction.iter().find(|part| !(**part > 0.0 && **part <= 1.0)) {
            return Err(Error::usage(format!("--train-fraction {part}: parts are above 0 and at most 1")));
        }
        match self.omit_class {
            Some(class) if class as usize >= n_classes => {
                Err(Error::usage(format!("--omit-class {class}: the classes are 0 to {}", n_classes - 1)))
            }
            _ => Ok(()),
        }
    }

    /// Every setting as a flag, for `config.json`: such a file repeats the run.
    pub fn record(&self) -> DistillOverrides {
        let pairs = |(student, teacher): &(String, String)| format!("{student}={teacher}");
        DistillOverrides {
            scheme: Some(self.scheme.into()),
            teacher: Some(self.teacher.clone()),
            teacher_weights: (!self.teacher_weights.is_empty()).then(|| self.teacher_weights.clone()),
            teacher_width: Some(self.teacher_width),
            student: Some(self.student.clone()),
            student_width: Some(self.student_width),
            dataset: Some(self.dataset.clone()),
            data_dir: Some(self.data_dir.clone()),
            labels: Some(self.labels),
            image_format: Some(self.image_format.clone()),
            augment: Some(self.augment),
            device: Some(self.device.clone()),
            precision: Some(self.precision),
            threads: self.threads,
            temperature: Some(self.temperature),
            weight: Some(self.weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect()),
            alpha_on_ce: None,
            alpha_on_kd: None,
            lambda_on_ce: None,
            layers: (!self.layers.is_empty()).then(|| self.layers.iter().map(pairs).collect()),
            teacher_mode: Some(self.teacher_mode),
            teacher_mean: Some(self.teacher_mean),
            limit: self.limit,
            teacher_limit: self.teacher_limit,
            train_fraction: Some(self.train_fraction.clone()),
            omit_class: self.omit_class,
            epochs: Some(self.recipe.epochs),
            batch_size: Some(self.recipe.batch_size),
            optimizer: Some(self.recipe.optimizer),
            lr: Some(self.recipe.lr),
            schedule: Some(self.recipe.schedule),
            momentum: Some(self.recipe.momentum),
            weight_decay: Some(self.recipe.weight_decay),
            teacher_epochs: Some(self.teacher_recipe.epochs),
            teacher_batch_size: Some(self.teacher_recipe.batch_size),
            teacher_lr: Some(self.teacher_recipe.lr),
            seed: Some(self.seed),
            seeds: Some(self.seeds),
            teacher_seed: Some(self.teacher_seed),
            teacher_cache: Some(self.teacher_cache.clone()),
            version: Some(self.version.into()),
            adapter: Some(self.adapter.clone()),
            checksum: None,
        }
    }

    /// The row of the scheme.
    pub fn spec(&self) -> &'static SchemeSpec {
        distill::spec(self.scheme).expect("bug: a configuration with an unknown scheme")
    }

    /// What is set about the scheme.
    pub fn settings(&self) -> Settings {
        Settings {
            temperature: self.temperature,
            weights: self.weights.clone(),
            layers: self.layers.clone(),
            teacher_mode: self.teacher_mode,
            teacher_mean: self.teacher_mean,
        }
    }

    /// The data set by name.
    pub fn source(&self) -> Source {
        Source::parse(&self.dataset).expect("bug: a configuration with an unknown data set")
    }

    /// How to load it.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            data_dir: self.data_dir.clone(),
            labels: self.labels,
            format: self.image_format.parse().expect("bug: a format that was checked"),
            normalize: Normalize::Channel,
        }
    }
}
