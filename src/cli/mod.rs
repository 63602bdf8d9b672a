//! Floor 9: the command line. One file per group of commands; help texts come from the tables.

mod bench;
mod check;
mod datasets;
mod devices;
mod models;
mod run;

use crate::error::Error;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Set by Ctrl-C; commands that take long look at it.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

#[derive(Parser)]
#[command(name = "engram", version, about = "Continual learning on any GPU, and on the CPU where there is none")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// iCaRL: herded exemplars, distillation, nearest mean of exemplars (CVPR 2017)
    #[command(after_help = run::after_help())]
    Icarl(run::RunArgs),
    /// Fine-tuning: cross-entropy, nothing against forgetting (lower reference)
    #[command(after_help = run::after_help())]
    Finetune(run::RunArgs),
    /// Joint training: all data at once (upper reference)
    #[command(after_help = run::after_help())]
    Joint(run::RunArgs),
    /// List data sets, or export the built-in one
    Datasets(datasets::DatasetsArgs),
    /// List models with their sizes, or show the layers of one
    Models(models::ModelsArgs),
    /// List adapters and the CPU
    Devices,
    /// Run every op on an adapter and compare it with the CPU
    Check(check::CheckArgs),
    /// Time ops and training steps
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

/// Where to run.
#[derive(Args)]
struct DeviceArgs {
    /// auto, cpu, gpu, gpu:INDEX or gpu:NAME
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    device: String,
    /// Compile shaders with bounds checks
    #[arg(long)]
    checked: bool,
}

/// The command line. `--epochs -1` is taken as a bad value of --epochs, not as an unknown flag -1.
fn command() -> clap::Command {
    fn numbers_may_be_negative(command: clap::Command) -> clap::Command {
        let allow = |arg: clap::Arg| match arg.get_action().takes_values() {
            true => arg.allow_negative_numbers(true),
            false => arg,
        };
        command.mut_args(allow).mut_subcommands(numbers_may_be_negative)
    }
    numbers_may_be_negative(Cli::command())
}

/// Parses the command line, runs, and turns errors into messages and exit codes.
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|e| e.exit());
    // The first Ctrl-C ends the run cleanly between two steps, the second at once.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Relaxed) {
            std::process::exit(130);
        }
    });
    let result = match cli.command {
        Command::Icarl(args) => run::run("icarl", args),
        Command::Finetune(args) => run::run("finetune", args),
        Command::Joint(args) => run::run("joint", args),
        Command::Datasets(args) => datasets::run(args),
        Command::Models(args) => models::run(args),
        Command::Devices => devices::run(),
        Command::Check(args) => check::run(&args),
        Command::Bench(command) => bench::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match &error {
                Error::Interrupted => eprintln!("interrupted; what was finished is on disk"),
                error => eprintln!("error: {error}"),
            }
            ExitCode::from(error.exit_code())
        }
    }
}
