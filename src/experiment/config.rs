//! Everything that decides a run: defaults per data set, a configuration file, flags; in rising order of precedence.

use super::recipes::recipe;
use crate::continual::{self, Candidates, Herding, MethodSpec, OptionFlags, Rounding};
use crate::data::{Augmentation, ClassOrder, ImageFormat, Labels, LoadOptions, Normalize, Scenario, Source, Split};
use crate::error::{Error, Result};
use crate::models::{self, Shortcut};
use crate::optim::{Decay, Kind, Schedule};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What a configuration file or the command line may set. A run's own `config.json` is such a file.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    /// Data set: a name from `engram datasets`, or folder:DIR
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// Folder with data files [default: datasets]
    #[arg(long, value_name = "DIR", env = "ENGRAM_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Classes, or groups of classes where there are some [default: fine]
    #[arg(long, value_name = "KIND")]
    pub labels: Option<Labels>,
    /// What pictures of a folder become: rgbN or greyN [default: rgb32]
    #[arg(long, value_name = "FORMAT")]
    pub image_format: Option<String>,
    /// Around zero by the mean and deviation of each channel, or by the mean image [default: channel]
    #[arg(long, value_name = "HOW")]
    pub normalize: Option<Normalize>,
    /// Random changes of training images; with mirrors, class means are over mirror images too [default: none for
    /// writing and clothes, crop-flip for natural images]
    #[arg(long, value_name = "WHICH")]
    pub augment: Option<Augmentation>,
    /// Network: a name from `engram models` [default: cnn]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Factor on the channels of every layer [default: 1]
    #[arg(long, value_name = "FACTOR")]
    pub width: Option<f32>,
    /// Shortcuts of a residual network: a (no parameters) or b (1×1 convolutions) [default: the model's]
    #[arg(long, value_name = "KIND")]
    pub shortcut: Option<Shortcut>,
    /// Whether a residual network's last block ends in a ReLU [default: true]
    #[arg(long, value_name = "BOOL")]
    pub last_relu: Option<bool>,
    /// ε of batch norms [default: 1e-5]
    #[arg(long, value_name = "EPSILON")]
    pub bn_epsilon: Option<f32>,
    /// auto, cpu, gpu, gpu:INDEX or gpu:NAME [default: auto]
    #[arg(long, value_name = "WHICH")]
    pub device: Option<String>,
    /// CPU threads [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// What changes from task to task: class, task, domain, permuted or rotated [default: class]
    #[arg(long, value_name = "WHICH")]
    pub scenario: Option<Scenario>,
    /// Classes of the first task [default: as of the others]
    #[arg(long, value_name = "N")]
    pub first_task: Option<usize>,
    /// Tasks of permuted and rotated streams [default: 10]
    #[arg(long, value_name = "N")]
    pub tasks: Option<usize>,
    /// Blurry stream: so many percent of a task's images come from other tasks [default: 0]
    #[arg(long, value_name = "PERCENT")]
    pub blurry: Option<usize>,
    /// Measure any-time accuracy after every N batches [default: never]
    #[arg(long, value_name = "N")]
    pub eval_every: Option<usize>,
    /// New classes per task [default: 2], 10 from 100 classes on
    #[arg(long, value_name = "N")]
    pub classes_per_task: Option<usize>,
    /// natural, seed:N, icarl or icarl-1993 (CIFAR-100), or a list such as 3,1,4 [default: natural]
    #[arg(long, value_name = "ORDER")]
    pub class_order: Option<String>,
    /// Use at most this many training images per task, balanced over its classes [default: all]
    #[arg(long, value_name = "N")]
    pub limit_per_task: Option<usize>,
    /// K, the exemplars kept over all classes [default: see below]
    #[arg(long, value_name = "K")]
    pub memory: Option<usize>,
    /// What becomes of K/classes when it does not divide [default: ceil]
    #[arg(long, value_name = "HOW")]
    pub memory_rounding: Option<Rounding>,
    /// How exemplars are chosen: paper (algorithm 4) or original (the authors' code) [default: paper]
    #[arg(long, value_name = "HOW")]
    pub herding: Option<Herding>,
    /// What classifiers choose among: the classes seen, or all of the stream [default: seen]
    #[arg(long, value_name = "WHICH")]
    pub candidates: Option<Candidates>,
    /// End after the first N tasks [default: all]
    #[arg(long, value_name = "N")]
    pub max_tasks: Option<usize>,
    /// Passes over a task's data [default: see below]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Images per step [default: see below]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// sgd or adam [default: adam]
    #[arg(long, value_name = "NAME")]
    pub optimizer: Option<Kind>,
    /// Learning rate at the start of a task [default: 0.001]
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f32>,
    /// Epochs of a task at whose start the rate drops, such as 4,6 [default: none]
    #[arg(long, value_name = "EPOCHS", value_delimiter = ',')]
    pub lr_steps: Option<Vec<usize>>,
    /// What the rate is multiplied with then [default: 0.2]
    #[arg(long, value_name = "FACTOR")]
    pub lr_decay: Option<f32>,
    /// Momentum of sgd [default: 0.9]
    #[arg(long, value_name = "M")]
    pub momentum: Option<f32>,
    /// L2 penalty [default: see below]
    #[arg(long, value_name = "L")]
    pub weight_decay: Option<f32>,
    /// What it acts on: weights, or all (biases and shifts too) [default: weights]
    #[arg(long, value_name = "WHICH")]
    pub decay: Option<Decay>,
    /// Whether velocity and moments are forgotten between tasks [default: true]
    #[arg(long, value_name = "BOOL")]
    pub reset_optimizer: Option<bool>,
    /// Whether a last batch that is not full is left out [default: false]
    #[arg(long, value_name = "BOOL")]
    pub drop_last: Option<bool>,
    /// Seed of initialisation and order [default: 1]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Runs with N seeds, from --seed upwards, and prints mean ± sd [default: 1]
    #[arg(long, value_name = "N")]
    pub seeds: Option<usize>,
    /// What the method itself can be told.
    #[command(flatten)]
    pub options: OptionFlags,
    /// Written into config.json for the record; ignored when read.
    #[arg(skip)]
    pub method: Option<String>,
    /// As `method`.
    #[arg(skip)]
    pub version: Option<String>,
    /// As `method`.
    #[arg(skip)]
    pub adapter: Option<String>,
}

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

