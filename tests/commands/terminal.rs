//! The program on a terminal: text fits 80 columns, colour only appears on a terminal that wants it, shells accept the completion
//! scripts, and the version says what a bug report needs.

use crate::common::program::{PROGRAM, process};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = process(program, std::env::temp_dir());
    command.args(arguments).envs(variables.iter().copied()).output().unwrap()
}

fn out(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(PROGRAM, arguments, variables);
    assert!(output.status.success(), "engram {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let list = list.take_while(|line| !line.is_empty());
    let names = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_string()).filter(|name| name != "help").collect()
}

/// The long help of every command, with its arguments.
fn helps() -> Vec<(Vec<String>, String)> {
    let (mut todo, mut found) = (vec![Vec::new()], Vec::new());
    while let Some(path) = todo.pop() {
        let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let help = out(&arguments, &[]);
        todo.extend(commands(&help).into_iter().map(|name| [path.clone(), vec![name]].concat()));
        found.push((path, help));
    }
    found
}

#[test]
fn every_help_fits_80_columns() {
    let helps = helps();
    assert!(helps.len() >= 12, "only {} helps were found", helps.len());
    let narrow = |arguments: &[&str], help: &str| {
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "engram {arguments:?}, too wide:\n{line}");
        }
    };
    for (path, help) in &helps {
        let with = |flag| path.iter().map(String::as_str).chain([flag]).collect::<Vec<_>>();
        narrow(&with("--help"), help);
        for (flag, variables) in [("--help", &[("COLUMNS", "100")][..]), ("-h", &[("COLUMNS", "100")]), ("-h", &[])] {
            narrow(&with(flag), &out(&with(flag), variables));
        }
    }
}

/// The flags that a text names, without their dashes.
fn flags(text: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let mut found = Vec::new();
    for (at, _) in text.match_indices("--") {
        let name = text[at + 2..].split(|c| !is_word(c)).next().unwrap();
        if name.starts_with(|c: char| c.is_ascii_lowercase()) && !text[..at].ends_with(is_word) {
            found.push(name);
        }
    }
    found
}

/// What messages and help say of flags is true of flags that there are.
#[test]
fn texts_name_flags_that_exist() {
    assert_eq!(flags("(--a-b3) x--y, `--c`---d --E"), ["a-b3", "c"]);
    let helps = helps();
    // And that of `cargo run --release`.
    let known: BTreeSet<&str> = helps.iter().flat_map(|(_, help)| flags(help)).chain(["release"]).collect();
    assert!(known.len() > 150, "only {} flags were found", known.len());
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    // Style sheets, and Slurm's flags.
    let others = ["report/page", "campaign/shard.rs"];
    for (path, text) in sources(&src) {
        let name = path.strip_prefix(&src).unwrap();
        let foreign = others.iter().any(|other| name.starts_with(other));
        let own = text.split("#[cfg(test)]").next().unwrap();
        let wrong: Vec<&str> = flags(own).into_iter().filter(|flag| !foreign && !known.contains(flag)).collect();
        assert!(wrong.is_empty(), "{} names flags that no command has: {wrong:?}", name.display());
    }
}

/// Every Rust file below a folder, with its text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false => found.push((path.clone(), std::fs::read_to_string(&path).unwrap_or_default())),
        }
    }
    found.retain(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"));
    found
}

const ESCAPE: char = '\u{1b}';

#[test]
fn colour_is_for_terminals_that_want_it() {
    // No terminal: none, unless it is forced, and never against NO_COLOR.
    assert!(!out(&["--help"], &[]).contains(ESCAPE));
    assert!(out(&["--help"], &[("CLICOLOR_FORCE", "1")]).contains(ESCAPE));
    assert!(!out(&["--help"], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains(ESCAPE));
    let wrong = |variables: &[(&str, &str)]| {
        let output = run(PROGRAM, &["icarl", "--nothing"], variables);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(!wrong(&[]).contains(ESCAPE));
    assert!(wrong(&[("CLICOLOR_FORCE", "1")]).contains(ESCAPE));
}

/// On a terminal, which `script` plays.
#[test]
#[cfg(target_os = "linux")]
fn no_color_holds_on_a_terminal() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no `script` to play a terminal");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let on_a_terminal = |arguments: &str, variables: &[(&str, &str)]| {
        let variables = [variables, &[("TERM", "xterm-256color"), ("ENGRAM_DATA_DIR", dir.path().to_str().unwrap())]];
        let line = format!("{PROGRAM} {arguments}");
        let output = run("script", &["-qec", &line, "/dev/null"], &variables.concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(on_a_terminal("--help", &[]).contains(ESCAPE));
    assert!(!on_a_terminal("--help", &[("NO_COLOR", "1")]).contains(ESCAPE));
    // A run moves the cursor for its bar, but sets no colour: ESC [ … m.
    let folder = dir.path().join("run");
    let tiny = "--limit-per-task 20 --epochs 2 --memory 10 --model mlp --device cpu --out";
    let shown = on_a_terminal(&format!("icarl {tiny} {}", folder.display()), &[("NO_COLOR", "1")]);
    assert!(shown.contains("Result: icarl"), "{shown}");
    for sequence in shown.split(ESCAPE).skip(1) {
        let end = sequence.find(|c: char| c.is_ascii_alphabetic()).map(|at| sequence.as_bytes()[at]);
        assert_ne!(end, Some(b'm'), "a colour in a run: {sequence:?}");
    }
}

#[test]
fn completion_scripts_are_accepted_by_their_shells() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&["completions", shell], &[]);
        for word in ["icarl", "--limit-per-task", "completions"] {
            let word = if shell == "fish" { word.trim_start_matches("--") } else { word };
            assert!(script.contains(word), "{shell}: no {word}");
        }
        let path = dir.path().join(shell);
        std::fs::write(&path, script).unwrap();
        // `-n` reads and runs nothing.
        match Command::new(shell).arg("-n").arg(&path).output() {
            Ok(check) => assert!(check.status.success(), "{shell}: {}", String::from_utf8_lossy(&check.stderr)),
            Err(_) => eprintln!("SKIPPED: no {shell} on this machine"),
        }
    }
    let refused = run(PROGRAM, &["completions", "csh"], &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("bash"));
}

#[test]
fn the_version_names_that_of_wgpu() {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock");
    let lock = std::fs::read_to_string(lock).unwrap();
    let entry = lock.split("[[package]]").find(|entry| entry.contains("\nname = \"wgpu\"\n")).unwrap();
    let wgpu = entry.lines().find_map(|line| line.strip_prefix("version = ")).unwrap().trim_matches('"');
    let expected = format!("engram {} (wgpu {wgpu})\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(out(&["--version"], &[]), expected);
}

#[cfg(unix)]
#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    use std::process::Stdio;
    for command in ["models", "methods", "presets", "distill list"] {
        let mut process = process(PROGRAM, std::env::temp_dir());
        process.args(command.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{command}: {output:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_output_that_takes_nothing_is_an_error() {
    use std::process::Stdio;
    let dir = tempfile::tempdir().unwrap();
    for command in ["models", "methods show icarl"] {
        let mut full = process(PROGRAM, &dir);
        full.args(command.split(' ')).stderr(Stdio::piped());
        let full = full.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap()).output().unwrap();
        let err = String::from_utf8(full.stderr).unwrap();
        assert!(full.status.code() == Some(1) && err.starts_with("error: standard output"), "{command}: {err}");
    }
}
