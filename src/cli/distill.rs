//! `engram distill`: pairs of students, one of them by a scheme, with a teacher if the scheme has one.

mod schemes;

use super::settings::{DistillFlags, explain};
use super::terminal::{Shown, Terminal};
use super::{INTERRUPTED, run, use_threads, warn};
use crate::campaign::tidy;
use crate::data::Dataset;
use crate::device::{Device, Options, Selection};
use crate::distill::{self, Knowledge, SchemeSpec, Training};
use crate::error::{Error, Result};
use crate::experiment::CONFIG_FILE;
use crate::experiment::distillation::{
    DistillConfig, DistillResults, ask_teacher, check, distill as run_distillation, presets, recorded_by,
    resume as resume_distillation, rows,
};
use crate::experiment::results::RunFolder;
use crate::report::{DistillConsole, distill_tables, gain_text, hang, ledger_text, message, write_run};
use crate::tensor::Tensor;
use crate::training::Trainer;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags of a distillation.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DistillArgs {
    #[command(subcommand)]
    command: Option<DistillCommand>,
    #[command(flatten)]
    settings: DistillFlags,
    /// Several schemes on the same students, side by side, such as hinton,dkd,one: a table of gains and costs, and an answer
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with_all = ["scheme", "resume"])]
    schemes: Vec<String>,
    /// With --schemes, a setting of one scheme only, such as ofd:weight=ofd=1e-4 or dml:peers=3; may be repeated
    #[arg(long, value_name = "SCHEME:FLAG=VALUE", requires = "schemes")]
    of: Vec<String>,
    /// A named distillation, see `engram presets`; flags and --config win
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Settings from a JSON file; flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Go on with the interrupted distillation in this folder, with its settings: finished students are kept, the one that was
    /// in training begins again
    #[arg(long, value_name = "DIR", conflicts_with_all = ["preset", "config", "out", "force"])]
    resume: Option<PathBuf>,
    /// Stop after this time (such as 90s, 9m, 2h), ready to be resumed
    #[arg(long, value_name = "TIME", value_parser = run::parse_time)]
    stop_after: Option<Duration>,
    /// Folder for the results [default: runs/distill-SCHEME-DATASET-TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write into an existing folder
    #[arg(long)]
    force: bool,
    /// Print one line instead of tables
    #[arg(long)]
    quiet: bool,
    /// Compile shaders with bounds checks
    #[arg(long)]
    checked: bool,
    /// Print every setting, its value and where that is from, and end
    #[arg(long)]
    explain: bool,
}

#[derive(Subcommand)]
enum DistillCommand {
    /// List schemes
    List,
    /// Show a scheme, or what temperature does to the teacher's answer about a test image
    Show(Box<ShowArgs>),
}

#[derive(Args)]
struct ShowArgs {
    /// A scheme from `engram distill list`
    #[arg(conflicts_with = "at_temperatures")]
    name: Option<String>,
    /// Draw softmax(z/T) of a test image at T = 1, 4, 20, 100; the teacher is trained if need be
    #[arg(long = "temperature")]
    at_temperatures: bool,
    /// Which test image
    #[arg(long, value_name = "N", default_value_t = 0, requires = "at_temperatures")]
    image: usize,
    /// Data set: a name from `engram datasets` [default: glyphs]
    #[arg(long, value_name = "NAME", requires = "at_temperatures")]
    dataset: Option<String>,
    /// Folder with data files [default: datasets]
    #[arg(long, value_name = "DIR", env = "ENGRAM_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Network of the teacher [default: cnn]
    #[arg(long, value_name = "NAME", requires = "at_temperatures")]
    teacher: Option<String>,
    /// Its trained weights, a safetensors file
    #[arg(long, value_name = "FILE", requires = "at_temperatures")]
    teacher_weights: Option<PathBuf>,
    /// Passes over the teacher's images [default: 4]
    #[arg(long, value_name = "N", requires = "at_temperatures")]
    teacher_epochs: Option<usize>,
    /// Where trained teachers are kept [default: runs/teachers]
    #[arg(long, value_name = "DIR", requires = "at_temperatures")]
    teacher_cache: Option<PathBuf>,
    /// auto, cpu, gpu, gpu:INDEX or gpu:NAME [default: auto]
    #[arg(long, value_name = "WHICH", requires = "at_temperatures")]
    device: Option<String>,
}

