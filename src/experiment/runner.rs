//! The only training loop: one seed of one configuration, from an initialised network to written results.

use super::checkpoint::{CHECKPOINT_FILE, Checkpoint, Position, RunState};
use super::config::Config;
use super::metrics::confusion;
use super::results::{ClassifierResult, MemoryBytes, Metrics, RunFolder, Timing, peak_host_bytes};
use super::saved::{Class, ModelCard};
use super::sink::{Phase, Progress, RunHeader, Sink, TaskFinished, TaskStarted};
use super::{exemplars, saved};
use crate::continual::{Batch, Learner, Method, TaskData};
use crate::data::{Dataset, Images, Loader, Plan, Task, TaskStream};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::optim::Optimizer;
use crate::tensor::Tensor;
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

/// Goes on with an interrupted run, from the checkpoint in its folder. The results are those of a run without interruption,
/// bit by bit, on the same kind of processor or adapter.
///
/// # Errors
/// As [`run`], and those of [`Checkpoint::read`].
pub fn resume(
    config: &Config,
    dataset: &Dataset,
    device: &Device,
    folder: &RunFolder,
    sink: &mut dyn Sink,
    interrupted: &AtomicBool,
) -> Result<Metrics> {
    let checkpoint = Checkpoint::read(folder.path())?;
    let mut run = Run::new(config, dataset, device, Some(folder), sink, interrupted)?;
    let RunState { position, metrics, timing, n_images, seconds_of_task } = checkpoint.run().clone();
    if metrics.classes_per_task != run.metrics.classes_per_task {
        return Err(Error::usage("the checkpoint is one of another stream of classes"));
    }
    run.seconds_before = timing.seconds_total;
    (run.metrics, run.timing, run.n_images, run.seconds_of_task) = (metrics, timing, n_images, seconds_of_task);
    let state = checkpoint.restore(&run.learner, &mut run.optimizer)?;
    run.method.restore(&run.learner, state)?;
    run.tell_start(device);
    run.tasks_from(position)?;
    Ok(run.metrics)
}

