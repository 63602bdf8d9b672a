//! `engram reproduce`: the runs behind published figures, and a ledger of what came out.

use super::run::{parse_time, stop_after};
use super::settings::RunFlags;
use super::terminal::{Shown, Terminal};
use crate::campaign::{LEDGER, LEDGER_CSV, Reproduction};
use crate::error::Result;
use crate::experiment::ledger::{self, Experiment};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Flags.
#[derive(Args)]
pub struct ReproduceArgs {
    /// A preset with published figures, such as icarl-cifar100: `engram presets show NAME` says whether it has some. vdfd-cifar100
    /// stands for vdfd-cifar100-10 and -20, each with a folder of its own in that of --out
    preset: String,
    /// Class orders of icarl-cifar100: the paper's first one, then seed:1, seed:2 … [default: 1]. Others have --seeds
    #[arg(long, value_name = "N")]
    orders: Option<usize>,
    /// Only these methods, such as er,der++ [default: all with a figure]
    #[arg(long, value_name = "METHODS", value_delimiter = ',')]
    methods: Vec<String>,
    /// Folder for runs and ledger; complete runs in it are kept, interrupted ones go on
    #[arg(long, value_name = "DIR", default_value = "reproduced")]
    out: PathBuf,
    /// Stop after this time (such as 9m, 2h); the same command goes on
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    stop_after: Option<Duration>,
    /// Settings that shorten the protocol; the ledger says so
    #[command(flatten)]
    settings: RunFlags,
}

/// That of a preset, or those of several whose names go on with a hyphen where this one ends.
fn experiments(name: &str) -> Result<Vec<&'static Experiment>> {
    let goes_on = |preset: &str| preset.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    let family: Vec<_> = ledger::ALL.iter().filter(|experiment| goes_on(experiment.preset)).collect();
    match ledger::experiment(name) {
        Err(_) if family.len() > 1 => Ok(family),
        exact => Ok(vec![exact?]),
    }
}

/// Runs what is missing, writes the ledger after every run, and prints it.
pub fn run_all(args: ReproduceArgs) -> Result<()> {
    if let Some(time) = args.stop_after {
        stop_after(time);
    }
    let ReproduceArgs { preset, orders, methods, out, settings, .. } = &args;
    let experiments = experiments(preset)?;
    let of = |preset| Reproduction { preset, orders: *orders, methods, given: &settings.0 };
    // All of them, before the first has run for hours.
    experiments.iter().try_for_each(|experiment| of(experiment.preset).check())?;
    for experiment in &experiments {
        let out = if experiments.len() > 1 { out.join(experiment.preset) } else { out.clone() };
        let rows = of(experiment.preset).run(&out, &mut Terminal::new(Shown::All))?;
        println!("\n{}", ledger::markdown(&rows));
        println!("Published by {}.", experiment.source);
        println!("Ledger: {} and {}", out.join(LEDGER_CSV).display(), out.join(LEDGER).display());
    }
    Ok(())
}
