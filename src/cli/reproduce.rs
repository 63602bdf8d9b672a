//! `engram reproduce`: the runs behind published figures, and a ledger of what came out.

use super::run::{open, parse_time, stop_after};
use super::{folders, warn};
use crate::continual;
use crate::data::Dataset;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::experiment::command_line::flags_between;
use crate::experiment::ledger::{self, Experiment, Published, Repeats, Row};
use crate::experiment::results::{Metrics, Timing};
use crate::experiment::{Config, Overrides, complete, presets};
use crate::records::sealed::read_json;
use crate::records::write_atomically;
use crate::report::Console;
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags.
#[derive(Args)]
pub struct ReproduceArgs {
    /// A preset with published figures: icarl-cifar100 or der-cifar10
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
    settings: Overrides,
}

/// Runs what is missing and writes the ledger after every run.
pub fn run_all(args: ReproduceArgs) -> Result<()> {
    let experiment = ledger::experiment(&args.preset)?;
    let n_repeats = n_repeats(&args, experiment.repeats)?;
    let rows = rows(&args, experiment)?;
    if let Some(time) = args.stop_after {
        stop_after(time);
    }
    // Figures of one run share it.
    let mut needed: Vec<ledger::Run> = Vec::new();
    for row in &rows {
        if !needed.contains(&row.run) {
            needed.push(row.run);
        }
    }
    let mut loaded: Option<(Dataset, Device)> = None;
    let mut done: BTreeMap<String, Runs> = BTreeMap::new();
    for repeat in 0..n_repeats {
        for run in &needed {
            let (config, changes) = configure(&args, experiment, run, repeat)?;
            let (dataset, device) = match &mut loaded {
                Some(loaded) => &*loaded,
                none => &*none.insert(open(&config, false, false)?),
            };
            let config = Config { adapter: device.describe(), ..config };
            let folder = match experiment.repeats {
                Repeats::ClassOrders => format!("order-{repeat}"),
                Repeats::Seeds => format!("seed-{}", config.seed),
            };
            let path = args.out.join(folder).join(run.name());
            let (metrics, seconds) = run_or_resume(&config, dataset, device, &path)?;
            let runs = done.entry(run.name()).or_insert_with(|| Runs {
                metrics: Vec::new(),
                seconds: 0.0,
                full_protocol: changes.is_empty(),
                adapter: config.adapter.clone(),
                command: run.command(&args.preset) + &changes,
            });
            runs.metrics.push(metrics);
            runs.seconds += seconds;
            write_ledger(&args.out, &rows, &done)?;
        }
    }
    println!("\n{}", ledger::markdown(&measured(&rows, &done)));
    println!("Published by {}.", experiment.source);
    println!("Ledger: {} and {}", args.out.join(CSV).display(), args.out.join(MARKDOWN).display());
    Ok(())
}

/// How often every run is repeated.
fn n_repeats(args: &ReproduceArgs, repeats: Repeats) -> Result<usize> {
    let (own, other, flag, foreign) = match repeats {
        Repeats::ClassOrders => (args.orders, args.settings.seeds, "--orders", "--seeds"),
        Repeats::Seeds => (args.settings.seeds, args.orders, "--seeds", "--orders"),
    };
    match (own, other) {
        (_, Some(_)) => Err(Error::usage(format!("{foreign}: runs of {} are repeated by {flag}", args.preset))),
        (Some(0), _) => Err(Error::usage(format!("{flag} must be at least 1"))),
        (n, _) => Ok(n.unwrap_or(1)),
    }
}

