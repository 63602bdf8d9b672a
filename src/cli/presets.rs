//! `engram presets`: what experiments of papers set, and what differs from the papers.

use crate::error::{Result, by_name};
use crate::experiment::distillation::{self, presets as distillations};
use crate::experiment::presets::{self as runs, Preset};
use crate::experiment::{every_row, ledger};
use crate::report::{hang, message};
use crate::settings::{Setting, Values, text};
use clap::{Args, Subcommand};

/// Without a subcommand the presets are listed.
#[derive(Args)]
pub struct PresetsArgs {
    #[command(subcommand)]
    command: Option<PresetsCommand>,
}

#[derive(Subcommand)]
enum PresetsCommand {
    /// List presets, as without a subcommand
    List,
    /// Print a preset's paper, settings and deviations, and the figures published for it
    Show {
        /// Which, for example icarl-cifar100
        name: String,
    },
}

/// Lists or shows.
///
/// # Errors
/// If there is no preset of the name.
pub fn run(args: PresetsArgs) -> Result<()> {
    match args.command {
        Some(PresetsCommand::Show { name }) => show(&name),
        Some(PresetsCommand::List) | None => {
            list();
            Ok(())
        }
    }
}

fn list() {
    let tables = [("engram METHOD --preset NAME", runs::ALL), ("engram distill --preset NAME", distillations::ALL)];
    for (command, presets) in tables {
        println!("{:<28} {command}", "preset");
        for preset in presets {
            print!("{}", hang(&format!("{:<28} ", preset.name), preset.summary));
        }
        println!();
    }
    println!("Paper, settings, deviations, published figures: engram presets show NAME.");
}

fn show(name: &str) -> Result<()> {
    let all: Vec<&Preset> = runs::ALL.iter().chain(distillations::ALL).collect();
    let preset = *by_name("preset", name, &all, |preset| preset.name)?;
    let line = |title: &str, text: &str| print!("{}", hang(&format!("{title:<12}"), text));
    print!("{}", message(&format!("{name}: {}\n\n", preset.summary)));
    line("paper", preset.paper);
    if let Some(base) = preset.base {
        line("based on", base);
    }
    match runs::ALL.iter().any(|run| run.name == name) {
        true => {
            line("command", &format!("engram METHOD --preset {name}"));
            line("sets", &flags(&every_row(), &runs::settings(name)?));
            if let Ok(experiment) = ledger::experiment(name) {
                line("published", &format!("{}: engram reproduce {name}", experiment.source));
            }
        }
        false => {
            line("command", &format!("engram distill --preset {name}"));
            line("sets", &flags(&distillation::rows(), &distillations::settings(name)?));
            for (i, figure) in distillations::published(name).iter().enumerate() {
                let title = if i == 0 { "published" } else { "" };
                line(title, &format!("{} {} % ({})", figure.called, figure.percent, figure.source));
            }
        }
    }
    for (i, deviation) in preset.deviations.iter().enumerate() {
        line(if i == 0 { "deviations" } else { "" }, &format!("- {deviation}"));
    }
    Ok(())
}

/// Settings as flags with their values, in the order of the rows.
fn flags(rows: &[&'static Setting], values: &Values) -> String {
    let set = rows.iter().filter_map(|row| Some((row, values.value(row.name)?)));
    set.map(|(row, value)| format!("{} {}", row.flag(), text(value))).collect::<Vec<_>>().join(" ")
}
