//! A run, resolved: every setting, checked, as what it means, and where its value is from.

use crate::continual::{self, Candidates, FisherKind, MethodSpec};
use crate::data::{
    DATA, DataSettings, Dataset, Images, STREAM, Scenario, StreamSettings, Target, Targets, data_recipe,
};
use crate::data::{Source, stream_recipe, stream_rows};
use crate::device::{PLACE, PlaceSettings};
use crate::error::{Error, Result};
use crate::models::{self, MODEL, ModelSettings, OutputKind, option_rows};
use crate::settings::{FromValue, Origin, Setting, Values, between, flag, resolve};
use crate::training::{FallKind, HEAD_LR, LATER_LR, RESET_OPTIMIZER, Recipe, TRAINING, training_recipe, within_epochs};
use serde_json::{Map, Value};

/// The settings of a run, in its folder.
pub const CONFIG_FILE: &str = "config.json";

/// Fields of [`CONFIG_FILE`] that are no settings.
const FOR_THE_RECORD: [&str; 5] = ["method", "version", "adapter", "started_in", "checksum"];

/// Settings of a run that belong to no block.
/// How a run is judged, and what holds for all of it.
pub const PROTOCOL: &[Setting] = &[
    Setting::choice::<Candidates>("candidates", "WHICH", "What classifiers choose among").usually("seen"),
    Setting::whole("eval_every", "N", "Measure any-time accuracy after every N batches").open("never"),
    RESET_OPTIMIZER,
    LATER_LR,
    HEAD_LR,
    Setting::whole("seed", "N", "Seed of initialisation and order").between(0, u64::MAX).usually("1"),
    Setting::whole("seeds", "N", "Runs with N seeds, from --seed upwards, and prints mean ± sd").usually("1"),
];

/// The network for images with masks.
const OF_PIXELS: &[(&str, &str)] = &[("model", "deeplab-lite"), ("width", "0.5")];

/// A run, resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// The row of the method: one of [`ALL`](crate::continual::ALL), or one of your own.
    pub method: &'static MethodSpec,
    /// Which images, and what is done to them.
    pub data: DataSettings,
    /// How they become a stream of tasks.
    pub stream: StreamSettings,
    /// Which network.
    pub model: ModelSettings,
    /// How it is trained.
    pub training: Recipe,
    /// Where the run is.
    pub place: PlaceSettings,
    /// What the device turned out to be; set when it is opened.
    pub adapter: String,
    /// What classifiers choose among.
    pub candidates: Candidates,
    /// Batches between measurements of any-time accuracy.
    pub eval_every: Option<usize>,
    /// Whether velocity and moments are forgotten between tasks.
    pub reset_optimizer: bool,
    /// Keys every random number of the run.
    pub seed: u64,
    /// How many seeds the command runs, from `seed` upwards; a run itself has one.
    pub seeds: usize,
    /// All of it by name, the method's own settings among them.
    pub values: Values,
}

/// The rows of everything that a run of this method may be told, for any model.
pub fn rows(method: &'static MethodSpec) -> Vec<&'static Setting> {
    let mut rows = rows_with(method, MODEL.iter().collect());
    for row in option_rows() {
        if !rows.iter().any(|known| known.name == row.name) {
            rows.push(row);
        }
    }
    rows
}

/// The rows of everything that a run of any method may be told.
pub fn every_row() -> Vec<&'static Setting> {
    let methods = continual::all();
    let mut rows = rows(methods[0]);
    for row in methods.iter().flat_map(|method| rows_with(method, Vec::new())) {
        if !rows.iter().any(|known| known.name == row.name) {
            rows.push(row);
        }
    }
    rows
}

fn rows_with(method: &'static MethodSpec, model: Vec<&'static Setting>) -> Vec<&'static Setting> {
    let rows =
        DATA.iter().chain(STREAM).chain(model).chain(TRAINING).chain(PROTOCOL).chain(method.options).chain(PLACE);
    rows.filter(|row| method.goes_by(row.name)).collect()
}

/// With the network that images with masks call for, unless another one is named.
fn with_model(given: Values) -> Result<Values> {
    let dataset = given.find::<String>("dataset").unwrap_or_default();
    let of_pixels = !dataset.is_empty() && Source::parse(&dataset)?.target() == Target::Mask;
    if !of_pixels || given.value("model").is_some() {
        return Ok(given);
    }
    Ok(given.or(Values::of(&MODEL.iter().collect::<Vec<_>>(), OF_PIXELS, &Origin::Recipe(dataset))?))
}

