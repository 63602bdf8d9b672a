//! Floor 11: the command line. One file per group of commands; help texts come from the tables.

mod bench;
mod check;
mod classify;
mod compare;
mod correct;
mod datasets;
mod devices;
mod distill;
mod export;
mod files;
mod learner;
mod methods;
mod models;
mod predict;
mod presets;
mod report;
mod reproduce;
mod run;
mod segment;
mod serve;
mod settings;
mod terminal;
mod tune;

use crate::continual;
use crate::device::{Device, Options, Precision, Selection, Trace};
use crate::error::{Error, Result, nearest};
use crate::experiment;
use crate::report::{WIDTH, message};
use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::any::TypeId;
use std::io::Write;
use std::num::{IntErrorKind, ParseFloatError, ParseIntError};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Set by Ctrl-C and where a time given by `--stop-after` is over; commands that take long look at it.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Set by Ctrl-C alone.
static BY_SIGNAL: AtomicBool = AtomicBool::new(false);

/// The program's version and that of wgpu, which a report about a GPU needs. A test compares it with Cargo.lock.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (wgpu 30.0.1)");

#[derive(Parser)]
#[command(name = "engram", version = VERSION, about = "Continual learning on any GPU, and on the CPU where there is none")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a student network on labels and on what a teacher says, beside one on labels alone
    #[command(display_order = 1)]
    Distill(Box<distill::DistillArgs>),
    /// Run a method on images with a class for each pixel: semantic segmentation
    #[command(display_order = 1)]
    Segment(Box<segment::SegmentArgs>),
    /// Run several methods on one stream, side by side, and say which to use
    Compare(Box<compare::CompareArgs>),
    /// Choose learning rate and trade-off of a method on a validation split, task by task
    Tune(Box<tune::TuneArgs>),
    /// Repeat published experiments and write a ledger of published and measured figures
    Reproduce(Box<reproduce::ReproduceArgs>),
    /// Make or extend a learner of your own pictures, kept in one file
    #[command(override_usage = "engram learn [OPTIONS] <FILE> --from <DIR>|--csv <FILE>|--from-run <RUN>")]
    Learn(learner::LearnArgs),
    /// Say what is on pictures, by a learner
    Classify(classify::ClassifyArgs),
    /// Judge a learner on pictures whose classes are known
    Evaluate(learner::EvaluateArgs),
    /// Show what a learner knows and how well it tells classes apart
    Inspect(learner::InspectArgs),
    /// Give a class of a learner another name
    Rename(correct::RenameArgs),
    /// Make two classes of a learner one
    Merge(correct::MergeArgs),
    /// Let a learner forget a class or a picture; where features do not change, as if it had never seen it
    Forget(correct::ForgetArgs),
    /// Serve a learner: a web page and a small JSON interface
    Serve(serve::ServeArgs),
    /// Classify pictures with the model of a run
    Predict(predict::PredictArgs),
    /// Write the model of a run or a learner for other programs: ONNX or PyTorch
    Export(export::ExportArgs),
    /// Make report.html of run folders again
    Report(report::ReportArgs),
    /// List, fetch, check, show and export data sets
    Datasets(datasets::DatasetsArgs),
    /// List methods, or show what one does, keeps and is good for
    Methods(methods::MethodsArgs),
    /// List models with their sizes, or show the layers of one
    Models(models::ModelsArgs),
    /// List recipes of papers, or show what one sets and where it differs from its paper
    Presets(presets::PresetsArgs),
    /// List adapters and the CPU
    Devices,
    /// Run every op on an adapter and compare it with the CPU
    Check(check::CheckArgs),
    /// Time ops and training steps
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print a completion script, as in: source <(engram completions bash)
    Completions {
        /// Whose
        shell: clap_complete::Shell,
    },
}

/// Where to run.
#[derive(Args)]
struct DeviceArgs {
    /// auto, cpu, gpu, gpu:INDEX or gpu:NAME
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    device: String,
    /// How products are computed: full, mixed or split (from f16, where the adapter multiplies matrices of it)
    #[arg(long, value_name = "HOW", default_value_t, hide_possible_values = true,
        value_parser = settings::choice::<Precision>())]
    precision: Precision,
    /// Compile shaders with bounds checks
    #[arg(long)]
    checked: bool,
    /// Give a software adapter the kernels of a GPU, to test them
    #[arg(long)]
    as_hardware: bool,
}

