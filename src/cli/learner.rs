//! The commands of a learner that is kept in one file: `learn`, `inspect`, and `evaluate` in `judged.rs`.

mod judged;

use super::{DeviceArgs, INTERRUPTED, settings, warn};
use crate::data::labelled::{Found, in_folder, in_table};
use crate::data::sheet;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::records::lock::Lock;
use crate::report::{estimate_text, learned_text, message, printable, session_text};
use crate::session::{Backbone, Estimate, Judged, Learned, Session, Settings, Way, read_labelled};
use crate::settings::Choose;
use crate::training::{Listener, Progress, Started};
use clap::Args;
pub use judged::{EvaluateArgs, evaluate};
use judged::{EvaluatedJson, judged, judged_text};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Pictures that cannot be read that are named.
const NAMED: usize = 3;

/// Where pictures with classes are from.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct From {
    /// A folder of pictures for each class, named like it; or such folders inside `train` and `test`
    #[arg(long = "from", value_name = "DIR")]
    folder: Option<PathBuf>,
    /// A table with a picture per line: path,class
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

impl From {
    fn found(&self) -> Result<Found> {
        match (&self.folder, &self.csv) {
            (Some(folder), _) => in_folder(folder),
            (None, Some(table)) => in_table(table),
            (None, None) => Err(Error::usage("--from or --csv is needed")),
        }
    }
}

#[derive(Args)]
pub struct LearnArgs {
    /// The learner, a file of its own such as parts.engram; made if there is none
    #[arg(value_name = "FILE")]
    learner: PathBuf,
    #[command(flatten)]
    from: From,
    /// The folder of a complete run of icarl, er or der++ that a new learner goes on from: with its network, its classes and the
    /// pictures that it keeps
    #[arg(long, value_name = "RUN", group = "From", conflicts_with_all = ["backbone", "method"])]
    from_run: Option<PathBuf>,
    /// Whose features a new learner goes by: natural32 (part of the program), or the folder of a run [default: natural32]
    #[arg(long, value_name = "NAME|RUN")]
    backbone: Option<String>,
    /// What tells classes apart. Features that do not change: ranpac, ncm or fecam. A network that is trained: icarl, er or der++, which
    /// take minutes and need some hundred pictures a class [default: ncm or ranpac, by the number of pictures]
    #[arg(long, value_name = "NAME", hide_possible_values = true, value_parser = settings::choice::<Way>())]
    method: Option<Way>,
    /// Where the network is trained: pictures kept of all classes together, to be trained on again [default: 1000]
    #[arg(long, value_name = "K")]
    memory: Option<usize>,
    /// Where the network is trained: steps of 32 pictures for what is learned now, in whole passes [default: 300]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Pictures kept of each class, to be shown as reasons [default: 10]
    #[arg(long, value_name = "N")]
    exemplars: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Args)]
