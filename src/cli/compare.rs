//! `engram compare`: a grid of methods, memories and seeds on one stream, and an answer.

use super::run::{parse_time, stop_after};
use super::segment;
use super::settings::RunFlags;
use super::terminal::{Shown, Terminal};
use super::warn;
use crate::campaign::{Cell, Compared, Grid, Shard, compared, failure, run_folders, run_missing, slurm_script};
use crate::data::Target;
use crate::error::{Error, Result};
use crate::experiment::comparison::{csv, json};
use crate::experiment::{complete, every_row, presets};
use crate::records::folder::RunFolder;
use crate::records::lock::is_in_use;
use crate::records::sealed::read_json;
use crate::records::{create_folder, write_atomically};
use crate::report::{comparison_text, write_comparison};
use crate::settings::{Origin, Values};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags.
#[derive(Args)]
pub struct CompareArgs {
    /// Methods, two or more: names from `engram methods`
    #[arg(value_name = "METHOD", required = true)]
    methods: Vec<String>,
    /// What is learned: segmentation is a class for each pixel, of shape-city unless another data set is named [default: what the
    /// data set has]
    #[arg(long, value_name = "TASK")]
    task: Option<Task>,
    /// Budgets K that each method with a memory is run with, such as 200,500 [default: by data set]
    #[arg(long = "memory", id = "memories", value_name = "K,K…", value_delimiter = ',')]
    memories: Vec<usize>,
    /// A setting of one method only, such as er:lr=0.1 or der++:mse-weight=0.2; may be repeated
    #[arg(long = "of", value_name = "METHOD:FLAG=VALUE")]
    own: Vec<String>,
    /// Run only part I of N of the grid, as 1/4: all parts may share --out, and the last one reports. auto takes it from a Slurm
    /// array job, auto/N from a Kubernetes job with indexed completions
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    shard: Option<Shard>,
    /// Print a job script for Slurm that runs the grid in N parts, and end
    #[arg(long, value_name = "N", conflicts_with = "shard")]
    print_slurm: Option<usize>,
    /// A recipe of the literature, below all other settings
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Folder for the runs; complete runs in it are kept, interrupted ones go on [default: runs/compare-DATASET-CODE, the code by
    /// the settings that all methods share]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Stop after this time (such as 9m, 2h); the same command goes on
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    stop_after: Option<Duration>,
    #[command(flatten)]
    settings: RunFlags,
}

/// What is learned, by the name that people give it.
#[derive(ValueEnum, Clone, Copy)]
enum Task {
    /// A class for each image
    Classification,
    /// A class for each pixel
    Segmentation,
}

impl Task {
    /// Settings below all others.
    fn usual(self) -> Result<Values> {
        match self {
            Task::Classification => Ok(Values::default()),
            Task::Segmentation => segment::usual(),
        }
    }

