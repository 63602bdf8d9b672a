//! The continual hyper-parameter framework (De Lange et al., "A Continual Learning Survey: Defying Forgetting in
//! Classification Tasks", TPAMI 2021, section 4 and algorithm 1): learning rate and trade-off are chosen task by task, from
//! that task's data alone.
//!
//! 1. *Maximal plasticity search.* Copies of the network are fine-tuned on the new task with each learning rate of a grid. The
//!    best validation accuracy on the new task, A*, is what can be had if nothing old matters.
//! 2. *Stability decay.* The method learns the task from the same start, with that rate and its trade-off H at a high value.
//!    While its validation accuracy on the new task is below (1 − p)·A*, H ← α·H, and the task is learnt again.
//!
//! As in the paper a decayed H is carried on to later tasks. The first task has nothing to keep: there the method learns once,
//! with the rate found.

mod stream;

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
pub use stream::{Search, Validation, go_on, trade_off, tune};

/// The numbers of the framework.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Framework {
    /// The learning rates of the plasticity search; of equally good ones the first is taken.
    pub rates: Vec<f32>,
    /// p: the part of A* that may be given up on a new task.
    pub drop: f64,
    /// α: what the trade-off is multiplied with when a new task is learnt too badly.
    pub decay: f64,
    /// So often at most in a task; the last value counts then.
    pub max_decays: usize,
}

/// What is searched. Accuracies are fractions, on validation images of the new task; `None` says that training diverged.
pub trait Trials {
    /// Fine-tunes a copy of the network on a task.
    ///
    /// # Errors
    /// Whatever keeps it from being tried.
    fn fine_tune(&mut self, task: usize, rate: f32) -> Result<Option<f64>>;

    /// Lets the method learn a task, its trade-off `factor` times the value it began at. The next task starts from the last
    /// of these.
    ///
    /// # Errors
    /// As [`Trials::fine_tune`].
    fn learn(&mut self, task: usize, rate: f32, factor: f64) -> Result<Option<f64>>;
}

/// A value and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// A learning rate, or what the trade-off was multiplied with since the beginning.
    pub value: f32,
    /// On validation images of the new task; `None` if training diverged.
    pub accuracy: Option<f64>,
}

/// What was found in one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TunedTask {
    /// From 0.
    pub task: usize,
    /// Every rate of the grid.
    pub rates: Vec<Tried>,
    /// The best of them.
    pub rate: f32,
    /// A*.
    pub best_accuracy: f64,
    /// (1 − p)·A*, where the trade-off was searched.
    pub required: Option<f64>,
    /// Every factor of the trade-off in turn; the last was kept.
    pub trade_offs: Vec<Tried>,
    /// False if not even the last factor reached what was required.
    pub reached: bool,
}

/// What was found in the tasks so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// In order.
    pub tasks: Vec<TunedTask>,
    /// What is left of the trade-off's first value, for the tasks to come.
    pub factor: Option<f64>,
}

impl Tuned {
    /// The rate for a run that has one for all tasks: that of the highest mean accuracy over the tasks, a diverged one
    /// counting 0; of equally good ones the first. `None` before the first task.
    pub fn rate(&self) -> Option<f32> {
        let grid = &self.tasks.first()?.rates;
        let total = |i: usize| self.tasks.iter().map(|task| task.rates[i].accuracy.unwrap_or(0.0)).sum::<f64>();
        let best = (0..grid.len()).reduce(|best, i| if total(i) > total(best) { i } else { best })?;
        Some(grid[best].value)
    }
}