pub struct InspectArgs {
    /// The learner
    #[arg(value_name = "FILE")]
    learner: PathBuf,
    /// Draw its exemplars into this PNG file, a row per class
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn opened(args: &DeviceArgs) -> Result<Device> {
    let (device, warning) = args.open()?;
    if let Some(warning) = warning {
        warn(&warning);
    }
    Ok(device)
}

/// Makes a learner of a complete run.
fn learn_from_run(args: &LearnArgs, run: &Path) -> Result<()> {
    let _lock = Lock::of_file(&args.learner)?;
    if args.learner.exists() {
        let path = args.learner.display();
        return Err(Error::usage(format!(
            "{path}: there is such a file; a run becomes a learner in a file of its own"
        )));
    }
    let mut session = Session::of_run(run, &opened(&args.device)?)?;
    session.set(args.settings(session.settings())?)?;
    session.save(&args.learner)?;
    if args.json {
        return print_json(&LearnedJson::new(&session, &Learned::default(), &BTreeMap::new()));
    }
    print!("{}", estimate_text(&session));
    let (path, method) = (printable(&args.learner.display().to_string()), session.method().map_or("", Choose::name));
    println!(
        "\n{path}: {} classes, {} pictures. It goes on with {method}:\n  engram learn {path} --from DIR",
        session.classes().len(),
        session.n_pictures()
    );
    Ok(())
}

/// Makes or extends a learner.
pub fn learn(args: &LearnArgs) -> Result<()> {
    if let Some(run) = &args.from_run {
        return learn_from_run(args, run);
    }
    let found = args.from.found()?;
    let _lock = Lock::of_file(&args.learner)?;
    let device = opened(&args.device)?;
    let mut session = match args.learner.exists() {
        true => known_learner(args, &device)?,
        false => {
            let backbone = Backbone::open(args.backbone.as_deref().unwrap_or("natural32"), &device)?;
            let usual = Settings::default();
            Session::new(backbone, args.settings(Settings { method: args.method, ..usual })?)?
        }
    };
    let frame = session.frame();
    let read = read_labelled(found.pictures.iter().filter(|picture| !picture.is_test), frame);
    if read.pictures.is_empty() {
        let why = read.unreadable.into_iter().next().map_or_else(
            || Error::usage("no picture was found to learn from; the endings of picture files are png, jpg, webp, bmp, tif, gif"),
            |(_, error)| error,
        );
        return Err(why);
    }
    let learned = session.learn_with(read.pictures, &mut Steps::default(), &INTERRUPTED).inspect_err(|error| {
        if matches!(error, Error::Interrupted) {
            let state = if args.learner.exists() { "is as it was" } else { "was not made" };
            eprintln!("{} {state}", printable(&args.learner.display().to_string()));
        }
    })?;
    session.save(&args.learner)?;

    let tests = read_labelled(found.pictures.iter().filter(|picture| picture.is_test), frame);
    let judged = judged(&session, tests.pictures)?;
    let mut unreadable: BTreeMap<String, usize> = BTreeMap::new();
    let lost: Vec<(String, Error)> = read.unreadable.into_iter().chain(tests.unreadable).collect();
    lost.iter().for_each(|(class, _)| *unreadable.entry(class.clone()).or_default() += 1);
    tell_left_out(&found, &lost);
    if args.json {
        let tested = judged.as_ref().map(|judged| EvaluatedJson::new(&session, judged));
        return print_json(&LearnedJson { tested, ..LearnedJson::new(&session, &learned, &unreadable) });
    }
    print!("{}", learned_text(&learned, |class| unreadable.get(class).copied().unwrap_or(0)));
    println!();
    print!("{}", estimate_text(&session));
    if let Some(judged) = judged {
        println!("\nOn the pictures for testing:");
        print!("{}", judged_text(&session, &judged));
    }
    let path = printable(&args.learner.display().to_string());
    println!(
        "\n{path}: {} classes, {} pictures. Ask it: engram classify {path} PICTURE",
        session.classes().len(),
        session.n_pictures()
    );
    Ok(())
}

/// The learner that is there, with settings that were asked for.
fn known_learner(args: &LearnArgs, device: &Device) -> Result<Session> {
    let mut session = Session::load(&args.learner, device)?;
    if let Some(backbone) = &args.backbone
        && !Backbone::open(backbone, device)?.is_same(session.backbone())?
    {
        return Err(Error::usage(format!(
            "{}: this learner goes by features of {}, and what it knows cannot be carried over to others: leave out --backbone, or \
             learn into a new file",
            args.learner.display(),
            printable(session.backbone().name())
        )));
    }
    session.set(args.settings(session.settings())?)?;
    Ok(session)
}

impl LearnArgs {
    /// Those of before, with what was asked for.
    fn settings(&self, own: Settings) -> Result<Settings> {
        let method = self.method.or(own.method);
        for (flag, given) in [("--memory", self.memory.is_some()), ("--steps", self.steps.is_some())] {
            if given && !method.is_some_and(Way::grows) {
                return Err(Error::usage(format!(
                    "{flag} has no effect here: the network is trained by --method icarl, er and der++ only"
                )));
            }
        }
        if let Some(n) = self.steps.filter(|n| !(1..=Settings::MOST_STEPS).contains(n)) {
            return Err(Error::usage(format!("--steps {n}: from 1 to {} can be made", Settings::MOST_STEPS)));
        }
        if self.exemplars.is_some() && method.is_some_and(Way::grows) {
            return Err(Error::usage(
                "--exemplars has no effect here: --memory says how many pictures a trained network keeps",
            ));
        }
        Ok(Settings {
            method,
            exemplars: self.exemplars.unwrap_or(own.exemplars),
            memory: self.memory.unwrap_or(own.memory),
            steps: self.steps.unwrap_or(own.steps),
            ..own
        })
    }
}

/// How far a training is, in a line on stderr that is written over.
#[derive(Default)]
struct Steps {
    n: usize,
    shown: bool,
}

impl Listener for Steps {
    fn training(&mut self, started: &Started) {
        self.n = started.n_steps;
        if !std::io::stderr().is_terminal() {
            eprintln!("training {}: {} steps", started.what, self.n);
        }
    }