struct Run<'a> {
    config: &'a Config,
    dataset: &'a Dataset,
    stream: TaskStream,
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
        let mut stream =
            TaskStream::split(dataset, config.classes_per_task, &config.class_order, config.limit_per_task)?;
        stream.tasks.truncate(config.max_tasks.unwrap_or(usize::MAX));
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
            seed: config.seed,
            n_tasks: stream.tasks.len(),
            classes_per_task: stream.tasks.iter().map(|task| task.classes.clone()).collect(),
            memory_bytes: Vec::new(),
            complete: false,
            classifiers: method.classifiers().iter().map(|&name| (name.into(), ClassifierResult::default())).collect(),
        };
        Ok(Run {
            config,
            dataset,
            stream,
            folder,
            learner: Learner::new(network, device, dataset)?,
            optimizer: optimizer.decaying(config.decay),
            method,
            metrics,
            timing: Timing::default(),
            n_images: 0,
            started: Instant::now(),
            seconds_before: 0.0,
            seconds_of_task: 0.0,
            sink,
            interrupted,
        })
    }

    fn tell_start(&mut self, device: &Device) {
        self.sink.run_started(&RunHeader {
            method: self.config.method.name.into(),
            dataset: self.dataset.name.clone(),
            model: self.config.model.clone(),
            device: device.describe(),
            n_tasks: self.stream.tasks.len(),
            classes_per_task: self.metrics.classes_per_task.clone(),
            memory: self.config.method.uses_memory.then_some(self.config.memory),
            seed: self.config.seed,
            n_parameters: self.learner.network.parameters.n_parameters(),
        });
    }

    /// All tasks from a position on.
    fn tasks_from(&mut self, mut position: Position) -> Result<()> {
        let n_tasks = self.stream.tasks.len();
        for index in position.task..n_tasks {
            let task_started = Instant::now();
            let loss = self.task(index, position)?;
            position = Position { task: index + 1, ..Position::default() };
            self.metrics.complete = position.task == n_tasks;
            self.timing.peak_host_bytes = peak_host_bytes();
            self.timing.device_bytes = self.learner.device.counters().held_bytes;
            self.checkpoint(position, 0.0)?;
            self.write()?;
            let seconds = task_started.elapsed().as_secs_f64() + std::mem::take(&mut self.seconds_of_task);
            let metrics = &self.metrics;
            self.sink.task_finished(&TaskFinished { task: index, n_tasks, metrics, seconds, loss });
        }
        if let Some(folder) = self.folder {
            folder.remove(CHECKPOINT_FILE)?;
        }
        self.sink.run_finished(&self.metrics, &self.timing, self.folder.map(RunFolder::path));
        Ok(())
    }

    /// Learns a task and evaluates on all seen so far. Returns the last loss that was read.
    fn task(&mut self, index: usize, position: Position) -> Result<Option<f32>> {
        let task = self.stream.tasks[index].clone();
        let data = self.task_data(&task);
        let started = Instant::now();
        let loss = self.train(&task, &data, position)?;
        self.learner.device.synchronize()?;
        self.timing.seconds_training.push(self.seconds_of_task + started.elapsed().as_secs_f64());
        self.timing.images_per_second = self.n_images as f64 / self.timing.seconds_training.iter().sum::<f64>();

        self.sink.phase(Phase::Exemplars);
        let started = Instant::now();
        self.method.end_task(&self.learner, &data)?;
        self.timing.seconds_end_of_task.push(started.elapsed().as_secs_f64());
        let held = self.method.held();
        self.metrics.memory_bytes.push(MemoryBytes::new(held.exemplars, held.old_network, held.class_means));

        self.sink.phase(Phase::Evaluation);
        let started = Instant::now();
        self.evaluate(index, data.n_seen)?;
        self.timing.seconds_evaluation.push(started.elapsed().as_secs_f64());
        Ok(loss)
    }

    /// Saves what [`resume`] needs. `seconds_of_task` were spent on training the task of `position`.
    fn checkpoint(&mut self, position: Position, seconds_of_task: f64) -> Result<()> {
        self.timing.seconds_total = self.seconds_before + self.started.elapsed().as_secs_f64();
        let Some(folder) = self.folder else { return Ok(()) };
        let progress = RunState {
            position,
            metrics: self.metrics.clone(),
            timing: self.timing.clone(),
            n_images: self.n_images,
            seconds_of_task,
        };
        Checkpoint::of(progress, &self.learner, &self.optimizer, self.method.state()?)?.write(folder)
    }

    fn task_data(&self, task: &Task) -> TaskData {
        let labels = &self.dataset.train.labels;
        let of_class = |&class: &u32| task.train.iter().copied().filter(|&i| labels[i as usize] == class).collect();
        TaskData {
            index: task.index,
            samples: task.classes.iter().map(of_class).collect(),
            n_old: task.first_label,
            n_seen: task.first_label + task.classes.len(),
        }
    }

    fn train(&mut self, task: &Task, data: &TaskData, position: Position) -> Result<Option<f32>> {
        let started = Instant::now();
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
            n_tasks: self.stream.tasks.len(),
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
        for (step, (_, images)) in (first_step..).zip(Loader::new(plan)?.skip(position.batch)) {
            let here = Position { task: task.index, epoch: step / per_epoch, batch: step % per_epoch };
            let interrupted = self.interrupted.load(Relaxed);
            if interrupted || (here.batch == 0 && step > first_step) {
                self.checkpoint(here, self.seconds_of_task + started.elapsed().as_secs_f64())?;
            }
            if interrupted {
                return Err(Error::Interrupted);
            }
            let epoch = here.epoch;
            let batch = Batch {
                x: self.learner.input(&images)?,
                labels: Tensor::from_u32(&self.learner.device, [images.len()], &images.labels)?,
                n_old: data.n_old,
                n_seen: data.n_seen,
            };
            let loss = self.method.observe(&self.learner, &batch)?.total()?;
            let parameters = &self.learner.network.parameters;
            parameters.backward(&loss)?;
            self.optimizer.step(parameters, schedule.at(epoch))?;
            if let Some(frozen) = &frozen {
                parameters.restore_all_but_outputs(frozen, data.n_old)?;
            }
            self.learner.device.flush()?;
            self.n_images += images.len();

            let mut progress = Progress { epoch, batch: step + 1, loss: None };
            if step % LOSS_INTERVAL == 0 {
                last_loss = Some(read_loss(&loss, task.index, epoch, step)?);
                progress.loss = last_loss;
            }
            latest = Some((step, loss.detach()));
            self.sink.progress(&progress);
        }
        if let Some((step, loss)) = latest {
            last_loss = Some(read_loss(&loss, task.index, self.config.epochs - 1, step)?);
            self.check_weights(task.index)?;
        }
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

    /// One row of the accuracy matrix, and the confusion matrix, for every classifier.
    fn evaluate(&mut self, task: usize, n_seen: usize) -> Result<()> {
        let classifiers = self.method.classifiers();
        let mut rows = vec![vec![None; self.stream.tasks.len()]; classifiers.len()];
        let mut truth = Vec::new();
        let mut predicted = vec![Vec::new(); classifiers.len()];
        for old in &self.stream.tasks[..=task] {
            let images = &self.dataset.test;
            let label = |&sample: &u32| self.stream.label_of_class[images.labels[sample as usize] as usize];
            let first = truth.len();
            truth.extend(old.test.iter().map(label));
            self.predict(images, &old.test, n_seen, &mut predicted)?;
            for (row, predicted) in rows.iter_mut().zip(&predicted) {
                row[old.index] = Some(accuracy(&truth[first..], &predicted[first..]));
            }
        }
        for ((name, row), predicted) in classifiers.iter().zip(rows).zip(predicted) {
            let result = self.metrics.classifiers.get_mut(*name).expect("bug: a classifier without results");
            result.push(row, accuracy(&truth, &predicted));
            result.confusion = confusion(&truth, &predicted, n_seen);
        }
        Ok(())
    }

    /// Adds the label that each classifier gives to each image.
    fn predict(&self, images: &Images, samples: &[u32], n_seen: usize, labels: &mut [Vec<u32>]) -> Result<()> {
        self.learner.evaluate(images, samples, |_, output| {
            for (labels, classifier) in labels.iter_mut().zip(self.method.classifiers()) {
                labels.extend(self.method.predict(&output, n_seen, classifier)?.to_u32()?);
            }
            Ok(())
        })
    }

    /// What is needed to predict first, `metrics.json` last: a reader of the metrics finds the rest in place.
    fn write(&self) -> Result<()> {
        let Some(folder) = self.folder else { return Ok(()) };
        let seen = self.metrics.classes_per_task[..self.metrics.memory_bytes.len()].concat();
        let name = |class: u32| self.dataset.class_names[class as usize].clone();
        let classes: Vec<Class> = seen.into_iter().map(|class| Class { class, name: name(class) }).collect();
        exemplars::write(folder, &self.dataset.train, self.method.exemplars(), &classes)?;
        let card = ModelCard::new(&self.metrics, self.dataset, &self.learner.network, &*self.method, classes);
        saved::write(folder, card, &self.learner.network, &*self.method)?;
        folder.write_accuracy_csv(&self.metrics)?;
        folder.write_json("timing.json", &self.timing)?;
        folder.write_json("metrics.json", &self.metrics)
    }
}

/// The fraction of predictions that are true.
fn accuracy(truth: &[u32], predicted: &[u32]) -> f64 {
    let n_correct = truth.iter().zip(predicted).filter(|(y, z)| y == z).count();
    n_correct as f64 / truth.len() as f64
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
