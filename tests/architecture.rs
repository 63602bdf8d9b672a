//! The structure of the source: no module uses one above it, files stay short, and the tables in `docs/` are those of the code.

use engram::experiment::distillation;
use engram::experiment::presets::{self, Preset};
use engram::{continual, ops};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Modules by floor, bottom up. A module uses only what lies on lower floors; those of one floor do not see each other,
/// except in the cellar.
const FLOORS: &[&[&str]] = &[
    &["error", "shape", "rng", "linalg"],
    &["settings"],
    &["device"],
    &["tensor"],
    &["ops"],
    &["nn"],
    &["optim"],
    &["models", "data"],
    &["records"],
    &["training"],
    &["learner"],
    &["distill"],
    &["continual"],
    &["experiment"],
    &["session"],
    &["campaign"],
    &["report"],
    &["serve"],
    &["cli"],
];

/// Names that `src/lib.rs` hands on.
const EXPORTS: &[(&str, &str)] = &[("Device", "device"), ("Error", "error"), ("Result", "error"), ("Tensor", "tensor")];

const MAX_LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// The module of a source file: `src/ops/conv2d/cpu.rs` belongs to `ops`. None for the library's and program's roots.
fn module_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    let module = first.trim_end_matches(".rs");
    (!["lib", "main"].contains(&module)).then(|| module.to_string())
}

/// The modules that a file names by `crate::`, with their line numbers, tests and comments included or not as they are
/// code or not.
fn uses(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
    for (i, line) in code.iter().enumerate() {
        for (at, _) in line.match_indices("crate::") {
            let rest = code[i..].join("\n").split_off(at + "crate::".len());
            let names = match rest.strip_prefix('{') {
                Some(group) => top_level_names(group),
                None => vec![first_name(&rest)],
            };
            found.extend(names.into_iter().map(|name| (i + 1, name)));
        }
    }
    for (_, name) in &mut found {
        if let Some((_, module)) = EXPORTS.iter().find(|(export, _)| export == name) {
            *name = module.to_string();
        }
    }
    found
}

fn first_name(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first names of the items of `a::{b, c}, d}`: a and d.
fn top_level_names(group: &str) -> Vec<String> {
    let (mut depth, mut item, mut items) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => item.push(c),
        }
    }
    items.push(item);
    items.iter().map(|item| first_name(item.trim())).filter(|name| !name.is_empty()).collect()
}

#[test]
fn the_reader_of_paths_works() {
    let names = |text| uses(text).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(names("use crate::device::{self, Array};"), ["device"]);
    assert_eq!(names("use crate::{Device, ops::{a, b}, rng::Rng};"), ["device", "ops", "rng"]);
    assert_eq!(names("use crate::{\n    nn::Output,\n    Tensor,\n};"), ["nn", "tensor"]);
    assert_eq!(names("let x = crate::report::table(); // crate::cli"), ["report"]);
    assert_eq!(names("//! [`crate::cli`]"), [] as [&str; 0]);
}