/// Runs, lists or shows.
pub fn run(args: DistillArgs) -> Result<()> {
    match args.command {
        Some(DistillCommand::List) => {
            list();
            Ok(())
        }
        Some(DistillCommand::Show(args)) => match &args.name {
            Some(name) => {
                show(distill::spec(name)?);
                Ok(())
            }
            None if args.at_temperatures => show_temperatures(*args),
            None => Err(Error::usage("show what? A scheme from `engram distill list`, or --temperature")),
        },
        None => distill_pairs(args),
    }
}

fn distill_pairs(mut args: DistillArgs) -> Result<()> {
    let schemes = std::mem::take(&mut args.schemes);
    if !schemes.is_empty() {
        return schemes::compare(&schemes, args);
    }
    let file = args.config.as_deref().map(recorded_by).transpose()?.unwrap_or_default().values;
    let preset = args.preset.as_deref().map(presets::settings).transpose()?.unwrap_or_default();
    if let Some(path) = &args.resume
        && made_page_of_complete(path)?
    {
        return Ok(());
    }
    let mut config = match &args.resume {
        Some(folder) => DistillConfig::interrupted(args.settings.0, RunFolder::open(folder)?.path())?,
        None => DistillConfig::resolve(args.settings.0.or(file).or(preset))?,
    };
    if args.explain {
        return explain(&rows(), &config.values);
    }
    let (dataset, device) = open(&config, args.checked)?;
    config.adapter = device.describe();
    // Wrong use is found before `--force` replaces anything.
    check(&config, &dataset, &device)?;
    let folder = match (&args.resume, args.out) {
        (Some(path), _) => RunFolder::open(path)?,
        (None, Some(path)) => RunFolder::create(&path, args.force)?,
        (None, None) => {
            let what = format!("distill-{}", config.spec.name);
            RunFolder::create(&run::folder_of_now(&what, &config.data.source().file_name())?, args.force)?
        }
    };
    if let Some(time) = args.stop_after {
        run::stop_after(time);
    }
    let mut console = DistillConsole::new(args.quiet);
    let results = match args.resume {
        Some(_) => resume_distillation(&config, &dataset, &device, &folder, &mut console, &INTERRUPTED),
        None => {
            folder.write_sealed(CONFIG_FILE, &config)?;
            run_distillation(&config, &dataset, &device, Some(&folder), &mut console, &INTERRUPTED)
        }
    };
    drop(console);
    if matches!(results, Err(Error::Interrupted)) {
        let path = folder.path().display();
        eprintln!("Finished teachers and students are kept. To go on: engram distill --resume {path}");
    }
    // What was finished before an interruption is worth a page too.
    let page = write_run(folder.path());
    let results = results?;
    let page = page?;
    match args.quiet {
        true => {
            let last = results.comparisons().pop().expect("bug: a distillation without pairs");
            let gain = gain_text(last.gain(|student| student.accuracy));
            println!("{} on {}: distilled − scratch {gain}", config.spec.name, dataset.name);
        }
        false => {
            print!("{}", distill_tables(&results));
            if let Some(name) = &args.preset {
                let rows = presets::ledger(name, &results);
                if !rows.is_empty() {
                    folder.write_bytes("ledger.csv", presets::ledger_csv(&rows).as_bytes())?;
                }
                print!("{}", ledger_text(&rows));
            }
            println!("\nTo read in a browser: {}", page.display());
        }
    }
    Ok(())
}

/// Makes the page of a complete distillation, if a kill or an error in the last moment left it without its own.
fn made_page_of_complete(path: &Path) -> Result<bool> {
    let complete = DistillResults::of_folder(path).is_ok_and(|results| results.complete);
    let made = complete && tidy(path, &mut Terminal::new(Shown::All))?;
    if made {
        println!("{}: the distillation is complete; its page was missing, and is made again", path.display());
    }
    Ok(made)
}

/// Threads, data and device.
fn open(config: &DistillConfig, checked: bool) -> Result<(Dataset, Device)> {
    use_threads(config.place.threads);
    let dataset = config.data.source().load(&config.data.load_options())?;
    dataset.notes.iter().for_each(|note| warn(note));
    let options = Options { checked, cache: true, precision: config.place.precision, ..Default::default() };
    let (device, warning) = config.place.device.parse::<Selection>()?.open(options)?;
    if let Some(warning) = warning {
        warn(&warning);
    }
    Ok((dataset, device))
}

