//! Several methods on one stream, each with several seeds: what may be concluded, and the files that say so.

use super::measures::MEASURES;
use super::metrics::mean_sd;
use super::results::{ClassifierResult, Metrics, Timing, main_classifier};
use super::statistics::{paired_difference, t_95};
use serde::Serialize;
use std::fmt::Write;

/// A complete run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its results.
    pub metrics: Metrics,
    /// Its times.
    pub timing: Timing,
}

impl Outcome {
    /// The results of the classifier that the method is judged by.
    pub fn main(&self) -> &ClassifierResult {
        main_classifier(&self.metrics).expect("bug: a complete run without results").1
    }

    /// Bytes held after the last task.
    pub fn bytes(&self) -> f64 {
        self.metrics.memory_bytes.last().map_or(0.0, |held| held.total as f64)
    }

    /// Seconds of training and of the ends of tasks, without evaluation.
    pub fn seconds(&self) -> f64 {
        self.seconds_training() + self.timing.seconds_end_of_task.iter().sum::<f64>()
    }

    /// Seconds of training, without the measurements of any-time accuracy in between.
    pub fn seconds_training(&self) -> f64 {
        self.timing.seconds_training.iter().sum()
    }
}

/// A method with one memory budget.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The method's name.
    pub method: String,
    /// K, for methods with a memory.
    pub memory: Option<usize>,
    /// False for references that see or keep all data: they are shown, but not ranked.
    pub ranked: bool,
    /// Its runs by seed, in rising order; at least one.
    pub outcomes: Vec<Outcome>,
}

impl Entry {
    /// `er K=500`.
    pub fn name(&self) -> String {
        self.memory.map_or(self.method.clone(), |k| format!("{} K={k}", self.method))
    }

    /// A number of every run; runs that do not have it are left out.
    pub fn values(&self, of: impl Fn(&Outcome) -> Option<f64>) -> Vec<f64> {
        self.outcomes.iter().filter_map(of).collect()
    }

    /// Mean and sample standard deviation of the final accuracy over all classes seen.
    pub fn accuracy(&self) -> (f64, f64) {
        mean_sd(&self.values(|run| run.main().final_accuracy()))
    }

    /// The accuracy of guessing.
    pub fn chance(&self) -> f64 {
        let metrics = &self.outcomes[0].metrics;
        metrics.guessing(metrics.classes_per_task.len())
    }

    /// True if nothing says that it is better than guessing: by a t-test over its seeds, or, with one, by half as much again.
    pub fn is_at_chance(&self) -> bool {
        let values = self.values(|run| run.main().final_accuracy());
        let (mean, sd) = mean_sd(&values);
        match t_95(values.len()) {
            Some(t) => mean - t * sd / (values.len() as f64).sqrt() <= self.chance() || mean <= 1.05 * self.chance(),
            None => mean <= 1.5 * self.chance(),
        }
    }

    /// The mean of a cost.
    pub fn cost(&self, cost: Cost) -> f64 {
        mean_sd(&self.values(|run| Some(cost.of(run)))).0
    }

    /// How far this one lies above another, by the seeds that both have: (low, mean, high).
    pub fn above(&self, other: &Entry) -> Option<(f64, f64, f64)> {
        let last = |run: &Outcome| run.main().final_accuracy();
        let pair = |run: &Outcome| {
            let twin = other.outcomes.iter().find(|twin| twin.metrics.seed == run.metrics.seed)?;
            Some((last(run)?, last(twin)?))
        };
        let (a, b): (Vec<f64>, Vec<f64>) = self.outcomes.iter().filter_map(pair).unzip();
        paired_difference(&a, &b)
    }
}

/// What methods are compared at equal amounts of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Held after the last task.
    Bytes,
    /// Of training and of the ends of tasks.
    Seconds,
}

impl Cost {
    fn of(self, run: &Outcome) -> f64 {
        match self {
            Cost::Bytes => run.bytes(),
            Cost::Seconds => run.seconds(),
        }
    }

    /// Costs this much apart count as equal: bytes nearly so, seconds as far as clocks may be trusted.
    fn tolerance(self) -> f64 {
        match self {
            Cost::Bytes => 1.1,
            Cost::Seconds => 1.25,
        }
    }
}

/// Most budgets that are looked at.
const MAX_BUDGETS: usize = 4;

/// The budgets worth looking at: the costs of the ranked entries, each with those it cannot be told from, in rising order.
pub fn budgets(entries: &[Entry], cost: Cost) -> Vec<f64> {
    let mut costs: Vec<f64> = entries.iter().filter(|entry| entry.ranked).map(|entry| entry.cost(cost)).collect();
    costs.sort_by(f64::total_cmp);
    let mut budgets: Vec<f64> = Vec::new();
    let mut first = f64::NAN;
    for cost_of_entry in costs {
        match budgets.last_mut() {
            // Within reach of the cheapest of the group.
            Some(budget) if cost_of_entry <= first * cost.tolerance() => *budget = cost_of_entry,
            _ => {
                first = cost_of_entry;
                budgets.push(cost_of_entry);
            }
        }
    }
    if budgets.len() > 1 {
        budgets.retain(|budget| *budget > 0.0);
    }
    let n = budgets.len();
    if n <= MAX_BUDGETS {
        return budgets;
    }
    (0..MAX_BUDGETS).map(|i| budgets[i * (n - 1) / (MAX_BUDGETS - 1)]).collect()
}

