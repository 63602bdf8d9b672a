//! The page of several schemes of distillation on one student.

use super::FILE;
use super::charts::{Interval, Point, intervals, scatter};
use super::distillation;
use super::html::{Section, escape, page as whole_page, table};
use crate::error::{Error, Result};
use crate::experiment::distillation::{DistillResults, Standing, schemes_answer};
use crate::report::distillation::percent_sd;
use crate::report::schemes::gained;
use crate::report::text::{bytes, counted, duration, percent};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A scheme that is complete as far as pairs go: its folder, what is in it, and what that comes to.
struct Entry {
    folder: PathBuf,
    results: DistillResults,
    standing: Standing,
}

/// The folders inside a folder that hold a distillation each.
pub(super) fn folders(root: &Path) -> Vec<PathBuf> {
    let inside = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    inside.filter(|path| path.is_dir() && distillation::is_one(path)).collect()
}

/// The page of what is in the folders of a folder, the most accurate scheme first.
pub(super) fn page(root: &Path) -> Result<String> {
    let mut entries = Vec::new();
    let mut unfinished = 0;
    for folder in folders(root) {
        let results = match folder.join("metrics.json").exists() {
            true => DistillResults::of_folder(&folder)?,
            false => {
                unfinished += 1;
                continue;
            }
        };
        unfinished += usize::from(!results.complete);
        if let Some(standing) = Standing::of(&results) {
            entries.push(Entry { folder, results, standing });
        }
    }
    let by = |entry: &Entry| (entry.standing.accuracy.0, entry.standing.scheme.clone());
    entries.sort_by(|a, b| by(b).partial_cmp(&by(a)).unwrap_or(std::cmp::Ordering::Equal));
    let Some(first) = entries.first() else {
        return Err(Error::usage(format!("{}: no pair of students is finished", root.display())));
    };
    let title = format!(
        "{} on {}, {}",
        counted(entries.len(), "scheme", "schemes"),
        first.results.student.name,
        first.results.dataset
    );
    let sections = [
        Section { id: "gain", title: "Gain over labels alone", body: gains(&entries) },
        Section { id: "numbers", title: "Numbers", body: numbers(&entries) },
        Section { id: "cost", title: "Accuracy against cost", body: costs(&entries) },
        Section { id: "schemes", title: "Each scheme", body: each(root, &entries) },
    ];
    Ok(whole_page(&title, &top(&entries, &title, unfinished), &sections))
}

fn top(entries: &[Entry], title: &str, unfinished: usize) -> String {
    let pairs = counted(entries[0].standing.n_pairs, "pair", "pairs");
    let mut top = format!("<p class=\"eyebrow\">engram, distillation, {pairs} each</p>\n<h1>{}</h1>\n", escape(title));
    if unfinished > 0 {
        let _ = writeln!(
            top,
            "<p class=\"warn\" role=\"status\"><strong>Incomplete:</strong> {} not finished; the numbers are those of the \
             finished pairs.</p>",
            counted(unfinished, "scheme is", "schemes are")
        );
    }
    let standings: Vec<Standing> = entries.iter().map(|entry| entry.standing.clone()).collect();
    let _ = writeln!(top, "<p class=\"lede\">{}</p>", escape(&schemes_answer(&standings).join(" ")));
    top
}

fn gains(entries: &[Entry]) -> String {
    let gains: Vec<Interval> = entries
        .iter()
        .filter_map(|Entry { standing, .. }| {
            let (low, mean, high) = standing.gain?;
            Some(Interval { name: standing.scheme.clone(), low: 100.0 * low, mean: 100.0 * mean, high: 100.0 * high })
        })
        .collect();
    if gains.is_empty() {
        return "<p>A single pair shows no gain: it takes two at least.</p>\n".into();
    }
    format!(
        "<p>In points, paired by seed with students of the same beginnings and batches that saw labels alone; 95 % intervals by \
         Student's t. An interval that holds 0 decides nothing.</p>\n<figure>{}</figure>\n",
        intervals("Gain of each scheme over labels alone, with its 95 % interval", "points", &gains)
    )
}

fn numbers(entries: &[Entry]) -> String {
    let head = ["scheme", "accuracy", "gain", "training", "× labels alone", "held", "what else answers best"];
    let first = &entries[0].standing;
    let alone = duration(first.seconds / first.times);
    let mut rows = vec![vec![
        "labels alone".to_string(),
        percent_sd(first.scratch, first.n_pairs),
        "–".into(),
        alone,
        "1.00".into(),
        "–".into(),
        "–".into(),
    ]];
    rows.extend(entries.iter().map(|Entry { standing: one, .. }| {
        let other = one.best_other.as_ref().map_or("–".into(), |(name, best)| format!("{name} {}", percent(*best)));
        vec![
            one.scheme.clone(),
            percent_sd(one.accuracy, one.n_pairs),
            gained(one),
            duration(one.seconds),
            format!("{:.2}", one.times),
            bytes(one.held_bytes),
            other,
        ]
    }));
    let caption = "Percent of the test images, mean ± standard deviation; training of one student, without its teacher's; held: \
                   buffers on the device";
    table(caption, 1, &head.map(String::from), &rows)
}

fn costs(entries: &[Entry]) -> String {
    let figure = |title: &str, x: fn(&Standing) -> f64| {
        let points: Vec<Point> = entries
            .iter()
            .map(|Entry { standing: one, .. }| {
                let (y, spread) = one.accuracy;
                Point { name: one.scheme.clone(), x: x(one), y, spread }
            })
            .collect();
        format!("<figure>{}</figure>\n", scatter(&format!("Accuracy against {title}"), title, &points))
    };
    figure("seconds of one student's training", |one| one.seconds)
        + &figure("MiB held on the device", |one| one.held_bytes as f64 / f64::from(1 << 20))
}

fn each(root: &Path, entries: &[Entry]) -> String {
    let item = |Entry { folder, results, standing }: &Entry| {
        let inside = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().into_owned();
        let what = results.spec().map_or(String::new(), |spec| format!(": {}", spec.summary));
        let teachers: Vec<&str> = results.teachers.iter().map(|teacher| teacher.network.name.as_str()).collect();
        let teachers = match teachers.is_empty() {
            true => String::new(),
            false => format!(" Taught by {}.", teachers.join(" and ")),
        };
        format!(
            "<li><a href=\"{}/{FILE}\">{}</a>{}.{}</li>\n",
            escape(&inside),
            escape(&standing.scheme),
            escape(&what),
            escape(&teachers)
        )
    };
    let items: String = entries.iter().map(item).collect();
    format!("<p>Pairs, terms of the loss, costs and settings of each have a page.</p>\n<ul>\n{items}</ul>\n")
}
