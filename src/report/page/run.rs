//! The page of one run.

use super::charts::{Series, line_chart};
use super::confusion::{confusion, heat_cell};
use super::files::RunFiles;
use super::html::{Section, commands, details, escape, facts, key_figures, page as whole_page, table};
use super::{losses, masks};
use crate::experiment::command_line::quoted;
use crate::experiment::measures::{self, MEASURES, Measure};
use crate::experiment::metrics::forgetting_per_task;
use crate::experiment::results::{ClassifierResult, Metrics, Score};
use crate::report::summary::{self, main_classifier, ordered_classifiers};
use crate::report::table::explained;
use crate::report::text::{
    bytes, capital, classes, counted, duration, hundredfold, in_unit, percent, points, thousands,
};
use base64::Engine;
use std::fmt::Write;

/// The page as HTML.
pub(super) fn page(run: &RunFiles) -> String {
    let m = &run.metrics;
    let (name, main) = main_classifier(m).expect("bug: RunFiles::read lets no run without results pass");
    let title = format!("{} on {}", m.method, m.dataset);
    let several = main.matrix.len() > 1;
    let mut sections = vec![];
    if several {
        sections.push(Section { id: "accuracy", title: after_each_task(m), body: accuracy(run) });
    }
    if let Some(body) = masks::pictures(run) {
        sections.push(Section { id: "pictures", title: "What it sees", body });
    }
    let matrix_title = match m.score {
        _ if several => "What is left of each task",
        Score::Accuracy => "Accuracy by task",
        Score::MeanIou => "mIoU by task",
    };
    sections.push(Section { id: "tasks", title: matrix_title, body: matrices(run) });
    sections.push(Section { id: "numbers", title: "All classifiers", body: numbers(run) });
    if several {
        sections.push(Section { id: "forgetting", title: "Forgetting", body: forgetting(run) });
    }
    sections.push(Section { id: "confusion", title: "What is taken for what", body: confusions(run) });
    if !run.exemplars.is_empty() {
        sections.push(Section { id: "exemplars", title: "Exemplars", body: exemplars(run) });
    }
    if let Some(body) = losses::curve(run) {
        sections.push(Section { id: "loss", title: "Loss while training", body });
    }
    sections.push(Section { id: "cost", title: "Time and memory", body: cost(run) });
    sections.push(Section { id: "settings", title: "Settings", body: settings(run) });
    sections.push(Section { id: "repeat", title: "Repeat this run", body: repeat(run) });
    whole_page(&title, &top(run, &title, name, main), &sections)
}

fn top(run: &RunFiles, title: &str, name: &str, main: &ClassifierResult) -> String {
    let m = &run.metrics;
    let mut top = format!(
        "<p class=\"eyebrow\">engram, seed {}{}</p>\n<h1>{}</h1>\n",
        m.seed,
        if m.complete { "" } else { ", incomplete" },
        escape(title)
    );
    if !m.complete {
        let (done, all) = (run.n_tasks_done(), m.n_tasks);
        let _ = writeln!(
            top,
            "<p class=\"warn\" role=\"status\"><strong>Incomplete:</strong> {done} of {all} tasks are finished. The \
             numbers below are those so far; the page is renewed after every task.</p>"
        );
    }
    let _ = writeln!(top, "<p class=\"lede\">{}</p>", escape(&in_words(run, main)));
    let _ = writeln!(top, "<p class=\"quiet\">{}</p>", escape(&how_it_classifies(run, name)));
    let figure = |(measure, value): (&Measure, f64)| (capital(&measure.title(m.score)), in_unit(measure.unit, value));
    let mut figures: Vec<(String, String)> = measures::summary(main).map(figure).collect();
    if let Some(held) = m.memory_bytes.last().filter(|held| held.total > 0) {
        figures.push(("Kept between tasks".into(), bytes(held.total)));
    }
    figures.push(("Time".into(), duration(run.timing.seconds_total)));
    top + &key_figures(&figures)
}

/// The result for somebody who has never seen one.
fn in_words(run: &RunFiles, main: &ClassifierResult) -> String {
    if let Some(masks) = &main.masks {
        return masks::in_words(run, main, masks);
    }
    let n_classes = run.card.classes.len();
    let accuracy = percent(main.final_accuracy().unwrap_or(f64::NAN));
    let n_seen = main.matrix.last().map_or(0, |row| row.iter().flatten().count());
    let guess = percent(run.metrics.guessing(n_seen));
    let tested = match run.n_tested() {
        0 => "test images".to_string(),
        n => counted(n as usize, "test image", "test images"),
    };
    let n_tasks = main.matrix.len();
    if n_tasks == 1 {
        return format!(
            "A network was shown {} at once. It now names {accuracy} of {tested} correctly that it never saw in \
             training; guessing would give {guess}.",
            counted(n_classes, "class", "classes")
        );
    }
    let mut text = format!(
        "A network was shown {} in {}, one after the other, never all at once. Asked about all of them, it now names \
         {accuracy} of {tested} correctly that it never saw in training; guessing would give {guess}.",
        counted(n_classes, "class", "classes"),
        counted(n_tasks, "task", "tasks"),
    );
    match main.forgetting() {
        Some(lost) if hundredfold(lost) > 0.0 => {
            let _ = write!(
                text,
                " While it learnt new classes, its accuracy on earlier tasks fell by {} from its best, on average.",
                points(lost)
            );
        }
        Some(_) => text += " While it learnt new classes, its accuracy on earlier tasks did not fall, on average.",
        None => {}
    }
    text + summary::told(&run.metrics.scenario)
}

