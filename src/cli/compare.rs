//! `engram compare`: a grid of methods, memories and seeds on one stream, and an answer.

use super::run::{open, parse_time, stop_after};
use super::{folders, warn, with_plain_numbers};
use crate::continual::{self, MethodSpec, OptionFlags, fields, flag};
use crate::data::{Dataset, Scenario};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::experiment::checkpoint::different_setting;
use crate::experiment::comparison::{Entry, Outcome, csv, json};
use crate::experiment::{self, CONFIG_FILE, Config, Overrides, presets};
use crate::records::folder::RunFolder;
use crate::records::lock::is_in_use;
use crate::records::sealed::read_json;
use crate::records::{create_folder, write_atomically};
use crate::report::{Console, comparison_text, write_comparison};
use clap::{Args, FromArgMatches};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags.
#[derive(Args)]
pub struct CompareArgs {
    /// Methods, two or more: names from `engram methods`
    #[arg(value_name = "METHOD", required = true)]
    methods: Vec<String>,
    /// Budgets K that each method with a memory is run with, such as 200,500 [default: by data set]
    #[arg(long = "memory", id = "memories", value_name = "K,K…", value_delimiter = ',')]
    memories: Vec<usize>,
    /// A setting of one method only, such as er:lr=0.1 or der++:mse-weight=0.2; may be repeated
    #[arg(long = "of", value_name = "METHOD:FLAG=VALUE")]
    own: Vec<String>,
    /// Run only part I of N of the grid, as 1/4: all parts may share --out, and the last one reports
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    shard: Option<(usize, usize)>,
    /// A recipe of the literature, below all other settings
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Folder for the runs; complete runs in it are kept, interrupted ones go on
    #[arg(long, value_name = "DIR", default_value = "runs/compare")]
    out: PathBuf,
    /// Stop after this time (such as 9m, 2h); the same command goes on
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    stop_after: Option<Duration>,
    #[command(flatten)]
    settings: Overrides,
}

/// A run of the grid.
struct Cell {
    config: Config,
    path: PathBuf,
}

/// `--memory` of this command is a list: the flag of a single run gives its name to it.
pub fn with_list_of_memories(command: clap::Command) -> clap::Command {
    command
        .mut_arg("memory", |arg| arg.long("single-memory").hide(true))
        .mut_arg("seeds", |arg| arg.help("Seeds, from --seed upwards [default: 3]"))
}

/// Runs what is missing of the grid, or of a shard, and reports on what is there.
pub fn run(args: CompareArgs) -> Result<()> {
    let grid = grid(&args)?;
    if let Some(time) = args.stop_after {
        stop_after(time);
    }
    let own = grid.iter().enumerate().filter(|(i, _)| args.shard.is_none_or(|(part, n)| i % n == part - 1));
    let own: Vec<&Cell> = own.map(|(_, cell)| cell).collect();
    for cell in &own {
        check_unchanged(cell)?;
    }
    let mut loaded: Option<(Dataset, Device)> = None;
    for (i, cell) in own.iter().enumerate() {
        if folders::finished(&cell.path)?.is_some() {
            continue;
        }
        let (dataset, device) = match &mut loaded {
            Some(loaded) => &*loaded,
            none => &*none.insert(open(&cell.config, false, false)?),
        };
        eprintln!("run {} of {}: {}", i + 1, own.len(), cell.path.display());
        let config = Config { adapter: device.describe(), ..cell.config.clone() };
        folders::finish(&config, dataset, device, &cell.path, Console::brief()).inspect_err(|error| {
            if matches!(error, Error::Interrupted) {
                eprintln!("The same command goes on.");
            }
        })?;
    }
    let done: Vec<(&Cell, Outcome)> = grid.iter().filter_map(|cell| Some((cell, complete(&cell.path)?))).collect();
    let n_missing = grid.len() - done.len();
    if n_missing > 0 {
        warn(&format!("{n_missing} of {} runs are not complete; what follows is of the others", grid.len()));
    }
    if !done.is_empty() {
        let entries = done.into_iter().map(|(cell, outcome)| (cell.path.clone(), outcome)).collect();
        report(&args.out, entries, n_missing)?;
    }
    Ok(())
}

