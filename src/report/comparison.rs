//! A comparison of methods as text: one table, and at its end an answer.

use super::WIDTH;
use super::text::{bytes, duration, fit, hundredfold, mean_and_sd, wrap};
use crate::experiment::comparison::{Cost, Entry, Number, Outcome, Place, budgets, ranking};
use crate::experiment::metrics::mean_sd;
use crate::experiment::results::{Metrics, Score};
use std::fmt::Write;

/// The table, the rankings at equal bytes and at equal seconds, and the answer.
pub fn comparison_text(entries: &[Entry]) -> String {
    table(entries) + &rankings(entries) + &answer(entries)
}

/// A number of all runs of an entry.
pub(super) fn mean_text(entry: &Entry, of: fn(&Outcome) -> Option<f64>) -> String {
    mean_and_sd(&entry.values(of))
}

/// As [`bytes`] or [`duration`].
pub(super) fn cost_text(cost: Cost, value: f64) -> String {
    match cost {
        Cost::Bytes => bytes(value.round() as u64),
        Cost::Seconds => duration(value),
    }
}

fn table(entries: &[Entry]) -> String {
    let Some(first) = entries.first().and_then(|entry| entry.outcomes.first()) else { return String::new() };
    let n_seeds = entries.iter().map(|entry| entry.outcomes.len()).max().unwrap_or(0);
    let fewer = entries.iter().filter(|entry| entry.outcomes.len() < n_seeds);
    let fewer: Vec<String> = fewer.map(|entry| format!("{} ({})", entry.name(), entry.outcomes.len())).collect();
    let fewer = if fewer.is_empty() { String::new() } else { format!(", fewer of {}", fewer.join(", ")) };
    let m = &first.metrics;
    let scenario = match m.scenario.as_str() {
        name @ ("class" | "task" | "domain") => format!("{name}-incremental"),
        name => name.to_string(),
    };
    let title = format!(
        "{}, {scenario}, {}, {n_seeds} seeds{fewer}: mean ± standard deviation in percent. Held: after the last task. Seconds: \
         training and, apart, the ends of tasks.",
        m.dataset, m.model
    );
    let mut out = String::from("\n") + &wrap(&title, 2);
    if m.score == Score::MeanIou {
        return out + &masks_table(entries, m);
    }
    // Where classes accumulate, accuracies on all seen; elsewhere means over tasks beside it. Methods are ranked by the first.
    let last: (&str, Number) = ("final", |run| run.main().final_accuracy());
    let three: [(&str, Number); 3] = match m.scenario.as_str() {
        "class" => [
            last,
            ("average", |run| run.main().average_incremental_accuracy()),
            ("forgetting", |run| run.main().forgetting()),
        ],
        _ => [last, ("ACC", |run| run.main().average_accuracy()), ("BWT", |run| run.main().backward_transfer())],
    };
    let head = [three[0].0, three[1].0, three[2].0, "held", "seconds", "end"];
    let _ = write!(out, "{:<16}", "method");
    for (i, title) in head.iter().enumerate() {
        let _ = write!(out, " {title:>width$}", width = widths()[i]);
    }
    let _ = writeln!(out, "\n{}", "─".repeat(WIDTH));
    for entry in entries {
        let seconds = |of: fn(&Outcome) -> f64| format!("{:.1}", mean_sd(&entry.values(|run| Some(of(run)))).0);
        let cells = [
            mean_text(entry, three[0].1),
            mean_text(entry, three[1].1),
            mean_text(entry, three[2].1),
            cost_text(Cost::Bytes, entry.cost(Cost::Bytes)),
            seconds(Outcome::seconds_training),
            seconds(|run| run.timing.seconds_end_of_task.iter().sum()),
        ];
        let _ = write!(out, "{:<16}", fit(&entry.name(), 16));
        for (cell, width) in cells.iter().zip(widths()) {
            let _ = write!(out, " {cell:>width$}");
        }
        out.push('\n');
    }
    out
}

/// The columns of segmentation.
fn masks_table(entries: &[Entry], metrics: &Metrics) -> String {
    let by_class = metrics.domains_per_task.is_empty();
    let two: [(&str, Number); 2] = match by_class {
        true => [("old", |run| run.main().masks.as_ref()?.old), ("new", |run| run.main().masks.as_ref()?.new)],
        false => [("mean", |run| run.main().average_accuracy()), ("BWT", |run| run.main().backward_transfer())],
    };
    let of_all: [(&str, Number); 2] =
        [("mIoU", |run| run.main().final_accuracy()), ("steps", |run| run.main().average_incremental_accuracy())];
    let numbers = [of_all[0], two[0], two[1], of_all[1]];
    let mut out = format!("{:<14}", "method");
    numbers.iter().for_each(|(title, _)| out += &format!(" {title:>11}"));
    out += &format!(" {:>9} {:>7}\n{}\n", "held", "seconds", "─".repeat(WIDTH));
    for entry in entries {
        let _ = write!(out, "{:<14}", fit(&entry.name(), 14));
        numbers.iter().for_each(|(_, number)| out += &format!(" {:>11}", mean_text(entry, *number)));
        let seconds = mean_sd(&entry.values(|run| Some(run.seconds()))).0;
        let _ = writeln!(out, " {:>9} {seconds:>7.1}", cost_text(Cost::Bytes, entry.cost(Cost::Bytes)));
    }
    let legend = match by_class {
        true => "old, new: mIoU of the classes of the first task and of later ones",
        false => "mean: of the mIoU of each task; BWT: what later tasks did to it",
    };
    out + &wrap(
        &format!("mIoU: over all test pixels, after the last task. {legend}. steps: mean of the mIoU after each task."),
        2,
    )
}

