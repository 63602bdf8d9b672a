//! A distillation, resolved: every setting, checked, as what it means, and where its value is from.

use crate::data::{DATA, DataSettings, Source, Target, data_recipe};
use crate::device::{PLACE, PlaceSettings};
use crate::distill::{self, SCHEME, SchemeSpec, Settings};
use crate::error::{Error, Result};
use crate::experiment::CONFIG_FILE;
use crate::experiment::config::Recorded;
use crate::experiment::recorded::{fields, own_settings};
use crate::models::{self, OutputKind};
use crate::settings::{Kind, Origin, Range, Setting, Values, flag, resolve};
use crate::training::{FallKind, Recipe, Schedule, TRAINING, training_recipe, within_epochs};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

const NAMES: Kind = Kind::List(&Kind::Text);

const USUAL_SCHEME: &str = "hinton";

/// Which networks.
const PAIR: &[Setting] = &[
    Setting::new("scheme", "NAME", Kind::Text, "A name from `engram distill list`").usually(USUAL_SCHEME),
    Setting::new("teacher", "NAMES", NAMES, "Network of the teacher, from `engram models`; several with commas")
        .usually("cnn"),
    Setting::new(
        "teacher_weights",
        "FILES",
        Kind::List(&Kind::Path),
        "Trained weights of each teacher: a safetensors file of engram, or with PyTorch's names",
    )
    .open("trained here"),
    Setting::number("teacher_width", "FACTOR", "Factor on the teacher's channels").positive().usually("1"),
    Setting::new("student", "NAME", Kind::Text, "Network of the student").usually("mlp"),
    Setting::number("student_width", "FACTOR", "Factor on the student's channels").positive().usually("1"),
];

/// Which images, how often, and what the teacher's training has of its own.
const PROTOCOL: &[Setting] = &[
    Setting::whole("limit", "N", "Labelled images of both students, the same number of each class")
        .follows("1000 of glyphs and shapes, else all"),
    Setting::whole("teacher_limit", "N", "Labelled images of the teacher").open("all"),
    Setting::new(
        "train_fraction",
        "PARTS",
        Kind::List(&Kind::Number(Range::PART)),
        "Parts of the students' images to compare at, such as 1,0.3,0.1,0.03",
    )
    .usually("1"),
    Setting::whole("omit_class", "CLASS", "A class that the students never see: Hinton's missing digit")
        .between(0, u32::MAX as u64)
        .open("none"),
    Setting::whole("teacher_epochs", "N", "Passes over the teacher's images").usually("4"),
    Setting::whole("teacher_batch_size", "N", "The teacher's images per step").usually("64"),
    Setting::number("teacher_lr", "RATE", "The teacher's learning rate at the start").positive().open("the student's"),
    Setting::whole("seed", "N", "Seed of initialisation and order").between(0, u64::MAX).usually("1"),
    Setting::whole("seeds", "N", "Pairs of students, from --seed upwards").usually("3"),
    Setting::whole("teacher_seed", "N", "Seed of the teacher; of several, of the first")
        .between(0, u64::MAX)
        .usually("1"),
    Setting::new("teacher_cache", "DIR", Kind::Path, "Where trained teachers are kept")
        .usually("runs/teachers")
        .place(),
];

/// Settings of training where nothing else is said.
const RECIPE: &[(&str, &str)] = &[("epochs", "20"), ("batch_size", "50"), ("weight_decay", "0")];

/// A distillation, resolved.
#[derive(Clone, Debug)]
pub struct DistillConfig {
    /// The row of the scheme.
    pub spec: &'static SchemeSpec,
    /// What is set about it.
    pub scheme: Settings,
    /// Names of the teachers' networks; empty for a scheme that needs none.
    pub teacher: Vec<String>,
    /// Files of their weights; empty if they are trained here.
    pub teacher_weights: Vec<PathBuf>,
    /// Factor on the teachers' channels.
    pub teacher_width: f32,
    /// The name of the student's network.
    pub student: String,
    /// Factor on the student's channels.
    pub student_width: f32,
    /// Which images, and what is done to them.
    pub data: DataSettings,
    /// Where it runs.
    pub place: PlaceSettings,
    /// What the device turned out to be; set when it is opened.
    pub adapter: String,
    /// Labelled images of the students; all if `None`.
    pub limit: Option<usize>,
    /// Those of the teachers.
    pub teacher_limit: Option<usize>,
    /// Parts of the students' images, in falling order of use.
    pub train_fraction: Vec<f64>,
    /// A class without images for the students.
    pub omit_class: Option<u32>,
    /// How both students are trained.
    pub training: Recipe,
    /// How teachers are trained.
    pub teacher_training: Recipe,
    /// The first pair's.
    pub seed: u64,
    /// Pairs.
    pub seeds: usize,
    /// The first teacher's.
    pub teacher_seed: u64,
    /// Where trained teachers are kept.
    pub teacher_cache: PathBuf,
    /// All of it by name.
    pub values: Values,
}

