//! Untrusted run folders: whatever their files contain, readers return a value or an error with a reason. They never panic, and
//! read and write nothing outside the folder.

mod common;

use common::program::{engram, fails, names, succeeds, unsealed};
use engram::Device;
use engram::experiment::saved::Predictor;
use engram::experiment::{CONFIG_FILE, Config, complete, recorded_in};
use engram::report::{write_run, write_seeds};
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// In main memory where there is such a place: files are written thousands of times.
fn temp() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

const TINY: &str = "--limit-per-task 20 --epochs 1 --model mlp --width 0.05 --device cpu --threads 1 --quiet";

/// Where a value stands: keys and places, from the outside in.
type At = Vec<Result<String, usize>>;

/// Every place in a value; of a list the first and the last.
fn places(value: &Value, at: &mut At, all: &mut Vec<At>) {
    all.push(at.clone());
    let inside: Vec<(Result<String, usize>, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (Ok(name.clone()), value)).collect(),
        Value::Array(values) => {
            let ends = if values.len() > 1 { vec![0, values.len() - 1] } else { (0..values.len()).collect() };
            ends.into_iter().map(|i| (Err(i), &values[i])).collect()
        }
        _ => Vec::new(),
    };
    for (step, value) in inside {
        at.push(step);
        places(value, at, all);
        at.pop();
    }
}

/// The value with something else in a place; `None` removes what stands there.
fn with(value: &Value, at: &[Result<String, usize>], new: Option<&Value>) -> Value {
    let Some((last, outer)) = at.split_last() else { return new.cloned().unwrap_or(Value::Null) };
    let mut changed = value.clone();
    let mut place = &mut changed;
    for step in outer {
        place = match step {
            Ok(name) => &mut place[name.as_str()],
            Err(i) => &mut place[*i],
        };
    }
    match (last, place, new) {
        (Ok(name), Value::Object(fields), None) => drop(fields.remove(name)),
        (Ok(name), Value::Object(fields), Some(new)) => drop(fields.insert(name.clone(), new.clone())),
        (Err(i), Value::Array(values), None) => drop(values.remove(*i)),
        (Err(i), Value::Array(values), Some(new)) => values[*i] = new.clone(),
        _ => unreachable!("a place of this value"),
    }
    changed
}

/// What a field may be in place of what it is.
fn others() -> Vec<Option<Value>> {
    let values = [
        json!(null),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(u64::MAX),
        json!(1e308),
        json!(4294967296_u64),
        json!(true),
        json!(""),
        json!("../../secret"),
        json!("\u{1b}[2J\u{7}"),
        json!("x".repeat(100_000)),
        json!([]),
        json!({}),
        json!([null]),
        json!([[0.5, 0.5, 0.5], [1]]),
    ];
    [None].into_iter().chain(values.into_iter().map(Some)).collect()
}

/// Changes every field of every file of JSON in a folder in every way, and lets `read` look. Returns how often.
fn change_everything(folder: &Path, files: &[&str], read: impl Fn()) -> usize {
    let mut n = 0;
    for name in files {
        let path = folder.join(name);
        let whole = std::fs::read_to_string(&path).unwrap();
        let value: Value = serde_json::from_str(&unsealed(&whole)).unwrap();
        let mut all = Vec::new();
        places(&value, &mut Vec::new(), &mut all);
        for at in &all {
            for other in others() {
                std::fs::write(&path, with(&value, at, other.as_ref()).to_string()).unwrap();
                n += 1;
                let outcome = catch_unwind(AssertUnwindSafe(&read));
                assert!(outcome.is_ok(), "a panic for {other:?} at {at:?} of {name}");
            }
        }
        std::fs::write(&path, whole).unwrap();
    }
    n
}

#[test]
fn no_field_of_a_run_makes_a_panic() {
    let dir = temp();
    succeeds(&dir, &format!("icarl {TINY} --memory 4 --max-tasks 2 --class-order 0,1,2,3 --out run"));
    let run = dir.path().join("run");
    let device = Device::cpu();
    let files = ["config.json", "metrics.json", "timing.json", "model.json", "exemplars/index.json"];
    let n = change_everything(&run, &files, || {
        let _ = write_run(&run);
        let _ = write_seeds(dir.path(), std::slice::from_ref(&run));
        let _ = complete(&run);
        if let Ok(recorded) = recorded_in(&run, CONFIG_FILE) {
            let _ = Config::resolve(engram::continual::spec("icarl").unwrap(), recorded.values);
        }
        if let Ok(predictor) = Predictor::load(&run, &device) {
            let [c, h, w] = predictor.card.input;
            for classifier in predictor.card.classifiers.clone() {
                let _ = predictor.predict(vec![0; c * h * w], &classifier);
            }
        }
    });
    assert!(n > 1000, "{n} changes only");
    write_run(&run).unwrap();
}

