//! Runs the program as a user does: in its own process, in a folder of the test.

use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_engram");

/// A run of a second or less.
pub const TINY: &str = "--limit-per-task 40 --epochs 1 --memory 20 --model mlp --device cpu";
/// The same for a method without a memory.
pub const PLAIN: &str = "--limit-per-task 40 --epochs 1 --model mlp --device cpu";

/// Variables of the person who runs the tests must not change what is tested.
const VARIABLES: [&str; 10] = [
    "ENGRAM_DATA_DIR",
    "RAYON_NUM_THREADS",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLUMNS",
    "http_proxy",
    "HTTP_PROXY",
    "all_proxy",
    "ALL_PROXY",
];

/// What an ended process leaves.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Outcome {
    /// The message, in one line: it is broken where a line would be too long.
    pub fn message(&self) -> String {
        self.err.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// A program in a folder, without arguments yet.
pub fn process(program: impl AsRef<OsStr>, dir: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    // Mesa complains on stderr where a machine has no such folder. The person's own cache stays as it is.
    command.current_dir(&dir).env("XDG_RUNTIME_DIR", dir.as_ref()).env("ENGRAM_CACHE_DIR", "");
    command
}

/// A path as this system prints it.
pub fn native(path: &str) -> String {
    path.replace('/', std::path::MAIN_SEPARATOR_STR)
}

/// Runs it to its end, which must come within minutes and without a panic.
#[track_caller]
pub fn finish(command: Command) -> Outcome {
    let output = assert_cmd::Command::from_std(command).timeout(Duration::from_secs(120)).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!err.contains("panicked"), "{err}");
    let code = output.status.code().unwrap_or_else(|| panic!("ended by a signal, or too slow:\n{out}{err}"));
    Outcome { code, out, err }
}

/// Runs engram with its arguments as on a command line.
#[track_caller]
pub fn engram(dir: impl AsRef<Path>, arguments: &str) -> Outcome {
    engram_with(dir, arguments, &[])
}

/// The same, with variables of the environment.
#[track_caller]
pub fn engram_with(dir: impl AsRef<Path>, arguments: &str, variables: &[(&str, &str)]) -> Outcome {
    let mut command = process(PROGRAM, dir);
    command.args(arguments.split_whitespace()).envs(variables.iter().copied());
    finish(command)
}

/// What a run leaves that must succeed.
#[track_caller]
pub fn succeeds(dir: impl AsRef<Path>, arguments: &str) -> Outcome {
    let outcome = engram(dir, arguments);
    assert_eq!(outcome.code, 0, "engram {arguments}:\n{}{}", outcome.out, outcome.err);
    outcome
}

/// What a run leaves that must fail with this code: on stderr one error and nothing before it, which has all the words.
#[track_caller]
pub fn fails(dir: impl AsRef<Path>, arguments: &str, code: i32, words: &[&str]) -> Outcome {
    let outcome = engram(dir, arguments);
    assert_eq!(outcome.code, code, "engram {arguments}:\n{}{}", outcome.out, outcome.err);
    let n_errors = outcome.err.matches("error:").count();
    assert!(outcome.err.starts_with("error: ") && n_errors == 1, "engram {arguments}:\n{}", outcome.err);
    check_width(&outcome.err);
    let message = outcome.message();
    for word in words {
        assert!(message.contains(word), "engram {arguments}: no {word:?} in\n{}", outcome.err);
    }
    outcome
}

/// No line is wider than 80 columns; a word that is, such as a path, has a line of its own.
#[track_caller]
pub fn check_width(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80 || line.split_whitespace().count() == 1, "too wide:\n{line}");
    }
}

/// A process that ends whatever becomes of the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A JSON file.
#[track_caller]
pub fn json(path: impl AsRef<Path>) -> Value {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A file of JSON without the checksum that its last field is: changed by hand, as files of earlier versions are.
pub fn unsealed(text: &str) -> String {
    match text.find(",\n  \"checksum\"") {
        Some(at) => format!("{}\n}}\n", &text[..at]),
        None => text.into(),
    }
}

/// What lies in a folder, in order.
#[track_caller]
pub fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
