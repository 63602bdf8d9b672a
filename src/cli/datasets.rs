//! `engram datasets`: what there is, where it is looked for; fetching, checking, showing and exporting it.

use super::{INTERRUPTED, warn};
use crate::data::files::thousands;
use crate::data::{
    self, Chosen, ImageFormat, Labels, LoadOptions, Presence, Source, Target, fetch, sheet, verify, write_pictures,
};
use crate::error::{Error, Result};
use crate::report::{hang, message};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};

/// Without a subcommand the data sets are listed.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DatasetsArgs {
    #[command(subcommand)]
    command: Option<DatasetsCommand>,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Place {
    /// Folder with data files
    #[arg(long, value_name = "DIR", env = "ENGRAM_DATA_DIR", default_value = "datasets")]
    data_dir: PathBuf,
}

#[derive(Subcommand)]
enum DatasetsCommand {
    /// List what is known and whether it is there
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Download a data set into DIR/NAME; goes on where an earlier try ended
    Fetch {
        /// mnist, fashion-mnist, cifar-10 or cifar-100
        name: String,
        /// Address of a folder with the files, instead of the built-in mirrors
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Check files, checksums, counts and labels; exit code 1 if something is wrong
    Verify {
        /// Which, for example mnist
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Write a picture of some training images, one row per class; with masks one per domain
    Show {
        /// Which, for example glyphs, folder:DIR or masks:DIR
        name: String,
        /// The PNG file [default: NAME.png]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Overwrite an existing file
        #[arg(long)]
        force: bool,
        /// Images per class or domain
        #[arg(long, value_name = "N", default_value_t = 12)]
        per_class: usize,
        /// Classes, or groups of classes where there are some
        #[arg(long, value_name = "KIND", default_value = "fine", value_parser = super::settings::choice::<Labels>())]
        labels: Labels,
        /// What pictures of a folder become: rgbN, greyN, or rgb96x128 (rows, columns)
        #[arg(long, value_name = "FORMAT", default_value_t = ImageFormat::default())]
        image_format: ImageFormat,
        #[command(flatten)]
        place: Place,
    },
    /// Write a data set as picture files: DIR/train/CLASS/NUMBER.png and DIR/test/…, for `engram learn --from DIR`
    Pictures {
        /// Which, for example cifar-10
        name: String,
        /// A folder that does not exist yet
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Training images of each class, drawn by --seed [default: all]
        #[arg(long, value_name = "N")]
        per_class: Option<usize>,
        /// Test images of each class [default: all]
        #[arg(long, value_name = "N")]
        test_per_class: Option<usize>,
        /// Draws the images
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        place: Place,
    },
    /// Write a grey data set as four IDX files
    Export {
        /// Which, for example glyphs
        name: String,
        /// Where to; made if it does not exist
        dir: PathBuf,
        /// Overwrite files of these names
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// Runs the subcommand.
pub fn run(args: DatasetsArgs) -> Result<()> {
    match args.command {
        None => list(&args.place.data_dir),
        Some(DatasetsCommand::List { place }) => list(&place.data_dir),
        Some(DatasetsCommand::Fetch { name, mirror, place }) => {
            let dir = fetch::fetch(
                data::spec(&name)?,
                &place.data_dir,
                mirror.as_deref(),
                &mut Bar::default(),
                &INTERRUPTED,
            )?;
            if data::spec(&name)?.origin.is_some() {
                println!("{name} is complete in {}", dir.display());
            }
            Ok(())
        }
        Some(DatasetsCommand::Verify { name, place }) => verify(&name, &place.data_dir),
        Some(DatasetsCommand::Show { name, out, force, per_class, labels, image_format, place }) => {
            let options =
                LoadOptions { data_dir: place.data_dir, labels, format: image_format, ..LoadOptions::default() };
            show(&name, &options, out, force, per_class)
        }
        Some(DatasetsCommand::Pictures { name, dir, per_class, test_per_class, seed, place }) => {
            if per_class == Some(0) {
                return Err(Error::usage("--per-class must be at least 1"));
            }
            let dataset = data::spec(&name)?.load(&place.data_dir)?;
            let [train, test] =
                write_pictures(&dataset, &dir, Chosen { per_class, test_per_class, seed }, &INTERRUPTED)?;
            println!("{}: {train} pictures in train, {test} in test", dir.display());
            Ok(())
        }
        Some(DatasetsCommand::Export { name, dir, force, place }) => {
            let spec = data::spec(&name)?;
            if let Some(there) = data::export_files(&dir).into_iter().find(|path| path.exists() && !force) {
                let there = there.display();
                return Err(Error::usage(format!("{there} exists; --force overwrites it, another DIR keeps it")));
            }
            let dataset = spec.load(&place.data_dir)?;
            for path in data::export(&dataset, &dir)? {
                println!("{}", path.display());
            }
            Ok(())
        }
    }
}

fn list(data_dir: &Path) -> Result<()> {
    let line = |name: &str, text: &str| print!("{}", hang(&format!("{name:<14} "), text));
    for spec in data::ALL {
        line(spec.name, spec.summary);
        match spec.presence(data_dir) {
            Presence::BuiltIn => line("", "nothing to download"),
            // Paths stay on one line, to be copied.
            Presence::Present(path) => println!("{:<14} present in {}", "", path.display()),
            Presence::Missing { files, searched } => {
                let searched: Vec<String> = searched.iter().map(|path| path.display().to_string()).collect();
                line("", &format!("missing: {}", files.join(", ")));
                line("", &format!("looked for in {}", searched.join(" and ")));
                line("", &format!("get it: engram datasets fetch {}", spec.name));
            }
        }
    }
    line("folder:DIR", "your own pictures: one sub-folder of picture files per class");
    line("masks:DIR", "pictures with masks: images and masks, or the layout of PASCAL VOC or CamVid");
    let text =
        "Other folders: --data-dir DIR, or the environment variable ENGRAM_DATA_DIR. Sources: datasets/README.md";
    print!("\n{}", message(text));
    Ok(())
}

fn verify(name: &str, data_dir: &Path) -> Result<()> {
    if matches!(Source::parse(name), Ok(Source::Folder(_) | Source::Masks(_))) {
        let message = "nothing is published that its files could be compared with; `engram datasets show` reads it and names \
                       the files that it leaves out";
        return Err(Error::usage(format!("{name}: {message}")));
    }
    let findings = verify::verify(data::spec(name)?, data_dir)?;
    for finding in &findings {
        let mark = if finding.right { "ok   " } else { "WRONG" };
        println!("{mark}  {}: {}", finding.subject, finding.detail);
    }
    match findings.iter().filter(|finding| !finding.right).count() {
        0 => Ok(()),
        n => Err(Error::file(
            data_dir,
            format!(
                "{name}: {n} of {} checks failed; `engram datasets fetch {name}` replaces what is wrong",
                findings.len()
            ),
        )),
    }
}

fn show(name: &str, options: &LoadOptions, out: Option<PathBuf>, force: bool, per_class: usize) -> Result<()> {
    if per_class == 0 {
        return Err(Error::usage("--per-class must be at least 1"));
    }
    let source = Source::parse(name)?;
    let dataset = source.load(options)?;
    for note in &dataset.notes {
        warn(note);
    }
    let out = out.unwrap_or_else(|| PathBuf::from(format!("{}.png", dataset.name)));
    if out.exists() && !force {
        return Err(Error::usage(format!("{} exists; --force overwrites it, --out FILE names another", out.display())));
    }
    match dataset.target() {
        Target::Class => sheet::write(&dataset.train, &dataset.class_names, per_class, &out)?,
        Target::Mask => sheet::write_masks(&dataset.train, &dataset.domains, &dataset.class_names, per_class, &out)?,
    }
    println!("{}", out.display());
    Ok(())
}

/// Shows a download on stderr: a bar on a terminal, a line per file elsewhere.
#[derive(Default)]
struct Bar(Option<ProgressBar>);

impl fetch::Watcher for Bar {
    fn note(&mut self, line: &str) {
        eprintln!("{line}");
    }

    fn started(&mut self, name: &str, url: &str, from: u64, bytes: u64) {
        let rest = if from > 0 { format!(", of which {} are here", thousands(from)) } else { String::new() };
        eprintln!("{url} ({} bytes{rest})", thousands(bytes));
        let style = "{msg} {bar:16} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta} left";
        let style = ProgressStyle::with_template(style).expect("bug: the bar's template");
        // indicatif draws nothing where stderr is no terminal.
        let bar = ProgressBar::new(bytes).with_style(style).with_message(name.to_string());
        bar.set_position(from);
        bar.reset_eta();
        self.0 = Some(bar);
    }

    fn reached(&mut self, position: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(position);
        }
    }

    fn stopped(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}
