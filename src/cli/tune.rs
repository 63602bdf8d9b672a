//! `engram tune`: learning rate and trade-off of a method, on a validation split.

use super::INTERRUPTED;
use super::run::{folder_of_now, parse_time, stop_after};
use super::settings::RunFlags;
use super::terminal::{Shown, Terminal};
use crate::campaign::{Workplace, check_same, is_interrupted};
use crate::continual;
use crate::error::{Error, Result};
use crate::experiment::checkpoint::CHECKPOINT_FILE;
use crate::experiment::results::RunFolder;
use crate::experiment::sink::Sink;
use crate::experiment::tune::{Framework, Search, Tuned, TunedTask, Validation, go_on, trade_off};
use crate::experiment::{CONFIG_FILE, Config, Standing, every_row, presets, recorded_as};
use crate::records::sealed::read_json;
use crate::report::{Console, tuned_task_text, tuned_text};
use crate::settings::{Origin, Values};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
    /// Go on with the interrupted search in this folder, with its settings
    #[arg(long, value_name = "DIR", conflicts_with_all = ["lr_grid", "drop", "trade_off_decay", "max_decays",
        "validation_fraction", "validation_seed", "preset", "out", "force"])]
    resume: Option<PathBuf>,
    /// Stop after this time (such as 9m, 2h), ready to be resumed; the tasks done are in tune.json
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    stop_after: Option<Duration>,
    #[command(flatten)]
    settings: RunFlags,
}

/// The file that a search leaves.
const FILE: &str = "tune.json";

/// What a search was begun with.
const PLAN: &str = "plan.json";

/// What decides what is found.
struct Plan {
    /// The settings of the runs.
    config: Config,
    framework: Framework,
    validation: Validation,
}

/// The same in a file.
#[derive(Serialize, Deserialize)]
struct Begun {
    config: Value,
    framework: Framework,
    validation: Validation,
}

/// Searches, task by task, and prints what to go on with.
pub fn run(args: TuneArgs) -> Result<()> {
    let spec = continual::spec(&args.method)?;
    if args.settings.0.find::<usize>("seeds").is_some_and(|n| n > 1) {
        return Err(Error::usage("--seeds: a search has one seed; look at the spread with engram compare"));
    }
    if let Some(path) = &args.resume
        && finished(path)?
    {
        return Ok(());
    }
    let Plan { mut config, framework, validation } = match &args.resume {
        Some(folder) => resumed(folder, spec, args.settings.0.clone())?,
        None => planned(&args, spec)?,
    };
    framework.check()?;
    let (dataset, device) = Terminal::new(Shown::All).open(&config)?;
    config.adapter = device.describe();
    let sink = || -> Box<dyn Sink> { Box::new(Console::new(false)) };
    let search = Search::new(&config, &dataset, validation, &device, &sink, &INTERRUPTED)?;
    let (folder, from) = match &args.resume {
        Some(path) => (RunFolder::open(path)?, found_before(path, &search)?),
        None => {
            let name = || folder_of_now(&format!("tune-{}", spec.name), &config.data.source().file_name());
            let out = args.out.map_or_else(name, Ok)?;
            if !args.force && out.join(FILE).exists() {
                let message =
                    format!("{} exists: choose another --out, or --force to replace it", out.join(FILE).display());
                return Err(Error::usage(message));
            }
            let folder = RunFolder::create(&out, args.force)?;
            [PLAN, FILE].iter().try_for_each(|name| folder.remove(name))?;
            let plan = Begun { config: config.to_json(), framework: framework.clone(), validation };
            folder.write_sealed(PLAN, &plan)?;
            (folder, None)
        }
    };
    let out = folder.path();
    folder.write_sealed(CONFIG_FILE, &config)?;
    if let Some(time) = args.stop_after {
        stop_after(time);
    }
    println!("{} on {}: {}, on {}", spec.name, dataset.name, config.model.model, config.adapter);
    println!("Accuracies are those on the new task, on training images that are held out.");
    let streamed = search.tasks()?;
    let names = |task: usize| -> Vec<String> {
        streamed[task].iter().map(|&class| dataset.class_names[class as usize].clone()).collect()
    };
    let result = go_on(&search, &framework, from, |tuned, standing| {
        print!("{}", tuned_task_text(&config, tuned, streamed.len(), &names(tuned.tasks.len() - 1)));
        let complete = tuned.tasks.len() == streamed.len();
        write(&folder, &config, validation, &framework, tuned, complete)?;
        // What was found comes before the checkpoint that says that it is there.
        match complete {
            true => folder.remove(CHECKPOINT_FILE),
            false => standing.write(&folder, serde_json::json!(tuned)),
        }
    });
    let tuned = result.inspect_err(|error| {
        if matches!(error, Error::Interrupted) {
            eprintln!("To go on: engram tune {} --resume {}", spec.name, out.display());
        }
    })?;
    print!("{}", tuned_text(&config, &tuned));
    println!("Everything that was tried: {}", out.join(FILE).display());
    Ok(())
}

