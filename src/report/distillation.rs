//! A distillation at a terminal: a line per network, then teacher, scratch and distilled side by side.

use super::text::{counted, duration, fit, hundredfold, percent, thousands, wrap};
use crate::experiment::distillation::presets::LedgerRow;
use crate::experiment::distillation::{Arm, Comparison, DistillResults, NetworkReport, Omitted, StudentResult};
use crate::experiment::sink::{Listener, Progress, Sink, Started};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr, stdout};

/// Shows a bar per training on stderr, and on stdout a line per network and the closing tables. A quiet one prints a line at
/// the end.
pub struct DistillConsole {
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl DistillConsole {
    /// Writes to stdout and stderr.
    pub fn new(quiet: bool) -> DistillConsole {
        DistillConsole { quiet, bar: None }
    }

    /// A closed pipe is no reason to lose a run, hence no error.
    fn print(&self, text: &str) {
        let _ = stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush());
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Listener for DistillConsole {
    fn training(&mut self, started: &Started) {
        self.clear();
        if !self.quiet && stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(started.n_steps as u64), ProgressDrawTarget::stderr());
            let template = "{prefix} [{bar:16}] {percent:>3} %  {msg}";
            bar.set_style(ProgressStyle::with_template(template).expect("a valid template").progress_chars("█▌ "));
            bar.set_prefix(started.what.clone());
            self.bar = Some(bar);
        }
    }

    fn progress(&mut self, progress: &Progress) {
        if let Some(bar) = &self.bar {
            bar.set_position(progress.batch as u64);
            if let Some(loss) = progress.loss {
                bar.set_message(format!("loss {loss:.3}"));
            }
        }
    }
}

impl Sink for DistillConsole {
    fn teachers_ready(&mut self, results: &DistillResults) {
        self.clear();
        if self.quiet {
            return;
        }
        for teacher in &results.teachers {
            let text = format!("teacher {}: {}, {}", teacher.network.name, percent(teacher.accuracy), teacher.origin);
            self.print(&wrap(&text, 2));
        }
        for student in &results.students {
            self.print(&student_line(student, "kept"));
        }
    }

    fn student_finished(&mut self, results: &DistillResults) {
        self.clear();
        let Some(last) = results.students.last().filter(|_| !self.quiet) else { return };
        self.print(&student_line(last, &duration(last.seconds_training)));
    }
}

fn student_line(student: &StudentResult, note: &str) -> String {
    let arm = if student.arm == Arm::Scratch { "scratch" } else { "distilled" };
    let (images, accuracy) = (counted(student.n_images, "image", "images"), percent(student.accuracy));
    format!("seed {}, {images}: {arm:<9} {accuracy:>7}  {note}\n", student.seed)
}

impl Drop for DistillConsole {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `93.1 ± 0.4` in percent; without a deviation where there is one value only.
pub fn percent_sd((mean, sd): (f64, f64), n: usize) -> String {
    match n {
        1 => format!("{:.1}", hundredfold(mean)),
        _ => format!("{:.1} ± {:.1}", hundredfold(mean), hundredfold(sd)),
    }
}

/// `+2.03 ± 0.14 points`: the mean of paired differences and its standard error.
pub fn gain_text((mean, error): (f64, Option<f64>)) -> String {
    match error {
        Some(error) => format!("{:+.2} ± {:.2} points", 100.0 * mean, 100.0 * error),
        None => format!("{:+.2} points", 100.0 * mean),
    }
}

/// Teacher, scratch and distilled side by side, once per number of images, and what is to be said about a class left out.
pub fn distill_tables(results: &DistillResults) -> String {
    let comparisons = results.comparisons();
    let mut out = String::new();
    for comparison in &comparisons {
        out += &table(results, comparison);
    }
    if comparisons.len() > 1 {
        out += &over_data(&comparisons);
    }
    out
}

/// Published figures beside measured ones, in percent; nothing if none were published.
pub fn ledger_text(rows: &[LedgerRow]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let mut out = format!("\n{:<24} {:>9} {:>14} {:>10}\n", "accuracy in percent", "published", "here", "difference");
    for LedgerRow { published, measured } in rows {
        let (here, difference) = match measured {
            Some((mean, sd)) => (
                format!("{:.2} ± {:.2}", 100.0 * mean, 100.0 * sd),
                format!("{:+.2}", 100.0 * mean - published.percent),
            ),
            None => ("–".into(), "–".into()),
        };
        let _ = writeln!(out, "{:<24} {:>9.2} {here:>14} {difference:>10}", published.called, published.percent);
    }
    out + &wrap(&format!("Published: {}.", first.published.source), 0)
}

/// A line of the table.
fn line(cells: [String; 8]) -> String {
    let widths = [13, 10, 10, 9, 10, 7, 7, 7];
    let mut line = String::new();
    for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let space = width - cell.chars().count().min(width);
        let _ = match i {
            0 => write!(line, "{cell}{}", " ".repeat(space)),
            _ => write!(line, " {}{cell}", " ".repeat(space)),
        };
    }
    line.trim_end().to_string() + "\n"
}

/// What answers beside the distilled students, as cells.
fn others(comparison: &Comparison) -> Vec<[String; 8]> {
    let n = comparison.distilled.len();
    let calibrations = comparison.others(|other| other.calibration_error);
    let rows = comparison.others(|other| other.accuracy).into_iter().zip(calibrations);
    let none = || "–".to_string();
    rows.map(|((other, mean, sd), (_, calibration, sd_of_it))| {
        [
            fit(&format!("  {}", other.name), 13),
            percent_sd((mean, sd), n),
            none(),
            percent_sd((calibration, sd_of_it), n),
            thousands(other.n_parameters as u64),
            format!("{:.2}", other.macs as f64 / 1e6),
            none(),
            none(),
        ]
    })
    .collect()
}

