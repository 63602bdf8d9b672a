//! One task of a run by itself, from where the tasks before have led: to try a task in several ways.

use super::Run;
use crate::continual::spec;
use crate::data::{Dataset, Fingerprint};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::experiment::checkpoint::{CHECKPOINT_FILE, Checkpoint, Position, RunState};
use crate::experiment::config::Config;
use crate::experiment::results::RunFolder;
use crate::experiment::sink::Sink;
use crate::training::Trainer;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A network, its optimiser and a method after a task, in main memory.
#[derive(Clone)]
pub struct Standing {
    method: &'static str,
    checkpoint: Checkpoint,
}

impl Standing {
    /// Writes it as the checkpoint of a folder, with something kept beside.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn write(&self, folder: &RunFolder, beside: Value) -> Result<()> {
        self.checkpoint.clone().keeping(serde_json::json!([self.method, beside])).write(folder)
    }

    /// What [`Standing::write`] wrote, and what was kept beside.
    ///
    /// # Errors
    /// As [`Checkpoint::read`]; if the checkpoint is one of another kind.
    pub fn read(folder: &Path) -> Result<(Standing, Value)> {
        let checkpoint = Checkpoint::read(folder)?;
        let foreign = |_| Error::file(folder.join(CHECKPOINT_FILE), "the checkpoint of a run, not of a search");
        let (method, beside): (String, Value) = Deserialize::deserialize(checkpoint.beside()).map_err(foreign)?;
        Ok((Standing { method: spec(&method)?.name, checkpoint }, beside))
    }

    /// The images that it has learnt from.
    pub fn data(&self) -> &Fingerprint {
        &self.checkpoint.origin().data
    }
}

/// Learns task `task` (from 0) of the stream of `config`, from where `before` stands or, without it, from an initialised
/// network. A method other than that of `before` takes over the network and the optimiser alone. Returns where that leads, and
/// the accuracy of the method's first classifier on the test images of this task (of all tasks, for methods that see them at
/// once), among the candidates that the scenario has; nothing is written.
///
/// # Errors
/// As [`run`](super::run); [`Error::Training`](crate::Error::Training) if training diverges.
pub fn learn_task(
    config: &Config,
    dataset: &Dataset,
    device: &Device,
    before: Option<&Standing>,
    task: usize,
    sink: &mut dyn Sink,
    interrupted: &AtomicBool,
) -> Result<(Standing, f64)> {
    let mut run = Run::new(config, dataset, device, None)?;
    let mut trainer = Trainer::new(device, sink, interrupted);
    if let Some(before) = before {
        let state = before.checkpoint.clone().restore(&run.learner, &mut run.optimizer)?;
        if before.method == config.method.name {
            run.method.restore(&run.learner, state)?;
        }
    }
    run.know_heads(task);
    let own = run.phases[task].clone();
    let data = run.task_data(&own, interrupted);
    run.train(&own, &data, Position { task, ..Position::default() }, &mut trainer)?;
    run.method.end_task(&run.learner, &data)?;
    let accuracy = run.accuracy_on_new(task, data.n_seen)?;
    let state = RunState {
        position: Position { task: task + 1, ..Position::default() },
        metrics: run.metrics.clone(),
        timing: run.timing.clone(),
        n_images: run.n_images,
        seconds_of_task: 0.0,
        losses: Vec::new(),
    };
    let checkpoint = Checkpoint::of(run.origin().clone(), state, &run.learner, &run.optimizer, run.method.state()?)?;
    Ok((Standing { method: config.method.name, checkpoint }, accuracy))
}
