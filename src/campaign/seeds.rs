//! The same run with several seeds.

use super::{Cell, Failed, Workplace, run_missing};
use crate::error::{Error, Result};
use crate::experiment::measures::MEASURES;
use crate::experiment::metrics::mean_sd;
use crate::experiment::results::{Metrics, RunFolder};
use crate::experiment::{Config, complete};
use crate::records::{sealed, write_atomically};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What all seeds were begun with, in the folder that holds theirs.
pub const PLAN: &str = "plan.json";

/// The runs of all seeds of one configuration.
pub struct Seeds {
    /// The folder that holds theirs.
    pub root: PathBuf,
    /// A run each.
    pub cells: Vec<Cell>,
}

impl Seeds {
    /// Those that `config` asks for.
    pub fn new(config: &Config, root: &Path) -> Seeds {
        let seeds = config.seed..=config.seed + (config.seeds as u64 - 1);
        let cell = |seed| Cell { config: config.seeded(seed), path: root.join(format!("seed-{seed}")) };
        Seeds { root: root.to_path_buf(), cells: seeds.map(cell).collect() }
    }

    /// Claims every folder, so that a refusal costs nothing, and writes down what is to be run.
    ///
    /// # Errors
    /// If a folder is there already and `force` is not set.
    pub fn claim(&self, config: &Config, force: bool) -> Result<()> {
        let claimed: Result<Vec<RunFolder>> =
            self.cells.iter().map(|cell| RunFolder::create(&cell.path, force)).collect();
        let claimed = claimed?;
        let plan = sealed::sealed(config).expect("bug: a configuration is no JSON");
        write_atomically(&self.root.join(PLAN), plan.as_bytes())?;
        drop(claimed);
        Ok(())
    }

    /// Runs what is not complete, and writes means and deviations. Returns the runs that are complete and those that failed.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; if nothing can be written.
    pub fn run(&self, place: &mut dyn Workplace) -> Result<(Vec<Metrics>, Vec<Failed>)> {
        let _alone = RunFolder::open(&self.root)?;
        let cells: Vec<&Cell> = self.cells.iter().collect();
        let failed = run_missing(&cells, place);
        let done: Vec<Metrics> = self.cells.iter().filter_map(|cell| complete(&cell.path)).collect();
        if !done.is_empty() {
            write_atomically(&self.root.join("seeds.csv"), csv(&done).as_bytes())?;
            let text = serde_json::to_string_pretty(&means(&done)).expect("bug: means are no JSON");
            write_atomically(&self.root.join("seeds.json"), (text + "\n").as_bytes())?;
        }
        match failed {
            Ok(failed) if done.is_empty() => match failed.into_iter().next() {
                Some(Failed { error, .. }) => Err(error),
                None => Ok((done, Vec::new())),
            },
            Ok(failed) => Ok((done, failed)),
            Err(error) => Err(error),
        }
    }

    /// The folders of the runs.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.cells.iter().map(|cell| cell.path.clone()).collect()
    }
}

/// A line per seed and classifier.
fn csv(runs: &[Metrics]) -> String {
    let mut csv = String::from("seed,classifier");
    MEASURES.iter().for_each(|measure| {
        let _ = write!(csv, ",{}", measure.name);
    });
    csv.push('\n');
    for run in runs {
        for (name, result) in &run.classifiers {
            let _ = write!(csv, "{},{name}", run.seed);
            for measure in MEASURES {
                let _ = write!(csv, ",{}", (measure.of)(result).map_or(String::new(), |value| value.to_string()));
            }
            csv.push('\n');
        }
    }
    csv
}

/// Mean and sample standard deviation of every measure by classifier.
fn means(runs: &[Metrics]) -> Value {
    let mut classifiers = Map::new();
    for name in runs.iter().flat_map(|run| run.classifiers.keys()) {
        let mut measures = Map::new();
        for measure in MEASURES {
            let values: Vec<f64> = runs.iter().filter_map(|run| (measure.of)(run.classifiers.get(name)?)).collect();
            if !values.is_empty() {
                let (mean, sd) = mean_sd(&values);
                measures.insert(measure.name.into(), json!({ "mean": mean, "sd": sd, "n": values.len() }));
            }
        }
        classifiers.insert(name.clone(), measures.into());
    }
    let first = &runs[0];
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "method": first.method,
        "dataset": first.dataset,
        "seeds": runs.iter().map(|run| run.seed).collect::<Vec<_>>(),
        "classifiers": classifiers,
    })
}

/// That some runs failed, as an error; the first one's, if all ran into the same kind of trouble.
pub fn failure(failed: Vec<Failed>, n: usize) -> Result<()> {
    let n_failed = failed.len();
    let Some(first) = failed.into_iter().next() else { return Ok(()) };
    Err(Error::Training(format!(
        "{n_failed} of {n} runs failed, the first of them {}: {}. The same command runs them again",
        first.path.display(),
        first.error
    )))
}