fn widths() -> [usize; 6] {
    [12, 12, 12, 9, 7, 6]
}

/// What is said of a place that is not the first.
pub(super) fn distance(place: &Place) -> String {
    match place.below_first {
        None => "no interval: it takes two common seeds".into(),
        Some((low, mean, high)) => {
            let interval = format!("[{:.1}, {:.1}]", hundredfold(low), hundredfold(high));
            let verdict = if place.is_indistinguishable() { ": indistinguishable" } else { "" };
            format!("{:.1} below {interval}{verdict}", hundredfold(mean))
        }
    }
}

fn rankings(entries: &[Entry]) -> String {
    let mut out = String::new();
    for (cost, what) in [(Cost::Bytes, "held after the last task"), (Cost::Seconds, "of training and ends of tasks")] {
        for budget in budgets(entries, cost) {
            let _ = writeln!(out, "\nWith at most {} {what}:", cost_text(cost, budget));
            let places = ranking(entries, cost, budget);
            for (i, place) in places.iter().enumerate() {
                let accuracy = mean_text(place.entry, |run| run.main().final_accuracy());
                let line = format!("{:>4}. {:<16} {accuracy:>11}", i + 1, fit(&place.entry.name(), 16));
                let distance = if i == 0 { String::new() } else { distance(place) };
                let _ = writeln!(out, "{}", format!("{line}  {distance}").trim_end());
            }
        }
    }
    let score = entries.first().map_or(Score::Accuracy, |entry| entry.outcomes[0].metrics.score);
    let text = "(By the final accuracy, over all test images of the tasks seen. Below the first in points; differences are paired by \
                seed, with 95 % intervals by Student's t.)";
    out + &wrap(&score.worded(text), 0)
}

/// One sentence per kind of budget, for the largest budget and the smallest.
pub(super) fn answer_sentences(entries: &[Entry]) -> Vec<String> {
    let mut sentences = Vec::new();
    for cost in [Cost::Bytes, Cost::Seconds] {
        let all = budgets(entries, cost);
        let mut ends: Vec<f64> = all.first().into_iter().chain(all.last()).copied().collect();
        ends.dedup();
        for budget in ends {
            let places = ranking(entries, cost, budget);
            let Some(first) = places.first() else { continue };
            sentences.push(format!("With at most {}: {}.", cost_text(cost, budget), verdict(first.entry, &places)));
        }
    }
    sentences
}

/// Which of some methods to take, as far as their runs tell.
fn verdict(first: &Entry, places: &[Place]) -> String {
    let accuracy = mean_text(first, |run| run.main().final_accuracy());
    let name = first.name();
    if first.outcomes[0].metrics.score == Score::Accuracy && first.is_at_chance() {
        let chance = hundredfold(first.chance());
        return format!("none is shown to be above guessing ({chance:.1} %); the best is {name} ({accuracy} %)");
    }
    let others = &places[1..];
    let ties: Vec<String> =
        others.iter().filter(|place| place.is_indistinguishable()).map(|place| place.entry.name()).collect();
    if !others.is_empty() && others.iter().all(|place| place.below_first.is_none()) {
        return format!(
            "too few seeds to tell; {name} has the highest {} ({accuracy} %), and with a single seed \
                        nothing says whether the others differ",
            first.outcomes[0].metrics.score.name()
        );
    }
    if !ties.is_empty() && others.iter().all(|place| place.below_first.is_none() || place.is_indistinguishable()) {
        return format!(
            "too few seeds to tell; {name} has the highest mean ({accuracy} %), and no interval of another lies \
                        above 0"
        );
    }
    let mut text = format!("take {name} ({accuracy} %)");
    match ties.len() {
        0 => {}
        1 => text += &format!("; {} is indistinguishable from it", ties[0]),
        _ => text += &format!("; {} are indistinguishable from it", ties.join(", ")),
    }
    let untold: Vec<String> =
        others.iter().filter(|place| place.below_first.is_none()).map(|place| place.entry.name()).collect();
    if !untold.is_empty() {
        text += &format!("; too few common seeds to tell of {}", untold.join(", "));
    }
    text
}

/// What to keep in mind about every answer.
const CAVEAT: &str = "The winner, and its K, were picked by the accuracy on test images, which flatters the winner a \
                      little. engram tune METHOD chooses settings on training images that are held out.";

fn answer(entries: &[Entry]) -> String {
    let sentences = answer_sentences(entries);
    if sentences.is_empty() {
        return "\nAnswer: none; there is no method to rank.\n".into();
    }
    let mut out = String::from("\n") + &wrap(&format!("Answer: {}", sentences.join(" ")), 2);
    if let Some(reference) = entries.iter().find(|entry| !entry.ranked) {
        let text = format!(
            "Upper reference: {} reaches {} %.",
            reference.name(),
            mean_text(reference, |run| run.main().final_accuracy())
        );
        out += &wrap(&text, 2);
    }
    let score = entries[0].outcomes[0].metrics.score;
    out + &wrap(&score.worded(CAVEAT), 2)
}