/// Without the rows of streams of other data sets.
pub fn for_target(rows: Vec<&'static Setting>, target: Target) -> Vec<&'static Setting> {
    let own: Vec<&str> = stream_rows(target).map(|row| row.name).collect();
    let is_foreign = |name: &str| STREAM.iter().any(|row| row.name == name) && !own.contains(&name);
    rows.into_iter().filter(|row| !is_foreign(row.name)).collect()
}

/// What a method learns from, in words.
fn described(targets: &[Target]) -> String {
    targets.iter().map(|target| target.described()).collect::<Vec<_>>().join(" or ")
}

/// The methods that learn from such targets.
fn suited(target: Target) -> String {
    let all = continual::all();
    let names: Vec<&str> = all.iter().filter(|one| one.targets.contains(&target)).map(|one| one.name).collect();
    format!("methods for it are {}", names.join(", "))
}

impl Config {
    /// What was given, over what the data set calls for, over defaults; checked.
    ///
    /// # Errors
    /// [`Error::Usage`] if a name is unknown, a number makes no sense, or a setting that was asked for has no effect.
    pub fn resolve(method: &'static MethodSpec, given: Values) -> Result<Config> {
        let given = with_model(ModelSettings::read_file(given)?)?;
        let rows = rows_with(method, ModelSettings::rows(&given)?);
        refuse_foreign(method, &rows, &given)?;
        let given = given.clone().or(data_recipe(&given)?);
        let data =
            resolve(method.name, &DATA.iter().collect::<Vec<_>>(), given.only(&DATA.iter().collect::<Vec<_>>()))?;
        let data = DataSettings::of(&data)?;
        let source = data.source();
        let targets = source.targets(data.labels)?;
        let asked = |name: &str| given.origin(name).is_some_and(Origin::is_asked_for);
        if let Some(error) = given.names().filter(|name| asked(name)).find_map(|name| targets.refuse(name)) {
            return Err(error);
        }
        let rows = for_target(rows, targets.target);
        let mut recipe = source.recipe().settings(method.sees_everything).to_vec();
        if targets.target == Target::Mask {
            // The exact one takes a backward pass for each class of each pixel.
            recipe.push(("fisher", "sampled"));
        }
        let recipe = Values::of(&every_row(), &recipe, &Origin::Recipe(data.dataset.clone()))?;
        let recipe = method.recipe(given.find("scenario").unwrap_or_default())?.or(recipe);
        let given = within_epochs(given, &recipe)?;
        let given = given
            .clone()
            .or(training_recipe(&given, FallKind::Constant)?)
            .or(stream_recipe(&given, targets)?)
            .or(recipe);
        Self::built(method, resolve(method.name, &rows, given)?, targets)
    }

    /// The same from names and texts, as a program that uses the library sets them.
    ///
    /// ```
    /// use engram::{continual, experiment::Config};
    /// let config = Config::of(continual::spec("icarl")?, &[("memory", "100"), ("epochs", "2"), ("model", "mlp")])?;
    /// assert_eq!((config.training.epochs, config.model.model.as_str()), (2, "mlp"));
    /// assert!(Config::of(continual::spec("ewc")?, &[("memory", "100")]).is_err());
    /// # Ok::<(), engram::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Config::resolve`].
    pub fn of(method: &'static MethodSpec, settings: &[(&str, &str)]) -> Result<Config> {
        let mut rows = every_row();
        rows.extend(method.options);
        Self::resolve(method, Values::of(&rows, settings, &Origin::Flag)?)
    }

    fn built(method: &'static MethodSpec, mut values: Values, targets: Targets) -> Result<Config> {
        let stream = StreamSettings::of(&values, targets)?;
        if stream.max_tasks.is_none() {
            values = values.without("max_tasks");
        }
        let config = Config {
            method,
            data: DataSettings::of(&values)?,
            stream,
            model: ModelSettings::of(&values)?,
            training: Recipe::of(&values)?,
            place: PlaceSettings::of(&values),
            adapter: String::new(),
            candidates: values.find("candidates").unwrap_or_default(),
            eval_every: values.find("eval_every"),
            reset_optimizer: values.find("reset_optimizer").unwrap_or(true),
            seed: values.get("seed"),
            seeds: values.get("seeds"),
            values,
        };
        config.check(targets)?;
        Ok(config)
    }

    /// Refuses what makes no sense together, for a data set with these labels.
    fn check(&self, targets: Targets) -> Result<()> {
        let refuse = |message: String| Err(Error::usage(message));
        let (name, scenario) = (self.method.name, self.stream.scenario);
        if self.seed.checked_add(self.seeds as u64 - 1).is_none() {
            let (seed, n) = (self.seed, self.seeds);
            return refuse(format!("--seed {seed} with --seeds {n}: the last seed is above {}", u64::MAX));
        }
        if !self.method.targets.contains(&targets.target) {
            return refuse(format!(
                "{name} learns from {}, and '{}' has {}: {}",
                described(self.method.targets),
                self.data.dataset,
                targets.target.described(),
                suited(targets.target)
            ));
        }
        self.check_model(targets.target)?;
        if targets.target == Target::Mask {
            self.check_masks()?;
        }
        if !self.method.scenarios.contains(&scenario) {
            let suits: Vec<&str> = self.method.scenarios.iter().map(|scenario| scenario.name()).collect();
            return refuse(format!(
                "{name} does not suit --scenario {}: it suits {}",
                scenario.name(),
                suits.join(", ")
            ));
        }
        if self.stream.blurry > 0 && self.method.needs_boundaries {
            return refuse(format!("{name} must be told where a task ends, and a blurry stream has no such places"));
        }
        if self.candidates == Candidates::All && (scenario != Scenario::Class || self.stream.blurry > 0) {
            let stream = if self.stream.blurry > 0 { "a blurry stream" } else { "one of --scenario " };
            let named = if self.stream.blurry > 0 { "" } else { scenario.name() };
            return refuse(format!(
                "--candidates all: in {stream}{named} no class is still to come that could be answered; leave it out, or give \
                 --candidates seen"
            ));
        }
        let n_stream = self.stream.class_order.classes(targets.n_classes)?.len();
        match self.memory() {
            Some(memory) if memory < n_stream => refuse(format!(
                "--memory {memory} is less than one exemplar for each of the {n_stream} classes: give at least --memory {n_stream}"
            )),
            _ => Ok(()),
        }
    }

    /// Settings of methods that suit images with one class each.
    fn check_masks(&self) -> Result<()> {
        if self.values.value("distill").is_some_and(|value| !value.is_null()) {
            let message = "--distill: schemes of distillation suit images with one class each; leave it out";
            return Err(Error::usage(message));
        }
        match self.find::<FisherKind>("fisher") {
            None | Some(FisherKind::Sampled) => Ok(()),
            Some(_) => Err(Error::usage(
                "--fisher: of images with masks it is sampled; the other kinds take a backward pass for each class of each pixel",
            )),
        }
    }

    /// A network for images says nothing about pixels, and one for pixels nothing about images.
    fn check_model(&self, target: Target) -> Result<()> {
        let kind = match &self.model.layers {
            Some(list) => list.kind(),
            None => models::spec(&self.model.model)?.kind,
        };
        let (wanted, answers) = match target {
            Target::Class => (OutputKind::Classes, "every pixel"),
            Target::Mask => (OutputKind::Pixels, "whole images"),
        };
        if kind == wanted {
            return Ok(());
        }
        let all = models::all();
        let suited: Vec<&str> = all.iter().filter(|model| model.kind == wanted).map(|model| model.name).collect();
        Err(Error::usage(format!(
            "--model {}: it answers for {answers}, and '{}' has {}; models for it are {}",
            self.model.model,
            self.data.dataset,
            target.described(),
            suited.join(", ")
        )))
    }

    /// K, where the method keeps exemplars.
    pub fn memory(&self) -> Option<usize> {
        self.method.uses_memory().then(|| self.values.get("memory"))
    }

    /// A setting by name, if it has a value.
    pub fn find<T: FromValue>(&self, name: &str) -> Option<T> {
        self.values.find(name)
    }

    /// The same run with other values of some settings.
    ///
    /// # Errors
    /// As [`Config::resolve`].
    pub fn with(&self, settings: &[(&str, &str)]) -> Result<Config> {
        let changes = Values::of(&self.rows(), settings, &Origin::Flag)?;
        let config = Self::resolve(self.method, changes.or(self.values.clone()))?;
        Ok(Config { adapter: self.adapter.clone(), ..config })
    }

    /// The same run of another method, without the settings that it does not have.
    ///
    /// # Errors
    /// As [`Config::resolve`].
    pub fn for_method(&self, method: &'static MethodSpec) -> Result<Config> {
        let theirs = self.values.clone().as_recipe(self.method.name);
        Ok(Config { adapter: self.adapter.clone(), ..Self::resolve(method, theirs)? })
    }

    /// One of the runs that `seeds` asks for.
    pub fn seeded(&self, seed: u64) -> Config {
        let text = seed.to_string();
        self.with(&[("seed", &text), ("seeds", "1")]).expect("bug: a run of one seed makes no sense")
    }

    /// The rows of this run's settings, in the order of its help.
    pub fn rows(&self) -> Vec<&'static Setting> {
        let model = ModelSettings::rows(&self.values).expect("bug: a run with an unknown model");
        for_target(rows_with(self.method, model), self.data.source().target())
    }

    /// Finds wrong use before a folder is made: that this data set cannot be split, or shown to the model, as the settings say.
    ///
    /// # Errors
    /// As [`Split::tasks`](crate::data::Split::tasks) and [`ModelSettings::table`].
    pub fn check_data(&self, dataset: &Dataset) -> Result<()> {
        let (dataset, stream) = self.stream.split().tasks(dataset)?;
        let Images { channels, height, width, .. } = *dataset.train;
        self.model.table([channels, height, width], stream.n_classes).map(drop)
    }

    /// Every setting that decides results, by name: not where a run takes place and where its data lie.
    pub fn identity(&self) -> Map<String, Value> {
        let mut all = self.values.to_json();
        for row in self.rows().into_iter().filter(|row| row.is_place) {
            all.remove(row.name);
        }
        all.insert("method".into(), self.method.name.into());
        // A folder may have moved: what is in it has a fingerprint.
        all.insert("dataset".into(), self.data.source().file_name().into());
        all
    }

    /// The settings that two runs on the same stream have the same values of: which images, which classes when, which network, and
    /// among which classes answers are sought.
    pub fn differs_in_stream(&self, other: &Config) -> Option<&'static str> {
        let rows: Vec<&'static Setting> =
            DATA.iter().chain(STREAM).filter(|row| !row.is_place).chain(self.rows_of_model(other)).collect();
        // Some methods have no such row, and go by what is usual.
        let candidates = (self.candidates != other.candidates).then_some("candidates");
        between(&rows, &self.values, &other.values).first().copied().or(candidates)
    }

    fn rows_of_model(&self, other: &Config) -> Vec<&'static Setting> {
        let mut rows = ModelSettings::rows(&self.values).expect("bug: a run with an unknown model");
        rows.extend(ModelSettings::rows(&other.values).expect("bug: a run with an unknown model"));
        rows
    }

    /// The content of [`CONFIG_FILE`].
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        all.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        all.insert("method".into(), self.method.name.into());
        all.extend(self.values.to_json());
        all.insert("adapter".into(), self.adapter.clone().into());
        if let Some(folder) = std::env::current_dir().ok().and_then(|path| path.to_str().map(str::to_string)) {
            all.insert("started_in".into(), folder.into());
        }
        Value::Object(all)
    }
}

