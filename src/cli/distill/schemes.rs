//! `engram distill --schemes`: several schemes on one student.

use super::{DistillArgs, open};
use crate::campaign::{SchemePlace, run_schemes, scheme_cells};
use crate::cli::{INTERRUPTED, run};
use crate::data::Dataset;
use crate::device::Device;
use crate::distill::{self, SchemeSpec};
use crate::error::{Error, Result};
use crate::experiment::distillation::{DistillConfig, Standing, presets, recorded_by, rows, schemes_csv};
use crate::experiment::sink::Sink;
use crate::records::{RunFolder, create_folder, write_atomically};
use crate::report::{DistillConsole, renew_run, schemes_text, write_schemes};
use crate::settings::{Origin, Values};
use std::path::Path;

/// Runs what is missing, and reports.
pub fn compare(schemes: &[String], args: DistillArgs) -> Result<()> {
    let mut own = Vec::new();
    for text in &args.of {
        let (spec, values) = parse_own(text)?;
        if !schemes.iter().any(|name| name == spec.name) {
            return Err(Error::usage(format!("--of {text}: {} is none of --schemes", spec.name)));
        }
        own.push((spec, values));
    }
    let file = args.config.as_deref().map(recorded_by).transpose()?.unwrap_or_default().values;
    let preset = args.preset.as_deref().map(presets::settings).transpose()?.unwrap_or_default();
    let given = args.settings.0.or(file).or(preset);
    if args.explain || args.force {
        return Err(Error::usage("--schemes takes no --explain and no --force: they are of one distillation"));
    }
    if args.out.is_none() {
        // Settings are checked before a folder is made.
        scheme_cells(schemes, &own, &given, Path::new(""))?;
    }
    let out = match args.out {
        Some(out) => out,
        None => run::folder_of_now("distill", "schemes")?,
    };
    let cells = scheme_cells(schemes, &own, &given, &out)?;
    if let Some(time) = args.stop_after {
        run::stop_after(time);
    }
    let mut place = Place { checked: args.checked, quiet: args.quiet };
    let results = run_schemes(&cells, &mut place, &INTERRUPTED).inspect_err(|error| {
        if matches!(error, Error::Interrupted) {
            eprintln!("The same command with --out {} goes on.", out.display());
        }
    })?;
    let standings: Vec<Standing> = results.iter().filter_map(Standing::of).collect();
    println!("{}", schemes_text(&standings, &results));
    create_folder(&out)?;
    let _alone = RunFolder::open(&out)?;
    write_atomically(&out.join("schemes.csv"), schemes_csv(&standings).as_bytes())?;
    let json = serde_json::to_string_pretty(&standings).expect("bug: a comparison is no JSON");
    write_atomically(&out.join("schemes.json"), (json + "\n").as_bytes())?;
    println!("Files: {} and schemes.json; a page in the folder of each scheme", out.join("schemes.csv").display());
    if let Some(page) = write_schemes(&out)? {
        println!("To read in a browser: {}", page.display());
    }
    Ok(())
}

/// `ofd:weight=ofd=1e-4`.
fn parse_own(text: &str) -> Result<(&'static SchemeSpec, Values)> {
    let wrong = |why: &str| Error::usage(format!("--of {text}: {why}SCHEME:FLAG=VALUE, such as ofd:weight=ofd=1e-4"));
    let (scheme, setting) = text.split_once(':').ok_or_else(|| wrong(""))?;
    let (name, value) = setting.split_once('=').ok_or_else(|| wrong(""))?;
    let settings = Values::of(&rows(), &[(&name.replace('-', "_"), value)], &Origin::Flag);
    Ok((distill::spec(scheme)?, settings.map_err(|e| wrong(&format!("{e}; ")))?))
}

struct Place {
    checked: bool,
    quiet: bool,
}

impl SchemePlace for Place {
    fn open(&mut self, config: &DistillConfig) -> Result<(Dataset, Device)> {
        open(config, self.checked)
    }

    fn tell(&mut self, text: &str) {
        if !self.quiet {
            println!("{text}");
        }
    }

    fn listener(&mut self) -> Box<dyn Sink> {
        Box::new(DistillConsole::new(self.quiet))
    }

    fn finish(&mut self, folder: &Path) -> Result<()> {
        renew_run(folder).map(drop)
    }
}
