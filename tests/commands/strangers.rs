//! Untrusted run folders: readers read and write nothing outside the folder, whatever its files say, and what they print moves no
//! cursor. `tests/learning/fields.rs` changes what the files say.

use crate::common::program::{succeeds, unsealed};
use std::path::Path;
use tempfile::TempDir;

/// In main memory where there is such a place: files are written thousands of times.
fn temp() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

const TINY: &str = "--limit-per-task 20 --epochs 1 --model mlp --width 0.05 --device cpu --threads 1 --quiet";

/// Links, pipes and devices, and names that lead out of the folder.
#[test]
#[cfg(unix)]
fn nothing_outside_a_folder_is_read_or_written() {
    use crate::common::program::{engram, fails, names};
    use std::path::PathBuf;
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
