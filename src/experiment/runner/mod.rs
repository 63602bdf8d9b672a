//! The course over tasks: one seed of one configuration, from an initialised network to written results.

mod evaluation;
mod kept;
mod masks;
mod resume;
mod single;
mod task;

use super::checkpoint::{CHECKPOINT_FILE, Checkpoint, Origin, Position, RunState};
use super::config::Config;
use super::kept::MEMORY_FILE;
use super::results::{ClassifierResult, LossRow, Metrics, RunFolder, Score, Timing, accuracy_csv, losses_csv};
use super::results::{METRICS_FILE, peak_host_bytes};
use super::saved::ModelCard;
use super::sink::{Phase, RunHeader, Sink, TaskFinished};
use super::{exemplars, saved};
use crate::continual::{Candidates, Learner, Method, TaskData};
use crate::data::{Dataset, Fingerprint, Images, Scenario, Target, Task, TaskStream};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::optim::{Kind, Optimizer};
use crate::settings::flag;
use crate::training::{TermRecord, Trainer};
pub use resume::{complete, resume};
pub use single::{Standing, learn_task};
use std::cell::OnceCell;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Runs one seed. Results are written after every task; `interrupted` ends the run between two steps.
///
/// ```
/// use engram::experiment::{Config, run, sink::Silent};
/// use engram::{Device, continual, data};
/// use std::sync::atomic::AtomicBool;
/// let settings = [("model", "mlp"), ("limit_per_task", "40"), ("memory", "20"), ("epochs", "1")];
/// let config = Config::of(continual::spec("icarl")?, &settings)?;
/// let dataset = data::spec("glyphs")?.load("unused: it is built in".as_ref())?;
/// let metrics = run(&config, &dataset, &Device::cpu(), None, &mut Silent, &AtomicBool::new(false))?;
/// assert!(metrics.complete && metrics.n_tasks == 5);
/// let nme = &metrics.classifiers["nme"];
/// println!("after five tasks: {:.3}", nme.final_accuracy().unwrap());
/// # assert!(nme.final_accuracy().unwrap() > 0.1, "no better than guessing");
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
    let mut run = Run::new(config, dataset, device, folder)?;
    run.tasks_from(Position::default(), &mut Trainer::new(device, sink, interrupted))?;
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
    /// By label, those of tasks beyond `--max-tasks` too: in a blurry stream they may come at any time.
    all_classes: Vec<u32>,
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
}

/// Who trains, and tells of it.
type RunTrainer<'a, 's> = Trainer<'a, dyn Sink + 's>;

