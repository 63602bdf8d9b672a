//! The runs behind published figures, and a ledger of what came out.

use super::{Cell, Workplace, finish, is_interrupted};
use crate::continual;
use crate::error::{Error, Result};
use crate::experiment::command_line::flags_between;
use crate::experiment::ledger::{self, Experiment, Published, Repeats, Row};
use crate::experiment::results::{Metrics, Timing};
use crate::experiment::{self, CONFIG_FILE, Config, complete, every_row, presets, recorded_in};
use crate::records::sealed::read_json;
use crate::records::{RunFolder, write_atomically};
use crate::settings::{Origin, Setting, Values, flag};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The ledger, in the folder of the campaign.
pub const CSV: &str = "reproduced.csv";
/// The same for a person.
pub const MARKDOWN: &str = "reproduced.md";

/// What is repeated.
pub struct Reproduction<'a> {
    /// The preset with published figures.
    pub preset: &'a str,
    /// Class orders, where the figures are means of those.
    pub orders: Option<usize>,
    /// Only these methods; all if there are none.
    pub methods: &'a [String],
    /// What makes it another protocol than the paper's.
    pub given: &'a Values,
}

/// What was run for some figures.
struct Runs {
    metrics: Vec<Metrics>,
    seconds: f64,
    full_protocol: bool,
    adapter: String,
    command: String,
}

impl Reproduction<'_> {
    /// Whether there are such figures, and all their runs make sense.
    ///
    /// # Errors
    /// [`Error::Usage`] if not.
    pub fn check(&self) -> Result<()> {
        let experiment = ledger::experiment(self.preset)?;
        let figures = self.figures(experiment)?;
        let mut rows: Vec<&'static Setting> = Vec::new();
        for figure in &figures {
            rows.extend(experiment::rows(continual::spec(figure.run.method)?));
        }
        if let Some(name) = self.given.names().find(|name| !rows.iter().any(|row| row.name == *name)) {
            return Err(Error::usage(format!("none of these methods has {}", flag(name))));
        }
        for repeat in 0..self.n_repeats(experiment.repeats)? {
            for figure in &figures {
                self.configure(experiment, &figure.run, repeat)?;
            }
        }
        Ok(())
    }

    /// Runs what is missing and writes the ledger after every run. Returns its rows.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are no such figures, or a folder holds a run with other settings; those of the runs.
    pub fn run(&self, out: &Path, place: &mut dyn Workplace) -> Result<Vec<Row>> {
        let experiment = ledger::experiment(self.preset)?;
        let n_repeats = self.n_repeats(experiment.repeats)?;
        let figures = self.figures(experiment)?;
        // Figures of one run share it.
        let mut needed: Vec<ledger::Run> = Vec::new();
        for figure in &figures {
            if !needed.contains(&figure.run) {
                needed.push(figure.run);
            }
        }
        // Those that earlier calls have finished stay in the ledger.
        let mut listed: Vec<ledger::Run> = needed.clone();
        for figure in experiment.figures {
            let is_there = |repeat| {
                let Ok((cell, _)) = self.cell(experiment, &figure.run, repeat, out) else { return false };
                complete(&cell.path).is_some() && cell.check_unchanged().is_ok()
            };
            if !listed.contains(&figure.run) && (0..n_repeats).all(is_there) {
                listed.push(figure.run);
            }
        }
        let figures: Vec<Published> =
            experiment.figures.iter().filter(|figure| listed.contains(&figure.run)).copied().collect();
        let mut done: BTreeMap<String, Runs> = BTreeMap::new();
        let finished = &listed[needed.len()..];
        for (repeat, run) in
            (0..n_repeats).flat_map(|repeat| finished.iter().chain(&needed).map(move |run| (repeat, run)))
        {
            let (cell, changes) = self.cell(experiment, run, repeat, out)?;
            let metrics = run_or_resume(&cell, place)?;
            let runs = done.entry(run.name()).or_insert_with(|| Runs {
                metrics: Vec::new(),
                seconds: 0.0,
                full_protocol: changes.is_empty(),
                adapter: String::new(),
                command: run.command(self.preset) + &changes,
            });
            runs.metrics.push(metrics);
            runs.seconds += seconds(&cell.path);
            add_device(&mut runs.adapter, &cell.path)?;
            write_ledger(out, &figures, &done)?;
        }
        Ok(measured(&figures, &done))
    }

    /// A run in its folder, and the flags that make it another than the protocol's.
    fn cell(&self, experiment: &Experiment, run: &ledger::Run, repeat: usize, out: &Path) -> Result<(Cell, String)> {
        let (config, changes) = self.configure(experiment, run, repeat)?;
        let folder = match experiment.repeats {
            Repeats::ClassOrders => format!("order-{repeat}"),
            Repeats::Seeds => format!("seed-{}", config.seed),
        };
        Ok((Cell { config, path: out.join(folder).join(run.name()) }, changes))
    }

    /// How often every run is repeated.
    fn n_repeats(&self, repeats: Repeats) -> Result<usize> {
        let seeds: Option<usize> = self.given.find("seeds");
        let (own, other, flag, foreign) = match repeats {
            Repeats::ClassOrders => (self.orders, seeds, "--orders", "--seeds"),
            Repeats::Seeds => (seeds, self.orders, "--seeds", "--orders"),
        };
        match (own, other) {
            (_, Some(_)) => Err(Error::usage(format!("{foreign}: runs of {} are repeated by {flag}", self.preset))),
            (Some(0), _) => Err(Error::usage(format!("{flag} must be at least 1"))),
            (n, _) => Ok(n.unwrap_or(1)),
        }
    }

    /// The figures that are asked for.
    fn figures(&self, experiment: &Experiment) -> Result<Vec<Published>> {
        let (n_classes, memory) = (self.given.find::<usize>("classes_per_task"), self.given.find::<usize>("memory"));
        for name in self.methods {
            if !experiment.figures.iter().any(|row| row.run.method == name.as_str()) {
                let message = format!("--methods {name}: no figure of it is published for {}", self.preset);
                return Err(Error::usage(message));
            }
        }
        let wanted = |row: &&Published| {
            // A memory that is no part of a figure is a setting like others.
            n_classes.map_or((experiment.usual)(row), |n| row.run.classes_per_task == n)
                && row.run.memory.is_none_or(|k| memory.is_none_or(|wanted| wanted == k))
                && (self.methods.is_empty() || self.methods.iter().any(|name| name == row.run.method))
        };
        let figures: Vec<Published> = experiment.figures.iter().filter(wanted).copied().collect();
        if !figures.is_empty() {
            return Ok(figures);
        }
        let list = |of: &dyn Fn(&ledger::Run) -> Option<usize>| {
            let all: BTreeSet<usize> = experiment.figures.iter().filter_map(|row| of(&row.run)).collect();
            all.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
        };
        let classes = list(&|run| Some(run.classes_per_task));
        let memories = list(&|run| run.memory);
        let memories = if memories.is_empty() { memories } else { format!(", of --memory {memories}") };
        let preset = self.preset;
        let message =
            format!("nothing is published so: {preset} has figures of --classes-per-task {classes}{memories}");
        Err(Error::usage(message))
    }

    /// The configuration of a run, and the flags that make it another than the protocol's.
    fn configure(&self, experiment: &Experiment, run: &ledger::Run, repeat: usize) -> Result<(Config, String)> {
        let spec = continual::spec(run.method)?;
        let of = |pairs: Vec<(&'static str, String)>| {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, text)| (*name, text.as_str())).collect();
            Values::of(&every_row(), &pairs, &Origin::Recipe("the figure".into()))
        };
        let mut stream = run.identity();
        stream.push(("seed", (self.given.find::<u64>("seed").unwrap_or(1) + repeat as u64).to_string()));
        stream.push(("seeds", "1".into()));
        if experiment.repeats == Repeats::ClassOrders && repeat > 0 {
            stream.push(("class_order", format!("seed:{repeat}")));
        }
        let stream = of(stream)?;
        let rows = experiment::rows(spec);
        // Where it runs and where the data lie is no part of the protocol.
        let place = self.given.only(&rows.iter().copied().filter(|row| row.is_place).collect::<Vec<_>>());
        let protocol = of(run.recipe())?.or(presets::settings(self.preset)?);
        let full = Config::resolve(spec, stream.clone().or(place).or(protocol.clone()))?;
        let config = Config::resolve(spec, stream.or(self.given.only(&rows)).or(protocol))?;
        let changes = flags_between(&full, &config);
        Ok((config, changes))
    }
}