impl serde::Serialize for Config {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

/// Names the method, or the model, that a setting is of which was asked for in vain.
fn refuse_foreign(method: &'static MethodSpec, rows: &[&'static Setting], given: &Values) -> Result<()> {
    let asked = |name: &&str| given.origin(name).is_some_and(Origin::is_asked_for);
    let foreign = given.names().filter(asked).find(|name| !rows.iter().any(|row| row.name == *name));
    let Some(name) = foreign else { return Ok(()) };
    match ModelSettings::refuse(given, name) {
        _ if !method.goes_by(name) => Err(Error::usage(format!(
            "{} has no effect here: {} does not go by it; engram methods show {} says what it goes by",
            flag(name),
            method.name,
            method.name
        ))),
        Some(error) => Err(error),
        None => Err(match given.origin(name) {
            Some(Origin::File(path)) => Error::usage(format!(
                "{}: it sets {}, which {} has not; the file is of another method",
                path.display(),
                flag(name),
                method.name
            )),
            _ => method.refuse(name),
        }),
    }
}

/// A configuration file: its settings, and what else it says.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// The settings.
    pub values: Values,
    /// The method of the run that wrote it.
    pub method: Option<String>,
    /// The version of engram that wrote it.
    pub version: Option<String>,
    /// The device that it ran on.
    pub adapter: Option<String>,
}

