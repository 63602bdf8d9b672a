//! The page of a distillation: teacher, scratch and distilled side by side.

use super::files::{command, settings_of};
use super::html::{Section, commands, details, escape, facts, key_figures, page as whole_page, table};
use super::plot::{Line, Plot};
use crate::distill::{SchemeSpec, Training};
use crate::error::{Error, Result};
use crate::experiment::distillation::{
    Arm, Comparison, DistillResults, NetworkReport, StudentResult, TeacherReport, rows,
};
use crate::records::sealed::read_json;
use crate::report::distillation::{gain_text, percent_sd};
use crate::report::text::{counted, duration, percent, thousands};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Whether a folder holds a distillation and no run of a method.
pub(super) fn is_one(folder: &Path) -> bool {
    read_json::<Map<String, Value>>(folder, "config.json").is_ok_and(|config| config.contains_key("scheme"))
}

/// The page as HTML.
pub(super) fn page(folder: &Path) -> Result<String> {
    let results = DistillResults::of_folder(folder)?;
    let config: Map<String, Value> = read_json(folder, "config.json")?;
    let comparisons = results.comparisons();
    let Some(first) = comparisons.first() else {
        return Err(Error::file(folder.join("metrics.json"), "no pair of students is finished"));
    };
    let title = format!("{}: {} on {}", results.scheme, results.student.name, results.dataset);
    let mut sections =
        vec![Section { id: "pairs", title: Words::of(&results).pairs, body: pairs(&results, &comparisons) }];
    if first.distilled.iter().any(|student| !student.others.is_empty()) {
        sections.push(Section { id: "others", title: "What else answers", body: others(first) });
    }
    if comparisons.len() > 1 {
        sections.push(Section {
            id: "data",
            title: "Over the amount of data",
            body: over_data(&results, &comparisons),
        });
    }
    if first.distilled.iter().any(|student| student.omitted.is_some()) {
        sections.push(Section { id: "omitted", title: "A class that was never shown", body: omitted(&results, first) });
    }
    sections.push(Section { id: "cost", title: "What the networks cost", body: cost(&results, first) });
    sections.push(Section { id: "terms", title: "Terms of the loss", body: terms(&results) });
    sections.push(Section { id: "scheme", title: "The scheme", body: scheme(&results) });
    sections.push(Section { id: "repeat", title: "Settings, and how to repeat this", body: repeat(&config) });
    Ok(whole_page(&title, &top(&results, first, &title), &sections))
}

fn teachers(results: &DistillResults) -> String {
    results.teachers.iter().map(|teacher| teacher.network.name.as_str()).collect::<Vec<_>>().join(" and ")
}

/// How a page tells of a scheme with a trained teacher, and of one without.
struct Words {
    pairs: &'static str,
    scratch: &'static str,
    distilled: &'static str,
    /// Behind "once on the labels alone, ".
    lede: &'static str,
}

impl Words {
    fn of(results: &DistillResults) -> Words {
        let (scratch, lede) = ("labels alone", "once by the scheme");
        let without = Words { pairs: "With and without the scheme", scratch, distilled: "by the scheme", lede };
        match results.spec().map(|spec| spec.training) {
            None | Some(Training::Offline) => Words {
                pairs: "With and without the teacher",
                distilled: "with the teacher",
                lede: "once also on what a trained teacher says about each image",
                ..without
            },
            Some(Training::Online) => {
                Words { lede: "once together with others that learn at the same time", ..without }
            }
            Some(Training::SelfTaught) => Words { lede: "once also from what a network of its kind says", ..without },
        }
    }
}

fn top(results: &DistillResults, first: &Comparison, title: &str) -> String {
    let n = first.scratch.len();
    let mut top = format!(
        "<p class=\"eyebrow\">engram, distillation, {}</p>\n<h1>{}</h1>\n",
        counted(n, "pair", "pairs"),
        escape(title)
    );
    if !results.complete {
        top += "<p class=\"warn\" role=\"status\"><strong>Incomplete:</strong> not all students are trained; the numbers are \
                those of the finished pairs.</p>\n";
    }
    let (scratch, distilled) = (first.mean_sd(Arm::Scratch, accuracy).0, first.mean_sd(Arm::Distilled, accuracy).0);
    let gain = first.gain(accuracy);
    let Words { lede, distilled: by, .. } = Words::of(results);
    let teacher = match results.teacher_accuracy {
        Some(accuracy) => format!("; the teacher itself ({}) {}", escape(&teachers(results)), percent(accuracy)),
        None => String::new(),
    };
    let _ = writeln!(
        top,
        "<p class=\"lede\">A small network was trained twice on {}, on the same images in the same order: once on the labels \
         alone, {lede}. Alone it names {} of the test images correctly, {by} {}{teacher}.</p>",
        counted(first.n_images, "labelled image", "labelled images"),
        percent(scratch),
        percent(distilled)
    );
    let mut figures = vec![
        ("Gain, paired ± standard error", gain_text(gain)),
        ("Scratch", format!("{} %", percent_sd(first.mean_sd(Arm::Scratch, accuracy), n))),
        ("Distilled", format!("{} %", percent_sd(first.mean_sd(Arm::Distilled, accuracy), n))),
    ];
    figures.extend(results.teacher_accuracy.map(|accuracy| ("Teacher", percent(accuracy))));
    top + &key_figures(&figures)
}

