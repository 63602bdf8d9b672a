//! Going on with an interrupted run.

use super::Run;
use crate::data::Dataset;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::experiment::checkpoint::{CHECKPOINT_FILE, Checkpoint, Position, RunState};
use crate::experiment::config::Config;
use crate::experiment::results::{Metrics, RunFolder};
use crate::experiment::sink::Sink;
use crate::records::sealed;
use crate::training::Trainer;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Goes on with an interrupted run, from the checkpoint in its folder; from the beginning, if it ended before its first one, and
/// not at all, if only the end of it was missing. The results are those of a run without interruption, bit by bit, on the same
/// kind of processor or adapter.
///
/// # Errors
/// As [`run`](super::run()), and those of [`Checkpoint::read`]; if the run began with other settings or another data set.
pub fn resume(
    config: &Config,
    dataset: &Dataset,
    device: &Device,
    folder: &RunFolder,
    sink: &mut dyn Sink,
    interrupted: &AtomicBool,
) -> Result<Metrics> {
    let mut run = Run::new(config, dataset, device, Some(folder))?;
    let mut trainer = Trainer::new(device, sink, interrupted);
    if let Some(metrics) = complete(folder.path()) {
        // Metrics are the last results to be written.
        folder.remove(CHECKPOINT_FILE)?;
        run.timing = sealed::read_json(folder.path(), "timing.json")?;
        trainer.listener.run_finished(&metrics, &run.timing, Some(folder.path()));
        return Ok(metrics);
    }
    if folder.path().join(CHECKPOINT_FILE).symlink_metadata().is_err() {
        run.tasks_from(Position::default(), &mut trainer)?;
        return Ok(run.metrics);
    }
    let checkpoint = Checkpoint::read(folder.path())?;
    let origin = run.origin().clone();
    checkpoint.check_origin(&origin)?;
    check_results(checkpoint.run(), &run.metrics)?;
    let RunState { position, metrics, timing, n_images, seconds_of_task, losses } = checkpoint.run().clone();
    let before = &checkpoint.origin().device;
    if kind_of_device(before) != kind_of_device(&origin.device) {
        trainer.listener.warning(&format!(
            "this run began on {before} and goes on with {}: the results will not be those of either alone, to the bit",
            origin.device
        ));
    }
    run.seconds_before = timing.seconds_total;
    (run.metrics, run.timing, run.n_images, run.seconds_of_task) = (metrics, timing, n_images, seconds_of_task);
    run.losses = losses;
    let state = checkpoint.restore(&run.learner, &mut run.optimizer)?;
    run.method.restore(&run.learner, state)?;
    let n_images = run.dataset.train.len();
    if run.method.exemplars().iter().flatten().any(|&sample| sample as usize >= n_images) {
        return Err(Error::usage("the checkpoint keeps images that the data set does not have"));
    }
    run.tasks_from(position, &mut trainer)?;
    Ok(run.metrics)
}

/// Refuses results that are not those of this stream and of a run that has come so far.
fn check_results(RunState { position, metrics, .. }: &RunState, begun: &Metrics) -> Result<()> {
    if metrics.classes_per_task != begun.classes_per_task {
        return Err(Error::usage("the checkpoint is one of another stream of classes"));
    }
    let so_far = metrics.n_tasks == begun.n_tasks
        && metrics.classifiers.keys().eq(begun.classifiers.keys())
        && metrics.classifiers.values().all(|result| result.matrix.len() == position.task);
    if !so_far || (position.task > 0 && metrics.contradiction().is_some()) {
        return Err(Error::usage("the results in the checkpoint are not those of a run that has come so far"));
    }
    Ok(())
}

/// The metrics in a folder, if its run is complete and they are as they were written.
pub fn complete(folder: &Path) -> Option<Metrics> {
    Metrics::read(folder).ok().filter(|metrics| metrics.complete)
}

/// The number of threads changes nothing.
fn kind_of_device(description: &str) -> &str {
    if description.starts_with("cpu (") { "cpu" } else { description }
}