/// The rows of everything that a distillation may be told.
pub fn rows() -> Vec<&'static Setting> {
    let own = distill::ALL.iter().flat_map(|spec| spec.options);
    PAIR.iter().chain(DATA).chain(SCHEME).chain(own).chain(TRAINING).chain(PROTOCOL).chain(PLACE).collect()
}

/// Whether a row is about trained teachers.
fn is_of_teacher(name: &str) -> bool {
    name.starts_with("teacher")
}

/// The rows of everything that a distillation by this scheme may be told.
fn rows_of(spec: &SchemeSpec) -> Vec<&'static Setting> {
    let foreign = |name: &str| {
        let of_others = distill::ALL.iter().any(|other| other.options.iter().any(|row| row.name == name));
        of_others && !spec.options.iter().any(|row| row.name == name)
    };
    let suits = |row: &&'static Setting| !foreign(row.name) && (spec.has_teacher() || !is_of_teacher(row.name));
    rows().into_iter().filter(suits).collect()
}

/// Refuses what was asked for and means nothing to the scheme.
fn refuse_foreign(spec: &SchemeSpec, given: &Values) -> Result<()> {
    let suits = rows_of(spec);
    let mut asked = given.names().filter(|name| given.origin(name).is_some_and(Origin::is_asked_for));
    let Some(name) = asked.find(|name| !suits.iter().any(|row| row.name == *name)) else { return Ok(()) };
    let (flag, scheme) = (flag(name), spec.name);
    let owners = distill::ALL.iter().filter(|other| other.options.iter().any(|row| row.name == name));
    let owners: Vec<&str> = owners.map(|other| other.name).collect();
    Err(Error::usage(match owners.is_empty() {
        true => format!("{flag} has no effect here: '{scheme}' learns without a trained teacher"),
        false => format!("{flag} has no effect here: it is a setting of {}, not of '{scheme}'", owners.join(", ")),
    }))
}

/// The settings of a configuration file.
///
/// # Errors
/// If it cannot be read, is no JSON, or has a field that is unknown or of the wrong kind.
pub fn recorded_by(path: &Path) -> Result<Recorded> {
    Recorded::of(&rows(), fields(path)?, path)
}

impl DistillConfig {
    /// What was given, over what the data set calls for, over defaults; checked.
    ///
    /// # Errors
    /// [`Error::Usage`] if a name is unknown, a number makes no sense, or a setting that was asked for has no effect.
    pub fn resolve(given: Values) -> Result<DistillConfig> {
        let spec = distill::spec(&given.find::<String>("scheme").unwrap_or_else(|| USUAL_SCHEME.into()))?;
        refuse_foreign(spec, &given)?;
        let rows = rows_of(spec);
        let given = given.only(&rows);
        let recipe = Values::of(&rows, RECIPE, &Origin::Recipe("distillation".into()))?;
        let given = within_epochs(given, &recipe)?;
        let given = given.clone().or(data_recipe(&given)?).or(training_recipe(&given, FallKind::Cosine)?);
        let mut values = resolve("distill", &rows, given.or(recipe))?;
        let data = DataSettings::of(&values)?;
        let built_in = matches!(data.source(), Source::Known(known) if known.origin.is_none());
        if built_in && values.value("limit").is_none() {
            let of = Origin::Recipe(data.dataset.clone());
            values = values.or(Values::of(&rows, &[("limit", "1000")], &of)?);
        }
        let scheme = Settings::of(spec, &values)?;
        let training = Recipe::of(&values)?;
        let teacher_training = Recipe {
            epochs: values.find("teacher_epochs").unwrap_or(training.epochs),
            batch_size: values.find("teacher_batch_size").unwrap_or(training.batch_size),
            schedule: Schedule {
                lr: values.find("teacher_lr").unwrap_or(training.schedule.lr),
                ..training.schedule.clone()
            },
            ..training.clone()
        };
        let config = DistillConfig {
            spec,
            scheme,
            teacher: values.find("teacher").unwrap_or_default(),
            teacher_weights: values.find("teacher_weights").unwrap_or_default(),
            teacher_width: values.find("teacher_width").unwrap_or(1.0),
            student: values.get("student"),
            student_width: values.get("student_width"),
            data,
            place: PlaceSettings::of(&values),
            adapter: String::new(),
            limit: values.find("limit"),
            teacher_limit: values.find("teacher_limit"),
            train_fraction: values.get("train_fraction"),
            omit_class: values.find("omit_class"),
            training,
            teacher_training,
            seed: values.get("seed"),
            seeds: values.get("seeds"),
            teacher_seed: values.find("teacher_seed").unwrap_or_default(),
            teacher_cache: values.find("teacher_cache").unwrap_or_default(),
            values,
        };
        config.check()?;
        Ok(config)
    }