impl<'a> Run<'a> {
    fn new(
        config: &'a Config,
        dataset: &'a Dataset,
        device: &Device,
        folder: Option<&'a RunFolder>,
    ) -> Result<Run<'a>> {
        let given = dataset;
        let (dataset, mut stream) = config.stream.split().tasks(given)?;
        let all_classes = stream.tasks.iter().flat_map(|task| &task.classes).copied().collect();
        stream.tasks.truncate(config.stream.max_tasks.unwrap_or(usize::MAX));
        let phases = match config.method.sees_everything {
            true => vec![all_at_once(&stream)],
            false => stream.tasks.clone(),
        };
        let Images { channels, height, width, .. } = *dataset.train;
        let input = [channels, height, width];
        let method = (config.method.build)(&config.values);
        let n_outputs = method.outputs_per_class() * stream.n_classes;
        let network = config.model.network(input, n_outputs, device, config.seed)?;
        let head_factor = config.find::<f32>("head_lr").map(|lr| lr / config.training.schedule.lr);
        let optimizer = config.training.optimizer(&network.parameters)?.with_last_layer(head_factor);
        let metrics = Metrics {
            method: config.method.name.into(),
            dataset: dataset.name.clone(),
            model: config.model.model.clone(),
            scenario: config.stream.scenario.name().into(),
            seed: config.seed,
            n_tasks: phases.len(),
            score: Score::of(dataset.target()),
            classes_per_task: stream.tasks.iter().map(|task| task.classes.clone()).collect(),
            n_candidates: (config.stream.blurry > 0 || config.candidates == Candidates::All)
                .then_some(stream.n_classes),
            n_tested: Vec::new(),
            domains_per_task: domains_per_task(&dataset, &stream),
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
        let mut learner = Learner::new(network, device, &dataset)?.trained_by(config.training.batch_size);
        (learner.augment, learner.seed) = (config.data.augment.into(), config.seed);
        learner.unseen = config.find("unseen").unwrap_or_default();
        Ok(Run {
            config,
            dataset,
            given,
            origin: OnceCell::new(),
            stream,
            all_classes,
            phases,
            folder,
            learner,
            optimizer,
            method,
            metrics,
            timing: Timing::default(),
            n_images: 0,
            started: Instant::now(),
            seconds_before: 0.0,
            seconds_of_task: 0.0,
            losses: Vec::new(),
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

    fn header(&self) -> RunHeader {
        RunHeader {
            method: self.config.method.name.into(),
            dataset: self.dataset.name.clone(),
            model: self.config.model.model.clone(),
            device: self.learner.device.describe(),
            n_tasks: self.phases.len(),
            classes_per_task: self.metrics.classes_per_task.clone(),
            n_classes: self.stream.n_classes,
            n_domains: self.stream.tasks.iter().map(|task| task.domains.len()).sum(),
            memory: self.config.memory(),
            seed: self.config.seed,
            n_parameters: self.learner.network.parameters.n_parameters(),
            n_train: distinct(self.stream.tasks.iter().map(|task| &task.train)),
            n_test: distinct(self.stream.tasks.iter().map(|task| &task.test)),
        }
    }

    /// All tasks from a position on. Results come before the checkpoint that says that they are there: whatever ends the run in
    /// between, it goes on before the task, and ends in the same results.
    fn tasks_from(&mut self, mut position: Position, trainer: &mut RunTrainer) -> Result<()> {
        trainer.listener.run_started(&self.header());
        let n_tasks = self.phases.len();
        for index in position.task..n_tasks {
            let task_started = Instant::now();
            let loss = self.task(index, position, trainer)?;
            position = Position { task: index + 1, ..Position::default() };
            self.metrics.complete = position.task == n_tasks;
            self.timing.peak_host_bytes = peak_host_bytes();
            self.timing.device_bytes = self.learner.device.counters().held_bytes;
            self.timing.seconds_total = self.seconds_before + self.started.elapsed().as_secs_f64();
            self.write()?;
            match self.folder {
                Some(folder) if self.metrics.complete => folder.remove(CHECKPOINT_FILE)?,
                _ => {
                    let started = Instant::now();
                    self.checkpoint(position, 0.0)?;
                    trainer.checkpoints.written(started.elapsed());
                }
            }
            let seconds = task_started.elapsed().as_secs_f64() + std::mem::take(&mut self.seconds_of_task);
            let metrics = &self.metrics;
            trainer.listener.task_finished(&TaskFinished { task: index, n_tasks, metrics, seconds, loss });
        }
        trainer.listener.run_finished(&self.metrics, &self.timing, self.folder.map(RunFolder::path));
        Ok(())
    }

    /// Learns a task and evaluates on all seen so far. Returns the last loss that was read.
    fn task(&mut self, index: usize, position: Position, trainer: &mut RunTrainer) -> Result<Option<f32>> {
        let task = self.phases[index].clone();
        let data = self.task_data(&task, trainer.interrupted);
        self.know_heads(index);
        if index == 0 && position.is_start_of_task() {
            self.measure_initial()?;
        }
        let (started, measured) = (Instant::now(), self.timing.training_loop.evaluation);
        let loss = self.train(&task, &data, position, trainer)?;
        let measuring = self.timing.training_loop.evaluation - measured;
        let seconds = self.seconds_of_task + started.elapsed().as_secs_f64() - measuring;

        trainer.listener.phase(Phase::Exemplars);
        let started = Instant::now();
        if let Err(error) = self.method.end_task(&self.learner, &data) {
            if matches!(error, Error::Interrupted) {
                let trained = Position { task: index, epoch: self.config.training.epochs, batch: 0, begun: true };
                self.checkpoint(trained, seconds)?;
            }
            return Err(error);
        }
        self.timing.seconds_training.push(seconds);
        self.timing.images_per_second = self.n_images as f64 / self.timing.seconds_training.iter().sum::<f64>();
        self.timing.seconds_end_of_task.push(started.elapsed().as_secs_f64());
        self.metrics.memory_bytes.push(self.method.held(&self.learner).into());
        if let Some(warning) = self.stiffness_warning(index) {
            trainer.listener.warning(&warning);
        }

        trainer.listener.phase(Phase::Evaluation);
        let started = Instant::now();
        self.evaluate(index, data.n_seen)?;
        if let Some(warning) = self.any_time_warning().filter(|_| index + 1 == self.phases.len()) {
            trainer.listener.warning(&warning);
        }
        self.timing.seconds_evaluation.push(started.elapsed().as_secs_f64());
        Ok(loss)
    }

    /// In task-incremental learning, the outputs of each task seen.
    fn know_heads(&mut self, index: usize) {
        if self.config.stream.scenario == Scenario::Task {
            let labels = |task: &Task| task.first_label..task.first_label + task.classes.len();
            self.learner.heads = self.tasks_seen(index).iter().map(labels).collect();
        }
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
            losses: self.losses.clone(),
        };
        let origin = self.origin().clone();
        Checkpoint::of(origin, progress, &self.learner, &self.optimizer, self.method.state()?)?.write(folder)
    }

    fn task_data<'b>(&self, task: &Task, interrupted: &'b AtomicBool) -> TaskData<'b> {
        let classes = &self.dataset.train.labels;
        let label = |sample: u32| self.stream.label_of_class[classes[sample as usize] as usize] as usize;
        let n_labels = self.stream.n_classes;
        let end = task.first_label + task.classes.len();
        let (labels, n_old, n_seen) = match self.config.stream.scenario {
            // Any label may come at any time, and may have come before.
            _ if self.config.stream.blurry > 0 => (0..n_labels, n_labels, n_labels),
            scenario if scenario.shares_labels() => (0..n_labels, if task.index == 0 { 0 } else { n_labels }, n_labels),
            _ => (task.first_label..end, task.first_label, end),
        };
        let mut samples = vec![Vec::new(); labels.len()];
        match self.dataset.target() {
            Target::Class => task.train.iter().for_each(|&sample| samples[label(sample) - labels.start].push(sample)),
            Target::Mask => samples = vec![task.train.clone()],
        }
        let is_last = task.index + 1 == self.phases.len();
        let label_of_class = self.stream.training_labels(task, self.config.method.is_reference);
        TaskData { index: task.index, samples, n_old, n_seen, label_of_class, labels, is_last, interrupted }
    }

