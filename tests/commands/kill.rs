//! A run that is killed at any moment leaves a folder that every later command can use, or refuses with a reason: no file under
//! its final name is half written, and the next run with `--force` removes what was left.
//!
//! The suite kills a few runs; `ENGRAM_KILLS=20 cargo test --release --test commands kill::` kills more.
#![cfg(unix)]

use super::learners::folders;
use crate::common::program::{PROGRAM, Running, fails, json, names, process, succeeds};
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

#[test]
fn an_interrupt_ends_a_run_cleanly() {
    for signal in ["-INT", "-TERM"] {
        interrupted_by(signal);
    }
}

fn interrupted_by(signal: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = process(PROGRAM, &dir);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.args("icarl --limit-per-task 40 --epochs 400 --memory 20 --model mlp --device cpu --out out".split(' '));
    let mut running = Running(command.spawn().unwrap());
    let metrics = dir.path().join("out/metrics.json");
    let started = Instant::now();
    while !metrics.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "the first task does not end");
        assert!(running.0.try_wait().unwrap().is_none(), "the run ended before it could be interrupted");
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill").args([signal, &running.0.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let status = running.0.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    let mut err = String::new();
    std::io::Read::read_to_string(running.0.stderr.as_mut().unwrap(), &mut err).unwrap();
    assert!(err.contains("interrupted") && !err.contains("panicked"), "{err}");
    let metrics = json(&metrics);
    assert_eq!(metrics["complete"], false);
    let n_tasks = metrics["classifiers"]["nme"]["matrix"].as_array().unwrap().len();
    assert!((1..5).contains(&n_tasks), "{n_tasks} tasks are finished");
    assert!(!names(dir.path().join("out")).iter().any(|name| name.ends_with(".tmp")));
}

/// While the network is trained nothing is written: whenever it ends, the file is the one before or the one after.
#[test]
fn a_kill_or_control_c_while_it_trains_leaves_the_file_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    folders(&dir.path().join("p"), &[("one", 4), ("three", 4)]);
    folders(&dir.path().join("q"), &[("seventh", 4)]);
    succeeds(dir.path(), "learn a.engram --from p --device cpu --method er --steps 1");
    let whole = std::fs::read(dir.path().join("a.engram")).unwrap();
    for signal in ["-INT", "-KILL"] {
        let mut command = process(PROGRAM, dir.path());
        command.args("learn a.engram --from q --device cpu --steps 5000".split(' '));
        let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        std::thread::sleep(Duration::from_millis(2500));
        let id = running.0.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
        let status = running.0.wait().unwrap();
        assert!(!status.success() && (signal == "-KILL" || status.code() == Some(130)), "{signal}: {status}");
        assert!(std::fs::read(dir.path().join("a.engram")).unwrap() == whole, "{signal}");
    }
    // What a killed one left is no hindrance.
    succeeds(dir.path(), "learn a.engram --from q --device cpu --steps 1");
    assert!(
        names(dir.path()).iter().all(|name| !name.contains(".part") && !name.contains(".tmp")),
        "{:?}",
        names(dir.path())
    );
}