    /// Whether a setting of this name means something to a scheme.
    pub fn suits(spec: &SchemeSpec, name: &str) -> bool {
        rows_of(spec).iter().any(|row| row.name == name)
    }

    /// All of it by name, the weights of terms as they came out.
    pub fn resolved(&self) -> Values {
        let mut values = self.values.clone();
        for name in ["alpha_on_ce", "alpha_on_kd", "lambda_on_ce"] {
            values = values.without(name);
        }
        let row =
            |name: &str| rows().into_iter().find(|row| row.name == name).expect("bug: a row of SCHEME is missing");
        let weights: Vec<String> = self.scheme.weights_text().split(',').map(String::from).collect();
        let temperature = f64::from(self.scheme.temperature);
        let values = values.with(row("weight"), weights.into(), Origin::Default);
        values.with(row("temperature"), temperature.into(), Origin::Default)
    }

    /// The same from names and texts, as a program that uses the library sets them.
    ///
    /// # Errors
    /// As [`DistillConfig::resolve`].
    pub fn of(settings: &[(&str, &str)]) -> Result<DistillConfig> {
        Self::resolve(Values::of(&rows(), settings, &Origin::Flag)?)
    }

    /// The settings of an interrupted distillation in this folder, and over them these, of which only those may be set that
    /// leave its results as they are.
    ///
    /// # Errors
    /// If there is no such distillation, another version of engram began it, or something else is set.
    pub fn interrupted(flags: Values, folder: &Path) -> Result<DistillConfig> {
        let (path, shown) = (folder.join(CONFIG_FILE), folder.display());
        if !path.exists() {
            return Err(Error::usage(format!("{shown}: there is no distillation to go on with")));
        }
        let named: Option<Value> = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(method) = named.as_ref().and_then(|named| named.get("method")?.as_str()) {
            return Err(Error::usage(format!("{shown} holds a run of {method}: engram {method} --resume {shown}")));
        }
        let theirs = own_settings(&rows(), folder, CONFIG_FILE)?;
        let (version, ours) = (theirs.version.unwrap_or_default(), env!("CARGO_PKG_VERSION"));
        if version != ours {
            return Err(Error::usage(format!(
                "{shown}: engram {version} began it, and this is {ours}: go on with that one"
            )));
        }
        let is_place = |name: &str| rows().iter().any(|row| row.name == name && row.is_place);
        let other: Vec<String> = flags.names().filter(|name| !is_place(name)).map(flag).collect();
        if !other.is_empty() {
            let message = format!("--resume goes on with the settings of {shown}: leave out {}", other.join(", "));
            return Err(Error::usage(message));
        }
        Self::resolve(flags.or(theirs.values))
    }

    /// Refuses what makes no sense together.
    fn check(&self) -> Result<()> {
        if self.data.source().target() == Target::Mask {
            return Err(Error::usage(format!(
                "'{}' has {}: teachers and students learn from images with one class each",
                self.data.dataset,
                Target::Mask.described()
            )));
        }
        for name in self.teacher.iter().chain([&self.student]) {
            if models::spec(name)?.kind != OutputKind::Classes {
                let message = format!("{name} answers for every pixel: teachers and students answer for whole images");
                return Err(Error::usage(message));
            }
        }
        if self.seed.checked_add(self.seeds as u64).is_none() {
            return Err(Error::usage(format!(
                "--seed {}: there are not --seeds {} from there on",
                self.seed, self.seeds
            )));
        }
        let fractions = &self.train_fraction;
        if let Some(twice) = (1..fractions.len()).find(|&i| fractions[..i].contains(&fractions[i])) {
            return Err(Error::usage(format!("--train-fraction has {} twice", fractions[twice])));
        }
        let (n, files) = (self.teacher.len(), self.teacher_weights.len());
        if files != 0 && files != n {
            return Err(Error::usage(format!("{files} files of weights for {n} teachers: one for each, or none")));
        }
        let n_classes = self.data.source().n_classes(self.data.labels)?;
        match self.omit_class {
            Some(class) if class as usize >= n_classes => {
                Err(Error::usage(format!("--omit-class {class}: the classes are 0 to {}", n_classes - 1)))
            }
            _ => Ok(()),
        }
    }

    /// The content of [`CONFIG_FILE`]: such a file repeats the distillation.
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        all.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        all.extend(self.resolved().to_json());
        all.insert("adapter".into(), self.adapter.clone().into());
        if let Some(folder) = std::env::current_dir().ok().and_then(|path| path.to_str().map(str::to_string)) {
            all.insert("started_in".into(), folder.into());
        }
        Value::Object(all)
    }
}

impl serde::Serialize for DistillConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}
