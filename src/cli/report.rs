//! `engram report`: the pages of run folders, made again from the files in them.

use crate::campaign::is_comparison;
use crate::error::{Error, Result};
use crate::report;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct ReportArgs {
    /// Folders of runs, of several seeds, or of several schemes of distillation; or folders of comparisons, which are joined into the first
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
}

/// Writes `report.html` into each folder and prints the paths.
pub fn run(args: &ReportArgs) -> Result<()> {
    if args.folders.iter().all(|folder| is_comparison(folder)) {
        return super::compare::join(&args.folders);
    }
    for folder in &args.folders {
        if !folder.join("config.json").exists()
            && let Some(path) = report::write_schemes(folder)?
        {
            println!("{}", path.display());
            continue;
        }
        let seeds = seed_folders(folder)?;
        for seed in seeds.iter().filter(|seed| seed.join("metrics.json").exists()) {
            println!("{}", report::write_run(seed)?.display());
        }
        let path = match seeds.is_empty() {
            true => report::write_run(folder)?,
            false => report::write_seeds(folder, &seeds)?,
        };
        println!("{}", path.display());
    }
    Ok(())
}

/// The folders `seed-N` inside a folder that is no run itself, by N.
fn seed_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() || folder.join("config.json").exists() {
        return Ok(Vec::new());
    }
    let mut seeds: Vec<(u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read the folder"))? {
        let path = entry.map_err(Error::io(folder, "read the folder"))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("seed-"));
        if let Some(seed) = name.and_then(|seed| seed.parse().ok()) {
            seeds.push((seed, path));
        }
    }
    seeds.sort();
    Ok(seeds.into_iter().map(|(_, path)| path).collect())
}
