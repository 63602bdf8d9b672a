//! A run that is killed at any moment leaves a folder that every later command can use, or refuses with a reason: no file under
//! its final name is half written, and the next run with `--force` removes what was left.
//!
//! The suite kills a few runs; `ENGRAM_KILLS=20 cargo test --release --test commands kill::` kills more.
#![cfg(unix)]

use crate::common::program::{PROGRAM, Running, fails, names, process, succeeds};
use engram::Device;
use engram::experiment::results::{Metrics, RESULT_FILES, Timing};
use engram::models::Network;
use engram::rng::{Purpose, Rng};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const RUN: &str = "icarl --limit-per-task 60 --epochs 2 --memory 20 --model mlp --device cpu --quiet";
/// Set by flags, which win over what a configuration says.
const QUICK: &str = "icarl --limit-per-task 10 --epochs 1 --model mlp --device cpu --quiet";

/// What lies in a folder; a run that was killed early may have none.
fn left_in(folder: &Path) -> Vec<String> {
    if folder.exists() { names(folder) } else { Vec::new() }
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
    assert_eq!(succeeds(&dir, &format!("{RUN} --out whole")).err, "");
    let whole = started.elapsed();

    for kill in 0..n_kills {
        let out = dir.path().join(format!("out-{kill}"));
        let flag = format!("--out out-{kill}");
        let mut command = process(PROGRAM, &dir);
        command.args(format!("{RUN} {flag}").split_whitespace());
        let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        // A random moment of each part of the run's time, from its very start to shortly before its end …
        let moment = (kill as f64 + f64::from(Rng::keyed(kill, Purpose::Test, 0).uniform())) / n_kills as f64;
        std::thread::sleep(whole.mul_f64(moment).max(Duration::from_millis(1)));
        // … and every second time the next moment at which a file is being written.
        while kill % 2 == 1 && !left_in(&out).iter().any(|name| name.ends_with(".tmp")) {
            if running.0.try_wait().unwrap().is_some() {
                break;
            }
        }
        let _ = running.0.kill();
        let _ = running.0.wait();

        let left = left_in(&out);
        let n_tasks = check_files(&out);
        println!("killed after {:.2} of a run: {n_tasks} tasks, {left:?}", moment);

        // Its configuration runs again, or the message says that there is none.
        let again = format!("{QUICK} --config out-{kill}/config.json --out again-{kill}");
        if left.iter().any(|name| name == "config.json") {
            assert_eq!(succeeds(&dir, &again).err, "");
        } else {
            fails(&dir, &again, 1, &["config.json: cannot read"]);
        }
        // Without --force nothing is touched but what was only half written.
        if left.iter().all(|name| name.ends_with(".tmp")) {
            assert_eq!(succeeds(&dir, &format!("{QUICK} {flag}")).err, "");
        } else {
            fails(&dir, &format!("{QUICK} {flag}"), 2, &["--force"]);
            assert_eq!(names(&out), left);
        }
        // With --force there is a whole run, and nothing of the old one.
        assert_eq!(succeeds(&dir, &format!("{QUICK} {flag} --force")).err, "");
        assert_eq!(names(&out), names(dir.path().join("whole")));
        assert!(RESULT_FILES.iter().all(|name| out.join(name).exists()));
        assert_eq!(check_files(&out), 5);
    }
}
