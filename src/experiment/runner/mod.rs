//! The training loop over tasks: one seed of one configuration, from an initialised network to written results.

mod clock;
mod evaluation;
mod resume;
mod single;

use super::checkpoint::{CHECKPOINT_FILE, Checkpoint, Origin, Position, RunState};
use super::config::Config;
use super::results::{ClassifierResult, LoopSeconds, LossRow, Metrics, RunFolder, Timing, accuracy_csv, losses_csv};
use super::results::{METRICS_FILE, peak_host_bytes};
use super::saved::ModelCard;
use super::sink::{Phase, Progress, RunHeader, Sink, TaskFinished, TaskStarted};
use super::{exemplars, saved};
use crate::continual::{Batch, Learner, Loss, Method, TaskData};
use crate::data::{Dataset, Fingerprint, Images, Loader, Plan, Scenario, Task, TaskStream};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::optim::{Kind, Optimizer};
use crate::tensor::Tensor;
use clock::CheckpointClock;
pub use resume::{complete, resume};
pub use single::{Standing, learn_task};
use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// Steps between read-backs of the loss.
const LOSS_INTERVAL: usize = 50;

/// Runs one seed. Results are written after every task; `interrupted` ends the run between two steps.
///
/// ```
/// use engram::experiment::{Overrides, run, sink::Silent};
/// use engram::{Device, continual, data};
/// use std::sync::atomic::AtomicBool;
/// let settings = Overrides {
///     model: Some("mlp".into()),
///     limit_per_task: Some(40),
///     memory: Some(20),
///     epochs: Some(1),
///     ..Overrides::default()
/// };
/// let config = settings.resolve(continual::spec("icarl")?)?;
/// let dataset = data::spec("glyphs")?.load("unused: it is built in".as_ref())?;
/// let metrics = run(&config, &dataset, &Device::cpu(), None, &mut Silent, &AtomicBool::new(false))?;
/// assert!(metrics.complete && metrics.n_tasks == 5);
/// let nme = &metrics.classifiers["nme"];
/// println!("after five tasks: {:.3}", nme.final_accuracy.unwrap());
/// # assert!(nme.final_accuracy.unwrap() > 0.1, "no better than guessing");
/// # Ok::<(), engram::Error>(())
/// ```
///
/// # Errors
/// [`Error::Interrupted`]; a loss that is no longer a number; whatever devices, data and files refuse.
pub fn run(
    config: &Config,
    dataset: &Dataset,
    device: &Device,
    folder: Option<&RunFolder>,
    sink: &mut dyn Sink,
    interrupted: &AtomicBool,
) -> Result<Metrics> {
    let mut run = Run::new(config, dataset, device, folder, sink, interrupted)?;
    run.tell_start(device);
    run.tasks_from(Position::default())?;
    Ok(run.metrics)
}

struct Run<'a> {
    config: &'a Config,
    /// With views of its images, where the scenario has them.
    dataset: Dataset,
    /// As it was given.
    given: &'a Dataset,
    /// Filled where it is needed: it reads all images.
    origin: OnceCell<Origin>,
    stream: TaskStream,
    /// What is learnt in turn: the tasks of the stream, or all of them at once.
    phases: Vec<Task>,
    folder: Option<&'a RunFolder>,
    learner: Learner,
    optimizer: Optimizer,
    method: Box<dyn Method>,
    metrics: Metrics,
    timing: Timing,
    /// Images trained on so far.
    n_images: usize,
    started: Instant,
    /// Spent before this process took over.
    seconds_before: f64,
    /// Spent on training this task before this process took over.
    seconds_of_task: f64,
    /// Terms of the loss, logged every few steps.
    losses: Vec<LossRow>,
    checkpoints: CheckpointClock,
    sink: &'a mut dyn Sink,
    interrupted: &'a AtomicBool,
}

