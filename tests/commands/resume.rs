//! A resumed run ends with the same bits as an uninterrupted one.

use crate::common;
use crate::common::program::{PROGRAM, Running, engram, fails, json, process, succeeds};
use crate::common::runs::glyphs;
use engram::data::Dataset;
use engram::experiment::checkpoint::{CHECKPOINT_FILE, Checkpoint};
use engram::experiment::results::RunFolder;
use engram::experiment::sink::{Listener, Phase, Progress, Silent, Sink, TaskStarted};
use engram::experiment::{Config, resume, run};
use engram::optim::Kind;
use engram::settings::Choose;
use engram::{Device, Error};
use std::path::Path;
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The built-in set, cut to its first images.
static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| glyphs(200, 60));

fn config(method: &str, model: &str, optimizer: Kind) -> Config {
    let (lr, resets) = if optimizer == Kind::Sgd { ("0.1", "false") } else { ("0.001", "true") };
    let usual = &[
        ("model", model),
        ("width", "0.125"),
        ("classes_per_task", "4"),
        ("memory", "20"),
        ("epochs", "2"),
        ("batch_size", "16"),
        ("optimizer", optimizer.name()),
        ("lr", lr),
        ("reset_optimizer", resets),
        ("drop_last", "true"),
        // Importances on a few images only, and few passes over a memory.
        ("fisher_samples", "5"),
        ("memory_epochs", "3"),
    ];
    common::runs::config(method, usual, &[])
}

/// Interrupts after so many batches.
struct Interrupt<'a> {
    after: usize,
    flag: &'a AtomicBool,
}

impl Sink for Interrupt<'_> {}

impl Listener for Interrupt<'_> {
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

/// Interrupts where a task begins, or in a phase of its end.
struct InterruptIn<'a> {
    task: usize,
    /// None is before the first batch.
    phase: Option<Phase>,
    now: usize,
    flag: &'a AtomicBool,
}

impl Listener for InterruptIn<'_> {}

impl Sink for InterruptIn<'_> {
    fn task_started(&mut self, task: &TaskStarted) {
        self.now = task.task;
        self.flag.fetch_or(self.phase.is_none() && task.task == self.task, Relaxed);
    }

    fn phase(&mut self, phase: Phase) {
        self.flag.fetch_or(self.phase == Some(phase) && self.now == self.task, Relaxed);
    }
}

/// An interruption where a task has begun and no batch is learnt, and while exemplars, importances and accuracies are computed.
#[test]
fn interruptions_between_batches_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut task_begin = config("er", "mlp", Kind::Adam);
    task_begin = task_begin.with(&[("memory_update", "task-begin")]).unwrap();
    let configs = ["icarl", "ewc", "gdumb", "gd", "si", "lwf"].map(|method| config(method, "mlp", Kind::Adam));
    for (i, config) in configs.into_iter().chain([task_begin]).enumerate() {
        let folder = |name: String| RunFolder::create(&dir.path().join(format!("{i}-{name}")), false).unwrap();
        let whole = folder("whole".into());
        run(&config, &GLYPHS, &Device::cpu(), Some(&whole), &mut Silent, &AtomicBool::new(false)).unwrap();
        for (task, phase) in [
            (0, None),
            (1, None),
            (0, Some(Phase::Exemplars)),
            (1, Some(Phase::Preparation)),
            (1, Some(Phase::Evaluation)),
            (1, Some(Phase::Training)),
        ] {
            let pieces = folder(format!("{task}-{phase:?}"));
            let flag = AtomicBool::new(false);
            let mut sink = InterruptIn { task, phase, now: 0, flag: &flag };
            let result = run(&config, &GLYPHS, &Device::cpu(), Some(&pieces), &mut sink, &flag);
            assert!(matches!(result, Err(Error::Interrupted)), "{task} {phase:?}");
            resume(&config, &GLYPHS, &Device::cpu(), &pieces, &mut Silent, &AtomicBool::new(false)).unwrap();
            for file in ["metrics.json", "model.safetensors", "losses.csv"] {
                let read = |folder: &RunFolder| std::fs::read(folder.path().join(file)).unwrap();
                let name = config.method.name;
                assert!(read(&whole) == read(&pieces), "{name}, interrupted in {phase:?} of {task}: {file} differs");
            }
        }
    }
}

/// What trains within a method ends at once, too, also in the last task, and goes on as if nothing had been.
#[test]
fn gdumb_is_interrupted_while_it_learns_from_its_memory() {
    let dir = tempfile::tempdir().unwrap();
    for (i, device) in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten().enumerate() {
        let config = config("gdumb", "mlp", Kind::Adam);
        let folder = |name: &str| RunFolder::create(&dir.path().join(format!("{i}-{name}")), false).unwrap();
        let (whole, pieces) = (folder("whole"), folder("pieces"));
        let metrics = run(&config, &GLYPHS, &device, Some(&whole), &mut Silent, &AtomicBool::new(false)).unwrap();
        let task = metrics.n_tasks - 1;
        let flag = AtomicBool::new(false);
        let mut sink = InterruptIn { task, phase: Some(Phase::Exemplars), now: 0, flag: &flag };
        let result = run(&config, &GLYPHS, &device, Some(&pieces), &mut sink, &flag);
        assert!(matches!(result, Err(Error::Interrupted)), "the last task was learnt to its end");
        let position = Checkpoint::read(pieces.path()).unwrap().run().position;
        assert_eq!((position.task, position.epoch, position.begun), (task, config.training.epochs, true));
        resume(&config, &GLYPHS, &device, &pieces, &mut Silent, &AtomicBool::new(false)).unwrap();
        for file in ["metrics.json", "model.safetensors", "losses.csv"] {
            let read = |folder: &RunFolder| std::fs::read(folder.path().join(file)).unwrap();
            assert!(read(&whole) == read(&pieces), "{file} differs");
        }
    }
}