/// Every run, in an order that depends on the arguments alone.
fn grid(args: &CompareArgs) -> Result<Vec<Cell>> {
    let mut methods: Vec<&'static MethodSpec> = Vec::new();
    for name in &args.methods {
        let spec = continual::spec(name)?;
        if methods.iter().any(|known| known.name == spec.name) {
            return Err(Error::usage(format!("{name} is named twice")));
        }
        methods.push(spec);
    }
    let given = fields(&args.settings.options);
    if let Some(name) = given.keys().find(|name| !methods.iter().any(|spec| spec.options.contains(&name.as_str()))) {
        return Err(Error::usage(format!("none of these methods has {}", flag(name))));
    }
    let preset = args.preset.as_deref().map(presets::settings).transpose()?.unwrap_or_default();
    let mut own: Vec<(&str, Overrides)> = Vec::new();
    for text in &args.own {
        let (method, settings) = parse_own(text)?;
        if !methods.iter().any(|spec| spec.name == method) {
            return Err(Error::usage(format!("--of {text}: {method} is none of the methods compared")));
        }
        own.push((method, settings));
    }
    let mut cells = Vec::new();
    for spec in &methods {
        let only = |settings: &Overrides| Overrides { options: settings.options.only(spec), ..settings.clone() };
        let mine = own.iter().rev().filter(|(method, _)| *method == spec.name);
        let mine = mine.fold(Overrides::default(), |all, (_, settings)| all.or(settings.clone()));
        let settings = mine.or(only(&args.settings)).or(only(&preset));
        let memories: Vec<Option<usize>> = match spec.uses_memory && !args.memories.is_empty() {
            true => args.memories.iter().copied().map(Some).collect(),
            false => vec![None],
        };
        for memory in memories {
            let settings = Overrides { memory: memory.or(settings.memory), ..settings.clone() };
            let n_seeds = args.settings.seeds.unwrap_or(3);
            let settings = Overrides { seeds: Some(n_seeds), ..settings };
            let first = settings.seed.unwrap_or(1);
            let base = limited_alike(settings.clone().resolve(spec)?, settings)?;
            let name = if spec.uses_memory { format!("{}-k{}", spec.name, base.memory) } else { spec.name.to_string() };
            for seed in first..=first + (n_seeds as u64 - 1) {
                let path = args.out.join(&name).join(format!("seed-{seed}"));
                cells.push(Cell { config: Config { seed, seeds: 1, ..base.clone() }, path });
            }
        }
    }
    Ok(cells)
}

/// A method that sees all classes as one task gets as many images as the tasks of the others have together.
fn limited_alike(base: Config, settings: Overrides) -> Result<Config> {
    if !base.method.sees_everything || base.scenario != Scenario::Class {
        return Ok(base);
    }
    let usual = Overrides { options: OptionFlags::default(), ..settings }.resolve(continual::spec("finetune")?)?;
    let n_tasks = base.classes_per_task.div_ceil(usual.classes_per_task);
    Ok(Config { limit_per_task: base.limit_per_task.map(|limit| limit * n_tasks), ..base })
}

/// `der++:mse-weight=0.2`.
fn parse_own(text: &str) -> Result<(&str, Overrides)> {
    let wrong = |why: &str| Error::usage(format!("--of {text}: {why}METHOD:FLAG=VALUE, such as er:lr=0.1"));
    let (method, setting) = text.split_once(':').ok_or_else(|| wrong(""))?;
    let (name, value) = setting.split_once('=').ok_or_else(|| wrong(""))?;
    let command = with_plain_numbers(Overrides::augment_args(clap::Command::new("engram").no_binary_name(true)));
    let matches = command.try_get_matches_from([&format!("--{name}"), value]);
    let settings = matches.and_then(|matches| Overrides::from_arg_matches(&matches)).map_err(|e| {
        let first = e.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_string();
        wrong(&format!("{first}; "))
    })?;
    Ok((method, settings))
}

/// `2/4`.
fn parse_shard(text: &str) -> std::result::Result<(usize, usize), String> {
    let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    parsed.filter(|&(i, n)| 1 <= i && i <= n).ok_or_else(|| "a part such as 1/4, from 1/N to N/N".into())
}

/// What is there already must be of the same settings, but for where it ran.
fn check_unchanged(cell: &Cell) -> Result<()> {
    if cell.path.join(CONFIG_FILE).symlink_metadata().is_err() {
        return Ok(());
    }
    let theirs: Overrides = Overrides::of_run(&cell.path)?;
    let method = continual::spec(theirs.method.as_deref().unwrap_or(cell.config.method.name))?;
    let Some(name) = different_setting(&theirs.resolve(method)?.identity(), &cell.config.identity()) else {
        return Ok(());
    };
    let folder = cell.path.display();
    Err(Error::usage(format!("{folder} holds a run with another --{name}: choose another --out")))
}

