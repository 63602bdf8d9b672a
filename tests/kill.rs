//! A run that is killed at any moment leaves a folder that every later command can use, or says why it cannot: no file is
//! half written under its final name, and the next run with `--force` clears what was left.
//!
//! The suite kills a few runs; `ENGRAM_KILLS=20 cargo test --release --test kill` as many as you like.
#![cfg(unix)]

use engram::Device;
use engram::experiment::results::{Metrics, RESULT_FILES, Timing};
use engram::models::Network;
use engram::rng::{Purpose, Rng};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const RUN: &str = "icarl --limit-per-task 60 --epochs 2 --memory 20 --model mlp --device cpu --quiet";
/// Set by flags, which win over what a configuration says.
const QUICK: &str = "icarl --limit-per-task 10 --epochs 1 --model mlp --device cpu --quiet";

fn engram(dir: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    command.current_dir(dir).args(arguments.split_whitespace()).env_remove("ENGRAM_DATA_DIR");
    command
}

/// Ends the program whatever becomes of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn finish(mut command: Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert!(!message.contains("panicked"), "{message}");
    (status.code().expect("no signal"), message)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Every file under a final name is whole. Returns how many tasks are finished.
fn check_files(out: &Path) -> usize {
    let read = |name: &str| std::fs::read(out.join(name)).ok();
    if let Some(config) = read("config.json") {
        serde_json::from_slice::<serde_json::Value>(&config).expect("config.json is half written");
    }
    if let Some(timing) = read("timing.json") {
        serde_json::from_slice::<Timing>(&timing).expect("timing.json is half written");
    }
    if let Some(csv) = read("accuracy.csv") {
        let csv = String::from_utf8(csv).unwrap();
        assert!(csv.ends_with('\n') && csv.lines().all(|line| line.split(',').count() == 4), "half written:\n{csv}");
    }
    let network = Network::new("mlp", [1, 28, 28], 10, &Device::cpu(), 9).unwrap();
    if out.join("model.safetensors").exists() {
        network.load_safetensors(&out.join("model.safetensors")).expect("model.safetensors is half written");
    }
    let Some(metrics) = read("metrics.json") else { return 0 };
    let metrics: Metrics = serde_json::from_slice(&metrics).expect("metrics.json is half written");
    let n_tasks = metrics.classifiers["nme"].matrix.len();
    assert_eq!(metrics.complete, n_tasks == 5);
    // Metrics are written last: what they speak of is there.
    for name in ["config.json", "timing.json", "accuracy.csv", "model.safetensors"] {
        assert!(out.join(name).exists(), "metrics.json without {name}");
    }
    n_tasks
}

#[test]
fn a_killed_run_leaves_a_folder_that_can_be_used() {
    let n_kills: u64 = std::env::var("ENGRAM_KILLS").map_or(4, |n| n.parse().expect("ENGRAM_KILLS is a number"));
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    assert_eq!(finish(engram(dir.path(), &format!("{RUN} --out whole"))), (0, String::new()));
    let whole = started.elapsed();

    for kill in 0..n_kills {
        let out = dir.path().join(format!("out-{kill}"));
        let flag = format!("--out out-{kill}");
        let mut command = engram(dir.path(), &format!("{RUN} {flag}"));
        let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        // A random moment of each part of the run's time, from its very start to shortly before its end …
        let moment = (kill as f64 + f64::from(Rng::keyed(kill, Purpose::Test, 0).uniform())) / n_kills as f64;
        std::thread::sleep(whole.mul_f64(moment).max(Duration::from_millis(1)));
        // … and every second time the next moment at which a file is being written.
        while kill % 2 == 1 && !names(&out).iter().any(|name| name.ends_with(".tmp")) {
            if running.0.try_wait().unwrap().is_some() {
                break;
            }
        }
        let _ = running.0.kill();
        let _ = running.0.wait();

        let left = names(&out);
        let n_tasks = check_files(&out);
        println!("killed after {:.2} of a run: {n_tasks} tasks, {left:?}", moment);

        // Its configuration runs again, or the message says that there is none.
        let again = finish(engram(dir.path(), &format!("{QUICK} --config out-{kill}/config.json --out again-{kill}")));
        match left.contains("config.json") {
            true => assert_eq!(again, (0, String::new())),
            false => assert!(again.0 == 1 && again.1.contains("config.json: cannot read"), "{again:?}"),
        }
        // Without --force nothing is touched.
        let (code, message) = finish(engram(dir.path(), &format!("{QUICK} {flag}")));
        if left.is_empty() {
            assert_eq!((code, message.as_str()), (0, ""));
        } else {
            assert!(code == 2 && message.contains("--force"), "{message}");
            assert_eq!(names(&out), left);
        }
        // With --force there is a whole run, and nothing of the old one.
        assert_eq!(finish(engram(dir.path(), &format!("{QUICK} {flag} --force"))), (0, String::new()));
        assert_eq!(names(&out), names(&dir.path().join("whole")));
        assert!(RESULT_FILES.iter().all(|name| out.join(name).exists()));
        assert_eq!(check_files(&out), 5);
    }
}
