//! Everything that decides a run, resolved and checked.

use crate::continual::{self, Candidates, Herding, MethodSpec, OptionFlags, Rounding};
use crate::data::{Augmentation, ClassOrder, ImageFormat, Labels, LoadOptions, Normalize, Scenario, Source, Split};
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::models::{self, Shortcut};
use crate::optim::{Decay, Kind, Schedule, Velocity};
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;

/// Settings of the place where a run is, which leave its results as they are.
const PLACE: [&str; 4] = ["adapter", "device", "threads", "data_dir"];

/// More are a mistake, and starting them takes all of a machine.
const MOST_THREADS: usize = 4096;
/// More images than any data set here has.
const MOST_MEMORY: usize = 1 << 30;

/// A run, resolved.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// Of engram.
    pub version: &'static str,
    /// The row of the method: one of [`ALL`](crate::continual::ALL), or one of your own.
    #[serde(serialize_with = "as_name")]
    pub method: &'static MethodSpec,
    /// The name of a data set.
    pub dataset: String,
    /// The folder with data files.
    pub data_dir: PathBuf,
    /// Which labels of a data set that has two kinds.
    pub labels: Labels,
    /// What pictures of a folder become.
    #[serde(serialize_with = "as_text")]
    pub image_format: ImageFormat,
    /// How pixels are brought around zero.
    pub normalize: Normalize,
    /// Random changes of training images.
    pub augment: Augmentation,
    /// The name of a network.
    pub model: String,
    /// Factor on the channels of every layer.
    pub width: f32,
    /// Shortcuts of a residual network; the model's own if `None`.
    pub shortcut: Option<Shortcut>,
    /// Whether a residual network's last block ends in a ReLU.
    pub last_relu: bool,
    /// ε of batch norms.
    pub bn_epsilon: f32,
    /// What was asked for: auto, cpu, gpu, gpu:INDEX or gpu:NAME.
    pub device: String,
    /// How products are computed.
    pub precision: Precision,
    /// What `device` turned out to be; set when it is opened.
    pub adapter: String,
    /// CPU threads; all if `None`.
    pub threads: Option<usize>,
    /// What changes from task to task.
    pub scenario: Scenario,
    /// Classes of the first task; as many as in others if `None`.
    pub first_task: Option<usize>,
    /// Tasks of permuted and rotated streams.
    pub tasks: usize,
    /// So many percent of a task's images come from other tasks.
    pub blurry: usize,
    /// Batches between measurements of any-time accuracy.
    pub eval_every: Option<usize>,
    /// New classes per task.
    pub classes_per_task: usize,
    /// The order in which classes arrive.
    #[serde(serialize_with = "as_text")]
    pub class_order: ClassOrder,
    /// Training images per task; all if `None`.
    pub limit_per_task: Option<usize>,
    /// K, the exemplars kept over all classes.
    pub memory: usize,
    /// What becomes of K / classes when it does not divide.
    pub memory_rounding: Rounding,
    /// How exemplars are chosen.
    pub herding: Herding,
    /// What classifiers choose among.
    pub candidates: Candidates,
    /// The run ends after so many tasks of the stream.
    pub max_tasks: Option<usize>,
    /// Passes over a task's data.
    pub epochs: usize,
    /// Images per step.
    pub batch_size: usize,
    /// Which optimiser.
    pub optimizer: Kind,
    /// The learning rate at the start of a task.
    pub lr: f32,
    /// Epochs of a task, from 0, at whose start the rate drops.
    pub lr_steps: Vec<usize>,
    /// What the rate is multiplied with then.
    pub lr_decay: f32,
    /// Of SGD, in 0..1.
    pub momentum: f32,
    /// What the velocity of SGD sums up.
    pub velocity: Velocity,
    /// λ of the L2 penalty, whose gradient is λ·w.
    pub weight_decay: f32,
    /// What the penalty acts on.
    pub decay: Decay,
    /// Whether velocity and moments are forgotten between tasks.
    pub reset_optimizer: bool,
    /// Whether a last batch that is not full is left out.
    pub drop_last: bool,
    /// Keys every random number of the run.
    pub seed: u64,
    /// How many seeds the command runs, from `seed` upwards; a run itself has one.
    pub seeds: usize,
    /// Those that the method has, resolved.
    pub options: OptionFlags,
}

fn as_text<T: std::fmt::Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_name<S: serde::Serializer>(method: &MethodSpec, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(method.name)
}

