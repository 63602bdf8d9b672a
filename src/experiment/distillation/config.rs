//! Everything that decides a distillation: flags over a preset over defaults.

use crate::data::{Augmentation, ImageFormat, Labels, LoadOptions, Normalize, Source};
use crate::distill::{self, SchemeSpec, Settings, TeacherMean, TeacherMode, losses::Weights};
use crate::error::{Error, Result};
use crate::models;
use crate::optim::{Course, Kind};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What the command line, a preset or a configuration file may set.
#[derive(Clone, Debug, Default, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default, rename_all = "snake_case")]
pub struct DistillOverrides {
    /// A name from `engram distill list` [default: hinton]
    #[arg(long, value_name = "NAME")]
    pub scheme: Option<String>,
    /// Network of the teacher, from `engram models`; several with commas [default: cnn]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub teacher: Option<Vec<String>>,
    /// Trained weights of each teacher: a safetensors file of engram, or with PyTorch's names
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    pub teacher_weights: Option<Vec<PathBuf>>,
    /// Factor on the teacher's channels [default: 1]
    #[arg(long, value_name = "FACTOR")]
    pub teacher_width: Option<f32>,
    /// Network of the student [default: mlp]
    #[arg(long, value_name = "NAME")]
    pub student: Option<String>,
    /// Factor on the student's channels [default: 1]
    #[arg(long, value_name = "FACTOR")]
    pub student_width: Option<f32>,
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
    /// Random changes of training images; teacher and student see the same [default: none for writing and clothes, crop-flip
    /// for natural images]
    #[arg(long, value_name = "WHICH")]
    pub augment: Option<Augmentation>,
    /// auto, cpu, gpu, gpu:INDEX or gpu:NAME [default: auto]
    #[arg(long, value_name = "WHICH")]
    pub device: Option<String>,
    /// CPU threads [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// T, what logits are divided by [default: the scheme's]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Weights of terms of the loss, such as ce=0.1,kd=0.9; names are in `engram distill show NAME` [default: the scheme's]
    #[arg(long, value_name = "NAME=W", value_delimiter = ',')]
    pub weight: Option<Vec<String>>,
    /// ce=A, kd=1-A
    #[arg(long, value_name = "A", conflicts_with_all = ["alpha_on_kd", "lambda_on_ce"])]
    pub alpha_on_ce: Option<f32>,
    /// kd=A, ce=1-A
    #[arg(long, value_name = "A", conflicts_with = "lambda_on_ce")]
    pub alpha_on_kd: Option<f32>,
    /// kd=1, ce=L
    #[arg(long, value_name = "L")]
    pub lambda_on_ce: Option<f32>,
    /// Layers to compare, as STUDENT=TEACHER or one name for both, such as stage2; NAME:pre is before the ReLU [default: the
    /// scheme's]
    #[arg(long, value_name = "PAIRS", value_delimiter = ',')]
    pub layers: Option<Vec<String>>,
    /// What the teacher's batch norms go by: eval, or batch-statistics without moving the running ones [default: eval]
    #[arg(long, value_name = "MODE")]
    pub teacher_mode: Option<TeacherMode>,
    /// What is averaged over several teachers: probabilities at T, or logits [default: probabilities]
    #[arg(long, value_name = "WHAT")]
    pub teacher_mean: Option<TeacherMean>,
    /// Labelled images of both students, the same number of each class [default: 1000 of glyphs and shapes, else all]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Labelled images of the teacher [default: all]
    #[arg(long, value_name = "N")]
    pub teacher_limit: Option<usize>,
    /// Parts of the students' images to compare at, such as 1,0.3,0.1,0.03 [default: 1]
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    pub train_fraction: Option<Vec<f64>>,
    /// A class that the students never see: Hinton's missing digit
    #[arg(long, value_name = "CLASS")]
    pub omit_class: Option<u32>,
    /// Passes over the students' images [default: 20]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Images per step [default: 50]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// sgd or adam [default: adam]
    #[arg(long, value_name = "NAME")]
    pub optimizer: Option<Kind>,
    /// Learning rate at the start [default: 0.001]
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f32>,
    /// How the rate falls: cosine (to 0 at the end) or constant [default: cosine]
    #[arg(long, value_name = "HOW")]
    pub schedule: Option<Course>,
    /// Momentum of sgd [default: 0.9]
    #[arg(long, value_name = "M")]
    pub momentum: Option<f32>,
    /// L2 penalty on weights [default: 0]
    #[arg(long, value_name = "L")]
    pub weight_decay: Option<f32>,
    /// Passes over the teacher's images [default: 4]
    #[arg(long, value_name = "N")]
    pub teacher_epochs: Option<usize>,
    /// The teacher's images per step [default: 64]
    #[arg(long, value_name = "N")]
    pub teacher_batch_size: Option<usize>,
    /// The teacher's learning rate at the start [default: the student's]
    #[arg(long, value_name = "RATE")]
    pub teacher_lr: Option<f32>,
    /// Seed of initialisation and order [default: 1]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Pairs of students, from --seed upwards [default: 3]
    #[arg(long, value_name = "N")]
    pub seeds: Option<usize>,
    /// Seed of the teacher; of several, of the first [default: 1]
    #[arg(long, value_name = "N")]
    pub teacher_seed: Option<u64>,
    /// Where trained teachers are kept [default: runs/teachers]
    #[arg(long, value_name = "DIR")]
    pub teacher_cache: Option<PathBuf>,
    /// Written into config.json for the record; ignored when read.
    #[arg(skip)]
    pub version: Option<String>,
    /// As `version`.
    #[arg(skip)]
    pub adapter: Option<String>,
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

impl DistillOverrides {
    /// Reads a configuration file: the fields are the flags, with `_` for `-`.
    ///
    /// # Errors
    /// If it cannot be read, is no JSON, or has a field that is unknown or of the wrong type.
    pub fn from_file(path: &Path) -> Result<DistillOverrides> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::usage(format!("{}: no valid configuration: {e}", path.display())))
    }

    /// These settings, and where they are silent those of `other`.
    pub fn or(self, other: DistillOverrides) -> DistillOverrides {
        let fields = |of: &DistillOverrides| serde_json::to_value(of).expect("bug: settings are no JSON");
        let (mut merged, other) = (fields(&self), fields(&other));
        for (name, value) in merged.as_object_mut().expect("bug: settings are no object") {
            if value.is_null() {
                *value = other[name.as_str()].clone();
            }
        }
        serde_json::from_value(merged).expect("bug: settings do not come back from JSON")
    }

    /// The settings of an interrupted distillation in this folder, and over them these, of which only those may be set that
    /// leave its results as they are: `device`, `threads`, `data_dir`, `teacher_cache`.
    ///
    /// # Errors
    /// If there is no such distillation, another version of engram began it, or something else is set.
    pub fn over_interrupted(self, folder: &Path) -> Result<DistillOverrides> {
        let path = folder.join("config.json");
        if !path.exists() {
            return Err(Error::usage(format!("{}: there is no distillation to go on with", folder.display())));
        }
        let theirs = DistillOverrides::from_file(&path)?;
        let (version, ours) = (theirs.version.clone().unwrap_or_default(), env!("CARGO_PKG_VERSION"));
        if version != ours {
            let folder = folder.display();
            return Err(Error::usage(format!(
                "{folder}: engram {version} began it, and this is {ours}: go on with that one"
            )));
        }
        let free = ["device", "threads", "data_dir", "teacher_cache"];
        let set = serde_json::to_value(&self).expect("bug: settings are no JSON");
        let set = set.as_object().expect("bug: settings are no object").iter();
        let other = set.filter(|(name, value)| !value.is_null() && !free.contains(&name.as_str()));
        let other: Vec<String> = other.map(|(name, _)| format!("--{}", name.replace('_', "-"))).collect();
        if !other.is_empty() {
            let message =
                format!("--resume goes on with the settings of {}: leave out {}", folder.display(), other.join(", "));
            return Err(Error::usage(message));
        }
        Ok(self.or(theirs))
    }

    /// Fills in what is not set and checks what is.
    ///
    /// # Errors
    /// If a name is unknown or a number makes no sense.
    pub fn resolve(self) -> Result<DistillConfig> {
        let spec = distill::spec(self.scheme.as_deref().unwrap_or("hinton"))?;
        let dataset = self.dataset.clone().unwrap_or_else(|| "glyphs".into());
        let source = Source::parse(&dataset)?;
        let format: ImageFormat = self.image_format.as_deref().map(str::parse).transpose()?.unwrap_or_default();
        let settings = self.settings(spec)?;
        let built_in = matches!(&source, Source::Known(known) if known.origin.is_none());
        let recipe = Recipe {
            epochs: self.epochs.unwrap_or(20),
            batch_size: self.batch_size.unwrap_or(50),
            optimizer: self.optimizer.unwrap_or(Kind::Adam),
            lr: self.lr.unwrap_or(1e-3),
            schedule: self.schedule.unwrap_or_default(),
            momentum: self.momentum.unwrap_or(0.9),
            weight_decay: self.weight_decay.unwrap_or(0.0),
        };
        let teacher_recipe = Recipe {
            epochs: self.teacher_epochs.unwrap_or(4),
            batch_size: self.teacher_batch_size.unwrap_or(64),
            lr: self.teacher_lr.unwrap_or(recipe.lr),
            ..recipe.clone()
        };
        let config = DistillConfig {
            version: env!("CARGO_PKG_VERSION"),
            scheme: spec.name,
            teacher: self.teacher.unwrap_or_else(|| vec!["cnn".into()]),
            teacher_weights: self.teacher_weights.unwrap_or_default(),
            teacher_width: self.teacher_width.unwrap_or(1.0),
            student: self.student.unwrap_or_else(|| "mlp".into()),
            student_width: self.student_width.unwrap_or(1.0),
            dataset,
            data_dir: self.data_dir.unwrap_or_else(|| "datasets".into()),
            labels: self.labels.unwrap_or_default(),
            image_format: format.to_string(),
            augment: self.augment.unwrap_or_else(|| source.augmentation(format)),
            device: self.device.unwrap_or_else(|| "auto".into()),
            adapter: String::new(),
            threads: self.threads,
            temperature: settings.temperature,
            weights: settings.weights,
            layers: settings.layers,
            teacher_mode: settings.teacher_mode,
            teacher_mean: settings.teacher_mean,
            limit: self.limit.or(built_in.then_some(1000)),
            teacher_limit: self.teacher_limit,
            train_fraction: self.train_fraction.unwrap_or_else(|| vec![1.0]),
            omit_class: self.omit_class,
            recipe,
            teacher_recipe,
            seed: self.seed.unwrap_or(1),
            seeds: self.seeds.unwrap_or(3),
            teacher_seed: self.teacher_seed.unwrap_or(1),
            teacher_cache: self.teacher_cache.unwrap_or_else(|| "runs/teachers".into()),
        };
        config.check(source.n_classes(config.labels)?)?;
        Ok(config)
    }

    fn settings(&self, spec: &SchemeSpec) -> Result<Settings> {
        let mut settings = spec.settings();
        settings.temperature = self.temperature.unwrap_or(settings.temperature);
        settings.teacher_mode = self.teacher_mode.unwrap_or_default();
        settings.teacher_mean = self.teacher_mean.unwrap_or_default();
        let named = [
            self.alpha_on_ce.map(Weights::alpha_on_ce),
            self.alpha_on_kd.map(Weights::alpha_on_kd),
            self.lambda_on_ce.map(Weights::kd_plus_lambda_ce),
        ];
        for Weights { ce, kd } in named.into_iter().flatten() {
            settings.set_weight("ce", ce)?;
            settings.set_weight("kd", kd)?;
        }
        for text in self.weight.iter().flatten() {
            let pair = text.split_once('=').and_then(|(name, weight)| Some((name, weight.parse::<f32>().ok()?)));
            let Some((name, weight)) = pair else {
                return Err(Error::usage(format!("--weight {text}: a term and a number, such as kd=0.9")));
            };
            settings.set_weight(name.trim(), weight)?;
        }
        for text in self.layers.iter().flatten() {
            let (student, teacher) = text.split_once('=').unwrap_or((text, text));
            settings.layers.push((student.trim().into(), teacher.trim().into()));
        }
        settings.check(spec.name)?;
        Ok(settings)
    }
}

impl DistillConfig {
    fn check(&self, n_classes: usize) -> Result<()> {
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
