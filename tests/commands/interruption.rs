//! Commands that make several runs, killed at every step of writing: the same command, or `--resume`, ends with the same files,
//! apart from times, as a command that was not interrupted. One process is killed for each step.
#![cfg(unix)]

use crate::common::program::{PROGRAM, json, process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const TINY: &str = "--limit-per-task 10 --epochs 1 --model mlp --width 0.05 --device cpu --threads 1";

/// In main memory where there is such a place: waiting for a disk is not what is tested.
fn temp() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

/// Whether it ended well; with what it said, if not.
fn ends(mut command: Command) -> Result<(), String> {
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!err.contains("panicked"), "{err}");
    if output.status.success() { Ok(()) } else { Err(err) }
}

fn engram(dir: &Path, arguments: &str) -> Command {
    let mut command = process(PROGRAM, dir);
    command.args(arguments.split_whitespace());
    command
}

/// A number that is a time, wherever it stands, or where a teacher comes from.
fn without_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // What the process held is, like its times, another where the teacher was not trained in it.
            let measured = ["seconds", "ms_", "origin", "checksum", "held_bytes"];
            fields.retain(|name, _| !measured.iter().any(|time| name.starts_with(time)));
            fields.values_mut().for_each(without_times);
        }
        Value::Array(values) => values.iter_mut().for_each(without_times),
        _ => {}
    }
}

/// What lies below a folder, without times.
fn timeless(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            all.extend(timeless(&path).into_iter().map(|(inside, bytes)| (Path::new(&name).join(inside), bytes)));
            continue;
        }
        let bytes = match name.as_str() {
            "timing.json" | "report.html" => Vec::new(),
            "comparison.csv" => {
                let csv = std::fs::read_to_string(&path).unwrap();
                let lines = csv.lines().map(|line| line.split(',').take(13).collect::<Vec<_>>().join(","));
                lines.collect::<Vec<_>>().join("\n").into_bytes()
            }
            "comparison.json" | "schemes.json" => Vec::new(),
            // Behind the gain come times.
            "schemes.csv" => {
                let csv = std::fs::read_to_string(&path).unwrap();
                let lines = csv.lines().map(|line| line.split(',').take(9).collect::<Vec<_>>().join(","));
                lines.collect::<Vec<_>>().join("\n").into_bytes()
            }
            // Each attempt has a working folder of its own.
            "config.json" | "plan.json" => {
                let mut value = json(&path);
                let fields = value.as_object_mut().unwrap();
                ["started_in", "checksum"].iter().for_each(|name| drop(fields.remove(*name)));
                // A search keeps the settings of its runs in its plan.
                fields.get_mut("config").and_then(Value::as_object_mut).map(|config| config.remove("started_in"));
                value.to_string().into_bytes()
            }
            "metrics.json" | "teacher.json" => {
                let mut value = json(&path);
                without_times(&mut value);
                value.to_string().into_bytes()
            }
            _ => std::fs::read(&path).unwrap(),
        };
        all.insert(name.into(), bytes);
    }
    all
}

/// Kills `command` at every `stride`-th step, and goes on by `resume` where it had begun, which the file `begun` says.
fn disturb(command: &str, resume: &str, begun: &str, stride: usize) {
    let dir = temp();
    let whole = dir.path().join("whole");
    std::fs::create_dir(&whole).unwrap();
    ends(engram(&whole, command)).unwrap();
    let expected = timeless(&whole);
    let mut n_kills = 0;
    for step in (0..).step_by(stride) {
        let place = dir.path().join(step.to_string());
        std::fs::create_dir(&place).unwrap();
        let mut killed = engram(&place, command);
        if ends_at(killed.env("ENGRAM_FAULT", format!("kill:{step}"))) {
            break;
        }
        n_kills += 1;
        let again = if place.join("out").join(begun).exists() { resume } else { command };
        if let Err(message) = ends(engram(&place, again)) {
            assert!(message.contains("is complete"), "{again} after step {step}: {message}");
        }
        let found = timeless(&place);
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "{command}, killed at step {step}");
        for (name, bytes) in &expected {
            assert!(found[name] == *bytes, "{command}, killed at step {step}: {} differs", name.display());
        }
        std::fs::remove_dir_all(place).unwrap();
    }
    assert!(n_kills > 10, "{command} was killed {n_kills} times only");
}

/// Whether it ended by itself.
fn ends_at(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success() || status.code().is_none(), "{status}");
    status.success()
}

#[test]
fn a_comparison_goes_on() {
    let command =
        format!("compare er finetune --memory 4 --max-tasks 2 --class-order 0,1,2,3 --seeds 1 --out out {TINY}");
    disturb(&command, &command, "none", 9);
}

#[test]
fn several_seeds_go_on() {
    let command = format!("finetune --max-tasks 2 --class-order 0,1,2,3 --seeds 2 --quiet --out out {TINY}");
    disturb(&command, "finetune --quiet --resume out", "plan.json", 7);
}

#[test]
fn a_run_goes_on() {
    let command = format!("icarl --memory 4 --max-tasks 2 --class-order 0,1,2,3 --quiet --out out {TINY}");
    disturb(&command, "icarl --quiet --resume out", "config.json", 5);
}

#[test]
fn a_search_goes_on() {
    let command =
        format!("tune ewc --max-tasks 2 --class-order 0,1,2,3 --lr-grid 0.01,0.001 --max-decays 1 --out out {TINY}");
    disturb(&command, "tune ewc --resume out", "plan.json", 3);
}

const STUDENTS: &str = "--teacher mlp --teacher-limit 20 --teacher-epochs 1 --teacher-width 0.05 --limit 20 --epochs 1 --seeds 1 \
                        --student-width 0.05 --device cpu --threads 1 --quiet --teacher-cache T --out out";

#[test]
fn a_distillation_goes_on() {
    disturb(&format!("distill {STUDENTS}"), "distill --quiet --resume out", "config.json", 3);
}

#[test]
fn schemes_go_on() {
    let command = format!("distill --schemes hinton,dml {STUDENTS}");
    disturb(&command, &command, "none", 9);
}