/// A place in a ranking.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Who.
    pub entry: &'a Entry,
    /// How far it lies below the first, (low, mean, high); `None` for the first itself and without two common seeds.
    pub below_first: Option<(f64, f64, f64)>,
}

impl Place<'_> {
    /// True if the interval of the difference to the first does not lie above 0. Below 0 it lies where the first has a higher mean over
    /// seeds that the other does not have.
    pub fn is_indistinguishable(&self) -> bool {
        self.below_first.is_some_and(|(low, ..)| low <= 0.0)
    }
}

/// The best setting of each method within a budget, by mean final accuracy.
pub fn ranking(entries: &[Entry], cost: Cost, budget: f64) -> Vec<Place<'_>> {
    let mut best: Vec<&Entry> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.ranked && entry.cost(cost) <= budget) {
        match best.iter_mut().find(|other| other.method == entry.method) {
            Some(other) if entry.accuracy().0 > other.accuracy().0 => *other = entry,
            Some(_) => {}
            None => best.push(entry),
        }
    }
    best.sort_by(|a, b| b.accuracy().0.total_cmp(&a.accuracy().0));
    let first = best.first().copied();
    let below = |i: usize, entry: &Entry| first.filter(|_| i > 0)?.above(entry);
    best.into_iter().enumerate().map(|(i, entry)| Place { entry, below_first: below(i, entry) }).collect()
}

/// A number of a run, if it has it.
pub type Number = fn(&Outcome) -> Option<f64>;

/// The costs of a run in the files, beside the [`MEASURES`] of its main classifier: name and value.
const COSTS: [(&str, Number); 4] = [
    ("bytes", |run| Some(run.bytes())),
    ("seconds_training", |run| Some(run.seconds_training())),
    ("seconds_end_of_task", |run| Some(run.timing.seconds_end_of_task.iter().sum())),
    ("images_per_second", |run| Some(run.timing.images_per_second)),
];

/// The columns of the files: their names.
fn columns() -> Vec<&'static str> {
    MEASURES.iter().map(|measure| measure.name).chain(COSTS.iter().map(|(name, _)| *name)).collect()
}

/// The columns of the files: their values.
fn numbers(run: &Outcome) -> Vec<Option<f64>> {
    let measures = MEASURES.iter().map(|measure| (measure.of)(run.main()));
    measures.chain(COSTS.iter().map(|(_, of)| of(run))).collect()
}

/// A line per run.
pub fn csv(entries: &[Entry]) -> String {
    let mut csv = String::from("method,memory,seed,classifier");
    columns().iter().for_each(|name| {
        let _ = write!(csv, ",{name}");
    });
    csv.push('\n');
    for entry in entries {
        for run in &entry.outcomes {
            let classifier = main_classifier(&run.metrics).map_or("", |(name, _)| name);
            let memory = entry.memory.map_or(String::new(), |k| k.to_string());
            let _ = write!(csv, "{},{memory},{},{classifier}", entry.method, run.metrics.seed);
            for number in numbers(run) {
                let _ = write!(csv, ",{}", number.map_or(String::new(), |value| value.to_string()));
            }
            csv.push('\n');
        }
    }
    csv
}

/// The content of `comparison.json`: a row per method and memory, with means and deviations.
pub fn json(entries: &[Entry]) -> serde_json::Value {
    #[derive(Serialize)]
    struct Row<'a> {
        method: &'a str,
        memory: Option<usize>,
        ranked: bool,
        seeds: Vec<u64>,
        mean: serde_json::Map<String, serde_json::Value>,
        sd: serde_json::Map<String, serde_json::Value>,
    }
    let rows: Vec<Row> = entries
        .iter()
        .map(|entry| {
            let runs: Vec<Vec<Option<f64>>> = entry.outcomes.iter().map(numbers).collect();
            let number = |column: usize, second: bool| {
                let values: Vec<f64> = runs.iter().filter_map(|run| run[column]).collect();
                let (mean, sd) = mean_sd(&values);
                if values.is_empty() { None } else { Some(if second { sd } else { mean }) }
            };
            let all = |second| {
                columns().iter().enumerate().map(|(i, name)| (name.to_string(), number(i, second).into())).collect()
            };
            Row {
                method: &entry.method,
                memory: entry.memory,
                ranked: entry.ranked,
                seeds: entry.outcomes.iter().map(|run| run.metrics.seed).collect(),
                mean: all(false),
                sd: all(true),
            }
        })
        .collect();
    serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "entries": rows })
}
