//! `engram METHOD`: one run per seed, with its folder.

use super::INTERRUPTED;
use super::settings::{RunFlags, explain};
use super::terminal::{Shown, Terminal};
use crate::campaign::{self, PLAN, Seeds, Workplace};
use crate::continual::{self, MethodSpec};
use crate::error::{Error, Result};
use crate::experiment::checkpoint::Checkpoint;
use crate::experiment::command_line::{flags_between, quoted};
use crate::experiment::results::RunFolder;
use crate::experiment::{CONFIG_FILE, Config, complete, presets, recorded_by, recorded_in};
use crate::records::create_numbered_folder;
use crate::report::{REPORT_FILE, message, seeds_table, write_seeds};
use crate::settings::Values;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Flags of a run.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    settings: RunFlags,
    /// Settings from a JSON file, such as the config.json of a run; flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A recipe of the literature, see `engram presets`; flags and --config win
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Go on with the interrupted run in this folder, or with the runs of several seeds, with their settings
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
    /// Print every setting, its value and where that is from, and end
    #[arg(long)]
    explain: bool,
}

/// Runs a method with every seed.
pub fn run(method: &'static MethodSpec, args: RunArgs) -> Result<()> {
    run_above(method, args, Values::default(), |_| Ok(()))
}

/// The same with settings where nothing else is said, for runs that pass a check.
pub fn run_above(
    method: &'static MethodSpec,
    args: RunArgs,
    usual: Values,
    check: fn(&Config) -> Result<()>,
) -> Result<()> {
    if let Some(path) = args.resume.clone() {
        return resume(method, args, &path);
    }
    let file = args.config.as_deref().map(recorded_by).transpose()?.unwrap_or_default().values;
    let preset = args.preset.as_deref().map(presets::settings).transpose()?.unwrap_or_default();
    let config = Config::resolve(method, args.settings.0.or(file).or(preset).or(usual))?;
    check(&config)?;
    if args.explain {
        return explain(&config.rows(), &config.values);
    }
    let mut terminal = terminal(args.quiet, args.checked, args.trace);
    let (dataset, device) = terminal.open(&config)?;
    let config = Config { adapter: device.describe(), ..config };
    // Wrong use is found before `--force` replaces anything.
    config.check_data(&dataset)?;

    if let Some(time) = args.stop_after {
        stop_after(time);
    }
    let root = args.out.map_or_else(|| default_folder(&config), Ok)?;
    if config.seeds == 1 {
        let folder = RunFolder::create(&root, args.force)?;
        let result = campaign::begin(&config, &folder, &mut terminal);
        result.inspect_err(|error| advise(error, &config, &root))?;
    } else {
        let overview = root.join(REPORT_FILE);
        if !args.force && overview.exists() {
            let message = format!("{} exists: choose another --out, or --force to replace it", overview.display());
            return Err(Error::usage(message));
        }
        let seeds = Seeds::new(&config, &root);
        seeds.claim(&config, args.force)?;
        run_seeds(&seeds, &config, &mut terminal)?;
    }
    terminal.tell_trace();
    Ok(())
}

fn terminal(quiet: bool, checked: bool, trace: bool) -> Terminal {
    let shown = if quiet { Shown::Line } else { Shown::All };
    Terminal::new(shown).debugging(checked, trace).hinting(comparison)
}

/// Runs the seeds that are not complete, and shows all of them side by side.
fn run_seeds(seeds: &Seeds, config: &Config, terminal: &mut Terminal) -> Result<()> {
    let result = seeds.run(terminal);
    let (done, failed) = result.inspect_err(|error| advise(error, config, &seeds.root))?;
    write_seeds(&seeds.root, &seeds.folders())?;
    println!("{}", seeds_table(&done));
    println!("Files: {} and seeds.json", seeds.root.join("seeds.csv").display());
    println!("To read in a browser: {}", seeds.root.join(REPORT_FILE).display());
    campaign::failure(failed, seeds.cells.len())
}

/// Goes on with the run, or the runs of several seeds, in a folder.
fn resume(method: &'static MethodSpec, args: RunArgs, path: &Path) -> Result<()> {
    if let Some(time) = args.stop_after {
        stop_after(time);
    }
    let mut terminal = terminal(args.quiet, args.checked, args.trace);
    let several = path.join(PLAN).is_file();
    if !several && !campaign::is_interrupted(path) {
        if !path.join(CONFIG_FILE).is_file() || complete(path).is_some() {
            let nothing = Checkpoint::read(path).err();
            if complete(path).is_some() && campaign::tidy(path, &mut terminal)? {
                println!("{}: the run is complete; its page was missing, and is made again", path.display());
                return Ok(());
            }
            return nothing.map_or(Ok(()), Err);
        }
        eprint!("{}", message("The run ended before its first checkpoint: it begins again."));
    }
    let theirs = recorded_in(path, if several { PLAN } else { CONFIG_FILE })?;
    if let Some(name) = theirs.method.as_ref().filter(|name| *name != method.name) {
        let folder = path.display();
        return Err(Error::usage(format!("{folder} holds a run of {name}: engram {name} --resume {folder}")));
    }
    let (version, ours) = (theirs.version.clone().unwrap_or_default(), env!("CARGO_PKG_VERSION"));
    if version != ours {
        let folder = path.display();
        let message = format!("{folder}: engram {version} began it, and this is {ours}: go on with that one");
        return Err(Error::usage(message));
    }
    let began = Config::resolve(method, theirs.values.clone())?;
    let config = Config::resolve(method, args.settings.0.or(theirs.values))?;
    campaign::check_same(&began, &config, path)?;
    if several {
        run_seeds(&Seeds::new(&config, path), &config, &mut terminal)?;
    } else {
        let folder = RunFolder::open(path)?;
        let result = campaign::go_on(&config, &folder, &mut terminal);
        result.inspect_err(|error| advise(error, &config, path))?;
    }
    terminal.tell_trace();
    Ok(())
}

/// Interrupts runs after this time.
pub fn stop_after(time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        INTERRUPTED.store(true, Relaxed);
    });
}

/// How to go on after an interruption.
pub fn advise(error: &Error, config: &Config, folder: &Path) {
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

/// The command that shows the same stream without the method: every setting that is not the default one there.
fn comparison(config: &Config) -> Option<String> {
    let finetune = continual::spec("finetune").ok()?;
    if config.method.is_reference || config.method.name == finetune.name {
        return None;
    }
    let usual = Config::of(finetune, &[("dataset", &config.data.dataset)]).ok()?;
    let same = config.for_method(finetune).ok()?.seeded(config.seed);
    Some(format!("{} finetune --dataset {}{}", program(), quoted(&config.data.dataset), flags_between(&usual, &same)))
}

/// The program as it was called.
fn program() -> String {
    // Cargo tells what it runs.
    if std::env::var_os("CARGO_MANIFEST_DIR").is_some() {
        return "cargo run --release --".into();
    }
    std::env::args().next().map_or("engram".into(), |name| quoted(&name))
}

/// runs/METHOD-DATASET-TIME.
fn default_folder(config: &Config) -> Result<PathBuf> {
    folder_of_now(config.method.name, &config.data.source().file_name())
}

/// A new folder runs/WHAT-DATASET-TIME, the time in UTC; with a number where several commands start in one second.
pub fn folder_of_now(what: &str, dataset: &str) -> Result<PathBuf> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let name = format!("{what}-{dataset}-{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}");
    create_numbered_folder(Path::new("runs"), &name)
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