fn accuracy(student: &StudentResult) -> f64 {
    student.accuracy
}

type Number = fn(&StudentResult) -> f64;

const NUMBERS: [(&str, Number); 3] = [
    ("accuracy", accuracy),
    ("calibration error", |student| student.calibration_error),
    ("answers as the teacher", |student| student.agreement.unwrap_or_default()),
];

fn axis_percent(y: f64) -> String {
    format!("{:.1} %", 100.0 * y)
}

fn pairs(results: &DistillResults, comparisons: &[Comparison]) -> String {
    let first = &comparisons[0];
    let teacher = |y| Line { name: "teacher".into(), points: vec![(0.0, y), (1.0, y)], color: 5, dashed: true };
    let mut lines: Vec<Line> = results.teacher_accuracy.map(teacher).into_iter().collect();
    for (color, (a, b)) in first.scratch.iter().zip(&first.distilled).enumerate() {
        let points = vec![(0.0, a.accuracy), (1.0, b.accuracy)];
        lines.push(Line { name: format!("seed {}", a.seed), points, color, dashed: false });
    }
    let Words { scratch, distilled, .. } = Words::of(results);
    let ticks = [(0.0, scratch.into()), (1.0, distilled.into())];
    let label = "Test accuracy of each student from labels alone and by the scheme";
    let plot = Plot { label, x_title: "", x_ticks: &ticks, y_text: axis_percent, from_zero: false };
    let mut body = format!(
        "<p>Each line is a pair: the same images in the same order{}. Accuracy on the test images after the last epoch.</p>\n{}",
        if results.spec().is_some_and(SchemeSpec::has_generations) { "" } else { ", the same initial weights" },
        plot.draw(&lines)
    );
    let n = first.scratch.len();
    let head = ["".to_string(), "teacher".into(), "scratch".into(), "distilled".into(), "distilled − scratch".into()];
    let teacher = |i: usize| match i {
        0 => results.teacher_accuracy.map_or("–".into(), |accuracy| format!("{:.1}", 100.0 * accuracy)),
        1 if !results.teachers.is_empty() => {
            let of = |teacher: &TeacherReport| format!("{:.1}", 100.0 * teacher.calibration_error);
            results.teachers.iter().map(of).collect::<Vec<_>>().join(", ")
        }
        _ => "–".into(),
    };
    let n_numbers = NUMBERS.len() - usize::from(results.teachers.is_empty());
    let rows: Vec<Vec<String>> = NUMBERS[..n_numbers]
        .iter()
        .enumerate()
        .map(|(i, (name, number))| {
            let of = |arm| percent_sd(first.mean_sd(arm, *number), n);
            vec![name.to_string(), teacher(i), of(Arm::Scratch), of(Arm::Distilled), gain_text(first.gain(*number))]
        })
        .collect();
    body += &table(
        "In percent: mean ± standard deviation over the seeds; differences of pairs ± their standard error. Calibration error: \
         how far the probability of the answer is from the share of right answers, in 15 bins",
        1,
        &head,
        &rows,
    );
    let head = ["seed".to_string(), "images".into(), "scratch".into(), "distilled".into(), "difference".into()];
    let mut rows = Vec::new();
    for comparison in comparisons {
        for (a, b) in comparison.scratch.iter().zip(&comparison.distilled) {
            rows.push(vec![
                a.seed.to_string(),
                thousands(a.n_images as u64),
                percent(a.accuracy),
                percent(b.accuracy),
                gain_text((b.accuracy - a.accuracy, None)),
            ]);
        }
    }
    body + &details("Every pair", &table("Accuracy on the test images", 0, &head, &rows))
}