impl Config {
    /// Refuses what makes no sense, for a data set of so many classes.
    pub(super) fn check(&self, method: &MethodSpec, n_classes: usize) -> Result<()> {
        models::spec(&self.model)?;
        let sizes = [
            ("--epochs", self.epochs),
            ("--batch-size", self.batch_size),
            ("--seeds", self.seeds),
            ("--classes-per-task", self.classes_per_task),
            ("--threads", self.threads.unwrap_or(1)),
            ("--limit-per-task", self.limit_per_task.unwrap_or(1)),
            ("--max-tasks", self.max_tasks.unwrap_or(1)),
            ("--tasks", self.tasks),
            ("--eval-every", self.eval_every.unwrap_or(1)),
            ("--first-task", self.first_task.unwrap_or(1)),
        ];
        for (flag, value) in sizes {
            if value == 0 {
                return Err(Error::usage(format!("{flag} must be at least 1")));
            }
        }
        if self.classes_per_task > n_classes {
            let n = self.classes_per_task;
            return Err(Error::usage(format!(
                "--classes-per-task {n}: '{}' has only {n_classes} classes",
                self.dataset
            )));
        }
        if self.seed.checked_add(self.seeds as u64 - 1).is_none() {
            let (seed, n) = (self.seed, self.seeds);
            return Err(Error::usage(format!("--seed {seed} with --seeds {n}: the last seed is above {}", u64::MAX)));
        }
        if self.threads.is_some_and(|threads| threads > MOST_THREADS) {
            return Err(Error::usage(format!("--threads: at most {MOST_THREADS}")));
        }
        if self.memory > MOST_MEMORY {
            return Err(Error::usage(format!("--memory {}: at most {MOST_MEMORY}", self.memory)));
        }
        if self.data_dir.to_str().is_none() {
            let path = self.data_dir.display();
            return Err(Error::usage(format!(
                "--data-dir {path}: this path is no UTF-8, so config.json could not keep it"
            )));
        }
        self.check_scenario(method)?;
        let n_stream = self.class_order.classes(n_classes)?.len();
        if method.uses_memory && self.memory < n_stream {
            return Err(Error::usage(format!(
                "--memory {} is less than one exemplar for each of the {n_stream} classes: give at least --memory {n_stream}",
                self.memory
            )));
        }
        let ranges = [
            ("--lr", self.lr, f32::MIN_POSITIVE, f32::MAX),
            ("--lr-decay", self.lr_decay, f32::MIN_POSITIVE, f32::MAX),
            ("--momentum", self.momentum, 0.0, 0.999_999),
            ("--weight-decay", self.weight_decay, 0.0, f32::MAX),
        ];
        for (flag, value, low, high) in ranges {
            if !(value >= low && value <= high) {
                let range = if low > 0.0 { "a positive number" } else { "0 or a positive number" };
                let below_one = if high < 1.0 { " below 1" } else { "" };
                return Err(Error::usage(format!("{flag} {value}: it must be {range}{below_one}")));
            }
        }
        Ok(())
    }

    fn check_scenario(&self, method: &MethodSpec) -> Result<()> {
        let refuse = |message: String| Err(Error::usage(message));
        let (name, scenario) = (method.name, self.scenario.name());
        if !method.scenarios.contains(&self.scenario) {
            let suits: Vec<&str> = method.scenarios.iter().map(|scenario| scenario.name()).collect();
            return refuse(format!("{name} does not suit --scenario {scenario}: it suits {}", suits.join(", ")));
        }
        if self.blurry > 0 && (self.scenario != Scenario::Class || self.blurry > 99) {
            return refuse(format!("--blurry {}: a percentage from 1 to 99, with --scenario class", self.blurry));
        }
        if self.blurry > 0 && method.needs_boundaries {
            return refuse(format!("{name} must be told where a task ends, and a blurry stream has no such places"));
        }
        if self.candidates == Candidates::All && (self.scenario != Scenario::Class || self.blurry > 0) {
            let stream = if self.blurry > 0 { "a blurry stream" } else { "one of --scenario " };
            let name = if self.blurry > 0 { "" } else { scenario };
            return refuse(format!(
                "--candidates all: in {stream}{name} no class is still to come that could be answered; leave it out, or give \
                 --candidates seen"
            ));
        }
        if self.scenario.is_view() && self.first_task.is_some() {
            return refuse(format!("--first-task: every task of --scenario {scenario} has all classes"));
        }
        Ok(())
    }

    /// Every setting that decides results, by name: not where a run takes place and where its data lie.
    pub fn identity(&self) -> Value {
        // Through text, so that numbers are what a reader of a file makes of them.
        let text = serde_json::to_string(self).expect("bug: a configuration is no JSON");
        let mut all: Value = serde_json::from_str(&text).expect("bug: a configuration is no JSON");
        if let Some(fields) = all.as_object_mut() {
            PLACE.iter().for_each(|name| drop(fields.remove(*name)));
        }
        all
    }

    /// What the method is built from.
    pub fn method_options(&self) -> continual::Options {
        let Config { memory, memory_rounding: rounding, herding, candidates, .. } = *self;
        let own = continual::Options::of(self.method).with(&self.options);
        continual::Options { memory, rounding, herding, candidates, ..own }
    }

    /// How the data set becomes a stream.
    pub fn split(&self) -> Split {
        Split {
            scenario: self.scenario,
            classes_per_task: self.classes_per_task,
            first_task: if self.method.sees_everything && self.scenario == Scenario::Class {
                None
            } else {
                self.first_task
            },
            n_tasks: self.tasks,
            order: self.class_order.clone(),
            limit_per_task: self.limit_per_task,
            blurry: self.blurry,
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
            format: self.image_format,
            normalize: self.normalize,
        }
    }

    /// What is changed about the model.
    pub fn model_options(&self) -> models::Options {
        let Config { width, shortcut, last_relu, bn_epsilon, .. } = *self;
        models::Options { width, shortcut, last_relu, bn_epsilon }
    }

    /// The learning rate by epoch.
    pub fn schedule(&self) -> Schedule {
        Schedule { lr: self.lr, steps: self.lr_steps.clone(), decay: self.lr_decay }
    }
}
