//! `engram check`: every op of the table on an adapter against the CPU.

use super::DeviceArgs;
use crate::device::{Device, Precision, Selection};
use crate::error::{Error, Result};
use crate::ops::{self, compare};
use crate::report::message;
use clap::Args;
use std::time::Instant;

#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Only ops whose name contains this [default: all]
    #[arg(value_name = "OP", default_value = "", hide_default_value = true)]
    filter: String,
}

/// Prints a row per op and result; fails if one is out of tolerance.
pub fn run(args: &CheckArgs) -> Result<()> {
    // Without hardware a software adapter is checked: the CPU against itself would show nothing.
    let which = if args.device.device == "auto" { "gpu" } else { &args.device.device };
    let (device, _) = which.parse::<Selection>()?.open(args.device.options())?;
    let driver = if let Device::Gpu(gpu) = &device { format!(", driver {}", gpu.driver()) } else { String::new() };
    let precision = device.precision();
    let precision = if precision == Precision::Full { String::new() } else { format!(", products {precision}") };
    let text = format!("engram {} on {}{driver}{precision}", env!("CARGO_PKG_VERSION"), device.describe());
    print!("{}", message(&text));
    println!("{:<18} {:<22} {:<4} {:>10} {:>10} {:>9}", "op", "case", "", "max error", "tolerance", "ms");
    let (mut n_results, mut failures) = (0, Vec::new());
    for op in ops::ALL.iter().filter(|op| op.name.contains(&args.filter)) {
        for case in (op.cases)() {
            let started = Instant::now();
            let comparisons = compare(&case, &device)?;
            let ms = 1e3 * started.elapsed().as_secs_f64();
            for (i, result) in comparisons.iter().enumerate() {
                n_results += 1;
                let verdict = if result.passes() { "" } else { "  FAILED" };
                let time = if i == 0 { format!("{ms:.1}") } else { String::new() };
                println!(
                    "{:<18} {:<22} {:<4} {:>10.2e} {:>10.2e} {time:>9}{verdict}",
                    op.name, case.name, result.what, result.max_error, result.tolerance
                );
                if !result.passes() {
                    failures.push(format!("{} {} {}", op.name, case.name, result.what));
                }
            }
        }
    }
    if n_results == 0 {
        return Err(Error::usage(format!("no op's name contains '{}'", args.filter)));
    }
    if !failures.is_empty() {
        let list = failures.join(", ");
        return Err(Error::Device(format!("{} of {n_results} results are out of tolerance: {list}", failures.len())));
    }
    println!("all {n_results} results agree with the CPU");
    Ok(())
}
