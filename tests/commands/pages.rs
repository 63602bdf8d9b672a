//! The pages for readers: the front page stays short, links lead to files, and every printed command is one that the program
//! understands.

use crate::common::program::engram;
use std::path::{Path, PathBuf};

/// Pages outside of `docs/`.
const PAGES: [&str; 7] = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benches/README.md",
    "datasets/README.md",
    "fuzz/README.md",
    "shaders/README.md",
];

/// Lines of the front page, at most.
const MOST_LINES: usize = 150;

/// Every page, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = PAGES.iter().map(|page| root.join(page)).collect();
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    paths.sort();
    let with_text = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, text)
    };
    paths.into_iter().map(with_text).collect()
}

/// The targets of `[text](target)` outside of blocks of code, with their line numbers.
fn links(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut in_block) = (Vec::new(), false);
    for (i, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or(part);
            found.push((i + 1, target.to_string()));
        }
    }
    found
}

/// The arguments of the commands in blocks of code without a language, with their line numbers.
fn commands(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut block) = (Vec::new(), None);
    for (i, line) in text.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            block = if block.is_some() { None } else { Some(language) };
            continue;
        }
        let starts = ["engram ", "cargo run --release -- "];
        if block == Some("")
            && let Some(arguments) = starts.iter().find_map(|start| line.strip_prefix(*start))
        {
            let end = arguments.find(" #").unwrap_or(arguments.len());
            found.push((i + 1, arguments[..end].trim().to_string()));
        }
    }
    found
}

/// The name that a page gives a heading, to link to it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_anchor(text: &str, name: &str) -> bool {
    text.lines().any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#')) == name)
}

#[test]
fn the_readers_of_pages_work() {
    let page = "# A b: c\n[x](y.md#z) and [u](v)\n```\nengram er --epochs 1   # one\n[no](link)\ncargo build\n```\n\
                ```text\nengram printed\n```\n";
    assert_eq!(links(page), [(2, "y.md#z".to_string()), (2, "v".to_string())]);
    assert_eq!(commands(page), [(4, "er --epochs 1".to_string())]);
    assert!(has_anchor(page, "a-b-c") && !has_anchor(page, "a-b"));
}

#[test]
fn the_front_page_is_a_page() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let n_lines = readme.lines().count();
    assert!(n_lines <= MOST_LINES, "README.md has {n_lines} lines, more than {MOST_LINES}: move some to docs/");
}

#[test]
fn links_lead_somewhere() {
    let (mut complaints, mut n_links) = (Vec::new(), 0);
    for (path, text) in pages() {
        for (line, target) in links(&text).into_iter().filter(|(_, target)| !target.contains("://")) {
            n_links += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target.as_str(), ""));
            let there = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let heading_is_there = || std::fs::read_to_string(&there).is_ok_and(|text| has_anchor(&text, heading));
            if !there.exists() || !(heading.is_empty() || heading_is_there()) {
                complaints.push(format!("{}:{line}: {target}", path.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "links to nothing:\n{}", complaints.join("\n"));
    assert!(n_links > 100, "only {n_links} links were found");
}

/// With `--help` at its end a command is parsed but not run: an unknown command, flag or value is refused.
#[test]
fn printed_commands_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let (mut complaints, mut n_commands) = (Vec::new(), 0);
    for (path, text) in pages() {
        for (line, arguments) in commands(&text) {
            n_commands += 1;
            let outcome = engram(&dir, &format!("{arguments} --help"));
            if outcome.code != 0 {
                complaints.push(format!("{}:{line}: engram {arguments}\n{}", path.display(), outcome.err));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(n_commands > 50, "only {n_commands} commands were found");
}
