//! The only training loop: one seed of one configuration, from an initialised network to written results.

use super::config::Config;
use super::metrics::confusion;
use super::results::{ClassifierResult, MemoryBytes, Metrics, RunFolder, Timing, peak_host_bytes};
use super::saved::{Class, ModelCard};
use super::sink::{Phase, Progress, RunHeader, Sink, TaskFinished, TaskStarted};
use super::{exemplars, saved};
use crate::continual::{Batch, Learner, Method, Options, TaskData};
use crate::data::{Augment, Dataset, Images, Loader, Plan, Task, TaskStream};
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
    let stream = TaskStream::split(dataset, config.classes_per_task, &config.class_order, config.limit_per_task)?;
    let images = &dataset.train;
    let input = [images.channels, images.height, images.width];
    let options = config.model_options();
    let network = Network::with_options(&config.model, &options, input, stream.n_classes, device, config.seed)?;
    let optimizer = Optimizer::new(config.optimizer, config.momentum, config.weight_decay, &network.parameters)?;
    let options = Options { memory: config.memory, rounding: config.memory_rounding };
    let method = (config.method.build)(options);
    let classes_per_task: Vec<Vec<u32>> = stream.tasks.iter().map(|task| task.classes.clone()).collect();

    sink.run_started(&RunHeader {
        method: config.method.name.into(),
        dataset: dataset.name.clone(),
        model: config.model.clone(),
        device: device.describe(),
        n_tasks: stream.tasks.len(),
        classes_per_task: classes_per_task.clone(),
        memory: config.method.uses_memory.then_some(config.memory),
        seed: config.seed,
        n_parameters: network.parameters.n_parameters(),
    });
    let metrics = Metrics {
        method: config.method.name.into(),
        dataset: dataset.name.clone(),
        model: config.model.clone(),
        seed: config.seed,
        n_tasks: stream.tasks.len(),
        classes_per_task,
        memory_bytes: Vec::new(),
        complete: false,
        classifiers: method.classifiers().iter().map(|&name| (name.into(), ClassifierResult::default())).collect(),
    };
    let mut run = Run {
        config,
        dataset,
        stream: &stream,
        learner: Learner::new(network, device, dataset)?,
        optimizer,
        method,
        metrics,
        timing: Timing::default(),
        n_images: 0,
        sink,
        interrupted,
    };
    let started = Instant::now();
    for task in &stream.tasks {
        let task_started = Instant::now();
        let loss = run.task(task)?;
        run.metrics.complete = task.index + 1 == stream.tasks.len();
        run.timing.seconds_total = started.elapsed().as_secs_f64();
        run.timing.peak_host_bytes = peak_host_bytes();
        run.timing.device_bytes = device.counters().held_bytes;
        if let Some(folder) = folder {
            run.write(folder)?;
        }
        let seconds = task_started.elapsed().as_secs_f64();
        let n_tasks = stream.tasks.len();
        run.sink.task_finished(&TaskFinished { task: task.index, n_tasks, metrics: &run.metrics, seconds, loss });
    }
    run.sink.run_finished(&run.metrics, &run.timing, folder.map(RunFolder::path));
    Ok(run.metrics)
}

struct Run<'a> {
    config: &'a Config,
    dataset: &'a Dataset,
    stream: &'a TaskStream,
    learner: Learner,
    optimizer: Optimizer,
    method: Box<dyn Method>,
    metrics: Metrics,
    timing: Timing,
    /// Images trained on so far.
    n_images: usize,
    sink: &'a mut dyn Sink,
    interrupted: &'a AtomicBool,
}

impl Run<'_> {
    /// Learns a task and evaluates on all seen so far. Returns the last loss that was read.
    fn task(&mut self, task: &Task) -> Result<Option<f32>> {
        let data = self.task_data(task);
        let started = Instant::now();
        let loss = self.train(task, &data)?;
        self.learner.device.synchronize()?;
        self.timing.seconds_training.push(started.elapsed().as_secs_f64());
        self.timing.images_per_second = self.n_images as f64 / self.timing.seconds_training.iter().sum::<f64>();

        self.sink.phase(Phase::Exemplars);
        let started = Instant::now();
        self.method.end_task(&self.learner, &data)?;
        self.timing.seconds_end_of_task.push(started.elapsed().as_secs_f64());
        let held = self.method.held();
        self.metrics.memory_bytes.push(MemoryBytes::new(held.exemplars, held.old_network, held.class_means));

        self.sink.phase(Phase::Evaluation);
        let started = Instant::now();
        self.evaluate(task.index, data.n_seen)?;
        self.timing.seconds_evaluation.push(started.elapsed().as_secs_f64());
        Ok(loss)
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

    fn train(&mut self, task: &Task, data: &TaskData) -> Result<Option<f32>> {
        self.method.begin_task(&self.learner, data)?;
        self.optimizer.reset()?;
        let samples = self.method.training_set(data);
        let n_new: usize = data.samples.iter().map(Vec::len).sum();
        let n_samples = samples.len();
        let plan = Plan {
            images: self.dataset.train.clone(),
            samples: Arc::new(samples),
            label_of_class: Arc::new(self.stream.label_of_class.clone()),
            batch_size: self.config.batch_size,
            seed: self.config.seed,
            first_epoch: (task.index * self.config.epochs) as u64,
            n_epochs: self.config.epochs as u64,
            augment: Augment::default(),
            drop_last: false,
        };
        let first_epoch = plan.first_epoch;
        self.sink.task_started(&TaskStarted {
            task: task.index,
            n_tasks: self.stream.tasks.len(),
            classes: task.classes.iter().map(|&class| self.dataset.class_names[class as usize].clone()).collect(),
            n_images: n_new,
            n_exemplars: n_samples - n_new,
            n_epochs: self.config.epochs,
            n_batches: plan.batches_per_epoch() * self.config.epochs,
        });
        self.sink.phase(Phase::Training);

        let schedule = self.config.schedule();
        let mut last_loss = None;
        let mut latest: Option<(usize, Tensor)> = None;
        for (step, (epoch, images)) in Loader::new(plan)?.enumerate() {
            if self.interrupted.load(Relaxed) {
                return Err(Error::Interrupted);
            }
            let epoch = (epoch - first_epoch) as usize;
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
    fn write(&self, folder: &RunFolder) -> Result<()> {
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