fn complete(path: &Path) -> Option<Outcome> {
    let (metrics, timing) = (experiment::complete(path)?, read_json(path, "timing.json").ok()?);
    Some(Outcome { metrics, timing })
}

/// Groups complete runs by method and memory, prints the table and the answer, and writes the files into `out`.
fn report(out: &Path, runs: Vec<(PathBuf, Outcome)>, n_missing: usize) -> Result<()> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut stream: Option<(PathBuf, serde_json::Value)> = None;
    for (path, outcome) in runs {
        let config: serde_json::Value = read_json(&path, CONFIG_FILE)?;
        check_same_stream(&path, &config, &mut stream)?;
        let spec = continual::spec(&outcome.metrics.method)?;
        let memory = spec.uses_memory.then(|| config["memory"].as_u64().unwrap_or(0) as usize);
        let ranked = !spec.sees_everything && spec.name != "cumulative";
        let known = entries.iter().position(|entry| entry.method == spec.name && entry.memory == memory);
        match known {
            Some(i) if entries[i].outcomes.iter().any(|run| run.metrics.seed == outcome.metrics.seed) => {
                let message = format!("{}: a run of {} with this seed is there twice", path.display(), spec.name);
                return Err(Error::usage(message));
            }
            Some(i) => entries[i].outcomes.push(outcome),
            None => {
                entries.push(Entry { method: spec.name.into(), memory, ranked, outcomes: vec![outcome] });
                folders.push(path);
            }
        }
    }
    print!("{}", comparison_text(&entries));
    create_folder(out)?;
    // Shards that end at once report one after the other.
    for _ in 0..100 {
        if is_in_use(out) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let _alone = RunFolder::open(out)?;
    write_atomically(&out.join("comparison.csv"), csv(&entries).as_bytes())?;
    let json = serde_json::to_string_pretty(&json(&entries)).expect("bug: a comparison is no JSON");
    write_atomically(&out.join("comparison.json"), (json + "\n").as_bytes())?;
    let page = write_comparison(out, &entries, &folders, n_missing)?;
    println!("Files: {} and comparison.json", out.join("comparison.csv").display());
    println!("To read in a browser: {}", page.display());
    Ok(())
}

/// Runs are comparable if they see the same stream with the same network.
fn check_same_stream(
    path: &Path,
    config: &serde_json::Value,
    first: &mut Option<(PathBuf, serde_json::Value)>,
) -> Result<()> {
    // Not the limit of images: joint training has that of all tasks.
    const SAME: [&str; 9] =
        ["dataset", "labels", "scenario", "tasks", "first_task", "blurry", "class_order", "model", "width"];
    let Some((other, theirs)) = &*first else {
        *first = Some((path.to_path_buf(), config.clone()));
        return Ok(());
    };
    match SAME.iter().find(|name| config[**name] != theirs[**name]) {
        None => Ok(()),
        Some(name) => {
            let (a, b) = (other.display(), path.display());
            Err(Error::usage(format!("{a} and {b} differ in {}: they cannot be compared", flag(name))))
        }
    }
}

/// True if the folder holds folders of several seeds, as a comparison does.
pub fn is_comparison(folder: &Path) -> bool {
    !folder.join("config.json").exists() && !run_folders(folder).is_empty()
}

/// METHOD/seed-N inside a folder, in order of name.
fn run_folders(folder: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    };
    let is_seed = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"));
    folders(folder).iter().flat_map(|method| folders(method)).filter(is_seed).collect()
}

/// Reports on the complete runs of all these folders together, into the first of them.
pub fn join(folders: &[PathBuf]) -> Result<()> {
    let all: Vec<PathBuf> = folders.iter().flat_map(|folder| run_folders(folder)).collect();
    let runs: Vec<(PathBuf, Outcome)> = all.iter().filter_map(|path| Some((path.clone(), complete(path)?))).collect();
    if runs.is_empty() {
        return Err(Error::usage(format!("{}: none of its runs is complete", folders[0].display())));
    }
    let n_missing = all.len() - runs.len();
    report(&folders[0], runs, n_missing)
}
