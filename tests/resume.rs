//! An interrupted run that goes on ends where an uninterrupted one does, bit by bit.

mod common;

use common::program::{engram, fails, json, succeeds};
use common::runs::glyphs;
use engram::continual::{self, OptionFlags};
use engram::data::Dataset;
use engram::experiment::checkpoint::{CHECKPOINT_FILE, Checkpoint};
use engram::experiment::results::RunFolder;
use engram::experiment::sink::{Progress, Silent, Sink};
use engram::experiment::{Config, Overrides, resume, run};
use engram::optim::Kind;
use engram::{Device, Error};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The built-in set, cut to its first images.
static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| glyphs(200, 60));

fn config(method: &str, model: &str, optimizer: Kind) -> Config {
    let settings = Overrides {
        model: Some(model.into()),
        width: Some(0.125),
        classes_per_task: Some(4),
        memory: Some(20),
        epochs: Some(2),
        batch_size: Some(16),
        optimizer: Some(optimizer),
        lr: Some(if optimizer == Kind::Sgd { 0.1 } else { 1e-3 }),
        reset_optimizer: Some(optimizer == Kind::Adam),
        drop_last: Some(true),
        options: few_samples(method),
        ..Overrides::default()
    };
    settings.resolve(continual::spec(method).unwrap()).unwrap()
}

/// Importances on a few images only, and few passes over a memory.
fn few_samples(method: &str) -> OptionFlags {
    let own = continual::spec(method).unwrap().options;
    OptionFlags {
        fisher_samples: own.contains(&"fisher_samples").then_some(5),
        memory_epochs: own.contains(&"memory_epochs").then_some(3),
        ..OptionFlags::default()
    }
}

/// Interrupts after so many batches.
struct Interrupt<'a> {
    after: usize,
    flag: &'a AtomicBool,
}

impl Sink for Interrupt<'_> {
    fn progress(&mut self, _: &Progress) {
        self.after = self.after.saturating_sub(1);
        if self.after == 0 {
            self.flag.store(true, Relaxed);
        }
    }
}

/// Runs and resumes with an interruption after every `every` batches; returns how many there were.
fn in_pieces(config: &Config, device: &Device, folder: &RunFolder, every: usize) -> usize {
    let attempt = |n: usize| {
        let flag = AtomicBool::new(false);
        let mut sink = Interrupt { after: every, flag: &flag };
        match n {
            0 => run(config, &GLYPHS, device, Some(folder), &mut sink, &flag),
            _ => resume(config, &GLYPHS, device, folder, &mut sink, &flag),
        }
    };
    for n in 0..100 {
        match attempt(n) {
            Ok(_) => return n,
            Err(Error::Interrupted) => assert!(folder.path().join(CHECKPOINT_FILE).exists()),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the run does not end");
}

#[test]
fn pieces_give_the_bits_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = common::gpu(false);
    let runs = [
        (Device::cpu(), "icarl", "resnet20", Kind::Sgd, 3),
        (Device::cpu(), "icarl", "mlp", Kind::Adam, 4),
        (Device::cpu(), "hybrid2", "mlp", Kind::Sgd, 5),
        (Device::cpu(), "lwf-mc", "mlp", Kind::Adam, 3),
        (Device::cpu(), "fixed-representation", "resnet20", Kind::Sgd, 4),
        (Device::cpu(), "finetune", "mlp", Kind::Adam, 7),
        (Device::cpu(), "er", "mlp", Kind::Adam, 4),
        (Device::cpu(), "er-ace", "resnet20", Kind::Sgd, 5),
        (Device::cpu(), "der++", "resnet20", Kind::Sgd, 4),
        (Device::cpu(), "gdumb", "mlp", Kind::Sgd, 4),
        (Device::cpu(), "a-gem", "mlp", Kind::Adam, 5),
        (Device::cpu(), "lwf", "resnet20", Kind::Sgd, 4),
        (Device::cpu(), "ewc", "mlp", Kind::Adam, 5),
        (Device::cpu(), "ewc-online", "mlp", Kind::Adam, 5),
        (Device::cpu(), "si", "mlp", Kind::Adam, 4),
        (Device::cpu(), "mas", "mlp", Kind::Adam, 4),
        (Device::cpu(), "cumulative", "mlp", Kind::Adam, 6),
    ];
    let on_gpu = [("icarl", "resnet20", 11), ("der++", "mlp", 5), ("si", "mlp", 7)];
    let on_gpu = on_gpu.into_iter().filter_map(|(method, model, n)| Some((gpu.clone()?, method, model, Kind::Sgd, n)));
    let runs = runs.into_iter().chain(on_gpu);
    for (i, (device, method, model, optimizer, every)) in runs.enumerate() {
        let config = config(method, model, optimizer);
        let folder = |name: &str| RunFolder::create(&dir.path().join(format!("{i}-{name}")), false).unwrap();
        let (whole, pieces) = (folder("whole"), folder("pieces"));
        run(&config, &GLYPHS, &device, Some(&whole), &mut Silent, &AtomicBool::new(false)).unwrap();
        let n = in_pieces(&config, &device, &pieces, every);
        assert!(n >= 2, "{method} was interrupted {n} times only");
        for file in ["metrics.json", "model.safetensors", "accuracy.csv", "losses.csv"] {
            let read = |folder: &RunFolder| std::fs::read(folder.path().join(file)).unwrap();
            assert!(read(&whole) == read(&pieces), "{method} on {}: {file} differs", device.describe());
        }
        assert!(!pieces.path().join(CHECKPOINT_FILE).exists(), "a complete run keeps no checkpoint");
    }
}

#[test]
fn what_cannot_go_on_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let message = |path: &Path| Checkpoint::read(path).err().unwrap().to_string();
    assert!(message(&dir.path().join("nowhere")).contains("no such run folder"));
    assert!(message(dir.path()).contains("there is no checkpoint"));
    std::fs::write(dir.path().join("model.json"), "{}").unwrap();
    assert!(message(dir.path()).contains("is complete"));
    std::fs::write(dir.path().join(CHECKPOINT_FILE), b"half a file").unwrap();
    assert!(message(dir.path()).contains("no usable checkpoint"));
}

/// The command line's side: a time budget, the message, and going on.
#[test]
fn a_run_with_a_time_budget_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "--device cpu --limit-per-task 400 --epochs 30 --model mlp --max-tasks 2";
    let stopped = engram(&dir, &format!("icarl {flags} --stop-after 0.5s --out run"));
    assert!(stopped.code == 130 && stopped.err.contains("engram icarl --resume"), "{stopped:?}");
    fails(&dir, "finetune --resume run", 2, &["holds a run of icarl"]);
    succeeds(&dir, "icarl --quiet --resume run");
    fails(&dir, "icarl --resume run", 2, &["is complete"]);
    let metrics = json(dir.path().join("run/metrics.json"));
    assert_eq!((&metrics["complete"], &metrics["n_tasks"]), (&true.into(), &2.into()));
}
