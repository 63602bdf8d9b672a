//! Where the time of a training goes.

use serde::{Deserialize, Serialize};
use std::ops::AddAssign;
use std::time::Instant;

/// Where the training loop's time goes, in seconds. Every moment of it belongs to one part.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub struct LoopSeconds {
    /// What the objective and the optimiser do with a batch: input, forward, backward, step, and waiting for the device.
    pub steps: f64,
    /// Accuracies while the stream goes on, where they were asked for.
    pub evaluation: f64,
    /// Waiting for the loader's thread to make the next batch.
    pub loading: f64,
    /// Losses read and kept.
    pub logging: f64,
    /// Telling whoever listens.
    pub progress: f64,
    /// Checkpoints taken and written.
    pub checkpoints: f64,
}

impl LoopSeconds {
    /// All parts together.
    pub fn sum(&self) -> f64 {
        self.own() + self.steps + self.evaluation
    }

    /// The loop's overhead: the part of it, 0..1, that is neither steps nor evaluation. `None` before the first step.
    pub fn overhead(&self) -> Option<f64> {
        (self.sum() > 0.0).then(|| self.own() / self.sum())
    }

    fn own(&self) -> f64 {
        self.loading + self.logging + self.progress + self.checkpoints
    }
}

impl AddAssign for LoopSeconds {
    fn add_assign(&mut self, other: LoopSeconds) {
        self.steps += other.steps;
        self.evaluation += other.evaluation;
        self.loading += other.loading;
        self.logging += other.logging;
        self.progress += other.progress;
        self.checkpoints += other.checkpoints;
    }
}

/// Counts time among the parts of a loop.
pub(super) struct Laps {
    pub seconds: LoopSeconds,
    since: Instant,
}

impl Laps {
    pub fn new() -> Laps {
        Laps { seconds: LoopSeconds::default(), since: Instant::now() }
    }

    /// Counts the time since the last call.
    pub fn end(&mut self, part: fn(&mut LoopSeconds) -> &mut f64) {
        let now = Instant::now();
        *part(&mut self.seconds) += (now - self.since).as_secs_f64();
        self.since = now;
    }
}