    fn progress(&mut self, progress: &Progress) {
        if std::io::stderr().is_terminal() {
            self.shown = true;
            eprint!("\rtraining: step {} of {}", progress.batch, self.n);
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if self.shown {
            eprintln!();
        }
    }
}

/// What of the files was not used, on stderr.
fn tell_left_out(found: &Found, unreadable: &[(String, Error)]) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    found.left_out.iter().for_each(|one| *counts.entry(&one.reason).or_default() += one.n);
    if !counts.is_empty() {
        let counted: Vec<String> = counts.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        eprint!("{}", message(&format!("note: left out: {}", counted.join(", "))));
    }
    for (_, error) in unreadable.iter().take(NAMED) {
        eprint!("{}", message(&format!("note: left out: {error}")));
    }
    if unreadable.len() > NAMED {
        eprintln!("note: and {} more that cannot be read", unreadable.len() - NAMED);
    }
}

/// Prints what a learner knows.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    let session = Session::load(&args.learner, &Device::cpu())?;
    let n_bytes = args.learner.metadata().map_err(Error::io(&args.learner, "read"))?.len();
    if let Some(path) = &args.sheet {
        if path.exists() {
            return Err(Error::usage(format!("{} exists: name another file", path.display())));
        }
        let names: Vec<String> = session.classes().iter().map(|class| class.name.clone()).collect();
        sheet::write(session.exemplars().images(), &names, session.settings().exemplars, path)?;
    }
    if args.json {
        return print_json(&InspectedJson::new(&session, n_bytes));
    }
    print!("{}", session_text(&session, n_bytes));
    if let Some(path) = &args.sheet {
        println!("\nIts exemplars: {}", printable(&path.display().to_string()));
    }
    Ok(())
}

pub(super) fn print_json<T: Serialize>(value: &T) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value).expect("bug: an answer that is no JSON"));
    Ok(())
}

#[derive(Serialize)]
struct ClassJson<'a> {
    name: &'a str,
    pictures: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<usize>,
    judged: usize,
    right: usize,
}

#[derive(Serialize)]
struct AccuracyJson {
    judged: usize,
    right: usize,
    accuracy: f64,
    interval_95: [f64; 2],
    how: Judged,
}

impl AccuracyJson {
    fn of(estimate: &Estimate) -> AccuracyJson {
        let (low, high) = estimate.interval();
        let (judged, right, accuracy) = (estimate.n, estimate.n_right, estimate.accuracy());
        AccuracyJson { judged, right, accuracy, interval_95: [low, high], how: estimate.judged }
    }
}

fn classes_json<'a>(session: &'a Session, estimate: Option<&Estimate>) -> Vec<ClassJson<'a>> {
    let class = |(label, class): (usize, &'a crate::session::Class)| {
        let (judged, right) = estimate.map_or((0, 0), |estimate| estimate.per_class[label]);
        ClassJson { name: &class.name, pictures: class.n, added: None, left_out: None, judged, right }
    };
    session.classes().iter().enumerate().map(class).collect()
}

#[derive(Serialize)]
struct LearnedJson<'a> {
    method: Option<&'static str>,
    accuracy: Option<AccuracyJson>,
    classes: Vec<ClassJson<'a>>,
    /// On the pictures for testing, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    tested: Option<EvaluatedJson<'a>>,
}

impl<'a> LearnedJson<'a> {
    fn new(session: &'a Session, learned: &Learned, left_out: &BTreeMap<String, usize>) -> LearnedJson<'a> {
        let mut classes = classes_json(session, session.estimate());
        for class in &mut classes {
            let report = learned.classes.iter().find(|report| report.name == class.name);
            class.added = Some(report.map_or(0, |report| report.n_added + report.n_moved));
            class.left_out = Some(left_out.get(class.name).copied().unwrap_or(0));
        }
        LearnedJson {
            method: session.method().map(Choose::name),
            accuracy: session.estimate().map(AccuracyJson::of),
            classes,
            tested: None,
        }
    }
}

#[derive(Serialize)]
struct InspectedJson<'a> {
    backbone: &'a str,
    input: [usize; 3],
    method: Option<&'static str>,
    bytes: u64,
    pictures: usize,
    exemplars: usize,
    accuracy: Option<AccuracyJson>,
    classes: Vec<ClassJson<'a>>,
    history: &'a [crate::session::Event],
}

impl<'a> InspectedJson<'a> {
    fn new(session: &'a Session, bytes: u64) -> InspectedJson<'a> {
        InspectedJson {
            backbone: session.backbone().name(),
            input: session.input(),
            method: session.method().map(Choose::name),
            bytes,
            pictures: session.n_pictures(),
            exemplars: session.exemplars().len(),
            accuracy: session.estimate().map(AccuracyJson::of),
            classes: classes_json(session, session.estimate()),
            history: session.history(),
        }
    }
}
