//! Everything a run needs to go on where it was interrupted: one file, `checkpoint.safetensors`, written whole at the end of
//! each task, from time to time within one, and on an interruption, and removed when the run is complete.
//!
//! A checkpoint and the results beside it are one state: the results of a task are written before the checkpoint that says that
//! the task is done, so that a run that ends in between learns the task again, to the same bits.
//!
//! Random numbers are keyed by (seed, purpose, counter), so no generator is saved: the position is enough.

use super::results::{LossRow, Metrics, RunFolder, Timing};
use crate::continual::{Learner, MethodState};
use crate::data::Fingerprint;
use crate::error::{Error, Result};
use crate::optim::Optimizer;
pub use crate::records::folder::CHECKPOINT_FILE;
use crate::records::sealed;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The largest file that is read as a checkpoint.
const MOST_BYTES: u64 = 1 << 36;

/// Where in the stream a run is: the next batch to train on.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// From 0.
    pub task: usize,
    /// Of this task, from 0; the number of epochs if the task has been trained but not evaluated.
    pub epoch: usize,
    /// Of this epoch, from 0.
    pub batch: usize,
    /// Whether the method has been told that the task begins.
    pub begun: bool,
}

impl Position {
    /// True if the task has not begun.
    pub fn is_start_of_task(self) -> bool {
        !self.begun
    }
}

/// How far a run has come.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct RunState {
    /// Where to go on.
    pub position: Position,
    /// Of the tasks done.
    pub metrics: Metrics,
    /// Of the time spent.
    pub timing: Timing,
    /// Images trained on.
    pub n_images: usize,
    /// Spent on training the task of `position` so far.
    pub seconds_of_task: f64,
    /// Terms of the loss, as they were logged.
    pub losses: Vec<LossRow>,
}

/// What a run began with. It goes on with nothing else.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Origin {
    /// Every setting that decides results: see [`Config::identity`](super::Config::identity).
    pub config: Map<String, Value>,
    /// The images and labels.
    pub data: Fingerprint,
    /// Where it ran.
    pub device: String,
}

/// The part of a checkpoint that is not tensors.
#[derive(Serialize, Deserialize, Clone)]
struct Header {
    version: String,
    format: u32,
    origin: Origin,
    run: RunState,
    /// The length of every tensor of the file.
    tensors: BTreeMap<String, usize>,
    /// Steps the optimiser has taken since it was last reset.
    n_steps: u32,
    method: Map<String, Value>,
    /// What a command of several runs keeps beside.
    beside: Value,
}

/// A run, interrupted.
#[derive(Clone)]
pub struct Checkpoint {
    header: Header,
    tensors: BTreeMap<String, Vec<f32>>,
}

const PARAMETERS: &str = "parameters";
const STATISTICS: &str = "statistics";
const GRADIENT_SCALE: &str = "gradient_scale";
const METHOD: &str = "method.";
/// Fields of the file's metadata.
const STATE: &str = "state";
const SUM: &str = "sum";

/// The format of checkpoints.
const FORMAT: u32 = 3;

/// What every version's checkpoints have; those of format 1 do not name it.
#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default = "first")]
    format: u32,
}

fn first() -> u32 {
    1
}

/// Over the state, and over name, length and values of each tensor.
fn sum(state: &str, tensors: &BTreeMap<String, Vec<f32>>) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(state.as_bytes());
    for (name, values) in tensors {
        crc.update(format!("/{name}/{}/", values.len()).as_bytes());
        crc.update(bytemuck::cast_slice(values));
    }
    format!("{:08x}", crc.sum())
}

/// The flag of the first setting that differs.
pub fn different_setting(theirs: &Map<String, Value>, ours: &Map<String, Value>) -> Option<String> {
    let name = theirs.keys().chain(ours.keys()).find(|name| theirs.get(*name) != ours.get(*name))?;
    Some(name.replace('_', "-"))
}

