//! The page of several seeds of one experiment.

use super::FILE;
use super::charts::{Series, line_chart};
use super::files::{RunFiles, command};
use super::html::{Section, commands, escape, facts, key_figures, page as whole_page, table};
use super::run::{after_each_task, choices, guessing, measures_table, task_classes};
use crate::experiment::measures::{self, MEASURES, Measure};
use crate::experiment::metrics::mean_sd;
use crate::experiment::results::{ClassifierResult, Metrics, Score};
use crate::report::summary::{main_classifier, ordered_classifiers};
use crate::report::table::explained;
use crate::report::text::{capital, counted, hundredfold, mean_and_sd, percent};
use std::fmt::Write;
use std::path::Path;

/// The page of complete runs that differ in their seed only, out of `n_planned`.
pub(super) fn page(root: &Path, runs: &[RunFiles], n_planned: usize) -> String {
    let first = &runs[0];
    let title =
        format!("{} on {}, {}", first.metrics.method, first.metrics.dataset, counted(runs.len(), "seed", "seeds"));
    let mut sections = Vec::new();
    if first.n_tasks_done() > 1 {
        sections.push(Section { id: "accuracy", title: after_each_task(&first.metrics), body: accuracy(runs) });
    }
    sections.push(Section { id: "numbers", title: "All classifiers", body: numbers(runs) });
    sections.push(Section { id: "runs", title: "The single runs", body: single_runs(root, runs) });
    sections.push(Section { id: "repeat", title: "Repeat these runs", body: repeat(runs) });
    whole_page(&title, &top(runs, &title, n_planned), &sections)
}

fn results<'a>(runs: &'a [RunFiles], classifier: &str) -> Vec<&'a ClassifierResult> {
    runs.iter().filter_map(|run| run.metrics.classifiers.get(classifier)).collect()
}

/// A measure of a classifier over all runs.
fn mean_text(runs: &[RunFiles], classifier: &str, measure: &Measure) -> String {
    mean_and_sd(&results(runs, classifier).into_iter().filter_map(measure.of).collect::<Vec<_>>())
}

fn top(runs: &[RunFiles], title: &str, n_planned: usize) -> String {
    let first = &runs[0];
    let (name, _) = main_classifier(&first.metrics).expect("bug: a run without results");
    let n_classes = first.card.classes.len();
    let seeds: Vec<String> = runs.iter().map(|run| run.metrics.seed.to_string()).collect();
    let mut top =
        format!("<p class=\"eyebrow\">engram, seeds {}</p>\n<h1>{}</h1>\n", escape(&seeds.join(", ")), escape(title));
    if runs.len() < n_planned {
        let _ = writeln!(
            top,
            "<p class=\"warn\" role=\"status\"><strong>Incomplete:</strong> {} of {n_planned} seeds are finished; the \
             numbers are those of the finished ones.</p>",
            runs.len()
        );
    }
    let how = match first.n_tasks_done() {
        1 => "at once".to_string(),
        n => format!("in {}, one after the other, never all at once", counted(n, "task", "tasks")),
    };
    let _ = writeln!(
        top,
        "<p class=\"lede\">The same experiment was run {}, each time from other random weights and in another order of \
         images: a network is shown {} {how}. Asked about all of them, it then {} (mean ± standard deviation over the seeds).</p>\n<p class=\"quiet\">The \
         numbers at the top are those of the classifier {}{}.</p>",
        counted(runs.len(), "time", "times"),
        counted(n_classes, "class", "classes"),
        reached(&mean_text(runs, name, &MEASURES[0]), &first.metrics),
        escape(name),
        escape(&explained(&first.metrics, name))
    );
    let score = first.metrics.score;
    let figures = summary(runs).map(|measure| (capital(&measure.title(score)), mean_text(runs, name, measure)));
    top + &key_figures(&figures.collect::<Vec<_>>())
}

/// The measures of the short summary that the first classifier of the first run has.
fn summary(runs: &[RunFiles]) -> impl Iterator<Item = &'static Measure> {
    let main = main_classifier(&runs[0].metrics).map(|(_, result)| result);
    main.into_iter().flat_map(measures::summary).map(|(measure, _)| measure)
}

fn reached(mean: &str, metrics: &Metrics) -> String {
    match metrics.score {
        Score::Accuracy => format!(
            "names {mean} percent of the test images correctly, where guessing would give {}",
            percent(metrics.guessing(metrics.classes_per_task.len()))
        ),
        Score::MeanIou => format!("reaches a mIoU of {mean} percent"),
    }
}