/// What the flags say.
fn planned(args: &TuneArgs, spec: &'static continual::MethodSpec) -> Result<Plan> {
    let preset = args.preset.as_deref().map(presets::settings).transpose()?.unwrap_or_default();
    // A preset's trade-off is one to end at, not one to begin at.
    let config = Config::resolve(spec, args.settings.0.clone().or(high_trade_off(spec)?).or(preset))?;
    let rates = match args.lr_grid.is_empty() {
        true => [10.0, 3.0, 1.0, 0.3, 0.1].iter().map(|factor| rounded(factor * config.training.schedule.lr)).collect(),
        false => args.lr_grid.clone(),
    };
    let (drop, decay, max_decays) = (args.drop, args.trade_off_decay, args.max_decays);
    let framework = Framework { rates, drop, decay, max_decays };
    let validation = Validation { fraction: args.validation_fraction, seed: args.validation_seed };
    Ok(Plan { config, framework, validation })
}

/// What the search in a folder was begun with. Flags may say where it goes on, and nothing else.
fn resumed(folder: &Path, spec: &'static continual::MethodSpec, flags: Values) -> Result<Plan> {
    if folder.join(PLAN).symlink_metadata().is_err() {
        return Err(Error::usage(format!("{}: there is no search to go on with", folder.display())));
    }
    let Begun { config, framework, validation } = read_json(folder, PLAN)?;
    let theirs = recorded_as(config, &folder.join(PLAN))?;
    if let Some(name) = theirs.method.as_ref().filter(|name| *name != spec.name) {
        let folder = folder.display();
        return Err(Error::usage(format!("{folder} holds a search of {name}: engram tune {name} --resume {folder}")));
    }
    let began = Config::resolve(spec, theirs.values.clone())?;
    let config = Config::resolve(spec, flags.or(theirs.values))?;
    check_same(&began, &config, folder)?;
    Ok(Plan { config, framework, validation })
}

/// Whether only the end of a search was missing, which is done then.
///
/// # Errors
/// [`Error::Usage`] if not even that was missing.
fn finished(path: &Path) -> Result<bool> {
    let complete = read_json::<Value>(path, FILE).is_ok_and(|report| report["complete"] == true);
    if !complete {
        return Ok(false);
    }
    let folder = RunFolder::open(path)?;
    if !is_interrupted(path) {
        return Err(Error::usage(format!("{}: there is nothing to resume: the search is complete", path.display())));
    }
    folder.remove(CHECKPOINT_FILE)?;
    println!("{}: the search is complete", path.display());
    Ok(true)
}

/// What the search in a folder has found so far; nothing, if it ended in its first task.
fn found_before(folder: &Path, search: &Search) -> Result<Option<(Tuned, Standing)>> {
    if !is_interrupted(folder) {
        return Ok(None);
    }
    let (standing, tuned) = Standing::read(folder)?;
    if let Some(difference) = standing.data().difference(&search.data()) {
        return Err(Error::usage(format!("the data set is not the one that the search began with: {difference}")));
    }
    let tuned = serde_json::from_value(tuned)
        .map_err(|e| Error::file(folder.join(CHECKPOINT_FILE), format!("it keeps nothing of a search: {e}")))?;
    Ok(Some((tuned, standing)))
}

/// The trade-off of a method at the values to begin at.
fn high_trade_off(spec: &continual::MethodSpec) -> Result<Values> {
    let high: Vec<(&str, String)> = spec.trade_off.iter().map(|(name, value)| (*name, value.to_string())).collect();
    let high: Vec<(&str, &str)> = high.iter().map(|(name, text)| (*name, text.as_str())).collect();
    Values::of(&every_row(), &high, &Origin::Recipe("the search".into()))
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
    let values = |factor| trade_off(config, factor).into_iter().collect();
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        method: config.method.name,
        framework,
        validation,
        complete,
        lr: tuned.rate(),
        trade_off_start: values(1.0),
        trade_off: tuned.factor.map(values),
        tasks: &tuned.tasks,
    };
    folder.write_sealed(FILE, &report)
}