    /// # Errors
    /// If the data set of the runs has other targets.
    fn check(self, cells: &[Cell]) -> Result<()> {
        let (wanted, name) = match self {
            Task::Classification => (Target::Class, "classification"),
            Task::Segmentation => (Target::Mask, "segmentation"),
        };
        match cells.first().map(|cell| &cell.config.data) {
            Some(data) if data.source().target() != wanted => {
                Err(Error::usage(format!("--task {name}: {} has {}", data.dataset, data.source().target().described())))
            }
            _ => Ok(()),
        }
    }
}

/// `--memory` of this command is a list: the flag of a single run gives its name to it.
pub fn with_list_of_memories(command: clap::Command) -> clap::Command {
    command
        .mut_arg("memory", |arg| arg.long("single-memory").hide(true))
        .mut_arg("seeds", |arg| arg.help("Seeds, from --seed upwards [default: 3]"))
}

/// Runs what is missing of the grid, or of a shard, and reports on what is there.
pub fn run(args: CompareArgs) -> Result<()> {
    let methods = Grid::methods(&args.methods)?;
    let mut own = Vec::new();
    for text in &args.own {
        let (method, settings) = parse_own(text)?;
        let Some(spec) = methods.iter().find(|spec| spec.name == method) else {
            return Err(Error::usage(format!("--of {text}: {method} is none of the methods compared")));
        };
        own.push((*spec, settings));
    }
    let preset = args.preset.as_deref().map(presets::settings).transpose()?.unwrap_or_default();
    let preset = preset.or(args.task.map(Task::usual).transpose()?.unwrap_or_default());
    let grid = Grid { methods, memories: args.memories, own, given: args.settings.0, preset };
    let out = args.out.map_or_else(|| grid.default_folder(), Ok)?;
    let cells = grid.cells(&out)?;
    args.task.map_or(Ok(()), |task| task.check(&cells))?;
    if let Some(n_tasks) = args.print_slurm {
        return print_slurm(n_tasks, cells.len());
    }
    if let Some(time) = args.stop_after {
        stop_after(time);
    }
    let mine = cells.iter().enumerate().filter(|(i, _)| args.shard.is_none_or(|shard| shard.has(*i)));
    let mine: Vec<&Cell> = mine.map(|(_, cell)| cell).collect();
    // Other shards' runs of other settings are found before anything runs, as those of this one are.
    let others = cells.iter().enumerate().filter(|(i, _)| args.shard.is_some_and(|shard| !shard.has(*i)));
    others.map(|(_, cell)| cell).try_for_each(Cell::check_unchanged)?;
    let failed = run_missing(&mine, &mut Terminal::new(Shown::Bar)).inspect_err(|error| {
        if matches!(error, Error::Interrupted) {
            eprintln!("The same command goes on.");
        }
    })?;
    let paths: Vec<PathBuf> = cells.iter().map(|cell| cell.path.clone()).collect();
    report(&out, &paths, paths.len(), paths.len())?;
    failure(failed, mine.len())
}

/// `der++:mse-weight=0.2`.
fn parse_own(text: &str) -> Result<(&str, Values)> {
    let wrong = |why: &str| Error::usage(format!("--of {text}: {why}METHOD:FLAG=VALUE, such as er:lr=0.1"));
    let (method, setting) = text.split_once(':').ok_or_else(|| wrong(""))?;
    let (name, value) = setting.split_once('=').ok_or_else(|| wrong(""))?;
    let settings = Values::of(&every_row(), &[(&name.replace('-', "_"), value)], &Origin::Flag);
    Ok((method, settings.map_err(|e| wrong(&format!("{e}; ")))?))
}

/// `2/4`, or what a scheduler says.
fn parse_shard(text: &str) -> std::result::Result<Shard, String> {
    Shard::parse(text, |name| std::env::var(name).ok())
}

/// This command as a job script, without the flag that asks for one.
fn print_slurm(n_tasks: usize, n_runs: usize) -> Result<()> {
    if !(1..=n_runs).contains(&n_tasks) {
        return Err(Error::usage(format!(
            "--print-slurm {n_tasks}: there are {n_runs} runs, and a part has one at least"
        )));
    }
    let folder = std::env::current_dir().map_err(Error::io(".", "read"))?;
    let program = std::env::current_exe().map_err(Error::io("engram", "find"))?;
    let mut command = vec![program.display().to_string()];
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.strip_prefix("--print-slurm") {
            Some("") => drop(words.next()),
            Some(rest) if rest.starts_with('=') => {}
            _ => command.push(word),
        }
    }
    print!("{}", slurm_script(&command, &folder.display().to_string(), n_tasks));
    Ok(())
}

/// How many runs the grid of a comparison has, in its `comparison.json`.
const N_RUNS: &str = "n_runs";

/// Prints the table and the answer of the runs that are complete, and writes the files into `out`, whose own grid has `n_own` runs.
fn report(out: &Path, runs: &[PathBuf], n_runs: usize, n_own: usize) -> Result<()> {
    create_folder(out)?;
    // Shards that end at once report one after the other, each on what is there then.
    for _ in 0..100 {
        if is_in_use(out) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let _alone = RunFolder::open(out)?;
    let Compared { entries, folders } = compared(runs)?;
    let n_missing = n_runs.saturating_sub(entries.iter().map(|entry| entry.outcomes.len()).sum());
    if n_missing > 0 {
        warn(&format!("{n_missing} of {n_runs} runs are not complete; what follows is of the others"));
    }
    if entries.is_empty() {
        return Ok(());
    }
    print!("{}", comparison_text(&entries));
    write_atomically(&out.join("comparison.csv"), csv(&entries).as_bytes())?;
    let mut json = json(&entries);
    json[N_RUNS] = n_own.into();
    let json = serde_json::to_string_pretty(&json).expect("bug: a comparison is no JSON");
    write_atomically(&out.join("comparison.json"), (json + "\n").as_bytes())?;
    let page = write_comparison(out, &entries, &folders, n_missing)?;
    println!("Files: {} and comparison.json", out.join("comparison.csv").display());
    println!("To read in a browser: {}", page.display());
    Ok(())
}

/// Reports on the complete runs of all these folders together, into the first of them.
pub fn join(folders: &[PathBuf]) -> Result<()> {
    let runs_of: Vec<Vec<PathBuf>> = folders.iter().map(|folder| run_folders(folder)).collect();
    let n_runs: Vec<usize> =
        folders.iter().zip(&runs_of).map(|(folder, runs)| grid_of(folder).max(runs.len())).collect();
    let all = runs_of.concat();
    if !all.iter().any(|path| complete(path).is_some()) {
        return Err(Error::usage(format!("{}: none of its runs is complete", folders[0].display())));
    }
    report(&folders[0], &all, n_runs.iter().sum(), n_runs[0])
}

/// Runs of a folder's grid, as far as its files tell: some may not have begun.
fn grid_of(folder: &Path) -> usize {
    let json: Option<serde_json::Value> = read_json(folder, "comparison.json").ok();
    json.and_then(|json| json.get(N_RUNS)?.as_u64()).map_or(0, |n| n as usize)
}