fn table(results: &DistillResults, comparison: &Comparison) -> String {
    let n = comparison.scratch.len();
    let caption = format!(
        "Percent of the test images after the last epoch; students with {}, mean ± deviation over {}; ms per image in batches of 128; \
         seconds of training.",
        counted(comparison.n_images, "labelled image", "labelled images"),
        counted(n, "pair", "pairs")
    );
    let mut out = format!("\n{}\n", wrap(&caption, 0));
    let titles = ["", "accuracy", "as teacher", "calibr.", "parameters", "MMAC", "ms", "trained"];
    out += &line(titles.map(String::from));
    let of_network = |network: &NetworkReport| {
        [
            thousands(network.n_parameters as u64),
            format!("{:.2}", network.macs as f64 / 1e6),
            format!("{:.3}", network.ms_batch_128),
        ]
    };
    for teacher in &results.teachers {
        let [parameters, macs, ms] = of_network(&teacher.network);
        let (accuracy, calibration) =
            (percent_sd((teacher.accuracy, 0.0), 1), percent_sd((teacher.calibration_error, 0.0), 1));
        let training = teacher.seconds_training.map_or("–".into(), |seconds| format!("{seconds:.0}"));
        let name = format!("teacher {}", teacher.network.name);
        out += &line([fit(&name, 13), accuracy, "–".into(), calibration, parameters, macs, ms, training]);
    }
    for (arm, name) in [(Arm::Scratch, "scratch"), (Arm::Distilled, "distilled")] {
        let of = |number: fn(&StudentResult) -> f64| percent_sd(comparison.mean_sd(arm, number), n);
        let [parameters, macs, ms] = of_network(&results.student);
        let training = format!("{:.0}", comparison.mean_sd(arm, |student| student.seconds_training).0);
        let agreement = match results.teachers.is_empty() {
            true => "–".into(),
            false => of(|student| student.agreement.unwrap_or_default()),
        };
        out += &line([
            name.into(),
            of(|student| student.accuracy),
            agreement,
            of(|student| student.calibration_error),
            parameters,
            macs,
            ms,
            training,
        ]);
    }
    out += &others(comparison).into_iter().map(line).collect::<String>();
    let gain = gain_text(comparison.gain(|student| student.accuracy));
    let _ = writeln!(out, "\ndistilled − scratch: {gain} (paired, ± standard error)");
    if let Some(accuracy) = results.teacher_accuracy.filter(|_| results.teachers.len() > 1) {
        let _ = writeln!(out, "the teachers together: {}", percent(accuracy));
    }
    let first = results.first_terms();
    if !first.is_empty() {
        let shown: Vec<String> = first.iter().map(|(name, ratio)| format!("{name} {ratio:.3}")).collect();
        out += &wrap(&format!("Terms of the loss at the first step, over the labels' own: {}.", shown.join(", ")), 0);
    }
    out + &omitted(results, comparison)
}

/// Hinton's missing class: a mean over seeds for each network.
fn omitted(results: &DistillResults, comparison: &Comparison) -> String {
    let of = |students: &[&StudentResult]| students.iter().filter_map(|student| student.omitted).collect::<Vec<_>>();
    let networks = [
        ("teacher", results.teacher_omitted.into_iter().collect()),
        ("scratch", of(&comparison.scratch)),
        ("distilled", of(&comparison.distilled)),
    ];
    let Some(first) = networks[2].1.first() else { return String::new() };
    let caption = format!(
        "The students were never shown class {}. Right of its {}, and what changes with the bias on its output that is best \
         for all test images:",
        first.class,
        counted(first.n_images, "test image", "test images")
    );
    let mut out = format!("\n{}", wrap(&caption, 0));
    for (name, found) in networks.iter().filter(|(_, found)| !found.is_empty()) {
        let mean = |f: fn(&Omitted) -> f64| found.iter().map(f).sum::<f64>() / found.len() as f64;
        let right = mean(|one| one.accuracy_of_class) * first.n_images as f64;
        let corrected = mean(|one| one.corrected_accuracy_of_class) * first.n_images as f64;
        let _ = writeln!(
            out,
            "  {name:<9} {right:>7.1}; with {:+.1} on its logit {corrected:>7.1}, and {} of all images",
            mean(|one| f64::from(one.bias)),
            percent(mean(|one| one.corrected_accuracy))
        );
    }
    out
}

/// Scratch against distilled over the amount of data, with bars.
fn over_data(comparisons: &[Comparison]) -> String {
    const BAR: usize = 30;
    let mut out = String::from("\nOver the number of labelled images (scratch ░, distilled █):\n\n");
    for comparison in comparisons {
        for (arm, mark) in [(Arm::Scratch, "░"), (Arm::Distilled, "█")] {
            let (mean, sd) = comparison.mean_sd(arm, |student| student.accuracy);
            let label = if arm == Arm::Scratch { thousands(comparison.n_images as u64) } else { String::new() };
            let bar = mark.repeat((mean * BAR as f64).round() as usize);
            let gain = match arm {
                Arm::Scratch => String::new(),
                Arm::Distilled => gain_text(comparison.gain(|student| student.accuracy)),
            };
            let line =
                format!("{label:>9} {bar:<BAR$} {:<12} {gain}", percent_sd((mean, sd), comparison.scratch.len()));
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    out
}
