//! The framework on a stream of tasks: every trial is one task of a run, on a validation split.

use super::{Framework, Trials, Tuned};
use crate::continual;
use crate::data::{Dataset, Fingerprint};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::experiment::config::Config;
use crate::experiment::runner::{Standing, learn_task};
use crate::experiment::sink::Sink;
use serde::{Deserialize, Serialize};
use std::sync::atomic::AtomicBool;

/// What is validated on: a part of each class's training images, which ones keyed by a seed of its own; see
/// [`Dataset::held_out`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Between 0 and 1.
    pub fraction: f64,
    /// Not that of the run.
    pub seed: u64,
}

/// A run whose settings are searched.
pub struct Search<'a> {
    config: Config,
    /// The rest of the training images, and the held-out ones in place of the test images.
    dataset: Dataset,
    device: &'a Device,
    sink: &'a dyn Fn() -> Box<dyn Sink>,
    interrupted: &'a AtomicBool,
}

impl<'a> Search<'a> {
    /// A search for the run of `config`, whose options are where the trade-off begins, and whose rate plays no part. Of the
    /// data set the training images are taken and nothing else. `sink` makes a listener for each trial; `interrupted` ends the
    /// search between two steps.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is nothing to tune, or the data set cannot be split so.
    pub fn new(
        config: &Config,
        dataset: &Dataset,
        validation: Validation,
        device: &'a Device,
        sink: &'a dyn Fn() -> Box<dyn Sink>,
        interrupted: &'a AtomicBool,
    ) -> Result<Search<'a>> {
        let method = config.method;
        if !method.goes_by("lr") {
            let name = method.name;
            return Err(Error::usage(format!(
                "{name} has nothing to tune: it neither goes by --lr nor has a trade-off"
            )));
        }
        if trade_off(config, 1.0).iter().any(|(_, value)| *value == 0.0) {
            return Err(Error::usage("a trade-off that begins at 0 cannot be decayed: give a high value"));
        }
        if (method.build)(&config.values).outputs_per_class() > 1 {
            return Err(Error::usage(
                "a search begins with fine-tuning, which has one output for each class: --rotations true has four. Tune without it",
            ));
        }
        let dataset = dataset.held_out(validation.fraction, validation.seed)?;
        // Accuracies while the stream goes on are not asked for here.
        let search =
            Search { config: Config { eval_every: None, ..config.clone() }, dataset, device, sink, interrupted };
        search.tasks().map(|_| search)
    }

    /// The images that are searched on.
    pub fn data(&self) -> Fingerprint {
        Fingerprint::of(&self.dataset)
    }

    /// The classes of each task that is searched.
    ///
    /// # Errors
    /// [`Error::Usage`] if the data set cannot be split so.
    pub fn tasks(&self) -> Result<Vec<Vec<u32>>> {
        let stream = self.config.stream.split().tasks(&self.dataset)?.1;
        let mut tasks: Vec<Vec<u32>> = stream.tasks.into_iter().map(|task| task.classes).collect();
        tasks.truncate(self.config.stream.max_tasks.unwrap_or(usize::MAX));
        if self.config.method.sees_everything {
            let mut all = tasks.concat();
            all.sort_unstable();
            all.dedup();
            tasks = Vec::from([all]);
        }
        Ok(tasks)
    }
}

/// A method's trade-off settings at `factor` times their values in a run.
pub fn trade_off(config: &Config, factor: f64) -> Vec<(&'static str, f32)> {
    let value = |name: &str| config.find::<f32>(name).map(|start| (f64::from(start) * factor) as f32);
    config.method.trade_off.iter().filter_map(|(name, _)| Some((*name, value(name)?))).collect()
}

/// Searches every task of the stream in turn; `found` hears of each.
///
/// # Errors
/// [`Error::Usage`] if a number of the framework makes no sense; [`Error::Training`] if training diverges whatever is tried;
/// those of `found` and of running a task.
pub fn tune(search: &Search, framework: &Framework, mut found: impl FnMut(&Tuned) -> Result<()>) -> Result<Tuned> {
    go_on(search, framework, None, |tuned, _| found(tuned))
}

/// Searches the tasks that are left, from what was found in those before and where the last of them ended.
///
/// # Errors
/// As [`tune`].
pub fn go_on(
    search: &Search,
    framework: &Framework,
    from: Option<(Tuned, Standing)>,
    mut found: impl FnMut(&Tuned, &Standing) -> Result<()>,
) -> Result<Tuned> {
    framework.check()?;
    let has_trade_off = !search.config.method.trade_off.is_empty();
    let (mut tuned, before) = from.map_or((Tuned::default(), None), |(tuned, standing)| (tuned, Some(standing)));
    let mut trials = TaskTrials { search, before, latest: None };
    for _ in tuned.tasks.len()..search.tasks()?.len() {
        framework.next_task(&mut tuned, has_trade_off, &mut trials)?;
        trials.before = trials.latest.take();
        found(&tuned, trials.before.as_ref().expect("bug: a task that was tuned was not learnt"))?;
    }
    Ok(tuned)
}

struct TaskTrials<'a> {
    search: &'a Search<'a>,
    /// After the task before.
    before: Option<Standing>,
    /// After the latest time the method learnt this task.
    latest: Option<Standing>,
}

impl TaskTrials<'_> {
    /// A task of the run with other settings; `None` if it diverges.
    fn run(&self, config: &Config, task: usize) -> Result<Option<(Standing, f64)>> {
        let Search { dataset, device, interrupted, sink, .. } = self.search;
        match learn_task(config, dataset, device, self.before.as_ref(), task, &mut *sink(), interrupted) {
            Ok(done) => Ok(Some(done)),
            Err(Error::Training(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Trials for TaskTrials<'_> {
    /// Methods that see everything have nothing before the task: they are their own fine-tuning.
    fn fine_tune(&mut self, task: usize, rate: f32) -> Result<Option<f64>> {
        let base = &self.search.config;
        let method = if base.method.sees_everything { base.method } else { continual::spec("finetune")? };
        let config = base.for_method(method)?.with(&[("lr", &rate.to_string())])?;
        Ok(self.run(&config, task)?.map(|(_, accuracy)| accuracy))
    }

    fn learn(&mut self, task: usize, rate: f32, factor: f64) -> Result<Option<f64>> {
        let base = &self.search.config;
        let mut changes = vec![("lr", rate.to_string())];
        changes.extend(trade_off(base, factor).into_iter().map(|(name, value)| (name, value.to_string())));
        let changes: Vec<(&str, &str)> = changes.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let done = self.run(&base.with(&changes)?, task)?;
        let accuracy = done.as_ref().map(|(_, accuracy)| *accuracy);
        self.latest = done.map(|(standing, _)| standing);
        Ok(accuracy)
    }
}