impl Framework {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Usage`] if one makes no sense.
    pub fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::usage(message));
        if self.rates.is_empty() || self.rates.iter().any(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return refuse("--lr-grid: learning rates must be positive numbers".into());
        }
        if !(self.drop >= 0.0 && self.drop < 1.0) {
            return refuse(format!("--drop {}: it must be 0 or a number below 1", self.drop));
        }
        if !(self.decay > 0.0 && self.decay < 1.0) {
            return refuse(format!("--trade-off-decay {}: it must lie between 0 and 1", self.decay));
        }
        Ok(())
    }

    /// Searches the next task and adds it to what was found. Without a trade-off the method learns once, with the best rate.
    ///
    /// # Errors
    /// [`Error::Training`] if training diverges whatever is tried; those of `trials`.
    pub fn next_task(&self, tuned: &mut Tuned, has_trade_off: bool, trials: &mut impl Trials) -> Result<()> {
        let task = tuned.tasks.len();
        let mut rates = Vec::new();
        let mut best: Option<(f32, f64)> = None;
        for &rate in &self.rates {
            let accuracy = trials.fine_tune(task, rate)?;
            rates.push(Tried { value: rate, accuracy });
            if let Some(accuracy) = accuracy.filter(|accuracy| best.is_none_or(|(_, known)| *accuracy > known)) {
                best = Some((rate, accuracy));
            }
        }
        let diverged = |with: &str| {
            let task = task + 1;
            Error::Training(format!("training on task {task} diverges with every {with}: choose a smaller --lr-grid"))
        };
        let (rate, best_accuracy) = best.ok_or_else(|| diverged("learning rate"))?;
        let required = (has_trade_off && task > 0).then_some((1.0 - self.drop) * best_accuracy);
        let mut factor = tuned.factor.unwrap_or(1.0);
        let mut trade_offs = Vec::new();
        let reached = loop {
            let accuracy = trials.learn(task, rate, factor)?;
            trade_offs.push(Tried { value: factor as f32, accuracy });
            let reached = accuracy.is_some_and(|accuracy| required.is_none_or(|required| accuracy >= required));
            if reached || required.is_none() || trade_offs.len() > self.max_decays {
                break reached;
            }
            factor *= self.decay;
        };
        if trade_offs.last().is_some_and(|last| last.accuracy.is_none()) {
            return Err(diverged("trade-off that was tried"));
        }
        tuned.factor = has_trade_off.then_some(factor);
        tuned.tasks.push(TunedTask { task, rates, rate, best_accuracy, required, trade_offs, reached });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers from two functions, and what was asked.
    struct Scripted<F, L> {
        fine_tune: F,
        learn: L,
        asked: Vec<(usize, f32, f64)>,
    }

    impl<F: Fn(usize, f32) -> Option<f64>, L: Fn(usize, f64) -> Option<f64>> Trials for Scripted<F, L> {
        fn fine_tune(&mut self, task: usize, rate: f32) -> Result<Option<f64>> {
            Ok((self.fine_tune)(task, rate))
        }

        fn learn(&mut self, task: usize, rate: f32, factor: f64) -> Result<Option<f64>> {
            self.asked.push((task, rate, factor));
            Ok((self.learn)(task, factor))
        }
    }

    fn framework(max_decays: usize) -> Framework {
        Framework { rates: vec![0.4, 0.2, 0.1], drop: 0.2, decay: 0.5, max_decays }
    }

    #[test]
    fn the_trade_off_is_halved_until_the_drop_is_small_enough_and_carried_on() {
        // The largest rate diverges, and of the two others the second task likes the smaller.
        let fine_tune = |task: usize, rate: f32| match (task, rate) {
            (_, 0.4) => None,
            (1, 0.1) => Some(0.9),
            _ => Some(0.8),
        };
        // A* = 0.9 in task 1: 0.72 is required, which a factor of 1/4 reaches. Factor 1 diverges.
        let learn = |_: usize, factor: f64| if factor == 1.0 { None } else { Some(0.9 - 0.5 * factor) };
        let first = |task: usize, factor: f64| if task == 0 { Some(0.1) } else { learn(task, factor) };
        let mut trials = Scripted { fine_tune, learn: first, asked: Vec::new() };
        let mut tuned = Tuned::default();
        for _ in 0..3 {
            framework(9).next_task(&mut tuned, true, &mut trials).unwrap();
        }
        // Task 0 learns once, however badly; task 2 begins with what task 1 kept.
        let asked = [(0, 0.2, 1.0), (1, 0.1, 1.0), (1, 0.1, 0.5), (1, 0.1, 0.25), (2, 0.2, 0.25)];
        assert_eq!(trials.asked, asked);
        assert_eq!((tuned.factor, tuned.rate()), (Some(0.25), Some(0.1)));
        assert!(tuned.tasks.iter().all(|task| task.reached));
        assert!((tuned.tasks[1].required.unwrap() - 0.72).abs() < 1e-12 && tuned.tasks[0].required.is_none());
    }

    #[test]
    fn the_search_ends_and_says_that_it_found_nothing() {
        let mut trials = Scripted { fine_tune: |_, _| Some(1.0), learn: |_, _| Some(0.1), asked: Vec::new() };
        let mut tuned = Tuned::default();
        for _ in 0..2 {
            framework(2).next_task(&mut tuned, true, &mut trials).unwrap();
        }
        assert!(!tuned.tasks[1].reached && tuned.tasks[1].trade_offs.len() == 3);
        assert_eq!(tuned.factor, Some(0.25));
        let mut all_diverge = Scripted { fine_tune: |_, _| Some(1.0), learn: |_, _| None, asked: Vec::new() };
        let error = framework(2).next_task(&mut tuned, true, &mut all_diverge).unwrap_err();
        assert!(error.exit_code() == 1 && error.to_string().contains("task 3"), "{error}");
        let mut none = Scripted { fine_tune: |_, _| None, learn: |_, _| None, asked: Vec::new() };
        assert!(framework(2).next_task(&mut Tuned::default(), true, &mut none).is_err());
    }

    #[test]
    fn without_a_trade_off_the_method_learns_once() {
        let mut trials = Scripted { fine_tune: |_, _| Some(1.0), learn: |_, _| Some(0.1), asked: Vec::new() };
        let mut tuned = Tuned::default();
        for _ in 0..2 {
            framework(2).next_task(&mut tuned, false, &mut trials).unwrap();
        }
        assert_eq!(trials.asked, [(0, 0.4, 1.0), (1, 0.4, 1.0)], "of equal rates the first");
        assert_eq!(tuned.factor, None);
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        framework(0).check().unwrap();
        for wrong in [
            Framework { rates: vec![], ..framework(1) },
            Framework { rates: vec![0.1, -0.1], ..framework(1) },
            Framework { drop: 1.0, ..framework(1) },
            Framework { decay: 1.0, ..framework(1) },
            Framework { decay: f64::NAN, ..framework(1) },
        ] {
            assert_eq!(wrong.check().unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }
}
