//! `engram METHOD`: one run per seed, with its folder.

use super::{INTERRUPTED, use_threads, warn};
use crate::continual::MethodSpec;
use crate::data::{Dataset, Labels, Source};
use crate::device::{Device, Options, Selection, Trace};
use crate::error::{Error, Result};
use crate::experiment::checkpoint::Checkpoint;
use crate::experiment::results::RunFolder;
use crate::experiment::sink::Sink;
use crate::experiment::{Config, Overrides, presets, recipes_text, resume as resume_experiment, run as run_experiment};
use crate::report::{Console, REPORT_FILE, ReportPage, seeds_table, write_seeds};
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Flags of a run.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    settings: Overrides,
    /// Settings from a JSON file, such as the config.json of a run; flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A recipe of the literature, such as icarl-cifar100; flags and --config win
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Go on with the interrupted run in this folder, with its settings
    #[arg(long, value_name = "DIR", conflicts_with_all = ["preset", "config", "out", "force", "seeds"])]
    resume: Option<PathBuf>,
    /// Stop after this time (such as 90s, 9m, 2h), ready to be resumed
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    stop_after: Option<Duration>,
    /// Folder for the results [default: runs/METHOD-DATASET-TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write into an existing folder
    #[arg(long)]
    force: bool,
    /// Print one line instead of tables
    #[arg(long)]
    quiet: bool,
    /// Print a line per GPU dispatch and the time per kernel at the end
    #[arg(long)]
    trace: bool,
    /// Compile shaders with bounds checks
    #[arg(long)]
    checked: bool,
}

/// The data-set dependent defaults, below the flags.
pub fn after_help() -> String {
    recipes_text()
}

/// Runs a method with every seed.
pub fn run(method: &'static MethodSpec, args: RunArgs) -> Result<()> {
    let file = match (&args.resume, &args.config) {
        (Some(folder), _) => resumed_settings(folder, method)?,
        (None, Some(file)) => Overrides::from_file(file)?,
        (None, None) => Overrides::default(),
    };
    let preset = args.preset.as_deref().map(presets::settings).transpose()?.unwrap_or_default();
    let preset = Overrides { options: preset.options.only(method), ..preset };
    let mut config = args.settings.or(file).or(preset).resolve(method)?;
    let (dataset, device) = open(&config, args.checked, args.trace)?;
    if args.trace && matches!(device, Device::Cpu(_)) {
        warn("--trace shows GPU dispatches; the CPU has none");
    }
    config.adapter = device.describe();
    // Wrong use is found before `--force` replaces anything.
    config.split().tasks(&dataset)?;

    if let Some(time) = args.stop_after {
        stop_after(time);
    }
    if let Some(path) = args.resume {
        return resume_one(&config, &dataset, &device, &path, args.quiet);
    }

    let root = args.out.unwrap_or_else(|| default_folder(&config));
    let overview = root.join(REPORT_FILE);
    if config.seeds > 1 && !args.force && overview.exists() {
        let message = format!("{} exists: choose another --out, or --force to replace it", overview.display());
        return Err(Error::usage(message));
    }
    // Every folder is claimed before the first run starts, so that a refusal costs nothing.
    let mut runs = Vec::new();
    for seed in config.seed..config.seed + config.seeds as u64 {
        let path = if config.seeds == 1 { root.clone() } else { root.join(format!("seed-{seed}")) };
        runs.push((Config { seed, seeds: 1, ..config.clone() }, RunFolder::create(&path, args.force)?));
    }
    let mut all = Vec::new();
    for (config, folder) in &runs {
        folder.write_json("config.json", config)?;
        let mut console = Console::new(args.quiet).compare_with(comparison(config));
        let mut page = ReportPage::new(folder.path());
        let mut sink: [&mut dyn Sink; 2] = [&mut page, &mut console];
        let result = run_experiment(config, &dataset, &device, Some(folder), &mut sink, &INTERRUPTED);
        all.push(result.inspect_err(|error| advise(error, config, folder.path()))?);
        page.finish()?;
        if runs.len() > 1 {
            let folders: Vec<PathBuf> = runs.iter().map(|(_, folder)| folder.path().to_path_buf()).collect();
            write_seeds(&root, &folders)?;
        }
    }
    if all.len() > 1 {
        println!("{}", seeds_table(&all));
        println!("To read in a browser: {}", overview.display());
    }
    if let Device::Gpu(gpu) = &device
        && let Some(summary) = gpu.trace_summary()
    {
        eprintln!("\n{summary}");
    }
    Ok(())
}