impl<'a> Run<'a> {
    fn new(
        config: &'a Config,
        dataset: &'a Dataset,
        device: &Device,
        folder: Option<&'a RunFolder>,
        sink: &'a mut dyn Sink,
        interrupted: &'a AtomicBool,
    ) -> Result<Run<'a>> {
        let given = dataset;
        let (dataset, mut stream) = config.split().tasks(given)?;
        stream.tasks.truncate(config.max_tasks.unwrap_or(usize::MAX));
        let phases = match config.method.sees_everything {
            true => vec![all_at_once(&stream)],
            false => stream.tasks.clone(),
        };
        let Images { channels, height, width, .. } = *dataset.train;
        let input = [channels, height, width];
        let options = config.model_options();
        let network = Network::with_options(&config.model, &options, input, stream.n_classes, device, config.seed)?;
        let (momentum, weight_decay) = (config.momentum, config.weight_decay);
        let optimizer = Optimizer::new(config.optimizer, momentum, weight_decay, &network.parameters)?;
        let method = (config.method.build)(config.method_options());
        let metrics = Metrics {
            method: config.method.name.into(),
            dataset: dataset.name.clone(),
            model: config.model.clone(),
            scenario: config.scenario.name().into(),
            seed: config.seed,
            n_tasks: phases.len(),
            classes_per_task: stream.tasks.iter().map(|task| task.classes.clone()).collect(),
            left_out: dataset.left_out.clone(),
            memory_bytes: Vec::new(),
            complete: false,
            judged_by: method.classifiers().iter().map(Into::into).collect(),
            classifiers: method
                .classifiers()
                .iter()
                .map(|one| (one.name.into(), ClassifierResult::default()))
                .collect(),
            any_time: Vec::new(),
            average_any_time_accuracy: None,
        };
        let mut learner = Learner::new(network, device, &dataset)?.trained_by(config.batch_size);
        (learner.augment, learner.seed) = (config.augment.into(), config.seed);
        learner.unseen = config.method_options().unseen;
        Ok(Run {
            config,
            dataset,
            given,
            origin: OnceCell::new(),
            stream,
            phases,
            folder,
            learner,
            optimizer: optimizer.decaying(config.decay).with_velocity(config.velocity),
            method,
            metrics,
            timing: Timing::default(),
            n_images: 0,
            started: Instant::now(),
            seconds_before: 0.0,
            seconds_of_task: 0.0,
            losses: Vec::new(),
            checkpoints: CheckpointClock::new(),
            sink,
            interrupted,
        })
    }

    /// What this run begins with.
    fn origin(&self) -> &Origin {
        self.origin.get_or_init(|| Origin {
            config: self.config.identity(),
            data: Fingerprint::of(self.given),
            device: self.learner.device.describe(),
        })
    }

    fn tell_start(&mut self, device: &Device) {
        self.sink.run_started(&RunHeader {
            method: self.config.method.name.into(),
            dataset: self.dataset.name.clone(),
            model: self.config.model.clone(),
            device: device.describe(),
            n_tasks: self.phases.len(),
            classes_per_task: self.metrics.classes_per_task.clone(),
            memory: self.config.method.uses_memory.then_some(self.config.memory),
            seed: self.config.seed,
            n_parameters: self.learner.network.parameters.n_parameters(),
            n_train: self.stream.tasks.iter().map(|task| task.train.len()).sum(),
            n_test: self.stream.tasks.iter().map(|task| task.test.len()).sum(),
        });
    }

    /// All tasks from a position on. Results come before the checkpoint that says that they are there: whatever ends the run in
    /// between, it goes on before the task, and ends in the same results.
    fn tasks_from(&mut self, mut position: Position) -> Result<()> {
        let n_tasks = self.phases.len();
        for index in position.task..n_tasks {
            let task_started = Instant::now();
            let loss = self.task(index, position)?;
            position = Position { task: index + 1, ..Position::default() };
            self.metrics.complete = position.task == n_tasks;
            self.timing.peak_host_bytes = peak_host_bytes();
            self.timing.device_bytes = self.learner.device.counters().held_bytes;
            self.timing.seconds_total = self.seconds_before + self.started.elapsed().as_secs_f64();
            self.write()?;
            match self.folder {
                Some(folder) if self.metrics.complete => folder.remove(CHECKPOINT_FILE)?,
                _ => self.checkpoint(position, 0.0)?,
            }
            let seconds = task_started.elapsed().as_secs_f64() + std::mem::take(&mut self.seconds_of_task);
            let metrics = &self.metrics;
            self.sink.task_finished(&TaskFinished { task: index, n_tasks, metrics, seconds, loss });
        }
        self.sink.run_finished(&self.metrics, &self.timing, self.folder.map(RunFolder::path));
        Ok(())
    }

    /// Learns a task and evaluates on all seen so far. Returns the last loss that was read.
    fn task(&mut self, index: usize, position: Position) -> Result<Option<f32>> {
        let task = self.phases[index].clone();
        let data = self.task_data(&task);
        self.know_heads(index);
        if index == 0 && position.is_start_of_task() {
            self.measure_initial()?;
        }
        let started = Instant::now();
        let loss = self.train(&task, &data, position)?;
        self.timing.seconds_training.push(self.seconds_of_task + started.elapsed().as_secs_f64());
        self.timing.images_per_second = self.n_images as f64 / self.timing.seconds_training.iter().sum::<f64>();

        self.sink.phase(Phase::Exemplars);
        let started = Instant::now();
        self.method.end_task(&self.learner, &data)?;
        self.timing.seconds_end_of_task.push(started.elapsed().as_secs_f64());
        self.metrics.memory_bytes.push(self.method.held().into());
        self.warn_if_stiff(index);

        self.sink.phase(Phase::Evaluation);
        let started = Instant::now();
        self.evaluate(index, data.n_seen)?;
        self.timing.seconds_evaluation.push(started.elapsed().as_secs_f64());
        Ok(loss)
    }

    /// In task-incremental learning, the outputs of each task seen.
    fn know_heads(&mut self, index: usize) {
        if self.config.scenario == Scenario::Task {
            let labels = |task: &Task| task.first_label..task.first_label + task.classes.len();
            self.learner.heads = self.tasks_seen(index).iter().map(labels).collect();
        }
    }

    /// Saves what [`resume`] needs. `seconds_of_task` were spent on training the task of `position`.
    fn checkpoint(&mut self, position: Position, seconds_of_task: f64) -> Result<()> {
        self.timing.seconds_total = self.seconds_before + self.started.elapsed().as_secs_f64();
        let Some(folder) = self.folder else { return Ok(()) };
        let started = Instant::now();
        let progress = RunState {
            position,
            metrics: self.metrics.clone(),
            timing: self.timing.clone(),
            n_images: self.n_images,
            seconds_of_task,
            losses: self.losses.clone(),
        };
        let origin = self.origin().clone();
        Checkpoint::of(origin, progress, &self.learner, &self.optimizer, self.method.state()?)?.write(folder)?;
        self.checkpoints.written(started.elapsed());
        Ok(())
    }

    fn task_data(&self, task: &Task) -> TaskData {
        let classes = &self.dataset.train.labels;
        let label = |sample: u32| self.stream.label_of_class[classes[sample as usize] as usize] as usize;
        let n_labels = self.stream.n_classes;
        let end = task.first_label + task.classes.len();
        let (labels, n_old, n_seen) = match self.config.scenario {
            // Any label may come at any time, and may have come before.
            _ if self.config.blurry > 0 => (0..n_labels, n_labels, n_labels),
            scenario if scenario.shares_labels() => (0..n_labels, if task.index == 0 { 0 } else { n_labels }, n_labels),
            _ => (task.first_label..end, task.first_label, end),
        };
        let mut samples = vec![Vec::new(); labels.len()];
        task.train.iter().for_each(|&sample| samples[label(sample) - labels.start].push(sample));
        let is_last = task.index + 1 == self.phases.len();
        TaskData { index: task.index, samples, n_old, n_seen, labels, is_last }
    }

    /// What a quadratic penalty does to plain gradient descent is known beforehand.
    fn warn_if_stiff(&mut self, task: usize) {
        let Some(stiffness) = self.method.stiffness() else { return };
        let value = stiffness * self.config.lr;
        let term = "max(weight·importance)·lr".into();
        self.losses.push(LossRow { task, epoch: self.config.epochs, step: 0, term, weight: 1.0, value });
        if self.config.optimizer == Kind::Sgd && value > 2.0 && task + 1 < self.phases.len() {
            self.sink.warning(&format!(
                "after task {} the largest importance times its weight times --lr is {value:.3}: above 2 a step of sgd \
                 overshoots, and training may diverge. Use a smaller --lr or --penalty-weight",
                task + 1
            ));
        }
    }

    /// Counts the time since the last call among the seconds of a part of the training loop.
    fn lap(&mut self, since: &mut Instant, part: fn(&mut LoopSeconds) -> &mut f64) {
        let now = Instant::now();
        *part(&mut self.timing.training_loop) += (now - *since).as_secs_f64();
        *since = now;
    }

    fn train(&mut self, task: &Task, data: &TaskData, position: Position) -> Result<Option<f32>> {
        let started = Instant::now();
        let mut clock = started;
        if position.is_start_of_task() {
            self.method.begin_task(&self.learner, data)?;
            if self.config.reset_optimizer || task.index == 0 {
                self.optimizer.reset()?;
            }
        }
        let frozen = match self.method.freezes_representation(data) {
            true => Some(self.learner.network.parameters.snapshot()?),
            false => None,
        };
        self.lap(&mut clock, |parts| &mut parts.steps);
        let samples = self.method.training_set(data);
        let n_new: usize = data.samples.iter().map(Vec::len).sum();
        let n_samples = samples.len();
        let plan = Plan {
            images: self.dataset.train.clone(),
            samples: Arc::new(samples),
            label_of_class: Arc::new(self.stream.label_of_class.clone()),
            batch_size: self.config.batch_size,
            seed: self.config.seed,
            first_epoch: (task.index * self.config.epochs + position.epoch) as u64,
            n_epochs: (self.config.epochs - position.epoch) as u64,
            augment: self.config.augment.into(),
            drop_last: self.config.drop_last,
        };
        let per_epoch = plan.batches_per_epoch();
        self.sink.task_started(&TaskStarted {
            task: task.index,
            n_tasks: self.phases.len(),
            classes: task.classes.iter().map(|&class| self.dataset.class_names[class as usize].clone()).collect(),
            n_images: n_new,
            n_exemplars: n_samples - n_new,
            n_epochs: self.config.epochs,
            n_batches: per_epoch * self.config.epochs,
        });
        self.sink.phase(Phase::Training);

        let schedule = self.config.schedule();
        let mut last_loss = None;
        let mut latest: Option<(usize, Tensor)> = None;
        let first_step = position.epoch * per_epoch + position.batch;
        for (step, (global_epoch, images)) in (first_step..).zip(Loader::new(plan)?.skip(position.batch)) {
            self.lap(&mut clock, |parts| &mut parts.loading);
            let here = Position { task: task.index, epoch: step / per_epoch, batch: step % per_epoch, begun: true };
            let interrupted = self.interrupted.load(Relaxed);
            if interrupted || self.checkpoints.is_due() {
                self.checkpoint(here, self.seconds_of_task + started.elapsed().as_secs_f64())?;
            }
            if interrupted {
                return Err(Error::Interrupted);
            }
            self.lap(&mut clock, |parts| &mut parts.checkpoints);
            let epoch = here.epoch;
            let batch = Batch {
                x: self.learner.input(&images)?,
                labels: Tensor::from_u32(&self.learner.device, [images.len()], &images.labels)?,
                n_old: data.n_old,
                n_seen: data.n_seen,
                key: (global_epoch << 32) | here.batch as u64,
                first_pass: epoch == 0,
                images,
            };
            let terms = self.method.observe(&self.learner, &batch)?;
            let loss = if terms.0.is_empty() { None } else { Some(terms.total()?) };
            if let Some(loss) = &loss {
                let parameters = &self.learner.network.parameters;
                parameters.backward(loss)?;
                self.method.adjust_gradients(&self.learner, &batch)?;
                self.optimizer.step(parameters, schedule.at(epoch))?;
            }
            if let Some(frozen) = &frozen {
                self.learner.network.parameters.restore_all_but_outputs(frozen, data.n_old)?;
            }
            self.method.after_step(&self.learner, &batch)?;
            self.learner.device.flush()?;
            self.n_images += batch.images.len();
            let is_logged = loss.is_some() && step % LOSS_INTERVAL == 0;
            if is_logged {
                // What a device still has to do is no part of reading a loss.
                self.learner.device.synchronize()?;
            }
            self.lap(&mut clock, |parts| &mut parts.steps);

            let mut progress = Progress { epoch, batch: step + 1, loss: None };
            if let Some(loss) = &loss {
                if is_logged {
                    last_loss = Some(read_loss(loss, task.index, epoch, step)?);
                    progress.loss = last_loss;
                    self.log_terms(&terms, task.index, epoch, step)?;
                }
                latest = Some((step, loss.detach()));
            }
            self.lap(&mut clock, |parts| &mut parts.logging);
            self.measure_any_time(task.index, data.n_seen, batch.images.len())?;
            self.lap(&mut clock, |parts| &mut parts.evaluation);
            self.sink.progress(&progress);
            self.lap(&mut clock, |parts| &mut parts.progress);
        }
        self.learner.device.synchronize()?;
        self.lap(&mut clock, |parts| &mut parts.steps);
        if let Some((step, loss)) = latest {
            last_loss = Some(read_loss(&loss, task.index, self.config.epochs - 1, step)?);
            self.check_weights(task.index)?;
        }
        self.lap(&mut clock, |parts| &mut parts.logging);
        Ok(last_loss)
    }

    /// The loss is read before the step it leads to: the last step of a task may still have broken the weights.
    fn check_weights(&self, task: usize) -> Result<()> {
        let weights = Tensor::constant(self.learner.network.parameters.values().clone());
        if weights.sum()?.item()?.is_finite() {
            return Ok(());
        }
        let task = task + 1;
        Err(Error::Training(format!(
            "training diverged: the weights are no longer numbers after task {task}. Use a smaller --lr"
        )))
    }

    fn log_terms(&mut self, terms: &Loss, task: usize, epoch: usize, step: usize) -> Result<()> {
        for term in &terms.0 {
            let (name, weight, value) = (term.name.to_string(), term.weight, term.value.item()?);
            self.losses.push(LossRow { task, epoch, step, term: name, weight, value });
        }
        Ok(())
    }

    /// What is needed to predict first, `metrics.json` last: a reader of the metrics finds the rest in place.
    fn write(&self) -> Result<()> {
        let Some(folder) = self.folder else { return Ok(()) };
        let classes = self.classes_seen();
        exemplars::write(folder, &self.dataset.train, &self.method.exemplars(), &classes, self.metrics.complete)?;
        let card = ModelCard::new(&self.metrics, &self.dataset, &self.learner.network, &*self.method, classes);
        saved::write(folder, card, &self.learner.network, &*self.method)?;
        folder.write_bytes("accuracy.csv", accuracy_csv(&self.metrics).as_bytes())?;
        folder.write_bytes("losses.csv", losses_csv(&self.losses).as_bytes())?;
        folder.write_sealed("timing.json", &self.timing)?;
        folder.write_sealed(METRICS_FILE, &self.metrics)
    }
}

/// All tasks as one.
fn all_at_once(stream: &TaskStream) -> Task {
    let mut all = Task { index: 0, classes: Vec::new(), first_label: 0, train: Vec::new(), test: Vec::new() };
    for task in &stream.tasks {
        all.train.extend(&task.train);
        let new = task.classes.iter().filter(|class| !all.classes.contains(class)).copied().collect::<Vec<_>>();
        all.classes.extend(new);
    }
    all
}

/// The loss as a number.
///
/// # Errors
/// If it is none: training has diverged.
fn read_loss(loss: &Tensor, task: usize, epoch: usize, step: usize) -> Result<f32> {
    let loss = loss.item()?;
    if loss.is_finite() {
        return Ok(loss);
    }
    Err(Error::Training(format!(
        "training diverged: the loss is {loss} in task {}, epoch {}, step {}. Use a smaller --lr; results of the tasks \
         before are kept",
        task + 1,
        epoch + 1,
        step + 1
    )))
}