impl DeviceArgs {
    fn options(&self) -> Options {
        let DeviceArgs { checked, as_hardware, precision, .. } = *self;
        Options { checked, as_hardware, precision, cache: true, ..Options::default() }
    }

    /// The device, and what the user should be told about it.
    fn open(&self) -> Result<(Device, Option<String>)> {
        self.open_with(Trace::Off)
    }

    /// The same, with a record of what kernels do.
    fn open_with(&self, trace: Trace) -> Result<(Device, Option<String>)> {
        self.device.parse::<Selection>()?.open(Options { trace, ..self.options() })
    }
}

/// Numbers as people mean them: `--epochs -1` is a bad value of --epochs, not an unknown flag -1, and nan or 1e99 is no
/// setting. (JSON, in which settings are kept, has neither.)
fn with_plain_numbers(command: clap::Command) -> clap::Command {
    let plain = |arg: clap::Arg| {
        if !arg.get_action().takes_values() {
            return arg;
        }
        let arg = arg.allow_negative_numbers(true);
        match arg.get_value_parser().type_id() {
            kind if kind == TypeId::of::<f32>() => arg.value_parser(finite::<f32>),
            kind if kind == TypeId::of::<f64>() => arg.value_parser(finite::<f64>),
            kind if kind == TypeId::of::<usize>() => arg.value_parser(whole::<usize>),
            kind if kind == TypeId::of::<u64>() => arg.value_parser(whole::<u64>),
            _ => arg,
        }
    };
    command.mut_args(plain).mut_subcommands(with_plain_numbers)
}

/// A number of things.
fn whole<T: FromStr<Err = ParseIntError>>(text: &str) -> std::result::Result<T, String> {
    text.parse().map_err(|e: ParseIntError| match e.kind() {
        IntErrorKind::PosOverflow => "this number is too large".into(),
        _ => "a whole number is needed, 0 or more".into(),
    })
}

/// A number that is neither infinite nor NaN.
fn finite<T: FromStr<Err = ParseFloatError> + Copy + Into<f64>>(text: &str) -> std::result::Result<T, String> {
    let number: T = text.parse().map_err(|_: ParseFloatError| "a number is needed, such as 0.1 or 1e-3".to_string())?;
    match number.into().is_finite() {
        true => Ok(number),
        false => Err("a finite number is needed".into()),
    }
}

/// The command line.
fn command() -> clap::Command {
    let methods = continual::all().into_iter().map(|method| {
        let command = run::RunArgs::augment_args(clap::Command::new(method.name));
        // Settings of other methods are understood, so that the answer to them can say what this one has, but not shown.
        let own = experiment::rows(method);
        let foreign = experiment::every_row().into_iter().filter(|row| !own.iter().any(|known| known.name == row.name));
        let command = foreign.fold(command, |command, row| command.mut_arg(row.name, |arg| arg.hide(true)));
        let command = method.options.iter().fold(command, |command, row| {
            command.mut_arg(row.name, |arg| arg.help(row.help_text()).help_heading("Options of the method"))
        });
        command.about(method.summary).after_help(settings::recipes_text()).display_order(0)
    });
    let cli = Cli::command()
        .mut_subcommand("compare", |command| {
            compare::with_list_of_memories(command).after_help(settings::recipes_text())
        })
        .mut_subcommand("segment", segment::with_help)
        .mut_subcommand("reproduce", |command| {
            command.after_help("What is not given is the preset's; defaults below it: engram icarl --help.")
        });
    with_plain_numbers(cli.subcommands(methods)).max_term_width(WIDTH)
}

/// The method that the command line names and its flags, if its command is a method.
fn method_run(matches: &ArgMatches) -> Option<Result<()>> {
    let (name, matches) = matches.subcommand()?;
    let method = continual::all().into_iter().find(|method| method.name == name)?;
    let args = run::RunArgs::from_arg_matches(matches).unwrap_or_else(|e| refuse(&e));
    Some(run::run(method, args))
}

/// A driver of Mesa calls it an error on stderr if this folder is missing, which matters for windows only; and drivers are asked
/// what there is even where the processor is taken in the end.
fn keep_drivers_quiet() {
    const FOLDER: &str = "XDG_RUNTIME_DIR";
    if std::env::var_os(FOLDER).is_none_or(|dir| !std::path::Path::new(&dir).is_dir()) {
        // SAFETY: the program has started no thread yet that could read the environment.
        unsafe { std::env::set_var(FOLDER, std::env::temp_dir()) };
    }
}