fn how_it_classifies(run: &RunFiles, name: &str) -> String {
    let method =
        crate::continual::spec(&run.metrics.method).map_or(String::new(), |spec| format!(": {}", spec.summary));
    format!(
        "{}{method}. The numbers at the top are those of the classifier {name}{}.",
        run.metrics.method,
        explained(&run.metrics, name)
    )
}

/// The title of a curve over tasks.
pub(super) fn after_each_task(metrics: &Metrics) -> &'static str {
    match metrics.score {
        Score::Accuracy => "Accuracy after each task",
        Score::MeanIou => "mIoU after each task",
    }
}

/// What an answer is chosen among, where the task is not known.
pub(super) fn choices(metrics: &Metrics) -> &'static str {
    match metrics.n_candidates {
        Some(_) => "all classes of the stream, those that are yet to come as well",
        None => "all classes seen at that time",
    }
}

/// Guessing among the classes after each task; nothing for masks.
pub(super) fn guessing(run: &RunFiles) -> Vec<f64> {
    if run.metrics.score == Score::MeanIou {
        return Vec::new();
    }
    (1..=run.n_tasks_done()).map(|n_tasks| run.metrics.guessing(n_tasks)).collect()
}

/// The classes of a task in words.
pub(super) fn task_classes(run: &RunFiles, task: usize) -> String {
    if let Some(domains) = run.metrics.domains_per_task.get(task) {
        return classes(domains, 40);
    }
    let names: Vec<String> = run.metrics.classes_per_task[task].iter().map(|&class| run.class_name(class)).collect();
    classes(&names, 40)
}

fn accuracy(run: &RunFiles) -> String {
    let m = &run.metrics;
    let series: Vec<Series> = ordered_classifiers(m)
        .map(|(name, result)| Series {
            name: format!("{name}{}", explained(m, name)),
            values: &result.seen_accuracy,
            spread: &[],
        })
        .collect();
    let label = "Accuracy on the test images of all classes seen so far, after each task, by classifier";
    let mut head = vec!["after task".to_string(), "new classes".into()];
    head.extend(ordered_classifiers(m).map(|(name, _)| name.to_string()));
    let floor = guessing(run);
    head.extend((!floor.is_empty()).then(|| "guessing".into()));
    let rows: Vec<Vec<String>> = (0..run.n_tasks_done())
        .map(|t| {
            let mut row = vec![(t + 1).to_string(), task_classes(run, t)];
            row.extend(ordered_classifiers(m).map(|(_, result)| percent(result.seen_accuracy[t])));
            row.extend(floor.get(t).copied().map(percent));
            row
        })
        .collect();
    let explanation = match m.score {
        Score::Accuracy => format!(
            "On the test images of all classes seen so far, choosing among {}. The task gets harder as classes are \
             added: even without any forgetting the lines would fall.",
            choices(m)
        ),
        Score::MeanIou => masks::EXPLANATION.into(),
    };
    format!(
        "<p>{explanation}</p>\n<figure>{}</figure>\n{}",
        line_chart(&m.score.worded(label), &series, &floor),
        table("The same as numbers", 2, &head, &rows)
    )
}

pub(super) fn matrices(run: &RunFiles) -> String {
    let m = &run.metrics;
    let n = ordered_classifiers(m).flat_map(|(_, result)| &result.matrix).map(Vec::len).max().unwrap_or(0);
    let wide = if n > 6 { " wide" } else { "" };
    let mut maps = String::new();
    for (name, result) in ordered_classifiers(m) {
        let head: String = (1..=n).map(|i| format!("<th scope=\"col\">{i}</th>")).collect();
        let mut body = String::new();
        for (t, row) in result.matrix.iter().enumerate() {
            let _ = write!(body, "<tr><th scope=\"row\">{}</th>", t + 1);
            for i in 0..n {
                body += &match row.get(i).copied().flatten() {
                    Some(a) => format!("{}{:.1}</td>", heat_cell(a), hundredfold(a)),
                    None => "<td class=\"none\">–</td>".into(),
                };
            }
            body += "</tr>\n";
        }
        let _ = writeln!(
            maps,
            "<div class=\"scroll\"><table class=\"heat\">\n<caption><span>{}: {} in percent on task (columns) after \
             task (rows)</span></caption>\n<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>",
            escape(name),
            m.score.name()
        );
    }
    let chosen = match m.scenario.as_str() {
        "task" => "Every answer is chosen among the classes of the image's task.".to_string(),
        _ => format!("Every answer is chosen among {}.", choices(m)),
    };
    format!(
        "<p>A row per task learnt, a column per task tested. The diagonal shows a task when it was new; reading a \
         column downwards shows what became of it. {chosen}</p>\n\
         <div class=\"maps{wide}\">\n{maps}</div>\n\
         <p class=\"scale\">0 % <i aria-hidden=\"true\"></i> 100 %</p>\n"
    )
}

