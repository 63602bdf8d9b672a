//! A grid of methods, memories and seeds on one stream.

use super::Cell;
use crate::continual::{self, MethodSpec};
use crate::error::{Error, Result};
use crate::experiment::checkpoint::different_setting;
use crate::experiment::comparison::{Entry, Outcome};
use crate::experiment::{self, CONFIG_FILE, Config, every_row, recorded_in};
use crate::records::sealed::{checksum, read_json};
use crate::settings::{Origin, Setting, Values, flag};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Seeds of a comparison where nothing else is said.
const SEEDS: usize = 3;

/// What is compared.
pub struct Grid {
    /// Two or more, in the order of the table.
    pub methods: Vec<&'static MethodSpec>,
    /// Budgets K that each method with a memory is run with; the data set's if there are none.
    pub memories: Vec<usize>,
    /// Settings of one method only, the later before the earlier.
    pub own: Vec<(&'static MethodSpec, Values)>,
    /// Settings of all, as far as they have them.
    pub given: Values,
    /// A recipe, below all other settings.
    pub preset: Values,
}

impl Grid {
    /// The methods of these names.
    ///
    /// # Errors
    /// An unknown name, or one that is there twice.
    pub fn methods(names: &[String]) -> Result<Vec<&'static MethodSpec>> {
        let mut methods: Vec<&'static MethodSpec> = Vec::new();
        for name in names {
            let spec = continual::spec(name)?;
            if methods.iter().any(|known| known.name == spec.name) {
                return Err(Error::usage(format!("{name} is named twice")));
            }
            methods.push(spec);
        }
        Ok(methods)
    }

    /// Where the runs are, if nobody says so: the same for the same settings of all methods, so that a comparison may be extended
    /// by methods, memories and seeds, and another one does not get into its way.
    ///
    /// # Errors
    /// If a setting makes no sense.
    pub fn default_folder(&self) -> Result<PathBuf> {
        let shared = self.given.clone().or(self.preset.clone()).without("seeds");
        let rows = every_row();
        let places: Vec<&'static Setting> = rows.iter().copied().filter(|row| row.is_place).collect();
        let shared = places.iter().fold(shared, |shared, row| shared.without(row.name));
        let own: Vec<_> = self.own.iter().map(|(method, values)| (method.name, values.to_json())).collect();
        let code = checksum(format!("{:?} {own:?}", shared.to_json()).as_bytes());
        let dataset = shared.find::<String>("dataset").unwrap_or_else(|| "glyphs".into());
        let name = crate::data::Source::parse(&dataset)?.file_name();
        Ok(PathBuf::from(format!("runs/compare-{name}-{code}")))
    }

    /// Every run, in an order that depends on the grid alone, in folders METHOD/seed-N of `out`.
    ///
    /// # Errors
    /// If a setting is of none of the methods, or makes no sense.
    pub fn cells(&self, out: &Path) -> Result<Vec<Cell>> {
        let rows_of: Vec<Vec<&'static Setting>> = self.methods.iter().map(|spec| experiment::rows(spec)).collect();
        if let Some(name) = self.given.names().find(|name| !rows_of.iter().flatten().any(|row| row.name == *name)) {
            return Err(Error::usage(format!("none of these methods has {}", flag(name))));
        }
        if let Some(twice) = (1..self.memories.len()).find(|&i| self.memories[..i].contains(&self.memories[i])) {
            return Err(Error::usage(format!("--memory has {} twice", self.memories[twice])));
        }
        if !self.memories.is_empty() && !self.methods.iter().any(|spec| spec.uses_memory()) {
            return Err(Error::usage("none of these methods has --memory"));
        }
        let mut cells: Vec<Cell> = Vec::new();
        for (spec, rows) in self.methods.iter().zip(&rows_of) {
            let mine = self.own.iter().rev().filter(|(method, _)| method.name == spec.name);
            let mine = mine.fold(Values::default(), |all, (_, settings)| all.or(settings.clone()));
            // What is set for a method alone stands above what is set for all.
            let has_own = mine.value("memory").is_some();
            let memories: Vec<Option<usize>> = match spec.uses_memory() && !self.memories.is_empty() && !has_own {
                true => self.memories.iter().copied().map(Some).collect(),
                false => vec![None],
            };
            let settings = mine.or(self.given.only(rows)).or(self.preset.clone());
            for memory in memories {
                for cell in Self::seeds_of(spec, memory, &settings, out)? {
                    if let Some(first) = cells.first()
                        && let Some(name) = first.config.differs_in_stream(&cell.config)
                    {
                        let (a, b) = (first.config.method.name, spec.name);
                        let message = format!("{a} and {b} would differ in {}: they cannot be compared", flag(name));
                        return Err(Error::usage(message));
                    }
                    cells.push(cell);
                }
            }
        }
        Ok(cells)
    }

