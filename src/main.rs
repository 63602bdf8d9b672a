//! The `engram` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    engram::cli::main()
}
