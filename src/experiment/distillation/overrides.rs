//! What may be set about a distillation: flags over a configuration file over a preset over defaults.

use super::config::{Course, DistillConfig, Recipe};
use crate::data::{Augmentation, ImageFormat, Labels, Source};
use crate::device::Precision;
use crate::distill::{self, SchemeSpec, Settings, TeacherMean, TeacherMode, losses::Weights};
use crate::error::{Error, Result};
use crate::experiment::overrides::{CONFIG_FILE, read_own_settings, read_settings};
use crate::optim::Kind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
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
    /// How products are computed: full (f32), or mixed or split (from f16, where the adapter multiplies matrices of it)
    /// [default: full]
    #[arg(long, value_name = "HOW", hide_possible_values = true)]
    pub precision: Option<Precision>,
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
    /// As `version`; a distillation that goes on looks at it.
    #[arg(skip)]
    #[serde(skip_serializing)]
    pub checksum: Option<String>,
}

/// What only the configuration of a run over a stream has.
#[derive(Deserialize)]
struct OfMethod {
    method: String,
}

impl DistillOverrides {
    /// Reads a configuration file: the fields are the flags, with `_` for `-`.
    ///
    /// # Errors
    /// If it cannot be read, is no JSON, or has a field that is unknown or of the wrong type.
    pub fn from_file(path: &Path) -> Result<DistillOverrides> {
        read_settings(path)
    }

    /// These settings, and where they are silent those of `other`.
    ///
    /// # Errors
    /// If a path is no UTF-8.
    pub fn or(self, other: DistillOverrides) -> Result<DistillOverrides> {
        let (mut merged, mut other) = (self.fields()?, other.fields()?);
        for (name, value) in &mut merged {
            if value.is_null() {
                *value = other[name].take();
            }
        }
        Ok(serde_json::from_value(Value::Object(merged)).expect("bug: settings do not come back from JSON"))
    }

    /// Every setting by name, null where it is not set.
    fn fields(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => unreachable!("bug: settings are no object"),
            Err(e) => Err(Error::usage(format!("the settings cannot be kept as JSON: {e}"))),
        }
    }

    /// The settings of an interrupted distillation in this folder, and over them these, of which only those may be set that
    /// leave its results as they are: `device`, `threads`, `data_dir`, `teacher_cache`.
    ///
    /// # Errors
    /// If there is no such distillation, another version of engram began it, or something else is set.
    pub fn over_interrupted(self, folder: &Path) -> Result<DistillOverrides> {
        let path = folder.join(CONFIG_FILE);
        if !path.exists() {
            return Err(Error::usage(format!("{}: there is no distillation to go on with", folder.display())));
        }
        let named: Option<OfMethod> = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(OfMethod { method }) = named {
            let folder = folder.display();
            return Err(Error::usage(format!("{folder} holds a run of {method}: engram {method} --resume {folder}")));
        }
        let theirs: DistillOverrides = read_own_settings(folder, CONFIG_FILE)?;
        let (version, ours) = (theirs.version.clone().unwrap_or_default(), env!("CARGO_PKG_VERSION"));
        if version != ours {
            let folder = folder.display();
            return Err(Error::usage(format!(
                "{folder}: engram {version} began it, and this is {ours}: go on with that one"
            )));
        }
        let free = ["device", "threads", "data_dir", "teacher_cache"];
        let set = self.fields()?;
        let other = set.iter().filter(|(name, value)| !value.is_null() && !free.contains(&name.as_str()));
        let other: Vec<String> = other.map(|(name, _)| format!("--{}", name.replace('_', "-"))).collect();
        if !other.is_empty() {
            let message =
                format!("--resume goes on with the settings of {}: leave out {}", folder.display(), other.join(", "));
            return Err(Error::usage(message));
        }
        self.or(theirs)
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
            precision: self.precision.unwrap_or_default(),
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
