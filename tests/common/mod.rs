//! What several test files share.
#![allow(dead_code, reason = "no test file uses all of it")]

pub mod changes;
pub mod formula;
pub mod golden;
pub mod program;
pub mod runs;

use engram::Device;
use engram::device::{Options, Selection};
use std::io::Write;

/// The adapter to test on, if there is one: a software adapter counts. Without one a loud line says so, and with
/// `ENGRAM_REQUIRE_GPU=1` the test fails.
pub fn gpu(checked: bool) -> Option<Device> {
    open(Options { checked, ..Default::default() })
}

/// As [`gpu`], with the kernels that hardware gets, even where there is none.
pub fn gpu_as_hardware(checked: bool) -> Option<Device> {
    open(Options { checked, as_hardware: true, ..Default::default() })
}

/// As [`gpu`], opened in a way of its own.
pub fn open(options: Options) -> Option<Device> {
    match Selection::Gpu.open(options) {
        Ok((device, _)) => Some(device),
        Err(error) => {
            assert!(std::env::var_os("ENGRAM_REQUIRE_GPU").is_none(), "ENGRAM_REQUIRE_GPU is set, but: {error}");
            // Straight to stderr: the test harness hides what a passing test prints.
            let _ = writeln!(std::io::stderr(), "SKIPPED a GPU test: no adapter on this machine");
            None
        }
    }
}

/// Fails unless the result is an error whose message has all the words, and returns the message.
#[track_caller]
pub fn complaint<T>(result: engram::Result<T>, words: &[&str]) -> String {
    let Err(error) = result else { panic!("no error, expected one with {words:?}") };
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
    message
}