#[test]
fn no_field_of_a_distillation_makes_a_panic() {
    let dir = temp();
    let students =
        "--teacher mlp --teacher-limit 20 --teacher-epochs 1 --limit 20 --epochs 1 --seeds 1 --student-width 0.05";
    succeeds(&dir, &format!("distill {students} --train-fraction 1,0.5 --omit-class 3 --device cpu --quiet --out run"));
    let run = dir.path().join("run");
    let n = change_everything(&run, &["config.json", "metrics.json"], || {
        let _ = write_run(&run);
    });
    assert!(n > 500, "{n} changes only");
    write_run(&run).unwrap();
}

/// Links, pipes and devices, and names that lead out of the folder.
#[test]
#[cfg(unix)]
fn nothing_outside_a_folder_is_read_or_written() {
    let dir = temp();
    let path = |name: &str| dir.path().join(name);
    succeeds(&dir, &format!("icarl {TINY} --memory 4 --max-tasks 2 --class-order 0,1,2,3 --out run"));
    image::GrayImage::new(28, 28).save(path("a.png")).unwrap();
    std::fs::copy(path("a.png"), path("secret.png")).unwrap();
    let index = std::fs::read_to_string(path("run/exemplars/index.json")).unwrap();
    let first = names(path("run/exemplars")).into_iter().next().unwrap();
    for name in ["../../secret.png", path("secret.png").to_str().unwrap(), "link.png"] {
        let _ = std::os::unix::fs::symlink(path("secret.png"), path("run/exemplars/link.png"));
        std::fs::write(path("run/exemplars/index.json"), index.replace(&format!("{first}/01.png"), name)).unwrap();
        fails(&dir, "report run", 1, &["run/exemplars", "read"]);
    }
    std::fs::write(path("run/exemplars/index.json"), index).unwrap();

    // The report is written to the folder, not through links that lie in it.
    std::fs::write(path("mine"), "mine").unwrap();
    std::fs::remove_file(path("run/report.html")).unwrap();
    std::os::unix::fs::symlink(path("mine"), path("run/report.html")).unwrap();
    succeeds(&dir, "report run");
    assert_eq!(std::fs::read(path("mine")).unwrap(), b"mine");

    for name in ["model.json", "metrics.json", "config.json", "timing.json", "model.safetensors"] {
        let own = path("run").join(name);
        let whole = std::fs::read(&own).unwrap();
        for target in [PathBuf::from("/dev/zero"), path("mine")] {
            std::fs::remove_file(&own).unwrap();
            std::os::unix::fs::symlink(target, &own).unwrap();
            let outcome = engram(&dir, "report run");
            assert!(outcome.code == 1 || name == "model.safetensors", "{name}: {outcome:?}");
            if name.starts_with("model") {
                fails(&dir, "predict run a.png --device cpu", 1, &[name]);
            }
        }
        std::fs::remove_file(&own).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&own).status().unwrap().success());
        if name.starts_with("model") {
            fails(&dir, "predict run a.png --device cpu", 1, &[name, "no regular file"]);
        } else {
            fails(&dir, "report run", 1, &[name, "no regular file"]);
        }
        std::fs::remove_file(&own).unwrap();
        std::fs::write(&own, whole).unwrap();
    }
    succeeds(&dir, "predict run a.png --device cpu");
}

#[test]
fn names_do_not_steer_a_terminal() {
    let dir = temp();
    succeeds(&dir, &format!("finetune {TINY} --max-tasks 2 --class-order 0,1,2,3 --out run"));
    image::GrayImage::new(28, 28).save(dir.path().join("a.png")).unwrap();
    let card = dir.path().join("run/model.json");
    let text = unsealed(&std::fs::read_to_string(&card).unwrap());
    for name in ["\\u001b[2J".to_string(), "x".repeat(2_000_000)] {
        std::fs::write(&card, text.replace("\"name\": \"3\"", &format!("\"name\": \"{name}\""))).unwrap();
        let outcome = succeeds(&dir, "predict run a.png --device cpu");
        assert!(!outcome.out.contains('\u{1b}') && outcome.out.len() < 10_000, "{}", &outcome.out[..200]);
    }
}