/// The metrics of a run that is complete or becomes so.
fn run_or_resume(cell: &Cell, place: &mut dyn Workplace) -> Result<Metrics> {
    let path = cell.path.display();
    if complete(&cell.path).is_some() {
        place.tell(&format!("{path} is complete"));
    } else if is_interrupted(&cell.path) {
        place.tell(&format!("{path} goes on"));
    } else if cell.path.exists() {
        place.warn(&format!("{path} holds no complete run and no checkpoint: it starts again"));
    }
    finish(cell, place)
}

/// The device that a run was made on, beside those of the runs before.
fn add_device(devices: &mut String, path: &Path) -> Result<()> {
    let device = recorded_in(path, CONFIG_FILE)?.adapter.unwrap_or_default();
    if !devices.split("; ").any(|known| known == device) {
        *devices = if devices.is_empty() { device } else { format!("{devices}; {device}") };
    }
    Ok(())
}

fn seconds(path: &Path) -> f64 {
    read_json(path, "timing.json").map_or(0.0, |timing: Timing| timing.seconds_total)
}

fn measured(figures: &[Published], done: &BTreeMap<String, Runs>) -> Vec<Row> {
    let row = |&published: &Published| {
        let runs = done.get(&published.run.name())?;
        Some(Row {
            published,
            measured: Row::measure(published, &runs.metrics),
            full_protocol: runs.full_protocol,
            command: runs.command.clone(),
            adapter: runs.adapter.clone(),
            seconds: runs.seconds,
        })
    };
    figures.iter().filter_map(row).collect()
}

fn write_ledger(out: &Path, figures: &[Published], done: &BTreeMap<String, Runs>) -> Result<()> {
    let rows = measured(figures, done);
    let _alone = RunFolder::open(out)?;
    write_atomically(&out.join(CSV), ledger::csv(&rows).as_bytes())?;
    write_atomically(&out.join(MARKDOWN), ledger::markdown(&rows).as_bytes())
}
