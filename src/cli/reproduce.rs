//! `engram reproduce`: the runs behind published figures, and a ledger of what came out.

use super::run::{open, parse_time, stop_after};
use super::{INTERRUPTED, warn};
use crate::continual;
use crate::data::Dataset;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::experiment::checkpoint::CHECKPOINT_FILE;
use crate::experiment::ledger::{self, ICARL_CIFAR100, Published, Row};
use crate::experiment::results::{Metrics, RunFolder, Timing, write_atomically};
use crate::experiment::{Config, Overrides, presets, resume, run};
use crate::report::Console;
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags.
#[derive(Args)]
pub struct ReproduceArgs {
    /// A preset with published figures: icarl-cifar100
    preset: String,
    /// Class orders: the paper's first one, then seed:1, seed:2 …
    #[arg(long, value_name = "N", default_value_t = 1)]
    orders: usize,
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
    if args.preset != "icarl-cifar100" {
        return Err(Error::usage(format!("no published figures for '{}': there is icarl-cifar100", args.preset)));
    }
    if args.orders == 0 {
        return Err(Error::usage("--orders must be at least 1"));
    }
    let n_classes = args.settings.classes_per_task;
    let rows: Vec<Published> = ICARL_CIFAR100
        .iter()
        .filter(|row| match n_classes {
            Some(n) => row.classes_per_task == n,
            None => [10, 100].contains(&row.classes_per_task),
        })
        .copied()
        .collect();
    if rows.is_empty() {
        return Err(Error::usage("nothing is published for this --classes-per-task: choose 2, 5, 10, 20 or 50"));
    }
    if let Some(time) = args.stop_after {
        stop_after(time);
    }
    // Figures of one method and stream share their runs.
    let mut needed: Vec<(&str, usize)> = Vec::new();
    for row in &rows {
        if !needed.contains(&(row.method, row.classes_per_task)) {
            needed.push((row.method, row.classes_per_task));
        }
    }
    let mut loaded: Option<(Dataset, Device)> = None;
    let mut done: BTreeMap<(&str, usize), Runs> = BTreeMap::new();
    for order in 0..args.orders {
        for &(method, classes_per_task) in &needed {
            let (config, full_protocol) = configure(&args, method, classes_per_task, order)?;
            let (dataset, device) = match &mut loaded {
                Some(loaded) => &*loaded,
                none => &*none.insert(open(&config, false, false)?),
            };
            let config = Config { adapter: device.describe(), ..config };
            let path = args.out.join(format!("order-{order}")).join(format!("{method}-{classes_per_task}"));
            let (metrics, seconds) = run_or_resume(&config, dataset, device, &path)?;
            let runs = done.entry((method, classes_per_task)).or_insert_with(|| Runs {
                metrics: Vec::new(),
                seconds: 0.0,
                full_protocol,
                adapter: config.adapter.clone(),
                command: command(&args, method, classes_per_task),
            });
            runs.metrics.push(metrics);
            runs.seconds += seconds;
            write_ledger(&args.out, &rows, &done)?;
        }
    }
    println!("\n{}", ledger::markdown(&measured(&rows, &done)));
    println!("Ledger: {} and {}", args.out.join(CSV).display(), args.out.join(MARKDOWN).display());
    Ok(())
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

/// The configuration of a run, and whether it is the preset's own.
fn configure(args: &ReproduceArgs, method: &str, classes_per_task: usize, order: usize) -> Result<(Config, bool)> {
    let spec = continual::spec(method)?;
    let stream = Overrides {
        classes_per_task: Some(classes_per_task),
        class_order: (order > 0).then(|| format!("seed:{order}")),
        seed: Some(args.settings.seed.unwrap_or(1) + order as u64),
        ..Overrides::default()
    };
    // Where it runs and where the data lie is no part of the protocol.
    let place = Overrides {
        data_dir: args.settings.data_dir.clone(),
        device: args.settings.device.clone(),
        threads: args.settings.threads,
        ..Overrides::default()
    };
    let preset = || presets::settings(&args.preset);
    let full = stream.clone().or(place).or(preset()?).resolve(spec)?;
    let config = stream.or(args.settings.clone()).or(preset()?).resolve(spec)?;
    let same = serde_json::to_string(&config).ok() == serde_json::to_string(&full).ok();
    Ok((config, same))
}

fn command(args: &ReproduceArgs, method: &str, classes_per_task: usize) -> String {
    format!("engram {method} --preset {} --classes-per-task {classes_per_task}", args.preset)
}

/// The metrics of a run that is complete or becomes so, and its seconds.
fn run_or_resume(config: &Config, dataset: &Dataset, device: &Device, path: &Path) -> Result<(Metrics, f64)> {
    if let Some(metrics) = complete_metrics(path) {
        println!("{} is complete", path.display());
        return Ok((metrics, seconds(path)));
    }
    let mut console = Console::new(false);
    let metrics = if path.join(CHECKPOINT_FILE).exists() {
        println!("{} goes on", path.display());
        resume(config, dataset, device, &RunFolder::open(path)?, &mut console, &INTERRUPTED)?
    } else {
        if path.exists() {
            warn(&format!("{} holds no complete run and no checkpoint: it starts again", path.display()));
        }
        let folder = RunFolder::create(path, true)?;
        folder.write_json("config.json", config)?;
        run(config, dataset, device, Some(&folder), &mut console, &INTERRUPTED)?
    };
    Ok((metrics, seconds(path)))
}

fn complete_metrics(path: &Path) -> Option<Metrics> {
    let text = std::fs::read_to_string(path.join("metrics.json")).ok()?;
    serde_json::from_str(&text).ok().filter(|metrics: &Metrics| metrics.complete)
}

fn seconds(path: &Path) -> f64 {
    let timing = std::fs::read_to_string(path.join("timing.json")).ok();
    let timing: Option<Timing> = timing.and_then(|text| serde_json::from_str(&text).ok());
    timing.map_or(0.0, |timing| timing.seconds_total)
}

fn measured(rows: &[Published], done: &BTreeMap<(&str, usize), Runs>) -> Vec<Row> {
    let row = |&published: &Published| {
        let runs = done.get(&(published.method, published.classes_per_task))?;
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

fn write_ledger(out: &Path, rows: &[Published], done: &BTreeMap<(&str, usize), Runs>) -> Result<()> {
    let rows = measured(rows, done);
    write_atomically(&out.join(CSV), ledger::csv(&rows).as_bytes())?;
    write_atomically(&out.join(MARKDOWN), ledger::markdown(&rows).as_bytes())
}