impl Checkpoint {
    /// Takes everything down.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn of(
        origin: Origin,
        run: RunState,
        learner: &Learner,
        optimizer: &Optimizer,
        method: MethodState,
    ) -> Result<Checkpoint> {
        let network = &learner.network;
        let mut tensors = BTreeMap::from([(PARAMETERS.to_string(), network.parameters.values().to_vec()?)]);
        if let Some(values) = network.statistics.values() {
            tensors.insert(STATISTICS.into(), values.to_vec()?);
        }
        if let Some(scale) = network.parameters.gradient_scale() {
            tensors.insert(GRADIENT_SCALE.into(), scale.state().to_vec()?);
        }
        let (n_steps, vectors) = optimizer.state()?;
        for (i, vector) in vectors.into_iter().enumerate() {
            tensors.insert(format!("optimizer.{i}"), vector);
        }
        tensors.extend(method.tensors.into_iter().map(|(name, values)| (format!("{METHOD}{name}"), values)));
        let lengths = tensors.iter().map(|(name, values)| (name.clone(), values.len())).collect();
        let header = Header {
            version: env!("CARGO_PKG_VERSION").into(),
            format: FORMAT,
            origin,
            run,
            tensors: lengths,
            n_steps,
            method: method.json,
            beside: Value::Null,
        };
        Ok(Checkpoint { header, tensors })
    }

    /// How far the run had come.
    pub fn run(&self) -> &RunState {
        &self.header.run
    }

    /// What the run began with.
    pub fn origin(&self) -> &Origin {
        &self.header.origin
    }

    /// What was kept beside the run.
    pub fn beside(&self) -> &Value {
        &self.header.beside
    }

    /// With something kept beside the run.
    pub fn keeping(mut self, beside: Value) -> Checkpoint {
        self.header.beside = beside;
        self
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn write(&self, folder: &RunFolder) -> Result<()> {
        let text = serde_json::to_string(&self.header).expect("bug: a checkpoint is no JSON");
        let sum = sum(&text, &self.tensors);
        let metadata = HashMap::from([(STATE.to_string(), text), (SUM.to_string(), sum)]);
        let views = self.tensors.iter().map(|(name, values)| {
            let view = TensorView::new(Dtype::F32, vec![values.len()], bytemuck::cast_slice(values));
            (name, view.expect("bug: a vector's size is not its length"))
        });
        let bytes = safetensors::serialize(views, Some(metadata))
            .map_err(|e| Error::Training(format!("the checkpoint cannot be serialised: {e}")))?;
        folder.write_bytes(CHECKPOINT_FILE, &bytes)
    }

    /// Reads the file of a run folder.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none; another if it is damaged or of another version.
    pub fn read(folder: &Path) -> Result<Checkpoint> {
        let path = folder.join(CHECKPOINT_FILE);
        if path.symlink_metadata().is_err() {
            return Err(Error::usage(format!("{}: {}", folder.display(), what_is_missing(folder))));
        }
        let bytes = sealed::read(folder, CHECKPOINT_FILE, MOST_BYTES)?;
        let damaged = |what: String| {
            let advice = "the run cannot go on from it: start it again with --force";
            Error::file(&path, format!("no usable checkpoint: {what}; {advice}"))
        };
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let field = |name: &str| metadata.metadata().as_ref().and_then(|metadata| metadata.get(name));
        let text = field(STATE).ok_or_else(|| damaged("it says nothing of a run's state".into()))?;
        // Before anything else, whose meaning depends on it.
        let Version { version, format } = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        let ours = env!("CARGO_PKG_VERSION");
        if version != ours {
            return Err(damaged(format!("engram {version} wrote it, and this is {ours}: go on with that one")));
        }
        if format != FORMAT {
            return Err(damaged(format!("its format is {format}, and this build of engram {ours} knows {FORMAT}")));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(damaged(format!("'{name}' does not hold f32")));
            }
            tensors.insert(name, bytemuck::pod_collect_to_vec::<u8, f32>(view.data()));
        }
        if field(SUM) != Some(&sum(text, &tensors)) {
            return Err(damaged("its checksum is another one: the file was damaged or changed".into()));
        }
        let header: Header = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        let wrong = header.tensors.iter().find(|(name, n)| tensors.get(*name).map(Vec::len) != Some(**n));
        if let Some((name, n)) = wrong {
            return Err(damaged(format!("'{name}' is missing or does not hold {n} numbers")));
        }
        Ok(Checkpoint { header, tensors })
    }

    /// Refuses to go on with something else than what the run began with. Another device is not refused.
    ///
    /// # Errors
    /// [`Error::Usage`], if a setting or the data set differ.
    pub fn check_origin(&self, now: &Origin) -> Result<()> {
        let theirs = &self.header.origin;
        if let Some(name) = different_setting(&theirs.config, &now.config) {
            return Err(Error::usage(format!(
                "the interrupted run has another --{name}: leave that flag out and config.json as it was, or start a new run"
            )));
        }
        match theirs.data.difference(&now.data) {
            None => Ok(()),
            Some(difference) => Err(Error::usage(format!(
                "the data set is not the one that the interrupted run began with: {difference}. Put it back as it was, or \
                 start a new run"
            ))),
        }
    }

    /// Puts network and optimizer back, and hands out what the method kept.
    ///
    /// # Errors
    /// If the checkpoint is of another network or optimizer.
    pub fn restore(mut self, learner: &Learner, optimizer: &mut Optimizer) -> Result<MethodState> {
        let mut take = |name: &str| {
            self.tensors.remove(name).ok_or_else(|| Error::usage(format!("the checkpoint holds no '{name}'")))
        };
        let network = &learner.network;
        let finite = |name: &str, values: Vec<f32>| match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => {
                Err(Error::usage(format!("the checkpoint's '{name}' are no finite numbers: the run had diverged")))
            }
        };
        network.parameters.values().write(&finite(PARAMETERS, take(PARAMETERS)?)?)?;
        if let Some(values) = network.statistics.values() {
            values.write(&finite(STATISTICS, take(STATISTICS)?)?)?;
        }
        if let Some(scale) = network.parameters.gradient_scale() {
            scale.state().write(&take(GRADIENT_SCALE)?)?;
        }
        let vectors: Result<Vec<_>> = (0..optimizer.n_vectors()).map(|i| take(&format!("optimizer.{i}"))).collect();
        optimizer.restore(self.header.n_steps, &vectors?)?;
        let of_method = |(name, values): (String, Vec<f32>)| Some((name.strip_prefix(METHOD)?.to_string(), values));
        Ok(MethodState { json: self.header.method, tensors: self.tensors.into_iter().filter_map(of_method).collect() })
    }
}

fn what_is_missing(folder: &Path) -> String {
    if !folder.is_dir() {
        return "there is no such run folder".into();
    }
    let seeds = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    if let Some(seed) = seeds.filter(|path| path.join(CHECKPOINT_FILE).is_file()).min() {
        return format!("this folder holds several runs; choose one, for example {}", seed.display());
    }
    if folder.join("model.json").is_file() {
        return "there is nothing to resume: the run is complete".into();
    }
    "there is no checkpoint, and nothing that says how the run began. Start it again with --force".into()
}