/// Parses the command line, runs, and turns errors into messages and exit codes.
pub fn main() -> ExitCode {
    end_where_nothing_can_be_printed();
    keep_drivers_quiet();
    let matches = command().try_get_matches().unwrap_or_else(|e| refuse(&with_nearest_command(e)));
    // The first Ctrl-C (or SIGTERM) ends the run cleanly between two steps, the second at once.
    let _ = ctrlc::set_handler(|| {
        INTERRUPTED.store(true, Relaxed);
        if BY_SIGNAL.swap(true, Relaxed) {
            std::process::exit(130);
        }
    });
    let result = method_run(&matches).unwrap_or_else(|| {
        let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| refuse(&e));
        other_command(cli.command)
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Interrupted) if !BY_SIGNAL.load(Relaxed) => {
            eprintln!("stopped, as --stop-after says; what was finished is on disk");
            ExitCode::SUCCESS
        }
        Err(error) => {
            match &error {
                Error::Interrupted => eprintln!("interrupted; what was finished is on disk"),
                error => eprint!("{}", message(&format!("error: {error}"))),
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// `engram models | head`: a reader that has seen enough is no failure, and a full disk is one, but `println!` panics at both.
fn end_where_nothing_can_be_printed() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let what = panic.payload().downcast_ref::<String>().map_or("", |what| what);
        let Some(why) = what.strip_prefix("failed printing to stdout: ") else { return others(panic) };
        if why.contains("pipe") {
            std::process::exit(0);
        }
        let _ = writeln!(std::io::stderr(), "error: standard output: cannot write: {why}");
        std::process::exit(1);
    }));
}

fn other_command(command: Command) -> Result<()> {
    match command {
        Command::Distill(args) => distill::run(*args),
        Command::Segment(args) => segment::run(*args),
        Command::Compare(args) => compare::run(*args),
        Command::Tune(args) => tune::run(*args),
        Command::Reproduce(args) => reproduce::run_all(*args),
        Command::Learn(args) => learner::learn(&args),
        Command::Classify(args) => classify::run(&args),
        Command::Evaluate(args) => learner::evaluate(&args),
        Command::Inspect(args) => learner::inspect(&args),
        Command::Rename(args) => correct::rename(&args),
        Command::Merge(args) => correct::merge(&args),
        Command::Forget(args) => correct::forget(&args),
        Command::Serve(args) => serve::run(args),
        Command::Predict(args) => predict::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Datasets(args) => datasets::run(args),
        Command::Methods(args) => methods::run(args),
        Command::Models(args) => models::run(args),
        Command::Presets(args) => presets::run(args),
        Command::Devices => devices::run(),
        Command::Check(args) => check::run(&args),
        Command::Bench(command) => bench::run(&command),
        Command::Completions { shell } => print_completions(shell),
    }
}

/// clap goes by letters: to it `iCaRL` is nothing like `icarl`.
fn with_nearest_command(mut error: clap::Error) -> clap::Error {
    let command = command();
    let known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let found = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) if std::env::args_os().nth(1).is_some_and(|first| first == **name) => {
            nearest(name, &known)
        }
        _ => None,
    };
    if let Some(found) = found {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![found.into()]));
    }
    error
}

/// What clap says to a wrong command line, or its help. It does not break the lines of errors: a long one loses its colours.
fn refuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    if error.use_stderr() && text.lines().any(|line| line.chars().count() > WIDTH) {
        eprint!("{}", message(&text));
        std::process::exit(error.exit_code());
    }
    error.exit()
}

/// Bounds the CPU threads. It must come before anything that uses them, also before data are loaded.
fn use_threads(threads: Option<usize>) {
    if let Some(threads) = threads
        && rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().is_err()
        && rayon::current_num_threads() != threads
    {
        warn(&format!("--threads {threads} comes too late: {} are in use", rayon::current_num_threads()));
    }
}

/// Says something that does not end the command.
fn warn(warning: &str) {
    eprint!("{}", message(&format!("warning: {warning}")));
}

fn print_completions(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "engram", &mut script);
    match std::io::stdout().write_all(&script) {
        // A reader that has seen enough is no failure.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("standard output", "write")(e)),
        _ => Ok(()),
    }
}