    /// The runs of one method with one memory.
    fn seeds_of(spec: &'static MethodSpec, memory: Option<usize>, settings: &Values, out: &Path) -> Result<Vec<Cell>> {
        let n_seeds = settings.find("seeds").unwrap_or(SEEDS);
        let mut chosen = vec![("seeds", n_seeds.to_string())];
        chosen.extend(memory.map(|k| ("memory", k.to_string())));
        let chosen: Vec<(&str, &str)> = chosen.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let chosen = Values::of(&every_row(), &chosen, &Origin::Flag)?;
        let base = Config::resolve(spec, chosen.or(settings.clone()))?;
        let name = base.memory().map_or(spec.name.to_string(), |memory| format!("{}-k{memory}", spec.name));
        let cell = |seed| Cell { config: base.seeded(seed), path: out.join(&name).join(format!("seed-{seed}")) };
        Ok((base.seed..=base.seed + (n_seeds as u64 - 1)).map(cell).collect())
    }
}

/// Complete runs, grouped by method and memory.
pub struct Compared {
    /// A row each.
    pub entries: Vec<Entry>,
    /// The folder of the first run of each.
    pub folders: Vec<PathBuf>,
}

/// Groups the runs of these folders that are complete.
///
/// # Errors
/// If they are of different streams, a run is there twice, or those of one method differ in more than their seed.
pub fn compared(runs: &[PathBuf]) -> Result<Compared> {
    let mut groups: Vec<Group> = Vec::new();
    let mut first: Option<(PathBuf, Config)> = None;
    for path in runs {
        let Some(metrics) = experiment::complete(path) else { continue };
        let Ok(timing) = read_json(path, "timing.json") else { continue };
        let outcome = Outcome { metrics, timing };
        let recorded = recorded_in(path, CONFIG_FILE)?;
        let spec = continual::spec(&outcome.metrics.method)?;
        let mut identity = Map::from_iter([("version".to_string(), recorded.version.into())]);
        let config = Config::resolve(spec, recorded.values)?;
        check_same_stream(path, &config, &mut first)?;
        identity.extend(config.identity().into_iter().filter(|(name, _)| !["seed", "seeds"].contains(&name.as_str())));
        let memory = config.memory();
        let run = (path.clone(), outcome);
        match groups.iter_mut().find(|group| group.spec.name == spec.name && group.memory == memory) {
            Some(group) => group.add(run, &identity)?,
            None => groups.push(Group { spec, memory, identity, runs: vec![run] }),
        }
    }
    let (entries, folders) = groups.into_iter().map(Group::finished).unzip();
    Ok(Compared { entries, folders })
}

/// Runs of one method that differ in their seed.
struct Group {
    spec: &'static MethodSpec,
    memory: Option<usize>,
    /// What they have in common.
    identity: Map<String, Value>,
    runs: Vec<(PathBuf, Outcome)>,
}

impl Group {
    fn add(&mut self, run: (PathBuf, Outcome), identity: &Map<String, Value>) -> Result<()> {
        let (path, outcome) = &run;
        let name = self.spec.name;
        if self.runs.iter().any(|(_, other)| other.metrics.seed == outcome.metrics.seed) {
            return Err(Error::usage(format!("{}: a run of {name} with this seed is there twice", path.display())));
        }
        if let Some(setting) = different_setting(&self.identity, identity) {
            let (a, b) = (self.runs[0].0.display(), path.display());
            return Err(Error::usage(format!("{a} and {b} differ in --{setting}: no mean of {name} is made of them")));
        }
        self.runs.push(run);
        Ok(())
    }

    /// An entry in order of seeds, and the folder of the first.
    fn finished(mut self) -> (Entry, PathBuf) {
        self.runs.sort_by_key(|(_, run)| run.metrics.seed);
        let (folders, outcomes): (Vec<PathBuf>, Vec<Outcome>) = self.runs.into_iter().unzip();
        let entry =
            Entry { method: self.spec.name.into(), memory: self.memory, ranked: !self.spec.is_reference, outcomes };
        (entry, folders.into_iter().next().expect("bug: a group without a run"))
    }
}

/// Runs are comparable if they see the same stream with the same network.
fn check_same_stream(path: &Path, config: &Config, first: &mut Option<(PathBuf, Config)>) -> Result<()> {
    let Some((other, theirs)) = &*first else {
        *first = Some((path.to_path_buf(), config.clone()));
        return Ok(());
    };
    match config.differs_in_stream(theirs) {
        None => Ok(()),
        Some(name) => {
            let (a, b) = (other.display(), path.display());
            Err(Error::usage(format!("{a} and {b} differ in {}: they cannot be compared", flag(name))))
        }
    }
}

/// True if the folder holds folders of several seeds, as a comparison does.
pub fn is_comparison(folder: &Path) -> bool {
    !folder.join(CONFIG_FILE).exists() && !run_folders(folder).is_empty()
}

/// METHOD/seed-N inside a folder, in order of name.
pub fn run_folders(folder: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    };
    let is_seed = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"));
    folders(folder).iter().flat_map(|method| folders(method)).filter(is_seed).collect()
}
