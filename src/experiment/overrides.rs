//! What may be set about a run: flags, a configuration file, a preset; in falling order of precedence, over the defaults of
//! the data set.

use super::config::Config;
use super::recipes::recipe;
use crate::continual::{Candidates, Herding, MethodSpec, OptionFlags, Rounding};
use crate::data::{Augmentation, Labels, Normalize, Scenario, Source};
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::models::{self, Shortcut};
use crate::optim::{Decay, Kind, Velocity};
use crate::records::sealed;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// The settings of a run, in its folder.
pub const CONFIG_FILE: &str = "config.json";

/// What a configuration file or the command line may set. A run's own `config.json` is such a file.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    /// Data set: a name from `engram datasets`, or folder:DIR [default: glyphs]
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
    /// Around zero by the mean and deviation of each channel or by the mean image, or as 0 to 1 [default: channel]
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
    /// How products are computed: full (f32), or mixed or split (from f16, where the adapter multiplies matrices of it)
    /// [default: full]
    #[arg(long, value_name = "HOW", hide_possible_values = true)]
    pub precision: Option<Precision>,
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
    /// New classes per task [default: 2]; 10 where there are 100 classes or more
    #[arg(long, value_name = "N")]
    pub classes_per_task: Option<usize>,
    /// natural, seed:N, icarl or icarl-1993 (CIFAR-100), or a list of numbers or names such as 3,1,4 [default: natural]
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
    /// What the velocity of sgd sums up: gradients (PyTorch), or steps, which hold the rate of their time [default: gradients]
    #[arg(long, value_name = "WHAT")]
    pub velocity: Option<Velocity>,
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
    /// As `method`; a run that goes on looks at it.
    #[arg(skip)]
    pub checksum: Option<String>,
}

/// Settings of a JSON file.
///
/// # Errors
/// If it cannot be read, is no JSON, or has a field that is unknown or of the wrong type.
pub(super) fn read_settings<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    // Editors of some systems begin a file with a mark of its encoding.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    serde_json::from_str(text).map_err(|e| Error::usage(format!("{}: no valid configuration: {e}", path.display())))
}

/// Settings of the `config.json` of a run that is to go on.
///
/// # Errors
/// As of a configuration file; if the file was changed since the run began.
pub(super) fn read_own_settings<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T> {
    let path = folder.join(name);
    let value = sealed::read_value(folder, name)?;
    if sealed::is_intact(&value) == Some(false) {
        return Err(Error::file(
            &path,
            "damaged, or changed since the run began: put it back as it was, or start a new run with --config",
        ));
    }
    read_settings(&path)
}

impl Overrides {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// If it cannot be read, is no JSON, or has a field that is unknown or of the wrong type.
    pub fn from_file(path: &Path) -> Result<Overrides> {
        read_settings(path)
    }

    /// The settings of a run that is to go on, from the `config.json` in its folder.
    ///
    /// # Errors
    /// As [`Overrides::from_file`]; if the file was changed since the run began.
    pub fn of_run(folder: &Path) -> Result<Overrides> {
        read_own_settings(folder, CONFIG_FILE)
    }

    /// The settings of several runs that are to go on, from a file of this name.
    ///
    /// # Errors
    /// As [`Overrides::of_run`].
    pub fn of_plan(folder: &Path, name: &str) -> Result<Overrides> {
        read_own_settings(folder, name)
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
            precision: self.precision.or(other.precision),
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
            velocity: self.velocity.or(other.velocity),
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
            checksum: None,
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
            precision: self.precision.unwrap_or_default(),
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
            velocity: self.velocity.unwrap_or_default(),
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