pub(super) fn forgetting(run: &RunFiles) -> String {
    let m = &run.metrics;
    let (name, main) = main_classifier(m).expect("bug: a run without results");
    let lost = forgetting_per_task(&main.matrix);
    let mut body = String::new();
    for (i, lost) in lost.iter().enumerate() {
        let Some(lost) = *lost else { continue };
        let now = main.matrix.last().and_then(|row| row.get(i).copied().flatten()).unwrap_or(f64::NAN);
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\">{}</th><td class=\"text\">{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"bar\" \
             aria-hidden=\"true\"><i style=\"width:{:.1}%\"></i></td></tr>",
            i + 1,
            escape(&task_classes(run, i)),
            percent(now + lost),
            percent(now),
            points(lost),
            (100.0 * lost).clamp(0.0, 100.0)
        );
    }
    format!(
        "<p>How far each earlier task lies below its best, in percentage points. A negative number is a task that got \
         better later.</p>\n<div class=\"scroll\"><table>\n<caption><span>Classifier {}</span></caption>\n<thead><tr>\
         <th scope=\"col\">task</th><th scope=\"col\" class=\"text\">classes</th><th scope=\"col\">best</th>\
         <th scope=\"col\">now</th><th scope=\"col\">forgotten</th><td></td></tr></thead>\n<tbody>\n{body}</tbody>\n\
         </table></div>\n",
        escape(name)
    )
}

/// What a run is summed up in, for each classifier.
fn numbers(run: &RunFiles) -> String {
    let m = &run.metrics;
    let cell = |classifier: &str, measure: &Measure| {
        (measure.of)(&m.classifiers[classifier]).map_or("–".into(), |value| in_unit(measure.unit, value))
    };
    measures_table("After the last task that was learnt", m, cell)
}

/// Every measure that a classifier of the run has, a column for each of them.
pub(super) fn measures_table(caption: &str, metrics: &Metrics, cell: impl Fn(&str, &Measure) -> String) -> String {
    let of_some = |measure: &&Measure| ordered_classifiers(metrics).any(|(_, result)| (measure.of)(result).is_some());
    let row = |measure: &Measure| {
        let mut row = vec![measure.title(metrics.score), measure.help.to_string()];
        row.extend(ordered_classifiers(metrics).map(|(name, _)| cell(name, measure)));
        row
    };
    let rows: Vec<Vec<String>> = MEASURES.iter().filter(of_some).map(row).collect();
    let mut head = vec!["number".to_string(), "what it is".into()];
    head.extend(ordered_classifiers(metrics).map(|(name, _)| name.to_string()));
    table(caption, 2, &head, &rows)
}

pub(super) fn confusions(run: &RunFiles) -> String {
    let mut all = ordered_classifiers(&run.metrics);
    let (name, main) = all.next().expect("bug: a run without results");
    let mut out = format!(
        "<p>The answers of the classifier <strong>{}</strong> on all test images of the classes seen, after the last \
         task that was learnt.</p>\n{}",
        escape(name),
        confusion(run, name, main)
    );
    for (name, result) in all {
        out += &details(&format!("Classifier {name}{}", explained(&run.metrics, name)), &confusion(run, name, result));
    }
    out
}

