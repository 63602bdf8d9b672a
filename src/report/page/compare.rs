//! The page of a comparison of methods.

use super::FILE;
use super::charts::{Point, Series, line_chart, scatter};
use super::files::RunFiles;
use super::html::{Section, details, escape, page as whole_page, table};
use super::{masks, run};
use crate::experiment::comparison::{Cost, Entry, Outcome, budgets, ranking};
use crate::experiment::measures::{MEASURES, Measure};
use crate::experiment::metrics::mean_sd;
use crate::experiment::results::Score;
use crate::report::comparison::{answer_sentences, cost_text, distance, mean_text};
use crate::report::text::{counted, hundredfold, mean_and_sd, points};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// Lines of one chart.
const PER_CHART: usize = 6;

/// The page of these entries; `runs` are the files of one run of each, in the same order.
pub(super) fn page(root: &Path, entries: &[Entry], runs: &[RunFiles], missing: usize) -> String {
    let first = &entries[0].outcomes[0].metrics;
    let names: BTreeSet<&str> = entries.iter().map(|entry| entry.method.as_str()).collect();
    let title = format!("{} on {}", counted(names.len(), "method", "methods"), first.dataset);
    let several = entries.iter().any(|entry| entry.outcomes[0].main().matrix.len() > 1);
    let mut sections = vec![Section { id: "ranking", title: "Ranking", body: rankings(entries) }];
    sections.push(Section { id: "numbers", title: "Numbers", body: numbers(entries) });
    if several {
        sections.push(Section { id: "accuracy", title: run::after_each_task(first), body: curves(entries, runs) });
    }
    let against_cost = match first.score {
        Score::Accuracy => "Accuracy against cost",
        Score::MeanIou => "mIoU against cost",
    };
    sections.push(Section { id: "cost", title: against_cost, body: costs(entries) });
    if several {
        sections.push(Section { id: "forgetting", title: "Forgetting", body: forgetting(entries) });
    }
    sections.push(Section { id: "runs", title: "Each method", body: each(root, entries, runs) });
    whole_page(&title, &top(entries, &title, missing), &sections)
}

fn top(entries: &[Entry], title: &str, missing: usize) -> String {
    let first = &entries[0].outcomes[0].metrics;
    let mut top = format!(
        "<p class=\"eyebrow\">engram, {}, scenario {}</p>\n<h1>{}</h1>\n",
        escape(&first.model),
        escape(&first.scenario),
        escape(title)
    );
    if missing > 0 {
        let _ = writeln!(
            top,
            "<p class=\"warn\" role=\"status\"><strong>Incomplete:</strong> {missing} runs of the grid are not finished; \
             the numbers are those of the finished ones.</p>"
        );
    }
    let sentences = answer_sentences(entries);
    let _ = writeln!(top, "<p class=\"lede\">{}</p>", escape(&sentences.join(" ")));
    top
}

fn rankings(entries: &[Entry]) -> String {
    let mut body = String::from(
        "<p>Of each method the best setting within a budget, by the mean of its final accuracy over all classes seen. \
         Differences to the first are paired by seed, with 95 % intervals by Student's t; where the interval does not lie above 0 two \
         methods are indistinguishable.</p>\n",
    );
    for (cost, what) in [(Cost::Bytes, "held after the last task"), (Cost::Seconds, "of training and ends of tasks")] {
        for budget in budgets(entries, cost) {
            let places = ranking(entries, cost, budget);
            let rows: Vec<Vec<String>> = places
                .iter()
                .enumerate()
                .map(|(i, place)| {
                    let distance = if i == 0 { "first".into() } else { distance(place) };
                    vec![place.entry.name(), distance, final_text(place.entry)]
                })
                .collect();
            let head = ["method", "", "final accuracy"].map(|title| score(entries).worded(title));
            body += &table(&format!("With at most {} {what}", cost_text(cost, budget)), 2, &head, &rows);
        }
    }
    body
}

fn final_text(entry: &Entry) -> String {
    mean_text(entry, |run| run.main().final_accuracy())
}

fn numbers(entries: &[Entry]) -> String {
    reached(entries) + &spent(entries)
}

fn reached(entries: &[Entry]) -> String {
    let values = |entry: &Entry, measure: &Measure| entry.values(|run| (measure.of)(run.main()));
    let measured = |measure: &&Measure| entries.iter().any(|entry| !values(entry, measure).is_empty());
    let measures: Vec<&Measure> = MEASURES.iter().filter(measured).collect();
    let mut head = vec!["method".to_string(), "seeds".into()];
    head.extend(measures.iter().map(|measure| measure.title(score(entries))));
    let row = |entry: &Entry| {
        let mut row = vec![entry.name(), entry.outcomes.len().to_string()];
        row.extend(measures.iter().map(|measure| mean_and_sd(&values(entry, measure))));
        row
    };
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    table("Mean ± standard deviation over the seeds, in percent (forgetting and transfers in points)", 1, &head, &rows)
}

fn score(entries: &[Entry]) -> Score {
    entries[0].outcomes[0].metrics.score
}

