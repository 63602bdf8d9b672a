//! A search for hyper-parameters as text.

use super::WIDTH;
use super::text::{classes, command, percent, wrap};
use crate::continual::Activation;
use crate::experiment::Config;
use crate::experiment::command_line::{flags_between, quoted};
use crate::experiment::tune::{Tried, Tuned, trade_off};
use crate::settings::{flag, text};
use std::fmt::Write;

/// The flags of the trade-off at a part of its first values: `--mse-weight 2 --replay-weight 2`.
fn trade_off_flags(config: &Config, factor: f64) -> Vec<String> {
    let values = trade_off(config, factor);
    values.into_iter().map(|(name, value)| format!("{} {value}", flag(name))).collect()
}

/// What was tried in the latest task: a line per training.
pub fn tuned_task_text(config: &Config, tuned: &Tuned, n_tasks: usize, class_names: &[String]) -> String {
    let Some(task) = tuned.tasks.last() else { return String::new() };
    let what = classes(class_names, 50);
    let mut out = format!("\nTask {} of {n_tasks}: {what}\n", task.task + 1);
    let _ = writeln!(out, "{:<16}{:<40}{:>9}", "learnt by", "with", "new task");
    out.push_str(&"─".repeat(WIDTH));
    out.push('\n');
    let mut line = |who: &str, with: &str, tried: &Tried, note: &str| {
        let accuracy = tried.accuracy.map_or("diverged".to_string(), percent);
        let line = format!("{who:<16}{with:<40}{accuracy:>9}  {note}");
        let _ = writeln!(out, "{}", line.trim_end());
    };
    for tried in &task.rates {
        let best = if tried.value == task.rate { "best" } else { "" };
        line("fine-tuning", &format!("--lr {}", tried.value), tried, best);
    }
    for (i, tried) in task.trade_offs.iter().enumerate() {
        let kept = i + 1 == task.trade_offs.len();
        let note = match task.required {
            Some(required) if !(kept && task.reached) => format!("below {}", percent(required)),
            _ if task.required.is_some() => "kept".into(),
            _ => String::new(),
        };
        let flags = trade_off_flags(config, f64::from(tried.value)).join(" ");
        let with = if flags.is_empty() { format!("--lr {}", task.rate) } else { flags };
        line(config.method.name, &with, tried, &note);
    }
    out
}

/// The answer: the flags to go on with, and what to know about them.
pub fn tuned_text(config: &Config, tuned: &Tuned) -> String {
    let Some(rate) = tuned.rate() else { return String::new() };
    let name = config.method.name;
    let mut flags = vec![format!("--lr {rate}")];
    flags.extend(tuned.factor.iter().flat_map(|factor| trade_off_flags(config, *factor)));
    let mut say = Vec::new();
    let chosen: Vec<String> = tuned.tasks.iter().map(|task| task.rate.to_string()).collect();
    if chosen.iter().any(|one| *one != chosen[0]) {
        say.push(format!(
            "Best rates by task: {}. A run has one for all tasks: {rate} has the highest mean of accuracies.",
            chosen.join(", ")
        ));
    }
    let grid = tuned.tasks[0].rates.iter().map(|tried| tried.value);
    let (low, high) = grid.fold((f32::MAX, 0.0f32), |(low, high), rate| (low.min(rate), high.max(rate)));
    if low < high && (rate == low || rate == high) {
        let edge = if rate == low { "smallest" } else { "largest" };
        say.push(format!("{rate} is the {edge} rate that was tried: a wider --lr-grid may find a better one."));
    }
    let failed: Vec<String> =
        tuned.tasks.iter().filter(|task| !task.reached).map(|task| (task.task + 1).to_string()).collect();
    if !failed.is_empty() {
        say.push(format!(
            "In task {} no trade-off that was tried learnt the new task well enough; the last one was kept. More \
             --max-decays, or a larger --drop, may help.",
            failed.join(", ")
        ));
    }
    if tuned.factor.is_none() {
        say.push(format!("{name} has no trade-off of its own: only the learning rate was chosen."));
    } else if tuned.tasks.len() < 2 {
        say.push("One task has nothing to keep: the trade-off is still what it began at.".into());
    }
    if (config.method.build)(&config.values).activation() == Activation::Sigmoid {
        say.push(format!(
            "Rates were compared by fine-tuning with cross-entropy; {name} learns by sigmoids, whose best rate may be \
             another, mostly a larger one."
        ));
    }
    let mut out = String::from("\n");
    out += &wrap(&format!("Answer: {name} with {}, beside the settings given here.", flags.join(" ")), 2);
    say.iter().for_each(|sentence| out += &wrap(sentence, 2));
    let others = other_settings(config);
    out += "One run, and beside other methods:\n";
    out += &command(&format!("engram {name}{others} {}", flags.join(" ")));
    let own = flags.iter().map(|flag| format!("--of {name}:{}", flag.trim_start_matches('-').replace(' ', "=")));
    let other = if name == "finetune" { "er" } else { "finetune" };
    out += &command(&format!("engram compare {name} {other}{others} {}", own.collect::<Vec<_>>().join(" ")));
    out
}

/// What the search was given besides the rate and the trade-off, as flags with a space before each.
fn other_settings(config: &Config) -> String {
    let dataset = &config.data.dataset;
    let Ok(usual) = Config::of(config.method, &[("dataset", dataset)]) else { return String::new() };
    let mut searched = vec!["lr"];
    searched.extend(config.method.trade_off.iter().map(|(name, _)| *name));
    let as_usual: Vec<(&str, String)> =
        searched.iter().filter_map(|name| Some((*name, text(usual.values.value(name)?)))).collect();
    let as_usual: Vec<(&str, &str)> = as_usual.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let Ok(rest) = config.with(&as_usual) else { return String::new() };
    let named = if dataset == "glyphs" { String::new() } else { format!(" --dataset {}", quoted(dataset)) };
    named + &flags_between(&usual, &rest)
}
