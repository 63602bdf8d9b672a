//! `engram methods`: what there is, and what each does, keeps and is good for.

use crate::continual::{self, MethodSpec};
use crate::error::Result;
use crate::report::{hang, message};
use crate::settings::{Usual, flag};
use clap::{Args, Subcommand};

/// Without a subcommand the methods are listed.
#[derive(Args)]
pub struct MethodsArgs {
    #[command(subcommand)]
    command: Option<MethodsCommand>,
}

#[derive(Subcommand)]
enum MethodsCommand {
    /// List methods, as without a subcommand
    List,
    /// Print a method's equations, options and deviations, and what to expect of it
    Show {
        /// Which, for example der++
        name: String,
    },
}

/// Lists or shows.
pub fn run(args: MethodsArgs) -> Result<()> {
    match args.command {
        Some(MethodsCommand::Show { name }) => show(continual::spec(&name)?),
        Some(MethodsCommand::List) | None => list(),
    }
    Ok(())
}

fn list() {
    for spec in continual::all() {
        print!("{}", hang(&format!("{:<22}", spec.name), spec.summary));
        let mut facts = vec![spec.paper.to_string(), format!("scenarios: {}", spec.suits())];
        facts.push(format!("holds {}", spec.memory));
        facts.extend((!spec.defaults().is_empty()).then(|| spec.defaults().join(" ")));
        facts.retain(|fact| fact != "–");
        print!("{}", hang(&" ".repeat(22), &facts.join("; ")));
    }
    let text = "More of one: engram methods show NAME. A run: engram NAME. Side by side: engram compare NAME NAME …";
    print!("\n{}", message(text));
}

fn show(spec: &MethodSpec) {
    println!("{}", message(&format!("{}: {}", spec.name, spec.summary)));
    let line = |title: &str, text: &str| print!("{}", hang(&format!("{title:<12}"), text));
    line("paper", spec.paper);
    line("equations", spec.equations);
    line("holds", spec.memory);
    line("scenarios", &spec.suits());
    let targets: Vec<&str> = spec.targets.iter().map(|target| target.described()).collect();
    line("learns from", &targets.join("; or "));
    let needs = if spec.needs_boundaries { "must be told where a task ends" } else { "needs no task boundaries" };
    line("stream", if spec.sees_everything { "sees all data at once" } else { needs });
    line("expect", spec.expect);
    let mut options = spec.defaults();
    if let Some(memory) = spec.options.iter().find(|row| matches!(row.default, Usual::Follows(_))) {
        let (flag, value) = (memory.flag(), memory.value_name);
        options.insert(0, format!("{flag} {value} (by data set: engram {} --help)", spec.name));
    }
    let none = if spec.options.is_empty() { "none of its own" } else { "" };
    line("options", &format!("{none}{}", options.join("; ")));
    for (scenario, values) in spec.in_scenario {
        let values: Vec<String> = values.iter().map(|(name, value)| format!("{} {value}", flag(name))).collect();
        line("", &format!("with --scenario {}: {}", scenario.name(), values.join("; ")));
    }
    let trade_off: Vec<String> = spec.trade_off.iter().map(|(name, from)| format!("{} {from}", flag(name))).collect();
    if !trade_off.is_empty() {
        let from = trade_off.join(" ");
        line("trade-off", &format!("the larger, the less is forgotten and learnt; engram tune begins at {from}"));
    }
    for (i, deviation) in spec.deviations.iter().enumerate() {
        line(if i == 0 { "deviations" } else { "" }, &format!("- {deviation}"));
    }
    if spec.deviations.is_empty() {
        line("deviations", "none known");
    }
}
