//! Everything a run needs to go on where it was interrupted: one file, `checkpoint.safetensors`, written whole after every
//! epoch and on an interruption, and removed when the run is complete.
//!
//! Random numbers are keyed by (seed, purpose, counter), so no generator is saved: the position is enough.

use super::results::{LossRow, Metrics, RunFolder, Timing};
use crate::continual::{Learner, MethodState};
use crate::error::{Error, Result};
use crate::optim::Optimizer;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The file's name in the run folder.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";

/// Where in the stream a run is: the next batch to train on.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// From 0.
    pub task: usize,
    /// Of this task, from 0; the number of epochs if the task has been trained but not evaluated.
    pub epoch: usize,
    /// Of this epoch, from 0.
    pub batch: usize,
}

impl Position {
    /// True if the task has not begun.
    pub fn is_start_of_task(self) -> bool {
        self.epoch == 0 && self.batch == 0
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

/// The part of a checkpoint that is not tensors.
#[derive(Serialize, Deserialize, Clone)]
struct Header {
    version: String,
    run: RunState,
    /// Steps the optimiser has taken since it was last reset.
    n_steps: u32,
    method: serde_json::Value,
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

impl Checkpoint {
    /// Takes everything down.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn of(run: RunState, learner: &Learner, optimizer: &Optimizer, method: MethodState) -> Result<Checkpoint> {
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
        let header = Header { version: env!("CARGO_PKG_VERSION").into(), run, n_steps, method: method.json };
        Ok(Checkpoint { header, tensors })
    }

    /// How far the run had come.
    pub fn run(&self) -> &RunState {
        &self.header.run
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn write(&self, folder: &RunFolder) -> Result<()> {
        let text = serde_json::to_string(&self.header).expect("bug: a checkpoint is no JSON");
        let metadata = HashMap::from([("state".to_string(), text)]);
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
        if !path.exists() {
            return Err(Error::usage(format!("{}: {}", folder.display(), what_is_missing(folder))));
        }
        let bytes = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
        let damaged = |what: String| Error::file(&path, format!("no usable checkpoint: {what}"));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get("state"));
        let text = text.ok_or_else(|| damaged("it says nothing of a run's state".into()))?;
        let header: Header = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        if header.version != env!("CARGO_PKG_VERSION") {
            let (theirs, ours) = (&header.version, env!("CARGO_PKG_VERSION"));
            return Err(damaged(format!("engram {theirs} wrote it, and this is {ours}: go on with that one")));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(damaged(format!("'{name}' does not hold f32")));
            }
            tensors.insert(name, bytemuck::pod_collect_to_vec::<u8, f32>(view.data()));
        }
        Ok(Checkpoint { header, tensors })
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
        network.parameters.values().write(&take(PARAMETERS)?)?;
        if let Some(values) = network.statistics.values() {
            values.write(&take(STATISTICS)?)?;
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
    "there is no checkpoint: the run ended before its first epoch did. Start it again with --force".into()
}
