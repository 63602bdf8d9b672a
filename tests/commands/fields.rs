//! The files of commands that make several runs, field by field changed: what goes on from them ends well or with one clear error,
//! never with a panic.
#![cfg(unix)]

use crate::common::changes::{Parts, change_every_field, others, temp, try_all, with};
use crate::common::program::{PROGRAM, check_width, engram, names, process, succeeds, unsealed};
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => drop(all.insert(path.clone(), std::fs::read(path).unwrap())),
        }
    }
    all
}

/// Runs `command` in a folder, killed at the first step at which `enough` is there.
fn killed_once(dir: &Path, command: &str, enough: impl Fn(&Path) -> bool) {
    for step in (0..).step_by(2) {
        for entry in std::fs::read_dir(dir).unwrap() {
            std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        let mut killed = process(PROGRAM, dir);
        killed.args(command.split_whitespace()).env("ENGRAM_FAULT", format!("kill:{step}"));
        let status = killed.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(!status.success(), "{command} ended before it had done enough");
        if enough(dir) {
            return;
        }
    }
}

/// A folder with an interrupted command, as it is put back before each look.
struct Interrupted<'a> {
    dir: &'a Path,
    files: BTreeMap<PathBuf, Vec<u8>>,
    resume: &'a str,
    n_asked: Cell<usize>,
}

/// Of the changes one in so many is tried, of all kinds in turn: each costs a process.
const EVERY: usize = 37;

/// Two folders inside one another, of which the inner is worked in: what a name leads out of it to lies in the outer ones.
fn inner(outer: &Path) -> PathBuf {
    let dir = outer.join("a").join("b");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Work without an end is what a person may ask for.
fn is_endless(value: &Value) -> bool {
    const COUNTS: [&str; 6] = ["epochs", "seeds", "max_decays", "decays", "peers", "generations"];
    match value {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            let counts = COUNTS.iter().any(|count| name.ends_with(count));
            is_endless(value) || (counts && value.as_f64().is_some_and(|n| n >= 1000.0))
        }),
        Value::Array(values) => values.iter().any(is_endless),
        _ => false,
    }
}

impl Interrupted<'_> {
    /// Goes on after one file was changed. Only what the program itself wrote lies there afterwards.
    fn goes_on(&self, path: &Path, bytes: &[u8]) {
        let n = self.n_asked.get();
        self.n_asked.set(n + 1);
        if !n.is_multiple_of(EVERY) {
            return;
        }
        for entry in std::fs::read_dir(self.dir).unwrap() {
            std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        for (file, bytes) in &self.files {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }
        std::fs::write(path, bytes).unwrap();
        let outcome = engram(self.dir, self.resume);
        assert!((0..=2).contains(&outcome.code), "code {}: {}", outcome.code, outcome.err);
        let n_errors = outcome.err.matches("error:").count();
        assert_eq!(n_errors, usize::from(outcome.code != 0), "code {}: {}", outcome.code, outcome.err);
        assert!(!outcome.err.contains('\u{1b}') && !outcome.out.contains('\u{7}'), "{}", outcome.err);
        check_width(&outcome.err);
        let outside = self.dir.parent().unwrap();
        assert!(names(outside) == ["b"] && names(outside.parent().unwrap()) == ["a"], "it wrote outside of its folder");
    }

    /// Changes every field of a file.
    fn change(&self, name: &str) -> usize {
        let path = self.dir.join(name);
        let whole: Value = serde_json::from_str(&unsealed(std::str::from_utf8(&self.files[&path]).unwrap())).unwrap();
        change_every_field(&whole, &others(), name, |changed| {
            if !is_endless(changed) {
                self.goes_on(&path, changed.to_string().as_bytes());
            }
        })
    }
}

const TINY: &str = "--limit-per-task 10 --epochs 1 --model mlp --width 0.02 --device cpu --threads 1";

#[test]
fn no_field_of_a_search_makes_a_panic() {
    let outer = temp();
    let dir = inner(outer.path());
    let command =
        format!("tune ewc --max-tasks 2 --class-order 0,1,2,3 --lr-grid 0.01 --max-decays 1 --out out {TINY}");
    killed_once(&dir, &command, |dir| dir.join("out/checkpoint.safetensors").exists());
    let begun = Interrupted { dir: &dir, files: files(&dir), resume: "tune ewc --resume out", n_asked: Cell::new(0) };
    let n = begun.change("out/plan.json") + begun.change("out/tune.json");
    assert!(n > 100, "{n} changes only");
    let path = dir.join("out/checkpoint.safetensors");
    let parts = Parts::of(&begun.files[&path]);
    let state: Value = serde_json::from_str(&parts.metadata["state"]).unwrap();
    change_every_field(&state, &others(), "a search", |state| {
        if !is_endless(state) {
            begun.goes_on(&path, &parts.checkpoint(state));
        }
    });
    try_all("a search", parts.spoiled().into_iter(), |parts| {
        let lengths: BTreeMap<_, _> = parts.tensors.iter().map(|(name, part)| (name, part.2.len() / 4)).collect();
        begun.goes_on(&path, &parts.checkpoint(&with(&state, &[Ok("tensors".into())], Some(&json!(lengths)))));
    });
}

const STUDENTS: &str = "--teacher mlp --teacher-limit 20 --teacher-epochs 1 --teacher-width 0.02 --limit 20 --epochs 1 --seeds 1 \
                        --student-width 0.02 --device cpu --threads 1 --quiet --teacher-cache teachers";

#[test]
fn no_field_of_an_interrupted_distillation_or_of_its_teacher_makes_a_panic() {
    let outer = temp();
    let dir = inner(outer.path());
    let command = format!("distill {STUDENTS} --out out");
    killed_once(&dir, &command, |dir| dir.join("out/metrics.json").exists());
    let begun =
        Interrupted { dir: &dir, files: files(&dir), resume: "distill --quiet --resume out", n_asked: Cell::new(0) };
    let card = begun.files.keys().find(|path| path.ends_with("teacher.json")).expect("a kept teacher");
    let card = card.strip_prefix(&dir).unwrap().to_str().unwrap();
    let n = ["out/config.json", "out/metrics.json", card].iter().map(|name| begun.change(name)).sum::<usize>();
    assert!(n > 100, "{n} changes only");
}

#[test]
fn no_field_of_interrupted_schemes_makes_a_panic() {
    let outer = temp();
    let dir = inner(outer.path());
    let command = format!("distill --schemes hinton,dkd {STUDENTS} --out out");
    succeeds(&dir, &command);
    let whole = Interrupted { dir: &dir, files: files(&dir), resume: &command, n_asked: Cell::new(0) };
    let n = whole.change("out/hinton/config.json") + whole.change("out/hinton/metrics.json");
    assert!(n > 100, "{n} changes only");
}