/// What is passed on, over who teaches.
fn list() {
    let line = |first: &str, cells: [String; 3]| {
        let [a, b, c] = cells;
        println!("{}", format!("{first:<10} {a:<26} {b:<20} {c}").trim_end());
    };
    line("", Training::ALL.map(|training| training.name().to_string()));
    for knowledge in Knowledge::ALL {
        let cell = |training| {
            let own = distill::ALL.iter().filter(|spec| (spec.knowledge, spec.training) == (knowledge, training));
            own.map(|spec| spec.name).collect::<Vec<_>>().join(", ")
        };
        line(knowledge.name(), Training::ALL.map(cell));
    }
    let legend = "Knowledge: what is passed on. Offline: a teacher is trained before. Online: others are trained at once. Self: the \
                  network teaches itself. (Gou et al. 2021)";
    println!("\n{}", message(legend));
    println!("{:<11} what the student learns from", "scheme");
    for spec in distill::ALL {
        print!("{}", hang(&format!("{:<11} ", spec.name), spec.summary));
    }
    let more = "Formula, defaults, paper, deviations: engram distill show NAME. Settings of papers: engram presets.";
    print!("\n{}", message(more));
}

fn show(spec: &SchemeSpec) {
    let weights: Vec<String> = spec.weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
    print!("{}", message(&format!("{}: {}\n\n", spec.name, spec.summary)));
    print!("{}", hang("loss        ", spec.formula));
    println!("knowledge   {}", spec.knowledge.name());
    print!("{}", hang("teacher     ", spec.training.describe()));
    print!("{}", hang("weights     ", &format!("{} (--weight NAME=W)", weights.join(", "))));
    println!("temperature {} (--temperature T)", spec.temperature);
    if spec.has_teacher() {
        print!("{}", hang("layers      ", spec.layers.describe()));
    }
    for (i, row) in spec.options.iter().enumerate() {
        let text = format!("{} {}: {}", row.flag(), row.value_name, row.help_text());
        print!("{}", hang(if i == 0 { "settings    " } else { "            " }, &text));
    }
    print!("{}", hang("paper       ", spec.paper));
    if spec.deviations.is_empty() {
        println!("deviations  none");
    }
    for (i, deviation) in spec.deviations.iter().enumerate() {
        print!("{}", hang(if i == 0 { "deviations  – " } else { "            – " }, deviation));
    }
}

fn show_temperatures(args: ShowArgs) -> Result<()> {
    const TEMPERATURES: [f32; 4] = [1.0, 4.0, 20.0, 100.0];
    const BAR: f32 = 8.0;
    let path = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
    let given = [
        ("dataset", args.dataset),
        ("data_dir", path(args.data_dir)),
        ("teacher", args.teacher),
        ("teacher_weights", path(args.teacher_weights)),
        ("teacher_epochs", args.teacher_epochs.map(|n| n.to_string())),
        ("teacher_cache", path(args.teacher_cache)),
        ("device", args.device),
    ];
    let given: Vec<(&str, &str)> = given.iter().filter_map(|(name, text)| Some((*name, text.as_deref()?))).collect();
    let config = DistillConfig::of(&given)?;
    let (dataset, device) = open(&config, false)?;
    let mut console = DistillConsole::new(false);
    let mut trainer = Trainer::new(&device, &mut console, &INTERRUPTED);
    let asked = ask_teacher(&config, &dataset, args.image, &mut trainer)?;
    drop(console);
    let label = &dataset.class_names[asked.label as usize];
    println!("Test image {} of {}, class {label}; teacher {}\n", asked.image, dataset.name, asked.origin.display());
    let logits = Tensor::from_f32(&Device::cpu(), [1, asked.logits.len()], &asked.logits)?;
    let columns = TEMPERATURES.iter().map(|&t| logits.softmax(t)?.to_vec()).collect::<Result<Vec<_>>>()?;
    let titles: String = TEMPERATURES.iter().map(|t| format!(" {:<14}", format!("T = {t}"))).collect();
    println!("{:<12} {:>6} {}", "class", "logit", titles.trim_end());
    for (class, (name, logit)) in dataset.class_names.iter().zip(&asked.logits).enumerate() {
        let mut line = format!("{:<12} {logit:>6.1} ", name.chars().take(12).collect::<String>());
        for column in &columns {
            let bar = "█".repeat((column[class] * BAR).round() as usize);
            line += &format!(" {:<14}", format!("{:.3} {bar}", column[class]));
        }
        println!("{}", line.trim_end());
    }
    let text = "At T = 1 the answer hides what the teacher knows about the other classes; at a high T all look alike.";
    print!("\n{}", message(text));
    Ok(())
}
