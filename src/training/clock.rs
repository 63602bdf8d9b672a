//! When a checkpoint is due within a training: so seldom that all of them together take a hundredth of its time at most.

use std::time::{Duration, Instant};

/// Never more often.
const LEAST: Duration = Duration::from_secs(10);
/// So many times as long as the last one took.
const TIMES: u32 = 100;

/// Measures what checkpoints take. One clock serves all trainings of a run.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointClock {
    last: Instant,
    interval: Duration,
}

impl Default for CheckpointClock {
    /// At the start of a run.
    fn default() -> CheckpointClock {
        CheckpointClock { last: Instant::now(), interval: LEAST }
    }
}

impl CheckpointClock {
    /// A checkpoint was written just now.
    pub fn written(&mut self, took: Duration) {
        (self.last, self.interval) = (Instant::now(), (took * TIMES).max(LEAST));
    }

    /// Whether it is time for the next one.
    pub fn is_due(&self) -> bool {
        self.last.elapsed() >= self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_take_a_hundredth_of_the_time() {
        let mut clock = CheckpointClock::default();
        assert!(!clock.is_due(), "a run begins with work");
        for (took, interval) in [(0.001, 10.0), (0.1, 10.0), (0.5, 50.0), (3.0, 300.0)] {
            clock.written(Duration::from_secs_f64(took));
            assert_eq!(clock.interval, Duration::from_secs_f64(interval));
            assert!(!clock.is_due());
        }
        let ago =
            |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).expect("the machine runs for hours");
        let clock = |last| CheckpointClock { last, interval: Duration::from_secs(1) };
        assert!(clock(ago(2)).is_due() && !clock(ago(0)).is_due());
    }
}