#[test]
fn no_arrow_points_upwards() {
    let (mut complaints, mut n_arrows) = (Vec::new(), 0);
    for path in files(&root().join("src"), "rs") {
        let Some(module) = module_of(&path) else { continue };
        let own = floor(&module).unwrap_or_else(|| panic!("'{module}' has no floor: {}", path.display()));
        let text = std::fs::read_to_string(&path).unwrap();
        for (line, used) in uses(&text) {
            let Some(theirs) = floor(&used) else {
                complaints.push(format!("{}:{line}: '{used}' has no floor", path.display()));
                continue;
            };
            n_arrows += 1;
            if theirs > own || (theirs == own && used != module && own > 0) {
                complaints.push(format!("{}:{line}: '{module}' uses '{used}'", path.display()));
            }
        }
        // `super` in a folder's mod.rs is the crate itself: another way upwards.
        if path.file_name().is_some_and(|name| name == "mod.rs") && path.parent().unwrap().ends_with(&module) {
            for other in FLOORS.concat().into_iter().filter(|other| text.contains(&format!("super::{other}"))) {
                if !text.contains(&format!("mod {other};")) {
                    complaints.push(format!("{}: write crate::{other} for super::{other}", path.display()));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(n_arrows > 100, "only {n_arrows} uses were found");
}

#[test]
fn files_can_be_read_in_one_sitting() {
    for (folder, extension) in [("src", "rs"), ("shaders", "wgsl")] {
        for path in files(&root().join(folder), extension) {
            let n_lines = std::fs::read_to_string(&path).unwrap().lines().count();
            assert!(n_lines <= MAX_LINES, "{} has {n_lines} lines, more than {MAX_LINES}", path.display());
        }
    }
}

#[test]
fn the_op_table_names_its_shaders() {
    let read = |name: &str| {
        let path = root().join("shaders").join(format!("{name}.wgsl"));
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let mut names = BTreeSet::new();
    for op in ops::ALL {
        assert!(names.insert(op.name), "two ops are called {}", op.name);
        let mut texts: Vec<String> = op.shaders.iter().map(|name| read(name)).collect();
        texts.push(read("prelude"));
        for kernel in op.kernels {
            for part in kernel.source {
                let named = texts.iter().any(|text| text == part);
                let first = part.lines().next().unwrap_or("");
                assert!(named, "{}: the row does not name a file of kernel {}: '{first}'", op.name, kernel.name);
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------- the tables in docs/

fn ops_table() -> String {
    let mut text = String::from("| op | formula | gradient | shaders |\n|---|---|---|---|\n");
    for op in ops::ALL {
        let gradient = if op.gradient { "yes" } else { "no" };
        let shaders: Vec<String> = op.shaders.iter().map(|name| format!("[{name}](../shaders/{name}.wgsl)")).collect();
        let _ = writeln!(text, "| `{}` | {} | {gradient} | {} |", op.name, cell(op.formula), shaders.join(", "));
    }
    text
}

fn methods_table() -> String {
    let mut text = String::from("| method | what it does | holds | scenarios | options of its own | paper |\n");
    text += "|---|---|---|---|---|---|\n";
    for method in continual::ALL {
        let [name, what] = [method.name, method.summary].map(cell);
        let [holds, suits, paper] = [method.memory, &method.suits(), method.paper].map(cell);
        let options = method.defaults().iter().map(|option| format!("`{option}`")).collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "| `{name}` | {what} | {holds} | {suits} | {options} | {paper} |");
    }
    text
}

fn presets_table() -> String {
    let tables =
        [("engram METHOD --preset NAME", presets::ALL), ("engram distill --preset NAME", distillation::presets::ALL)];
    let table = |(command, presets): (&str, &[Preset])| {
        let mut text = format!("| `{command}` | what it repeats | paper |\n|---|---|---|\n");
        for Preset { name, summary, paper, .. } in presets {
            let _ = writeln!(text, "| `{name}` | {} | {} |", cell(summary), cell(paper));
        }
        text
    };
    tables.map(table).join("\n")
}

/// A bar would end the cell, and stars and underscores would set type.
fn cell(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if "|*_<>`".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// The tables in `docs/` are those of the code. `ENGRAM_WRITE_DOCS=1 cargo test --release --test architecture` rewrites them.
#[test]
fn the_pages_show_the_tables_of_the_code() {
    let write = std::env::var_os("ENGRAM_WRITE_DOCS").is_some();
    let tables =
        [("ops", "ops", ops_table()), ("methods", "methods", methods_table()), ("methods", "presets", presets_table())];
    for (page, name, table) in tables {
        let path = root().join("docs").join(format!("{page}.md"));
        let mut page = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
        let places = page.find(&begin).zip(page.find(&end));
        let Some((from, to)) = places.map(|(from, to)| (from + begin.len(), to)).filter(|(from, to)| from <= to) else {
            panic!("{} has no place for the table: the lines {begin} and {end}", path.display());
        };
        let wanted = format!("\n\n{table}\n");
        if write {
            page.replace_range(from..to, &wanted);
            std::fs::write(&path, page).unwrap();
        } else {
            let advice = "run ENGRAM_WRITE_DOCS=1 cargo test --release --test architecture";
            assert_eq!(page[from..to], wanted, "the table {name} of {} is out of date: {advice}", path.display());
        }
    }
}
