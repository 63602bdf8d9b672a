//! The training loop adds almost no time to its steps.

mod common;

use common::program::succeeds;
use engram::experiment::results::{LoopSeconds, Timing};

/// The most that may go to loading, logging, progress and checkpoints, of the training loop.
const MOST: f64 = 0.03;

/// A run of the program with its page, its checkpoints and its progress; what timing.json says.
fn timing(dir: &std::path::Path) -> Timing {
    succeeds(dir, "finetune --model cnn --epochs 3 --max-tasks 2 --device cpu --out R --force");
    serde_json::from_str(&std::fs::read_to_string(dir.join("R/timing.json")).unwrap()).unwrap()
}

/// The best of five: another program may take the processor away just while a batch is waited for.
#[test]
fn the_runner_takes_less_than_three_percent_of_the_training_loop() {
    let dir = tempfile::tempdir().unwrap();
    let mut least = f64::INFINITY;
    for _ in 0..5 {
        let timing = timing(dir.path());
        let LoopSeconds { steps, evaluation, loading, logging, progress, checkpoints } = timing.training_loop;
        let whole: f64 = timing.seconds_training.iter().sum();
        let parts = steps + evaluation + loading + logging + progress + checkpoints;
        assert!((parts - whole).abs() < 0.01 * whole, "the parts, {parts} s, are not the whole, {whole} s");
        assert!(loading > 0.0 && logging > 0.0 && progress > 0.0 && checkpoints > 0.0 && evaluation < 0.001 * whole);
        least = least.min(timing.training_loop.overhead().unwrap());
        if least < MOST {
            return;
        }
    }
    panic!("the runner takes {:.1} % of the training loop", 100.0 * least);
}