/// The figures that are asked for.
fn rows(args: &ReproduceArgs, experiment: &Experiment) -> Result<Vec<Published>> {
    let (n_classes, memory) = (args.settings.classes_per_task, args.settings.memory);
    for name in &args.methods {
        if !experiment.figures.iter().any(|row| row.run.method == name.as_str()) {
            return Err(Error::usage(format!("--methods {name}: no figure of it is published for {}", args.preset)));
        }
    }
    let wanted = |row: &&Published| {
        // A memory that is no part of a figure is a setting like others.
        n_classes.map_or((experiment.usual)(row), |n| row.run.classes_per_task == n)
            && row.run.memory.is_none_or(|k| memory.is_none_or(|wanted| wanted == k))
            && (args.methods.is_empty() || args.methods.iter().any(|name| name == row.run.method))
    };
    let rows: Vec<Published> = experiment.figures.iter().filter(wanted).copied().collect();
    if rows.is_empty() {
        let list = |of: &dyn Fn(&ledger::Run) -> Option<usize>| {
            let all: BTreeSet<usize> = experiment.figures.iter().filter_map(|row| of(&row.run)).collect();
            all.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
        };
        let classes = list(&|run| Some(run.classes_per_task));
        let memories = list(&|run| run.memory);
        let memories = if memories.is_empty() { memories } else { format!(", of --memory {memories}") };
        let preset = &args.preset;
        let message =
            format!("nothing is published so: {preset} has figures of --classes-per-task {classes}{memories}");
        return Err(Error::usage(message));
    }
    Ok(rows)
}

const CSV: &str = "reproduced.csv";
const MARKDOWN: &str = "reproduced.md";

/// What was run for some figures.
struct Runs {
    metrics: Vec<Metrics>,
    seconds: f64,
    full_protocol: bool,
    adapter: String,
    command: String,
}

/// The configuration of a run, and the flags that make it another than the protocol's.
fn configure(
    args: &ReproduceArgs,
    experiment: &Experiment,
    run: &ledger::Run,
    repeat: usize,
) -> Result<(Config, String)> {
    let spec = continual::spec(run.method)?;
    let orders = experiment.repeats == Repeats::ClassOrders;
    let stream = Overrides {
        class_order: (orders && repeat > 0).then(|| format!("seed:{repeat}")),
        seed: Some(args.settings.seed.unwrap_or(1) + repeat as u64),
        seeds: Some(1),
        ..run.identity()
    };
    // Where it runs and where the data lie is no part of the protocol.
    let place = Overrides {
        data_dir: args.settings.data_dir.clone(),
        device: args.settings.device.clone(),
        threads: args.settings.threads,
        ..Overrides::default()
    };
    let own = |settings: Overrides| Overrides { options: settings.options.only(spec), ..settings };
    let protocol = own(run.recipe().or(presets::settings(&args.preset)?));
    let full = stream.clone().or(place).or(protocol.clone()).resolve(spec)?;
    let config = stream.or(own(args.settings.clone())).or(protocol).resolve(spec)?;
    let changes = flags_between(&full, &config);
    Ok((config, changes))
}

/// The metrics of a run that is complete or becomes so, and its seconds.
fn run_or_resume(config: &Config, dataset: &Dataset, device: &Device, path: &Path) -> Result<(Metrics, f64)> {
    if complete(path).is_some() {
        println!("{} is complete", path.display());
    } else if folders::is_interrupted(path) {
        println!("{} goes on", path.display());
    } else if path.exists() {
        warn(&format!("{} holds no complete run and no checkpoint: it starts again", path.display()));
    }
    let metrics = folders::finish(config, dataset, device, path, Console::new(false))?;
    Ok((metrics, seconds(path)))
}

fn seconds(path: &Path) -> f64 {
    read_json(path, "timing.json").map_or(0.0, |timing: Timing| timing.seconds_total)
}

fn measured(rows: &[Published], done: &BTreeMap<String, Runs>) -> Vec<Row> {
    let row = |&published: &Published| {
        let runs = done.get(&published.run.name())?;
        Some(Row {
            published,
            measured: Row::measure(published, &runs.metrics),
            full_protocol: runs.full_protocol,
            command: runs.command.clone(),
            adapter: runs.adapter.clone(),
            seconds: runs.seconds,
        })
    };
    rows.iter().filter_map(row).collect()
}

fn write_ledger(out: &Path, rows: &[Published], done: &BTreeMap<String, Runs>) -> Result<()> {
    let rows = measured(rows, done);
    write_atomically(&out.join(CSV), ledger::csv(&rows).as_bytes())?;
    write_atomically(&out.join(MARKDOWN), ledger::markdown(&rows).as_bytes())
}
