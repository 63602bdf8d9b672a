//! What an experiment tells while it works. It prints nothing itself: it calls a [`Sink`], and whoever starts it decides what
//! becomes of the events (`report::Console` shows them, [`Silent`] drops them, a test collects them). Those of the steps are a
//! [`Listener`]'s.
//!
//! Order of events of a run: `run_started`; for each task `task_started`, then `phase`, `training` and `progress` as they come,
//! then `task_finished`; at the end `run_finished`. Of a distillation: `training` and `progress` for each teacher, then
//! `teachers_ready`; for each student `training`, `progress` and `student_finished`. One that fails or is interrupted simply stops
//! telling.

use super::distillation::DistillResults;
use super::results::{Metrics, Timing};
pub use crate::training::{Listener, Progress, Silent, Started};
use std::path::Path;

/// Known before the first task begins.
#[derive(Clone, Debug, PartialEq)]
pub struct RunHeader {
    /// The method's name.
    pub method: String,
    /// The data set's name.
    pub dataset: String,
    /// The network's name.
    pub model: String,
    /// The device as a person would name it, for example `cpu (2 threads)` or the adapter's name.
    pub device: String,
    /// Tasks of the stream.
    pub n_tasks: usize,
    /// The class labels of the data set, by task in order of arrival.
    pub classes_per_task: Vec<Vec<u32>>,
    /// Different labels of the stream.
    pub n_classes: usize,
    /// Domains of the tasks, where those are groups of them; 0 elsewhere.
    pub n_domains: usize,
    /// The exemplar budget K, for methods that keep exemplars.
    pub memory: Option<usize>,
    /// The run's seed.
    pub seed: u64,
    /// Numbers that are learnt.
    pub n_parameters: usize,
    /// Training images of all tasks.
    pub n_train: usize,
    /// Test images of all tasks.
    pub n_test: usize,
}

/// A task begins. Tasks count from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskStarted {
    /// Which task, from 0.
    pub task: usize,
    /// Tasks of the stream.
    pub n_tasks: usize,
    /// Names of the classes that this task brings.
    pub classes: Vec<String>,
    /// New training images.
    pub n_images: usize,
    /// Stored images of earlier tasks that are trained along with them.
    pub n_exemplars: usize,
    /// Passes over the task's data.
    pub n_epochs: usize,
    /// Batches of the whole task, all epochs together.
    pub n_batches: usize,
}

/// What a task is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the first batch: a teacher of the task's own, thresholds, what a memory takes in beforehand.
    Preparation,
    /// Steps of the optimiser.
    Training,
    /// The end of a task: choosing what to keep of it (herding, Fisher information …).
    Exemplars,
    /// Accuracies on the test images.
    Evaluation,
}

/// A task is learnt and evaluated.
#[derive(Clone, Copy, Debug)]
pub struct TaskFinished<'a> {
    /// Which task, from 0.
    pub task: usize,
    /// Tasks of the stream.
    pub n_tasks: usize,
    /// The run so far, this task included.
    pub metrics: &'a Metrics,
    /// Wall-clock seconds of this task: training, exemplars and evaluation.
    pub seconds: f64,
    /// The last loss that was read.
    pub loss: Option<f32>,
}

/// Listens to an experiment. Every event may be ignored.
pub trait Sink: Listener {
    /// The network is initialised, the stream split.
    fn run_started(&mut self, _header: &RunHeader) {}
    /// A task's data are known.
    fn task_started(&mut self, _task: &TaskStarted) {}
    /// The task goes over to something else.
    fn phase(&mut self, _phase: Phase) {}
    /// The task is learnt, evaluated and, if there is a folder, written.
    fn task_finished(&mut self, _task: &TaskFinished) {}
    /// `folder` is where the results lie, if they were written.
    fn run_finished(&mut self, _metrics: &Metrics, _timing: &Timing, _folder: Option<&Path>) {}
    /// The teachers of a distillation are there, and the students of an earlier attempt.
    fn teachers_ready(&mut self, _results: &DistillResults) {}
    /// A student is trained and measured, and written if there is a folder.
    fn student_finished(&mut self, _results: &DistillResults) {}
}

impl Sink for Silent {}

/// Passes every event on to each, in order.
impl<const N: usize> Listener for [&mut dyn Sink; N] {
    fn training(&mut self, started: &Started) {
        self.iter_mut().for_each(|sink| sink.training(started));
    }

    fn progress(&mut self, progress: &Progress) {
        self.iter_mut().for_each(|sink| sink.progress(progress));
    }

    fn warning(&mut self, text: &str) {
        self.iter_mut().for_each(|sink| sink.warning(text));
    }
}

impl<const N: usize> Sink for [&mut dyn Sink; N] {
    fn run_started(&mut self, header: &RunHeader) {
        self.iter_mut().for_each(|sink| sink.run_started(header));
    }

    fn task_started(&mut self, task: &TaskStarted) {
        self.iter_mut().for_each(|sink| sink.task_started(task));
    }

    fn phase(&mut self, phase: Phase) {
        self.iter_mut().for_each(|sink| sink.phase(phase));
    }

    fn task_finished(&mut self, task: &TaskFinished) {
        self.iter_mut().for_each(|sink| sink.task_finished(task));
    }

    fn run_finished(&mut self, metrics: &Metrics, timing: &Timing, folder: Option<&Path>) {
        self.iter_mut().for_each(|sink| sink.run_finished(metrics, timing, folder));
    }

    fn teachers_ready(&mut self, results: &DistillResults) {
        self.iter_mut().for_each(|sink| sink.teachers_ready(results));
    }

    fn student_finished(&mut self, results: &DistillResults) {
        self.iter_mut().for_each(|sink| sink.student_finished(results));
    }
}
