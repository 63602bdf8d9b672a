//! Schemes of distillation side by side: a table, and an answer.

use super::distillation::percent_sd;
use super::text::{bytes, counted, duration, fit, percent, wrap};
use crate::experiment::distillation::{DistillResults, Standing, schemes_answer};
use std::fmt::Write;

/// The gain in points, with its interval if there is one.
pub(super) fn gained(one: &Standing) -> String {
    match one.gain {
        Some((low, mean, high)) => format!("{:+.2} [{:.2}, {:.2}]", 100.0 * mean, 100.0 * low, 100.0 * high),
        None => format!("{:+.2}", 100.0 * (one.accuracy.0 - one.scratch.0)),
    }
}

/// The table and the answer.
pub fn schemes_text(standings: &[Standing], results: &[DistillResults]) -> String {
    let (Some(first), Some(any)) = (standings.first(), results.first()) else { return String::new() };
    let caption = format!(
        "{}, {}, {}: percent of the test images, mean ± deviation. Gains are paired by seed, in points, with 95 % intervals by \
         Student's t. Training: of one student, without its teacher's. Held: buffers on the device.",
        any.dataset,
        any.student.name,
        counted(first.n_pairs, "pair", "pairs")
    );
    let mut out = format!("\n{}\n", wrap(&caption, 0));
    let widths = [11, 24, 10, 7, 10];
    let line = |name: &str, cells: [&str; 5]| {
        let mut line = format!("{:<12}", fit(name, 12));
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(line, " {cell:>width$}");
        }
        line.trim_end().to_string() + "\n"
    };
    out += &line("scheme", ["accuracy", "gain", "training", "× alone", "held"]);
    let alone = duration(first.seconds / first.times);
    let scratch = percent_sd(first.scratch, first.n_pairs);
    out += &line("scratch", [&scratch, "–", &alone, "1.00", "–"]);
    for one in standings {
        let (accuracy, seconds) = (percent_sd(one.accuracy, one.n_pairs), duration(one.seconds));
        let (times, held) = (format!("{:.2}", one.times), bytes(one.held_bytes));
        out += &line(&one.scheme, [&accuracy, &gained(one), &seconds, &times, &held]);
    }
    let others: Vec<String> = standings
        .iter()
        .filter_map(|one| {
            one.best_other.as_ref().map(|(name, best)| format!("{}: {name} {}", one.scheme, percent(*best)))
        })
        .collect();
    if !others.is_empty() {
        let _ = write!(out, "\n{}", wrap(&format!("What else answers best: {}.", others.join("; ")), 0));
    }
    let longest = results.iter().flat_map(|results| &results.teachers).filter_map(|teacher| teacher.seconds_training);
    if let Some(seconds) = longest.reduce(f64::max) {
        let _ = writeln!(out, "A teacher's training took {}.", duration(seconds));
    }
    out + "\n" + &wrap(&schemes_answer(standings).join(" "), 0) + "\n"
}