pub(super) fn exemplars(run: &RunFiles) -> String {
    let n_kept: usize = run.exemplars.iter().map(|(class, _)| class.n_kept).sum();
    let by_herding = crate::continual::spec(&run.metrics.method).is_ok_and(|spec| spec.has("memory_rounding"));
    let how = match by_herding {
        true => {
            "Herding chose them one by one, each so that the mean of those chosen comes closest to the mean of the class; \
             when room is needed for new classes the last of a row go first."
        }
        false => "They are replayed at random; the first of each class are shown.",
    };
    let mut out = format!(
        "<p>The {} training images that the method keeps to remember its classes by. {how}</p>\n<dl \
         class=\"exemplars\">\n",
        thousands(n_kept as u64)
    );
    for (class, pictures) in &run.exemplars {
        let name = escape(&class.name);
        let kept = match pictures.len() {
            n if n == class.n_kept => format!("{n} kept"),
            n => format!("first {n} of {}", thousands(class.n_kept as u64)),
        };
        let _ = write!(out, "<dt>{name}<span>{kept}</span></dt>\n<dd>");
        for (i, picture) in pictures.iter().enumerate() {
            let data = base64::engine::general_purpose::STANDARD.encode(picture);
            let _ = write!(
                out,
                "<img src=\"data:image/png;base64,{data}\" width=\"{}\" height=\"{}\" alt=\"exemplar {} of {name}\">",
                run.card.input[2],
                run.card.input[1],
                i + 1
            );
        }
        out += "</dd>\n";
    }
    out + "</dl>\n"
}

fn cost(run: &RunFiles) -> String {
    let (m, timing) = (&run.metrics, &run.timing);
    let seconds = |all: &[f64], t: usize| all.get(t).map_or("–".into(), |s| format!("{s:.1} s"));
    let held = |t: usize| m.memory_bytes.get(t).copied().unwrap_or_default();
    let rows: Vec<Vec<String>> = (0..run.n_tasks_done())
        .map(|t| {
            let held = held(t);
            let kept = [held.exemplars, held.logits, held.importance, held.old_network, held.class_means, held.total]
                .map(bytes);
            let mut row = vec![
                (t + 1).to_string(),
                seconds(&timing.seconds_training, t),
                seconds(&timing.seconds_end_of_task, t),
                seconds(&timing.seconds_evaluation, t),
            ];
            row.extend(kept);
            row
        })
        .collect();
    let head = [
        "task",
        "training",
        "end of task",
        "evaluation",
        "exemplars",
        "stored outputs",
        "importances",
        "old network",
        "class means",
        "kept in all",
    ];
    let mut list = vec![
        ("Time in all", duration(timing.seconds_total)),
        ("Training", format!("{} images per second", thousands(timing.images_per_second.round() as u64))),
    ];
    let parts = timing.training_loop;
    if let Some(overhead) = parts.overhead() {
        let seconds = |s: f64| format!("{s:.1} s");
        let [loading, logging, progress, checkpoints] =
            [parts.loading, parts.logging, parts.progress, parts.checkpoints].map(seconds);
        let share = percent(overhead);
        let each = format!("loading {loading}, logging {logging}, progress {progress}, checkpoints {checkpoints}");
        list.push(("Training beside its steps", format!("{share}: {each}")));
    }
    if let Some(peak) = timing.peak_host_bytes {
        list.push(("Most main memory", bytes(peak)));
    }
    if timing.device_bytes > 0 {
        list.push(("Device memory at the end", bytes(timing.device_bytes)));
    }
    let caption = "Time per task, and what the method keeps after it (the old network while the next task is learnt)";
    facts(&list) + &table(caption, 1, &head.map(String::from), &rows)
}

pub(super) fn settings(run: &RunFiles) -> String {
    let mut body = String::new();
    for setting in run.settings().iter().filter(|setting| setting.flag != "seeds") {
        let value = if setting.value.is_empty() { "–" } else { &setting.value };
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\"><code>--{}</code></th><td class=\"value\">{}</td><td class=\"help\">{}</td></tr>",
            escape(&setting.flag),
            escape(value),
            escape(&setting.help)
        );
    }
    format!(
        "<div class=\"scroll\"><table>\n<caption><span>All of them, resolved, as in <code>config.json</code></span></caption>\n<thead>\
         <tr><th scope=\"col\">flag</th><th scope=\"col\" class=\"text\">value</th><th scope=\"col\" class=\"text\">what \
         it is</th></tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )
}

fn repeat(run: &RunFiles) -> String {
    let list = [
        ("Version", format!("engram {}", run.setting("version"))),
        ("Device", run.setting("adapter")),
        ("Seed", run.metrics.seed.to_string()),
    ];
    let sample = run.exemplars.iter().find_map(|(class, _)| class.pictures.first());
    let sample = sample.map_or("IMAGE.png".to_string(), |name| format!("exemplars/{name}"));
    let mut uses = vec![format!("engram predict . {}", quoted(&sample))];
    if run.goes_on {
        uses.push("engram learn FILE.engram --from-run .".into());
    }
    format!(
        "{}{}<p>or, in this folder, <code>engram {} --config config.json</code>. The same \
         seed on the same kind of processor or adapter gives the same numbers. In a source checkout, write \
         <code>cargo run --release --</code> for <code>engram</code>.</p>\n<h3>Use what it learnt</h3>\n\
         <p>In this folder:</p>\n{}",
        facts(&list),
        commands(&[run.command()]),
        escape(&run.metrics.method),
        commands(&uses)
    )
}