impl Recorded {
    /// From the fields of a file.
    ///
    /// # Errors
    /// If a field is unknown or of the wrong kind.
    pub(super) fn of(
        rows: &[&'static Setting],
        mut fields: Map<String, Value>,
        path: &std::path::Path,
    ) -> Result<Recorded> {
        let mut taken =
            FOR_THE_RECORD.map(|name| fields.remove(name).and_then(|value| value.as_str().map(str::to_string)));
        let started_in = taken[3].take();
        if let Some(started_in) = started_in {
            find_from(&mut fields, rows, std::path::Path::new(&started_in));
        }
        let [method, version, adapter, ..] = taken;
        Ok(Recorded { values: Values::from_json(rows, &fields, path)?, method, version, adapter })
    }
}

/// Paths of a file that mean nothing from here are taken as seen from where the run was started.
fn find_from(fields: &mut Map<String, Value>, rows: &[&'static Setting], started_in: &std::path::Path) {
    use crate::settings::Kind;
    let is_path = |name: &str| rows.iter().any(|row| row.name == name && matches!(row.kind, Kind::Path));
    for (name, value) in fields.iter_mut() {
        let Some(text) = value.as_str() else { continue };
        let (start, path) = match text.strip_prefix("folder:") {
            Some(path) if name == "dataset" => ("folder:", path),
            _ if is_path(name) => ("", text),
            _ => continue,
        };
        let there = started_in.join(path);
        if !std::path::Path::new(path).exists() && there.exists() {
            *value = format!("{start}{}", there.display()).into();
        }
    }
}