fn accuracy(runs: &[RunFiles]) -> String {
    let first = &runs[0];
    let n_tasks = first.n_tasks_done();
    let names: Vec<&str> = ordered_classifiers(&first.metrics).map(|(name, _)| name).collect();
    let statistics: Vec<(Vec<f64>, Vec<f64>)> = names
        .iter()
        .map(|name| {
            let results = results(runs, name);
            let at = |t: usize| mean_sd(&results.iter().map(|result| result.seen_accuracy[t]).collect::<Vec<_>>());
            (0..n_tasks).map(at).unzip()
        })
        .collect();
    let series: Vec<Series> = names
        .iter()
        .zip(&statistics)
        .map(|(name, (mean, sd))| Series {
            name: format!("{name}{}", explained(&first.metrics, name)),
            values: mean,
            spread: sd,
        })
        .collect();
    let mut head = vec!["after task".to_string(), "new classes".into()];
    head.extend(names.iter().map(|name| name.to_string()));
    let same_order = runs.iter().all(|run| run.metrics.classes_per_task == first.metrics.classes_per_task);
    let rows: Vec<Vec<String>> = (0..n_tasks)
        .map(|t| {
            let arrived = if same_order { task_classes(first, t) } else { "differ by seed".into() };
            let mut row = vec![(t + 1).to_string(), arrived];
            let cell =
                |(mean, sd): &(Vec<f64>, Vec<f64>)| format!("{:.1} ± {:.1}", hundredfold(mean[t]), hundredfold(sd[t]));
            row.extend(statistics.iter().map(cell));
            row
        })
        .collect();
    let label = "Mean accuracy on the test images of all classes seen so far, after each task, by classifier";
    format!(
        "<p>On the test images of all classes seen so far, choosing among {}. The lines are means over the \
         seeds, the bands reach one standard deviation up and down.</p>\n<figure>{}</figure>\n{}",
        choices(&first.metrics),
        line_chart(&first.metrics.score.worded(label), &series, &guessing(first)),
        table("The same as numbers: mean ± standard deviation in percent", 2, &head, &rows)
    )
}

fn numbers(runs: &[RunFiles]) -> String {
    let cell = |classifier: &str, measure: &Measure| mean_text(runs, classifier, measure);
    measures_table(
        "Mean ± standard deviation over the seeds, in percent (differences in points)",
        &runs[0].metrics,
        cell,
    )
}

fn single_runs(root: &Path, runs: &[RunFiles]) -> String {
    let (name, _) = main_classifier(&runs[0].metrics).expect("bug: a run without results");
    let mut body = String::new();
    for run in runs {
        let result = &run.metrics.classifiers[name];
        let cell = |measure: &Measure| mean_and_sd(&(measure.of)(result).into_iter().collect::<Vec<_>>());
        let folder = run.folder.strip_prefix(root).unwrap_or(&run.folder).to_string_lossy();
        let cells: String = summary(runs).map(|measure| format!("<td>{}</td>", cell(measure))).collect();
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\"><a href=\"{}/{FILE}\">seed {}</a></th>{cells}</tr>",
            escape(&folder),
            run.metrics.seed
        );
    }
    let title = |measure: &Measure| format!("<th scope=\"col\">{}</th>", measure.title(runs[0].metrics.score));
    let head: String = summary(runs).map(title).collect();
    format!(
        "<div class=\"scroll\"><table>\n<caption><span>Classifier {}, in percent; each run has a page of its own</span></caption>\n\
         <thead><tr><th scope=\"col\">run</th>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n",
        escape(name)
    )
}

fn repeat(runs: &[RunFiles]) -> String {
    let first = &runs[0];
    let seeds: Vec<u64> = runs.iter().map(|run| run.metrics.seed).collect();
    let in_a_row = seeds.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let lines: Vec<String> = match in_a_row {
        true => {
            let mut settings = first.settings();
            settings.iter_mut().filter(|s| s.flag == "seeds").for_each(|s| s.value = seeds.len().to_string());
            vec![command(&first.metrics.method, &settings)]
        }
        false => runs.iter().map(RunFiles::command).collect(),
    };
    let list = [("Version", format!("engram {}", first.setting("version"))), ("Device", first.setting("adapter"))];
    facts(&list) + &commands(&lines)
}