impl Overrides {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// If it cannot be read, is no JSON, or has a field that is unknown or of the wrong type.
    pub fn from_file(path: &Path) -> Result<Overrides> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::usage(format!("{}: no valid configuration: {e}", path.display())))
    }

    /// These settings, and where they are silent those of `other`.
    pub fn or(self, other: Overrides) -> Overrides {
        Overrides {
            dataset: self.dataset.or(other.dataset),
            data_dir: self.data_dir.or(other.data_dir),
            labels: self.labels.or(other.labels),
            image_format: self.image_format.or(other.image_format),
            normalize: self.normalize.or(other.normalize),
            augment: self.augment.or(other.augment),
            model: self.model.or(other.model),
            width: self.width.or(other.width),
            shortcut: self.shortcut.or(other.shortcut),
            last_relu: self.last_relu.or(other.last_relu),
            bn_epsilon: self.bn_epsilon.or(other.bn_epsilon),
            device: self.device.or(other.device),
            threads: self.threads.or(other.threads),
            scenario: self.scenario.or(other.scenario),
            first_task: self.first_task.or(other.first_task),
            tasks: self.tasks.or(other.tasks),
            blurry: self.blurry.or(other.blurry),
            eval_every: self.eval_every.or(other.eval_every),
            classes_per_task: self.classes_per_task.or(other.classes_per_task),
            class_order: self.class_order.or(other.class_order),
            limit_per_task: self.limit_per_task.or(other.limit_per_task),
            memory: self.memory.or(other.memory),
            memory_rounding: self.memory_rounding.or(other.memory_rounding),
            herding: self.herding.or(other.herding),
            candidates: self.candidates.or(other.candidates),
            max_tasks: self.max_tasks.or(other.max_tasks),
            epochs: self.epochs.or(other.epochs),
            batch_size: self.batch_size.or(other.batch_size),
            optimizer: self.optimizer.or(other.optimizer),
            lr: self.lr.or(other.lr),
            lr_steps: self.lr_steps.or(other.lr_steps),
            lr_decay: self.lr_decay.or(other.lr_decay),
            momentum: self.momentum.or(other.momentum),
            weight_decay: self.weight_decay.or(other.weight_decay),
            decay: self.decay.or(other.decay),
            reset_optimizer: self.reset_optimizer.or(other.reset_optimizer),
            drop_last: self.drop_last.or(other.drop_last),
            seed: self.seed.or(other.seed),
            seeds: self.seeds.or(other.seeds),
            options: self.options.or(other.options),
            method: None,
            version: None,
            adapter: None,
        }
    }

    /// Fills in what is not set and checks what is.
    ///
    /// # Errors
    /// If a name is unknown or a number makes no sense.
    pub fn resolve(self, method: &'static MethodSpec) -> Result<Config> {
        let dataset = self.dataset.unwrap_or_else(|| "glyphs".into());
        let source = Source::parse(&dataset)?;
        let labels = self.labels.unwrap_or_default();
        let n_classes = source.n_classes(labels)?;
        let image_format = self.image_format.as_deref().map(str::parse).transpose()?.unwrap_or_default();
        let recipe_name = match &source {
            Source::Known(spec) => spec.name,
            Source::Folder(_) => "folder",
        };
        let recipe = recipe(recipe_name, method);
        let usual = models::Options::default();
        let few = if n_classes < 100 { 2 } else { 10 };
        let scenario = self.scenario.unwrap_or_default();
        let config = Config {
            version: env!("CARGO_PKG_VERSION"),
            method,
            data_dir: self.data_dir.unwrap_or_else(|| "datasets".into()),
            labels,
            image_format,
            normalize: self.normalize.unwrap_or_default(),
            augment: self.augment.unwrap_or_else(|| source.augmentation(image_format)),
            model: self.model.unwrap_or_else(|| "cnn".into()),
            width: self.width.unwrap_or(usual.width),
            shortcut: self.shortcut,
            last_relu: self.last_relu.unwrap_or(usual.last_relu),
            bn_epsilon: self.bn_epsilon.unwrap_or(usual.bn_epsilon),
            device: self.device.unwrap_or_else(|| "auto".into()),
            adapter: String::new(),
            threads: self.threads,
            scenario,
            first_task: self.first_task,
            tasks: self.tasks.unwrap_or(10),
            blurry: self.blurry.unwrap_or(0),
            eval_every: self.eval_every,
            classes_per_task: match method.sees_everything && scenario == Scenario::Class {
                true => n_classes,
                false => self.classes_per_task.unwrap_or(few),
            },
            class_order: self.class_order.as_deref().unwrap_or("natural").parse()?,
            limit_per_task: self.limit_per_task,
            memory: self.memory.unwrap_or(recipe.memory),
            memory_rounding: self.memory_rounding.unwrap_or(Rounding::Ceil),
            herding: self.herding.unwrap_or_default(),
            candidates: self.candidates.unwrap_or_default(),
            max_tasks: self.max_tasks,
            epochs: self.epochs.unwrap_or(recipe.epochs),
            batch_size: self.batch_size.unwrap_or(recipe.batch_size),
            optimizer: self.optimizer.unwrap_or(Kind::Adam),
            lr: self.lr.unwrap_or(1e-3),
            lr_steps: self.lr_steps.unwrap_or_default(),
            lr_decay: self.lr_decay.unwrap_or(0.2),
            momentum: self.momentum.unwrap_or(0.9),
            weight_decay: self.weight_decay.unwrap_or(recipe.weight_decay),
            decay: self.decay.unwrap_or_default(),
            reset_optimizer: self.reset_optimizer.unwrap_or(true),
            drop_last: self.drop_last.unwrap_or(false),
            seed: self.seed.unwrap_or(1),
            seeds: self.seeds.unwrap_or(1),
            options: self.options.resolve(method)?,
            dataset,
        };
        config.check(method, n_classes)?;
        Ok(config)
    }
}

impl Config {
    fn check(&self, method: &MethodSpec, n_classes: usize) -> Result<()> {
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
        if self.scenario.is_view() && self.first_task.is_some() {
            return refuse(format!("--first-task: every task of --scenario {scenario} has all classes"));
        }
        Ok(())
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
