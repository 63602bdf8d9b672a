//! The program on a terminal: text fits 80 columns, colour only appears on a terminal that wants it, shells accept the completion
//! scripts, and the version says what a bug report needs.

use crate::common::program::{PROGRAM, process};
use std::process::{Command, Output, Stdio};

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

#[test]
fn every_help_fits_80_columns() {
    let mut todo: Vec<Vec<String>> = vec![Vec::new()];
    let mut n_commands = 0;
    while let Some(path) = todo.pop() {
        for flag in ["--help", "-h"] {
            let arguments: Vec<&str> = path.iter().map(String::as_str).chain([flag]).collect();
            for variables in [&[("COLUMNS", "100")][..], &[]] {
                let help = out(&arguments, variables);
                for line in help.lines() {
                    assert!(line.chars().count() <= 80, "engram {arguments:?}, too wide:\n{line}");
                }
                if flag == "--help" && variables.is_empty() {
                    n_commands += 1;
                    todo.extend(commands(&help).into_iter().map(|name| [path.clone(), vec![name]].concat()));
                }
            }
        }
    }
    assert!(n_commands >= 12, "only {n_commands} helps were found");
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
    for command in ["models", "methods", "distill list"] {
        let mut process = process(PROGRAM, std::env::temp_dir());
        process.args(command.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{command}: {output:?}");
    }
}
