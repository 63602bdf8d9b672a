//! `engram tune`: learning rate and trade-off of a method, on a validation split.

use super::INTERRUPTED;
use super::run::{folder_of_now, open, parse_time, stop_after};
use crate::continual::{self, OptionFlags, fields};
use crate::error::{Error, Result};
use crate::experiment::results::RunFolder;
use crate::experiment::sink::Sink;
use crate::experiment::tune::{Framework, Search, Tuned, TunedTask, Validation, trade_off, tune};
use crate::experiment::{Config, Overrides, presets};
use crate::report::{Console, tuned_task_text, tuned_text};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Flags.
#[derive(Args)]
pub struct TuneArgs {
    /// Which: a name from `engram methods`
    method: String,
    /// Learning rates to try, such as 0.1,0.03,0.01 [default: 10, 3, 1, 0.3 and 0.1 times --lr]
    #[arg(long, value_name = "RATES", value_delimiter = ',')]
    lr_grid: Vec<f32>,
    /// The part of fine-tuning's accuracy that may be given up on a new task
    #[arg(long, value_name = "PART", default_value_t = 0.2)]
    drop: f64,
    /// What the trade-off is multiplied with when a new task is learnt too badly; it begins at a high value, or where its own
    /// flag says
    #[arg(long, value_name = "FACTOR", default_value_t = 0.5)]
    trade_off_decay: f64,
    /// So often at most in a task
    #[arg(long, value_name = "N", default_value_t = 12)]
    max_decays: usize,
    /// The part of each class's training images that is validated on; test images play no part
    #[arg(long, value_name = "PART", default_value_t = 0.1)]
    validation_fraction: f64,
    /// Keys which images are validated on
    #[arg(long, value_name = "N", default_value_t = 1)]
    validation_seed: u64,
    /// A recipe of the literature, below all other settings
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Folder for tune.json and config.json [default: runs/tune-METHOD-DATASET-TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write into an existing folder
    #[arg(long)]
    force: bool,
    /// Stop after this time (such as 9m, 2h); the tasks done are in tune.json
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    stop_after: Option<Duration>,
    #[command(flatten)]
    settings: Overrides,
}

/// The file that a search leaves.
const FILE: &str = "tune.json";

/// Searches, task by task, and prints what to go on with.
pub fn run(args: TuneArgs) -> Result<()> {
    let spec = continual::spec(&args.method)?;
    if args.settings.seeds.is_some_and(|n| n > 1) {
        return Err(Error::usage("--seeds: a search has one seed; look at the spread with engram compare"));
    }
    let preset = args.preset.as_deref().map(presets::settings).transpose()?.unwrap_or_default();
    let preset = Overrides { options: preset.options.only(spec), ..preset };
    // A preset's trade-off is one to end at, not one to begin at.
    let high = Overrides { options: high_trade_off(spec)?, ..Overrides::default() };
    let mut config = args.settings.or(high).or(preset).resolve(spec)?;
    let rates = match args.lr_grid.is_empty() {
        true => [10.0, 3.0, 1.0, 0.3, 0.1].iter().map(|factor| rounded(factor * config.lr)).collect(),
        false => args.lr_grid,
    };
    let (drop, decay, max_decays) = (args.drop, args.trade_off_decay, args.max_decays);
    let framework = Framework { rates, drop, decay, max_decays };
    framework.check()?;
    let (dataset, device) = open(&config, false, false)?;
    config.adapter = device.describe();
    let sink = || -> Box<dyn Sink> { Box::new(Console::new(false)) };
    let validation = Validation { fraction: args.validation_fraction, seed: args.validation_seed };
    let search = Search::new(&config, &dataset, validation, &device, &sink, &INTERRUPTED)?;
    let out = args.out.unwrap_or_else(|| folder_of_now(&format!("tune-{}", spec.name), &config.source().file_name()));
    if !args.force && out.join(FILE).exists() {
        let message = format!("{} exists: choose another --out, or --force to replace it", out.join(FILE).display());
        return Err(Error::usage(message));
    }
    let folder = RunFolder::create(&out, args.force)?;
    folder.write_json("config.json", &config)?;
    if let Some(time) = args.stop_after {
        stop_after(time);
    }
    println!("{} on {}: {}, on {}", spec.name, dataset.name, config.model, config.adapter);
    println!("Accuracies are those on the new task, on training images that are held out.");
    let streamed = search.tasks()?;
    let names = |task: usize| -> Vec<String> {
        streamed[task].iter().map(|&class| dataset.class_names[class as usize].clone()).collect()
    };
    let tuned = tune(&search, &framework, |tuned| {
        print!("{}", tuned_task_text(&config, tuned, streamed.len(), &names(tuned.tasks.len() - 1)));
        write(&folder, &config, validation, &framework, tuned, tuned.tasks.len() == streamed.len())
    })?;
    print!("{}", tuned_text(&config, &tuned));
    println!("Everything that was tried: {}", out.join(FILE).display());
    Ok(())
}

/// The trade-off of a method at the values to begin at.
fn high_trade_off(spec: &continual::MethodSpec) -> Result<OptionFlags> {
    let mut options = fields(&OptionFlags::default());
    options.extend(spec.trade_off.iter().map(|(name, value)| (name.to_string(), (*value).into())));
    serde_json::from_value(options.into()).map_err(|e| Error::usage(format!("{}: {e}", spec.name)))
}

/// To three digits, so that 3 · 0.001 is 0.003.
fn rounded(rate: f32) -> f32 {
    format!("{rate:.2e}").parse().unwrap_or(rate)
}

/// The content of tune.json.
#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    method: &'static str,
    framework: &'a Framework,
    validation: Validation,
    /// False until the last task is done.
    complete: bool,
    /// For a run, which has one rate for all tasks.
    lr: Option<f32>,
    /// Options by name.
    trade_off_start: BTreeMap<&'static str, f32>,
    /// What is left of them; `null` for methods without.
    trade_off: Option<BTreeMap<&'static str, f32>>,
    tasks: &'a [TunedTask],
}

fn write(
    folder: &RunFolder,
    config: &Config,
    validation: Validation,
    framework: &Framework,
    tuned: &Tuned,
    complete: bool,
) -> Result<()> {
    let values = |factor| trade_off(config.method, &config.options, factor).into_iter().collect();
    let report = Report {
        version: config.version,
        method: config.method.name,
        framework,
        validation,
        complete,
        lr: tuned.rate(),
        trade_off_start: values(1.0),
        trade_off: tuned.factor.map(values),
        tasks: &tuned.tasks,
    };
    folder.write_json(FILE, &report)
}
