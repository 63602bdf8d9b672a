//! Several schemes of distillation on one student, each in a folder of its own. What was interrupted goes on; students from labels
//! alone are trained once for all schemes that can share them.

use crate::data::Dataset;
use crate::device::Device;
use crate::distill::{self, SchemeSpec};
use crate::error::{Error, Result};
use crate::experiment::CONFIG_FILE;
use crate::experiment::distillation::{
    Arm, DistillConfig, DistillResults, StudentResult, check, distill_beside, recorded_by, resume_beside, rows,
};
use crate::experiment::results::RunFolder;
use crate::experiment::sink::Sink;
use crate::settings::{Origin, Values, between, flag};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Settings that mean something else to each scheme.
const OF_ONE_SCHEME: [&str; 6] = ["weight", "layers", "temperature", "alpha_on_ce", "alpha_on_kd", "lambda_on_ce"];

/// A scheme of a comparison.
#[derive(Clone, Debug)]
pub struct SchemeCell {
    /// Its settings.
    pub config: DistillConfig,
    /// Its folder.
    pub path: PathBuf,
}

/// The distillations by these schemes in folders of `out`. `own` are settings of one scheme only; of all others, each scheme takes
/// those that mean something to it.
///
/// # Errors
/// [`Error::Usage`]: an unknown scheme, one that is there twice, a setting that no scheme has, or that means something else to each.
pub fn scheme_cells(
    schemes: &[String],
    own: &[(&'static SchemeSpec, Values)],
    given: &Values,
    out: &Path,
) -> Result<Vec<SchemeCell>> {
    let specs = schemes.iter().map(|name| distill::spec(name)).collect::<Result<Vec<_>>>()?;
    if let Some((i, spec)) = specs.iter().enumerate().find(|(i, spec)| specs[..*i].iter().any(|s| s.name == spec.name))
    {
        return Err(Error::usage(format!(
            "--schemes names '{}' twice, the second time as number {}",
            spec.name,
            i + 1
        )));
    }
    let asked = |name: &str| given.origin(name).is_some_and(Origin::is_asked_for);
    for name in given.names().filter(|name| asked(name)) {
        let flag = flag(name);
        if OF_ONE_SCHEME.contains(&name) {
            let message = format!("{flag} means something else to each scheme: --of SCHEME:{}=VALUE", &flag[2..]);
            return Err(Error::usage(message));
        }
        if !specs.iter().any(|spec| DistillConfig::suits(spec, name)) {
            return Err(Error::usage(format!("{flag} has no effect here: no scheme of --schemes has it")));
        }
    }
    let mut cells = Vec::new();
    for spec in specs {
        let shared = given.names().filter(|name| !DistillConfig::suits(spec, name) || OF_ONE_SCHEME.contains(name));
        let shared = shared.fold(given.clone().without("scheme"), Values::without);
        let own = own.iter().filter(|(of, _)| of.name == spec.name).map(|(_, values)| values.clone());
        let own: Vec<Values> = own.collect();
        let is_own =
            |name: &str| OF_ONE_SCHEME.contains(&name) || spec.options.iter().any(|option| option.name == name);
        if let Some(name) = own.iter().flat_map(Values::names).find(|name| !is_own(name)) {
            let (scheme, flag) = (spec.name, flag(name));
            return Err(Error::usage(format!(
                "--of {scheme}:{}: all schemes are measured against the same students from labels alone, so that none can have a {flag} of \
                 its own. Give {flag} to all of them, or run engram distill --scheme {scheme} by itself",
                &flag[2..]
            )));
        }
        let own = own.into_iter().fold(Values::default(), |all, values| values.or(all));
        let scheme = Values::of(&rows(), &[("scheme", spec.name)], &Origin::Flag)?;
        let config = DistillConfig::resolve(scheme.or(own).or(shared))?;
        cells.push(SchemeCell { config, path: out.join(spec.name) });
    }
    Ok(cells)
}

impl SchemeCell {
    /// What is there already must be of the same settings, but for where it ran.
    fn check_unchanged(&self) -> Result<()> {
        let file = self.path.join(CONFIG_FILE);
        if file.symlink_metadata().is_err() {
            return Ok(());
        }
        let theirs = DistillConfig::resolve(recorded_by(&file)?.values)?;
        let settings: Vec<_> = rows().into_iter().filter(|row| !row.is_place).collect();
        let [ours, theirs] = [&self.config, &theirs].map(DistillConfig::resolved);
        match between(&settings, &ours, &theirs).first() {
            None => Ok(()),
            Some(name) => {
                let (folder, flag) = (self.path.display(), flag(name));
                Err(Error::usage(format!("{folder} holds a distillation with another {flag}: choose another --out")))
            }
        }
    }
}

/// Who opens data and devices, and who listens.
pub trait SchemePlace {
    /// Data and a device that nothing has been held on yet.
    ///
    /// # Errors
    /// If the data cannot be loaded, or there is no such device.
    fn open(&mut self, config: &DistillConfig) -> Result<(Dataset, Device)>;

    /// Says what is done next.
    fn tell(&mut self, text: &str);

    /// Who listens to a distillation.
    fn listener(&mut self) -> Box<dyn Sink>;

    /// The distillation in this folder is complete.
    ///
    /// # Errors
    /// If what is made of it cannot be written.
    fn finish(&mut self, folder: &Path) -> Result<()>;
}

/// Runs what is not complete, scheme after scheme, and returns the results of all. Everything is checked before anything runs.
///
/// # Errors
/// [`Error::Interrupted`]; what does not fit; those of a distillation.
pub fn run_schemes(
    cells: &[SchemeCell],
    place: &mut dyn SchemePlace,
    interrupted: &AtomicBool,
) -> Result<Vec<DistillResults>> {
    for cell in cells {
        cell.check_unchanged()?;
    }
    if let Some(first) = cells.first() {
        let (dataset, device) = place.open(&first.config)?;
        for cell in cells {
            check(&cell.config, &dataset, &device)?;
        }
    }
    let mut all: Vec<DistillResults> = Vec::new();
    for (i, cell) in cells.iter().enumerate() {
        let begun = cell.path.join(CONFIG_FILE).exists();
        let earlier = if begun { DistillResults::read(&RunFolder::open(&cell.path)?)? } else { None };
        if let Some(complete) = earlier.clone().filter(|results| results.complete) {
            all.push(complete);
            // Whatever ended it may have come between its last result and this.
            place.finish(&cell.path)?;
            continue;
        }
        place.tell(&format!("scheme {} of {}: {}", i + 1, cells.len(), cell.config.spec.name));
        let (dataset, device) = place.open(&cell.config)?;
        let config = DistillConfig { adapter: device.describe(), ..cell.config.clone() };
        let scratch = shared_scratch(&all, config.spec);
        let mut listener = place.listener();
        let results = if begun {
            let folder = RunFolder::open(&cell.path)?;
            resume_beside(&config, &dataset, &device, &folder, &scratch, &mut *listener, interrupted)
        } else {
            let folder = RunFolder::create(&cell.path, true)?;
            folder.write_sealed(CONFIG_FILE, &config)?;
            distill_beside(&config, &dataset, &device, Some(&folder), &scratch, &mut *listener, interrupted)
        };
        all.push(results?);
        place.finish(&cell.path)?;
    }
    Ok(all)
}

/// Students from labels alone that another scheme's distillation has trained. How often they answer as the teacher is known only
/// where there was one.
fn shared_scratch(all: &[DistillResults], spec: &SchemeSpec) -> Vec<StudentResult> {
    let suits = |results: &&DistillResults| !spec.has_teacher() || !results.teachers.is_empty();
    let Some(donor) = all.iter().find(suits) else { return Vec::new() };
    let scratch = donor.students.iter().filter(|student| student.arm == Arm::Scratch);
    let without = |student: &StudentResult| StudentResult {
        agreement: student.agreement.filter(|_| spec.has_teacher()),
        ..student.clone()
    };
    scratch.map(without).collect()
}
