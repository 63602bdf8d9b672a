//! Ends or fails a run at a chosen step of its writing, for tests: a step is whatever changes a disk, such as a file made, half
//! written, renamed or removed. Outside tests nothing is ever set, and a step costs one comparison.

use std::cell::Cell;
use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What happens at a step, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: steps are counted.
    None,
    /// As if the process were killed: this step and all later ones do nothing and fail, clearing up included.
    KilledAt(u64),
    /// This step alone fails, as an error of a disk may.
    FailsAt(u64),
    /// Nothing can be made or written from this step on, but removed: the disk is full.
    FullFrom(u64),
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Takes room.
    Takes,
    /// Takes none.
    Frees,
}

thread_local! {
    static FAULT: Cell<(Fault, u64)> = const { Cell::new((Fault::None, 0)) };
}

/// Set by `ENGRAM_FAULT=kill:N`, `fail:N` or `full:N`, for tests of the program: `kill` ends the process.
static OF_PROCESS: LazyLock<Option<(Fault, AtomicU64)>> = LazyLock::new(|| {
    let text = std::env::var("ENGRAM_FAULT").ok()?;
    let (kind, at) = text.split_once(':')?;
    let at = at.parse().ok()?;
    let fault = match kind {
        "kill" => Fault::KilledAt(at),
        "fail" => Fault::FailsAt(at),
        "full" => Fault::FullFrom(at),
        _ => return None,
    };
    Some((fault, AtomicU64::new(0)))
});

/// Runs something under a fault of this thread; returns what it returned, and the number of steps it came to.
pub fn under<R>(fault: Fault, run: impl FnOnce() -> R) -> (R, u64) {
    FAULT.set((fault, 0));
    let result = run();
    let (_, n_steps) = FAULT.replace((Fault::None, 0));
    (result, n_steps)
}

/// Comes before each change of a disk.
pub(super) fn step(kind: Step) -> io::Result<()> {
    if let Some((fault, count)) = &*OF_PROCESS {
        let n = count.fetch_add(1, Relaxed);
        if matches!(fault, Fault::KilledAt(at) if n == *at) {
            std::process::abort();
        }
        hit(*fault, n, kind)?;
    }
    let (fault, n) = FAULT.get();
    FAULT.set((fault, n + 1));
    hit(fault, n, kind)
}

fn hit(fault: Fault, n: u64, kind: Step) -> io::Result<()> {
    let fails = match fault {
        Fault::None => false,
        Fault::KilledAt(at) => n >= at,
        Fault::FailsAt(at) => n == at,
        Fault::FullFrom(at) => n >= at && kind == Step::Takes,
    };
    if fails { Err(io::Error::new(io::ErrorKind::StorageFull, "a fault that a test asked for")) } else { Ok(()) }
}
