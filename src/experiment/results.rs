//! What a run leaves behind: the folder with `metrics.json`, `timing.json`, `accuracy.csv` and the others. How they are written
//! is a matter of [`records`](crate::records).

pub use super::scores::{
    AnyTime, ClassifierName, ClassifierResult, LossRow, METRICS_FILE, MaskScores, MemoryBytes, Metrics, Score, Timing,
};
pub use super::scores::{main_classifier, ordered_classifiers};
pub use crate::records::folder::{RESULT_FILES, RunFolder, TERMS_FILE};
pub use crate::records::write_atomically;
pub use crate::training::LoopSeconds;
use crate::training::TermRecord;
use std::fmt::Write as _;
use std::fs;

/// The logged terms of the loss, `task,epoch,step,term,weight,value`: the step counts within the task, from 0.
pub fn losses_csv(rows: &[LossRow]) -> String {
    let mut csv = String::from("task,epoch,step,term,weight,value\n");
    for LossRow { task, record } in rows {
        let TermRecord { step, epoch, term, weight, value, .. } = record;
        let _ = writeln!(csv, "{task},{epoch},{step},{term},{weight},{value}");
    }
    csv
}

/// The accuracy matrices in long form, `classifier,after_task,task,accuracy`, one line per known entry and, with
/// `seen` for a task, one for the accuracy over all classes seen. Tasks count from 0 as in `metrics.json`.
pub fn accuracy_csv(metrics: &Metrics) -> String {
    let mut csv = String::from("classifier,after_task,task,accuracy\n");
    for (name, result) in ordered_classifiers(metrics) {
        for (t, (row, seen)) in result.matrix.iter().zip(&result.seen_accuracy).enumerate() {
            for (i, accuracy) in row.iter().enumerate() {
                if let Some(accuracy) = accuracy {
                    let _ = writeln!(csv, "{name},{t},{i},{accuracy}");
                }
            }
            let _ = writeln!(csv, "{name},{t},seen,{seen}");
        }
    }
    csv
}

/// The most main memory this process ever held (`VmHWM` on Linux); `None` where the system does not tell.
pub fn peak_host_bytes() -> Option<u64> {
    let status = cfg!(target_os = "linux").then(|| fs::read_to_string("/proc/self/status"))?.ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_is_plausible_on_linux() {
        let peak = peak_host_bytes();
        assert_eq!(peak.is_some(), cfg!(target_os = "linux"));
        assert!(peak.is_none_or(|bytes| bytes > 100_000), "{peak:?}");
    }
}