/// Threads, data and device of a run, with what is to be said about them.
pub fn open(config: &Config, checked: bool, trace: bool) -> Result<(Dataset, Device)> {
    use_threads(config.threads);
    let mut dataset = config.source().load(&config.load_options())?;
    dataset.flips = config.augment.flips();
    dataset.notes.iter().for_each(|note| warn(note));
    let trace = if trace { Trace::Lines } else { Trace::Off };
    let options = Options { checked, trace, cache: true, precision: config.precision, ..Default::default() };
    let (device, warning) = config.device.parse::<Selection>()?.open(options)?;
    if let Some(warning) = warning {
        warn(&warning);
    }
    Ok((dataset, device))
}

/// Interrupts runs after this time.
pub fn stop_after(time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        INTERRUPTED.store(true, Relaxed);
    });
}

/// The settings of a run that is to go on.
fn resumed_settings(folder: &Path, method: &MethodSpec) -> Result<Overrides> {
    Checkpoint::read(folder)?;
    let settings = Overrides::from_file(&folder.join("config.json"))?;
    match &settings.method {
        Some(name) if name != method.name => {
            let folder = folder.display();
            Err(Error::usage(format!("{folder} holds a run of {name}: engram {name} --resume {folder}")))
        }
        _ => Ok(settings),
    }
}

fn resume_one(config: &Config, dataset: &Dataset, device: &Device, path: &Path, quiet: bool) -> Result<()> {
    let folder = RunFolder::open(path)?;
    let mut console = Console::new(quiet).compare_with(comparison(config));
    let mut page = ReportPage::new(path);
    let mut sink: [&mut dyn Sink; 2] = [&mut page, &mut console];
    let result = resume_experiment(config, dataset, device, &folder, &mut sink, &INTERRUPTED);
    result.inspect_err(|error| advise(error, config, path))?;
    page.finish()
}

/// How to go on after an interruption.
fn advise(error: &Error, config: &Config, folder: &Path) {
    if matches!(error, Error::Interrupted) {
        eprintln!("To go on: engram {} --resume {}", config.method.name, folder.display());
    }
}

/// `90s`, `9m`, `2h`, or a number of seconds.
pub fn parse_time(text: &str) -> std::result::Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    };
    let time = seconds.zip(number.parse::<f64>().ok()).map(|(seconds, number)| seconds * number);
    let time = time.filter(|time| *time > 0.0).and_then(|time| Duration::try_from_secs_f64(time).ok());
    time.ok_or_else(|| "a time such as 90s, 9m or 2h".into())
}

/// The command that shows the same stream without the method.
fn comparison(config: &Config) -> Option<String> {
    if config.method.name != "icarl" {
        return None;
    }
    let mut command = format!("cargo run --release -- finetune --dataset {} --seed {}", config.dataset, config.seed);
    if config.classes_per_task != 2 {
        command += &format!(" --classes-per-task {}", config.classes_per_task);
    }
    if config.labels == Labels::Coarse {
        command += " --labels coarse";
    }
    match config.source() {
        Source::Folder(_) => command += &format!(" --image-format {}", config.image_format),
        Source::Known(spec) if spec.origin.is_some() => {
            command += &format!(" --data-dir {}", config.data_dir.display());
        }
        Source::Known(_) => {}
    }
    Some(command)
}

/// runs/METHOD-DATASET-TIME.
fn default_folder(config: &Config) -> PathBuf {
    folder_of_now(config.method.name, &config.source().file_name())
}

/// runs/WHAT-DATASET-TIME, the time in UTC.
pub fn folder_of_now(what: &str, dataset: &str) -> PathBuf {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let name = format!("{what}-{dataset}-{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}");
    PathBuf::from("runs").join(name)
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut rest) = (1970, days);
    while rest >= 365 + u64::from(is_leap(year)) {
        rest -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::civil_date;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(20_777), (2026, 11, 20));
    }
}