/// Listens to warnings.
#[derive(Default)]
struct Warnings(Vec<String>);

impl Sink for Warnings {}

impl Listener for Warnings {
    fn warning(&mut self, text: &str) {
        self.0.push(text.into());
    }
}

/// A run goes on with what it began with, or says what is different.
#[test]
fn other_data_and_settings_are_refused_and_another_device_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("er", "mlp", Kind::Adam);
    let interrupted = |name: &str| {
        let folder = RunFolder::create(&dir.path().join(name), false).unwrap();
        let flag = AtomicBool::new(false);
        let mut stop = Interrupt { after: 3, flag: &flag };
        run(&config, &GLYPHS, &Device::cpu(), Some(&folder), &mut stop, &flag).unwrap_err();
        folder
    };
    let go_on = |config: &Config, dataset: &Dataset, device: &Device, folder: &RunFolder| {
        let mut sink = Warnings::default();
        let result = resume(config, dataset, device, folder, &mut sink, &AtomicBool::new(false));
        (result.map_err(|e| (e.exit_code(), e.to_string())), sink.0)
    };
    let folder = interrupted("data");
    let mut changed = (*GLYPHS.test).clone();
    changed.pixels[17] ^= 1;
    let changed = Dataset { test: std::sync::Arc::new(changed), ..GLYPHS.clone() };
    for (dataset, wanted) in
        [(glyphs(199, 60), "199 training"), (glyphs(200, 59), "59 test"), (changed, "have changed")]
    {
        let (code, message) = go_on(&config, &dataset, &Device::cpu(), &folder).0.unwrap_err();
        assert!(code == 2 && message.contains("data set") && message.contains(wanted), "{message}");
    }
    for (name, other) in [
        ("--lr", config.with(&[("lr", "0.5")]).unwrap()),
        ("--replay-batch", config.with(&[("replay_batch", "3")]).unwrap()),
    ] {
        let (code, message) = go_on(&other, &GLYPHS, &Device::cpu(), &folder).0.unwrap_err();
        assert!(code == 2 && message.contains(name), "{message}");
    }
    let (done, warnings) = go_on(&config, &GLYPHS, &Device::cpu(), &folder);
    assert!(done.unwrap().complete && warnings.is_empty(), "{warnings:?}");
    if let Some(gpu) = common::gpu(false) {
        let (done, warnings) = go_on(&config, &GLYPHS, &gpu, &interrupted("device"));
        assert!(done.unwrap().complete);
        assert!(warnings.len() == 1 && warnings[0].contains("this run began on cpu"), "{warnings:?}");
    }
}

/// One writer at a time; readers read what is whole.
#[test]
fn a_folder_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = process(PROGRAM, &dir);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let flags = "--limit-per-task 40 --epochs 300 --memory 20 --model mlp --device cpu";
    command.args(format!("icarl {flags} --out run").split(' '));
    let mut running = Running(command.spawn().unwrap());
    let started = Instant::now();
    while !dir.path().join("run/metrics.json").exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "the first task does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let picture = dir.path().join("a.png");
    image::GrayImage::new(28, 28).save(&picture).unwrap();
    for _ in 0..5 {
        succeeds(&dir, "predict run a.png --device cpu");
    }
    for command in ["--resume run".to_string(), format!("{flags} --out run --force")] {
        fails(&dir, &format!("icarl {command}"), 2, &["another process is writing into this folder"]);
    }
    assert!(running.0.try_wait().unwrap().is_none(), "the run ended before it could be disturbed");
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    succeeds(&dir, "icarl --quiet --resume run");
}

/// The command line's side: a time budget, the message, and going on.
#[test]
fn a_run_with_a_time_budget_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "--device cpu --limit-per-task 400 --epochs 30 --model mlp --max-tasks 2";
    let stopped = engram(&dir, &format!("icarl {flags} --stop-after 0.5s --out run"));
    assert!(stopped.code == 0 && stopped.err.contains("engram icarl --resume"), "{stopped:?}");
    fails(&dir, "finetune --resume run", 2, &["holds a run of icarl"]);
    fails(&dir, "icarl --resume run --lr 0.5", 2, &["leave out --lr"]);
    succeeds(&dir, "icarl --quiet --resume run");
    fails(&dir, "icarl --resume run", 2, &["is complete"]);
    // What the last moment left to do is done.
    std::fs::remove_file(dir.path().join("run/report.html")).unwrap();
    assert!(succeeds(&dir, "icarl --resume run").out.contains("made again"));
    assert!(dir.path().join("run/report.html").exists());
    let metrics = json(dir.path().join("run/metrics.json"));
    assert_eq!((&metrics["complete"], &metrics["n_tasks"]), (&true.into(), &2.into()));
}