fn others(first: &Comparison) -> String {
    let n = first.scratch.len();
    let head = ["", "accuracy", "calibration error", "parameters", "million multiply–accumulates"];
    let calibrations = first.others(|other| other.calibration_error);
    let rows: Vec<Vec<String>> = first
        .others(|other| other.accuracy)
        .into_iter()
        .zip(calibrations)
        .map(|((other, mean, sd), (_, calibration, sd_of_it))| {
            vec![
                escape(&other.name),
                percent_sd((mean, sd), n),
                percent_sd((calibration, sd_of_it), n),
                thousands(other.n_parameters as u64),
                format!("{:.2}", other.macs as f64 / 1e6),
            ]
        })
        .collect();
    table(
        "Beside the distilled student, whose own numbers are above: percent of the test images, and what it takes to answer so",
        1,
        &head.map(String::from),
        &rows,
    )
}

fn over_data(results: &DistillResults, comparisons: &[Comparison]) -> String {
    let at = |comparison: &Comparison| (comparison.n_images as f64).log10();
    let ticks: Vec<(f64, String)> =
        comparisons.iter().map(|comparison| (at(comparison), thousands(comparison.n_images as u64))).collect();
    let line = |name: &str, color, dashed, y: &dyn Fn(&Comparison) -> f64| Line {
        name: name.into(),
        points: comparisons.iter().map(|comparison| (at(comparison), y(comparison))).collect(),
        color,
        dashed,
    };
    let mut lines = vec![
        line("scratch", 0, false, &|comparison| comparison.mean_sd(Arm::Scratch, accuracy).0),
        line("distilled", 1, false, &|comparison| comparison.mean_sd(Arm::Distilled, accuracy).0),
    ];
    lines.extend(results.teacher_accuracy.map(|teacher| line("teacher", 5, true, &|_| teacher)));
    let label = "Mean test accuracy over the number of labelled images";
    let plot = Plot {
        label,
        x_title: "labelled images of the students",
        x_ticks: &ticks,
        y_text: axis_percent,
        from_zero: false,
    };
    let head = ["images".to_string(), "scratch".into(), "distilled".into(), "distilled − scratch".into()];
    let rows: Vec<Vec<String>> = comparisons
        .iter()
        .map(|comparison| {
            let n = comparison.scratch.len();
            let of = |arm| percent_sd(comparison.mean_sd(arm, accuracy), n);
            let images = thousands(comparison.n_images as u64);
            vec![images, of(Arm::Scratch), of(Arm::Distilled), gain_text(comparison.gain(accuracy))]
        })
        .collect();
    plot.draw(&lines) + &table("Percent of the test images, mean ± standard deviation", 0, &head, &rows)
}

fn omitted(results: &DistillResults, comparison: &Comparison) -> String {
    let of = |name: &'static str, students: &[&StudentResult]| -> Vec<_> {
        students.iter().filter_map(|student| Some((name, student.seed.to_string(), student.omitted?))).collect()
    };
    let teacher = results.teacher_omitted.map(|found| ("teacher", "–".to_string(), found));
    let networks =
        [teacher.into_iter().collect(), of("scratch", &comparison.scratch), of("distilled", &comparison.distilled)]
            .concat();
    let Some((_, _, first)) = networks.last() else { return String::new() };
    let (class, n) = (first.class, first.n_images as f64);
    let head = ["network", "seed", "right", "added to its logit", "right then", "of all images then"];
    let rows: Vec<Vec<String>> = networks
        .iter()
        .map(|(name, seed, found)| {
            vec![
                name.to_string(),
                seed.clone(),
                thousands((n * found.accuracy_of_class).round() as u64),
                format!("{:+.1}", found.bias),
                thousands((n * found.corrected_accuracy_of_class).round() as u64),
                percent(found.corrected_accuracy),
            ]
        })
        .collect();
    let text = format!(
        "<p>No student saw an image of class {class}. What the teacher says about other images still tells the distilled ones \
         about it; what they get wrong then is mostly for a bias of its output that is too low (Hinton et al. 2015, section \
         3). The bias here is the one that is best for all test images, as in the paper.</p>\n"
    );
    let images = counted(first.n_images, "test image", "test images");
    text + &table(&format!("Of the {images} of class {class}"), 2, &head.map(String::from), &rows)
}

