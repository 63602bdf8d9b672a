//! A task as what a training works towards.

use super::{Run, RunTrainer};
use crate::continual::{Batch, TaskData};
use crate::data::{self, Task};
use crate::error::Result;
use crate::experiment::checkpoint::Position;
use crate::experiment::results::LossRow;
use crate::experiment::sink::{Phase, TaskStarted};
use crate::nn::{Loss, Parameters};
use crate::settings::flag;
use crate::training::{Log, LoopSeconds, Objective, Step, TermRecord, Trainee, batches_from};
use std::time::Instant;

impl Run<'_> {
    /// Trains on a task, from a position on. Returns the loss of the last step.
    pub(super) fn train(
        &mut self,
        task: &Task,
        data: &TaskData,
        position: Position,
        trainer: &mut RunTrainer,
    ) -> Result<Option<f32>> {
        let started = Instant::now();
        let recipe = self.config.training.clone();
        let samples = self.method.training_set(data);
        let (n_new, n_samples) = (data.samples.iter().map(Vec::len).sum::<usize>(), samples.len());
        let mut started_task = TaskStarted {
            task: task.index,
            n_tasks: self.phases.len(),
            classes: self.names_of(task),
            n_images: n_new,
            n_exemplars: n_samples.saturating_sub(n_new),
            n_epochs: 0,
            n_batches: 0,
        };
        if samples.is_empty() && n_new > 0 {
            // The method learns from this task without training.
            trainer.listener.task_started(&started_task);
            self.begin(data, position, trainer)?;
            return Ok(None);
        }
        let batches = recipe.batches(
            self.dataset.train.clone(),
            samples,
            self.stream.training_labels(task, self.config.method.is_reference),
            self.learner.augment,
            self.config.seed,
            task.index * recipe.epochs,
        );
        let mut plan = recipe.plan(format!("task {}", task.index + 1), &batches);
        plan.first_step = position.epoch * plan.per_epoch + position.batch;
        if let Some(lr) = self.config.find("later_lr").filter(|_| task.index > 0) {
            plan.schedule.lr = lr;
        }
        if let Some(lr) = self.config.find::<f32>("head_lr") {
            self.optimizer.set_last_layer(lr / plan.schedule.lr);
        }
        plan.log = Some(Log::for_curve(plan.n_steps()));
        // What holds the network to earlier tasks may be what a step overshoots by.
        let holds = if task.index > 0 { self.config.method.trade_off } else { &[] };
        let smaller: Vec<String> =
            ["lr"].iter().chain(holds.iter().map(|(name, _)| name)).map(|name| flag(name)).collect();
        plan.advice = format!("Use a smaller {}; results of the tasks before are kept", smaller.join(" or "));
        (started_task.n_epochs, started_task.n_batches) = (recipe.epochs, plan.n_steps());
        trainer.listener.task_started(&started_task);
        self.begin(data, position, trainer)?;
        let frozen = match self.method.freezes_representation(data) {
            true => Some(self.learner.network.parameters.snapshot()?),
            false => None,
        };
        trainer.listener.phase(Phase::Training);
        self.timing.training_loop.steps += started.elapsed().as_secs_f64();
        let batches = batches_from(batches, plan.first_step)?;
        let mut objective = TaskObjective { run: self, data, frozen, batch: None, n_new: 0, started };
        let trained = trainer.run(&plan, batches, &mut objective)?;
        self.timing.training_loop += trained.seconds;
        Ok(trained.loss)
    }

    /// What comes before the first batch of a task; nothing where an interrupted one goes on.
    fn begin(&mut self, data: &TaskData, position: Position, trainer: &mut RunTrainer) -> Result<()> {
        if !position.is_start_of_task() {
            return Ok(());
        }
        trainer.listener.phase(Phase::Preparation);
        self.method.begin_task(&self.learner, data)?;
        if self.config.reset_optimizer || data.index == 0 {
            self.optimizer.reset()?;
        }
        Ok(())
    }
}

/// The loss that the run's method makes of a task's batches.
struct TaskObjective<'r, 'a> {
    run: &'r mut Run<'a>,
    data: &'r TaskData<'r>,
    /// Where all but the last layer's outputs stay.
    frozen: Option<Parameters>,
    /// What this step learns from.
    batch: Option<Batch>,
    /// Images of the latest step.
    n_new: usize,
    started: Instant,
}

const NO_BATCH: &str = "bug: a step without a batch";

impl Objective for TaskObjective<'_, '_> {
    type Batch = data::Batch;

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        vec![Trainee { parameters: &self.run.learner.network.parameters, optimizer: &mut self.run.optimizer }]
    }

    fn loss(&mut self, images: data::Batch, step: Step) -> Result<Loss> {
        let Run { learner, method, .. } = &mut *self.run;
        let epoch_of_run = self.data.index * step.n_epochs + step.epoch();
        let batch = self.batch.insert(Batch::of(learner, images, self.data, epoch_of_run, step)?);
        method.observe(learner, batch)
    }

    fn adjust_gradients(&mut self) -> Result<()> {
        let batch = self.batch.as_ref().expect(NO_BATCH);
        self.run.method.adjust_gradients(&self.run.learner, batch)
    }

    fn after_step(&mut self) -> Result<()> {
        let (run, batch) = (&mut *self.run, self.batch.take().expect(NO_BATCH));
        if let Some(frozen) = &self.frozen {
            run.learner.network.parameters.restore_all_but_outputs(frozen, self.data.n_old)?;
        }
        run.n_images += batch.images.len();
        self.n_new = batch.images.len();
        run.method.after_step(&run.learner, &batch)
    }

    fn measure(&mut self, _: Step) -> Result<()> {
        let n_new = std::mem::take(&mut self.n_new);
        self.run.measure_any_time(self.data.index, self.data.n_seen, n_new)
    }

    fn record(&mut self, record: TermRecord) {
        self.run.losses.push(LossRow { task: self.data.index, record });
    }

    fn keep(&mut self, step: Step, seconds: &LoopSeconds) -> Result<()> {
        let position = Position { task: self.data.index, epoch: step.epoch(), batch: step.batch(), begun: true };
        let before = self.run.timing.training_loop;
        self.run.timing.training_loop += *seconds;
        let seconds_of_task = self.run.seconds_of_task + self.started.elapsed().as_secs_f64() - seconds.evaluation;
        let kept = self.run.checkpoint(position, seconds_of_task);
        self.run.timing.training_loop = before;
        kept
    }
}