    /// The names of what a task brings: classes or domains.
    fn names_of(&self, task: &Task) -> Vec<String> {
        match task.domains.is_empty() {
            true => task.classes.iter().map(|&class| self.dataset.class_names[class as usize].clone()).collect(),
            false => task.domains.iter().map(|&domain| self.dataset.domains[domain as usize].clone()).collect(),
        }
    }

    /// What a quadratic penalty does to plain gradient descent is known beforehand.
    fn stiffness_warning(&mut self, task: usize) -> Option<String> {
        // Later tasks are what it acts in.
        let lr = self.config.find("later_lr").unwrap_or(self.config.training.schedule.lr);
        let value = self.method.stiffness()? * lr;
        let term = "stiffness·lr".into();
        let (epoch, weight, gradient_norm) = (self.config.training.epochs, 1.0, None);
        self.losses.push(LossRow { task, record: TermRecord { step: 0, epoch, term, weight, value, gradient_norm } });
        let is_too_stiff = self.config.training.optimizer == Kind::Sgd && value > 2.0 && task + 1 < self.phases.len();
        is_too_stiff.then(|| {
            let weight = self.config.method.trade_off.first().map(|(name, _)| format!(" or {}", flag(name)));
            format!(
                "after task {} the largest second derivative of the penalty times --lr is {value:.3}: above 2 a step of sgd \
                 overshoots, and training may diverge. Use a smaller --lr{}",
                task + 1,
                weight.unwrap_or_default()
            )
        })
    }

    /// What is needed to predict first, `metrics.json` last: a reader of the metrics finds the rest in place.
    fn write(&mut self) -> Result<()> {
        let Some(folder) = self.folder else { return Ok(()) };
        let classes = self.classes_seen();
        exemplars::write(folder, &self.dataset.train, &self.method.exemplars(), &classes, self.metrics.complete)?;
        let card = ModelCard::new(&self.metrics, &self.dataset, &self.learner.network, &*self.method, classes);
        let weights = saved::write(folder, card, &self.learner.network, &*self.method)?;
        if self.metrics.complete
            && let Some(kept) = self.kept()?
        {
            folder.write_bytes(MEMORY_FILE, &kept.to_bytes(weights)?)?;
        }
        folder.write_bytes("accuracy.csv", accuracy_csv(&self.metrics).as_bytes())?;
        folder.write_bytes("losses.csv", losses_csv(&self.losses).as_bytes())?;
        folder.write_sealed("timing.json", &self.timing)?;
        folder.write_sealed(METRICS_FILE, &self.metrics)
    }
}

/// How many images are in lists that may share some.
fn distinct<'a>(lists: impl Iterator<Item = &'a Vec<u32>>) -> usize {
    lists.flatten().collect::<std::collections::HashSet<_>>().len()
}

/// All tasks as one.
fn all_at_once(stream: &TaskStream) -> Task {
    let mut all = Task {
        index: 0,
        classes: Vec::new(),
        first_label: 0,
        domains: Vec::new(),
        train: Vec::new(),
        test: Vec::new(),
    };
    for task in &stream.tasks {
        all.train.extend(&task.train);
        let new = task.classes.iter().filter(|class| !all.classes.contains(class)).copied().collect::<Vec<_>>();
        all.classes.extend(new);
    }
    // An image with masks may belong to several tasks.
    if stream.background_shift {
        for part in [&mut all.train, &mut all.test] {
            part.sort_unstable();
            part.dedup();
        }
    }
    all
}

/// The names of the domains that each task brings; none where tasks bring classes.
fn domains_per_task(dataset: &Dataset, stream: &TaskStream) -> Vec<Vec<String>> {
    let names = |task: &Task| task.domains.iter().map(|&domain| dataset.domains[domain as usize].clone()).collect();
    match stream.tasks.iter().any(|task| !task.domains.is_empty()) {
        true => stream.tasks.iter().map(names).collect(),
        false => Vec::new(),
    }
}