fn cost(results: &DistillResults, first: &Comparison) -> String {
    let head = [
        "network",
        "parameters",
        "million multiply–accumulates",
        "ms per image, alone",
        "ms per image, in 128",
        "training",
    ];
    let row = |name: String, network: &NetworkReport, training: String| {
        vec![
            name,
            thousands(network.n_parameters as u64),
            format!("{:.2}", network.macs as f64 / 1e6),
            format!("{:.3}", network.ms_batch_1),
            format!("{:.3}", network.ms_batch_128),
            training,
        ]
    };
    let mut rows = Vec::new();
    for teacher in &results.teachers {
        let training = teacher.seconds_training.map_or("–".into(), duration);
        rows.push(row(format!("teacher {}", teacher.network.name), &teacher.network, training));
    }
    for (arm, name) in [(Arm::Scratch, "scratch"), (Arm::Distilled, "distilled")] {
        let seconds = first.mean_sd(arm, |student| student.seconds_training).0;
        rows.push(row(format!("{name} {}", results.student.name), &results.student, duration(seconds)));
    }
    let origins: Vec<(&str, String)> =
        results.teachers.iter().map(|teacher| ("Teacher from", teacher.origin.clone())).collect();
    table("Forward passes of evaluation; wall-clock time of training", 1, &head.map(String::from), &rows)
        + &facts(&origins)
}

fn terms(results: &DistillResults) -> String {
    let Some(seed) = results.terms.first().map(|term| term.seed) else {
        return "<p>Nothing was written down.</p>\n".into();
    };
    let fraction = results.terms[0].fraction;
    // Terms of one name, from several layers, are numbered.
    let mut by_step: BTreeMap<usize, Vec<(String, f64, f64)>> = BTreeMap::new();
    let own = results.terms.iter().filter(|term| term.seed == seed && term.fraction == fraction);
    for record in own.map(|term| &term.record) {
        let row = by_step.entry(record.step).or_default();
        let same = row.iter().filter(|(name, _, _)| name.split(' ').next() == Some(&record.term)).count();
        let name = if same == 0 { record.term.clone() } else { format!("{} {}", record.term, same + 1) };
        let Some(norm) = record.gradient_norm else { continue };
        row.push((name, f64::from(record.weight) * f64::from(record.value), f64::from(norm)));
    }
    let mut names: Vec<String> = Vec::new();
    for (name, _, _) in by_step.values().flatten() {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let steps: Vec<(f64, String)> = by_step.keys().map(|step| (*step as f64, thousands(*step as u64))).collect();
    let every_other: Vec<(f64, String)> = steps
        .iter()
        .enumerate()
        .map(|(i, (x, text))| (*x, if i % 2 == 0 { text.clone() } else { String::new() }))
        .collect();
    let draw = |label: &str, pick: fn(&(String, f64, f64)) -> f64| {
        let lines: Vec<Line> = names
            .iter()
            .enumerate()
            .map(|(color, name)| Line {
                name: name.clone(),
                points: by_step
                    .iter()
                    .filter_map(|(step, row)| Some((*step as f64, pick(row.iter().find(|(own, _, _)| own == name)?))))
                    .collect(),
                color,
                dashed: false,
            })
            .collect();
        let y_text = |y: f64| format!("{y:.3}").trim_end_matches('0').trim_end_matches('.').to_string();
        Plot { label, x_title: "step", x_ticks: &every_other, y_text, from_zero: true }.draw(&lines)
    };
    format!(
        "<p>Of the distilled student of seed {seed}. All numbers are in terms.csv.</p>\n<h3>Weight times value</h3>\n{}<h3>Length \
         of the gradient, weight included</h3>\n<p>Which term moves the weights how much.</p>\n{}",
        draw("Weighted value of each term over steps", |record| record.1),
        draw("Gradient norm of each weighted term over steps", |record| record.2)
    )
}

fn scheme(results: &DistillResults) -> String {
    let Some(spec) = results.spec() else {
        return format!("<p>{} is a scheme of another version of engram.</p>\n", escape(&results.scheme));
    };
    let mut rows = vec![
        ("What it does", spec.summary.to_string()),
        ("Loss", spec.formula.into()),
        ("Knowledge", spec.knowledge.name().into()),
        ("Teacher", spec.training.describe().into()),
        ("Paper", spec.paper.into()),
    ];
    let pairs: Vec<String> = results.layers.iter().map(|(student, teacher)| format!("{student} = {teacher}")).collect();
    if !pairs.is_empty() {
        rows.push(("Layers, student = teacher", pairs.join(", ")));
    }
    rows.extend(spec.deviations.iter().map(|deviation| ("Deviation", deviation.to_string())));
    facts(&rows)
}

fn repeat(config: &Map<String, Value>) -> String {
    let mut settings = settings_of(&rows(), config);
    settings.retain(|setting| !setting.value.is_empty());
    let head = ["flag".to_string(), "value".into(), "meaning".into()];
    let rows: Vec<Vec<String>> =
        settings.iter().map(|s| vec![format!("--{}", s.flag), s.value.clone(), s.help.clone()]).collect();
    commands(&[command("distill", &settings)])
        + &details("All settings", &table("Settings of this run", 3, &head, &rows))
}