fn spent(entries: &[Entry]) -> String {
    let head = ["method", "held after the last task", "training", "ends of tasks", "images/s"];
    let rows = entries.iter().map(|entry| {
        let mean = |of: fn(&Outcome) -> f64| mean_sd(&entry.values(|run| Some(of(run)))).0;
        vec![
            entry.name(),
            cost_text(Cost::Bytes, entry.cost(Cost::Bytes)),
            format!("{:.1} s", mean(|run| run.timing.seconds_training.iter().sum())),
            format!("{:.1} s", mean(|run| run.timing.seconds_end_of_task.iter().sum())),
            format!("{:.0}", mean(|run| run.timing.images_per_second)),
        ]
    });
    table("Cost of a run, the mean over the seeds", 1, &head.map(String::from), &rows.collect::<Vec<_>>())
}

fn curves(entries: &[Entry], runs: &[RunFiles]) -> String {
    let mut body = String::from(
        "<p>On the test images of all classes seen so far; means over the seeds, the bands reach one standard deviation up \
         and down. References that see all data at once have no line.</p>\n",
    );
    let in_turn: Vec<(&Entry, &RunFiles)> =
        entries.iter().zip(runs).filter(|(entry, _)| entry.outcomes[0].main().matrix.len() > 1).collect();
    for part in in_turn.chunks(PER_CHART) {
        let statistics: Vec<(Vec<f64>, Vec<f64>)> = part
            .iter()
            .map(|(entry, _)| {
                let at = |t: usize| mean_sd(&entry.values(|run| run.main().seen_accuracy.get(t).copied()));
                (0..entry.outcomes[0].main().seen_accuracy.len()).map(at).unzip()
            })
            .collect();
        let series: Vec<Series> = part
            .iter()
            .zip(&statistics)
            .map(|((entry, _), (mean, sd))| Series {
                name: entry.name(),
                values: mean,
                spread: if entry.outcomes.len() > 1 { sd } else { &[] },
            })
            .collect();
        let label = score(entries)
            .worded("Mean accuracy on the test images of all classes seen so far, after each task, by method");
        let _ = writeln!(body, "<figure>{}</figure>", line_chart(&label, &series, &run::guessing(part[0].1)));
    }
    body
}

fn costs(entries: &[Entry]) -> String {
    let mut body = String::new();
    for (cost, title) in
        [(Cost::Bytes, "MiB held after the last task"), (Cost::Seconds, "seconds of training and ends of tasks")]
    {
        let unit = if cost == Cost::Bytes { 1048576.0 } else { 1.0 };
        let points: Vec<Point> = entries
            .iter()
            .map(|entry| {
                let (y, spread) = entry.accuracy();
                Point { name: entry.name(), x: entry.cost(cost) / unit, y, spread }
            })
            .collect();
        let label = score(entries).worded("Final accuracy");
        let _ = writeln!(body, "<figure>{}</figure>", scatter(&format!("{label} against {title}"), title, &points));
    }
    body
}

fn forgetting(entries: &[Entry]) -> String {
    let mut body = String::new();
    for entry in entries {
        let values = entry.values(|run| run.main().forgetting());
        if values.is_empty() {
            continue;
        }
        let (mean, sd) = mean_sd(&values);
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{:.1}</td><td class=\"bar\" aria-hidden=\"true\"><i \
             style=\"width:{:.1}%\"></i></td></tr>",
            escape(&entry.name()),
            points(mean),
            hundredfold(sd),
            (100.0 * mean).clamp(0.0, 100.0)
        );
    }
    format!(
        "<p>How far earlier tasks lie below their best after the last task, on average over tasks and seeds.</p>\n<div \
         class=\"scroll\"><table>\n<caption><span>Points, mean and standard deviation</span></caption>\n<thead><tr><th \
         scope=\"col\">method</th><th scope=\"col\">forgetting</th><th scope=\"col\">deviation</th><td></td></tr></thead>\n\
         <tbody>\n{body}</tbody>\n</table></div>\n"
    )
}

/// How a page in `root` names another folder.
fn link(root: &Path, folder: &Path) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let (root, folder) = (absolute(root), absolute(folder));
    let n_shared = root.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    let up = root.components().skip(n_shared).map(|_| "..".to_string());
    let down = folder.components().skip(n_shared).map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// Matrices, confusion, exemplars and settings of one run of each; the pages of all runs by link.
fn each(root: &Path, entries: &[Entry], runs: &[RunFiles]) -> String {
    let mut body = String::from(
        "<p>From the run with the lowest seed: accuracy matrix, confusion, exemplars, settings. Every run has a page of its \
         own.</p>\n",
    );
    for (entry, files) in entries.iter().zip(runs) {
        let folder = link(root, &files.folder);
        let seed = entry.outcomes[0].metrics.seed;
        let mut parts = format!("<p><a href=\"{}/{FILE}\">The page of seed {seed}</a></p>\n", escape(&folder));
        parts += &run::matrices(files);
        if let Some(pictures) = masks::pictures(files) {
            parts += &details("Pictures", &pictures);
        }
        parts += &details("What is taken for what", &run::confusions(files));
        if !files.exemplars.is_empty() {
            parts += &details("Exemplars", &run::exemplars(files));
        }
        parts += &details("Settings", &run::settings(files));
        body += &details(&format!("{}: {}", entry.name(), final_text(entry)), &parts);
    }
    body
}
