//! `engram METHOD --seeds N`: the same run several times, in folders of one folder.

use super::folders;
use super::run::{advise, console};
use crate::data::Dataset;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::experiment::results::{Metrics, RunFolder};
use crate::experiment::{Config, Overrides};
use crate::records::{sealed, write_atomically};
use crate::report::{REPORT_FILE, seeds_table, write_seeds};
use std::path::{Path, PathBuf};

/// What all seeds were begun with, in the folder that holds theirs.
const PLAN: &str = "plan.json";

/// Whether runs of several seeds were begun in this folder.
pub fn is_root(path: &Path) -> bool {
    path.join(PLAN).is_file()
}

/// Their settings.
pub fn settings(root: &Path) -> Result<Overrides> {
    Overrides::of_plan(root, PLAN)
}

/// Runs every seed.
pub fn begin(config: &Config, dataset: &Dataset, device: &Device, root: &Path, force: bool, quiet: bool) -> Result<()> {
    let overview = root.join(REPORT_FILE);
    if !force && overview.exists() {
        let message = format!("{} exists: choose another --out, or --force to replace it", overview.display());
        return Err(Error::usage(message));
    }
    // Every folder is claimed before the first run starts, so that a refusal costs nothing.
    let claimed: Result<Vec<RunFolder>> =
        runs(config, root).iter().map(|(_, path)| RunFolder::create(path, force)).collect();
    let claimed = claimed?;
    let plan = sealed::sealed(config).expect("bug: a configuration is no JSON");
    write_atomically(&root.join(PLAN), plan.as_bytes())?;
    drop(claimed);
    go_on(config, dataset, device, root, quiet)
}

/// Runs what is not complete.
pub fn go_on(config: &Config, dataset: &Dataset, device: &Device, root: &Path, quiet: bool) -> Result<()> {
    let _alone = RunFolder::open(root)?;
    let runs = runs(config, root);
    let paths: Vec<PathBuf> = runs.iter().map(|(_, path)| path.clone()).collect();
    let mut all: Vec<Metrics> = Vec::new();
    for (config, path) in &runs {
        let result = folders::finish(config, dataset, device, path, console(config, quiet));
        all.push(result.inspect_err(|error| advise(error, config, root))?);
        write_seeds(root, &paths)?;
    }
    println!("{}", seeds_table(&all));
    println!("To read in a browser: {}", root.join(REPORT_FILE).display());
    Ok(())
}

fn runs(config: &Config, root: &Path) -> Vec<(Config, PathBuf)> {
    let seeds = config.seed..=config.seed + (config.seeds as u64 - 1);
    seeds.map(|seed| (Config { seed, seeds: 1, ..config.clone() }, root.join(format!("seed-{seed}")))).collect()
}
