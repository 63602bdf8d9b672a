//! An interrupted run loses nothing: after a kill, a full disk or a write error at any point, the same command or `--resume` ends
//! with the same files, byte by byte and apart from times, as a run that was not interrupted.
//!
//! Every step of writing is tried in turn: a file created, half written, written, renamed, removed.

use crate::common;
use crate::common::runs::glyphs;
use engram::data::Dataset;
use engram::experiment::checkpoint::CHECKPOINT_FILE;
use engram::experiment::results::{Metrics, RunFolder};
use engram::experiment::sink::{Listener, Progress, Sink};
use engram::experiment::{CONFIG_FILE, Config, recorded_in, resume, run};
use engram::records::faults::{Fault, under};
use engram::report::{ReportPage, renew_run, write_run};
use engram::rng::{Purpose, Rng};
use engram::{Device, Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tempfile::TempDir;

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| glyphs(60, 30));

/// In main memory where there is such a place: waiting for a disk is not what is tested.
fn temp() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

fn config(method: &str) -> Config {
    let usual = &[
        ("model", "mlp"),
        ("width", "0.05"),
        ("class_order", "3,1,0,2"),
        ("memory", "6"),
        ("epochs", "2"),
        ("batch_size", "8"),
        ("fisher_samples", "3"),
        ("memory_epochs", "3"),
    ];
    common::runs::config(method, usual, &[])
}

/// Interrupts after so many batches.
struct Interrupt<'a>(usize, &'a AtomicBool);

impl Sink for Interrupt<'_> {}

impl Listener for Interrupt<'_> {
    fn progress(&mut self, _: &Progress) {
        self.0 = self.0.wrapping_sub(1);
        if self.0 == 0 {
            self.1.store(true, Relaxed);
        }
    }
}

/// What the program does with a folder: it goes on with what is there, or begins. Interrupted after so many batches; 0 for never.
fn attempt(config: &Config, path: &Path, interrupt: usize) -> Result<Metrics> {
    let flag = AtomicBool::new(false);
    let mut page = ReportPage::new(path);
    let mut stop = Interrupt(interrupt, &flag);
    let mut sink: [&mut dyn Sink; 2] = [&mut page, &mut stop];
    let metrics = if path.join(CONFIG_FILE).exists() {
        recorded_in(path, CONFIG_FILE)?;
        let folder = RunFolder::open(path)?;
        let metrics = resume(config, &GLYPHS, &Device::cpu(), &folder, &mut sink, &flag)?;
        renew_run(path)?;
        metrics
    } else {
        let folder = RunFolder::create(path, false)?;
        folder.write_sealed(CONFIG_FILE, config)?;
        run(config, &GLYPHS, &Device::cpu(), Some(&folder), &mut sink, &flag)?
    };
    page.finish()?;
    Ok(metrics)
}

/// Every file of a folder, by its name.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = PathBuf::from(path.file_name().unwrap());
        match path.is_dir() {
            true => all.extend(files(&path).into_iter().map(|(inside, bytes)| (name.join(inside), bytes))),
            false => drop(all.insert(name, std::fs::read(path).unwrap())),
        }
    }
    all
}

/// The files of a complete run, its page as if it had taken as long as another.
fn without_times(folder: &Path, timing: &[u8]) -> BTreeMap<PathBuf, Vec<u8>> {
    assert!(files(folder).contains_key(Path::new("report.html")), "no page");
    std::fs::write(folder.join("timing.json"), timing).unwrap();
    write_run(folder).unwrap();
    files(folder)
}

/// Ends runs at each of their steps, in this way and after so many interruptions, and goes on with them.
fn disturb(method: &str, interruptions: &[usize], fault: fn(u64) -> Fault) {
    let config = config(method);
    let dir = temp();
    let whole = dir.path().join("whole");
    assert!(attempt(&config, &whole, 0).unwrap().complete);
    let timing = std::fs::read(whole.join("timing.json")).unwrap();
    let whole = without_times(&whole, &timing);
    let interrupted = |path: &Path| {
        for &batches in interruptions {
            assert!(matches!(attempt(&config, path, batches), Err(Error::Interrupted)));
            assert!(path.join(CHECKPOINT_FILE).exists());
        }
    };
    let path = dir.path().join("counted");
    interrupted(&path);
    let n_steps = under(Fault::None, || attempt(&config, &path, 0).unwrap()).1;
    assert!(n_steps > 25, "{method} has {n_steps} steps only");
    for n in 0..n_steps {
        let path = dir.path().join(n.to_string());
        interrupted(&path);
        let (ended, _) = under(fault(n), || attempt(&config, &path, 0));
        // Only what is left to be cleared up may fail without a word.
        assert!(ended.is_err() || matches!(fault(n), Fault::FailsAt(_)), "{method}: step {n} does not matter");
        let metrics = attempt(&config, &path, 0).unwrap_or_else(|e| panic!("{method} after step {n}: {e}"));
        assert!(metrics.complete);
        let again = without_times(&path, &timing);
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&again), names(&whole), "{method} after step {n} of {n_steps}");
        for (name, bytes) in &whole {
            assert!(again[name] == *bytes, "{method} after step {n} of {n_steps}: {} differs", name.display());
        }
        std::fs::remove_dir_all(path).unwrap();
    }
}

#[test]
fn icarl_survives_kills() {
    disturb("icarl", &[], Fault::KilledAt);
}

#[test]
fn icarl_survives_a_full_disk() {
    disturb("icarl", &[], Fault::FullFrom);
}

#[test]
fn icarl_survives_kills_after_an_interruption() {
    disturb("icarl", &[5, 3], Fault::KilledAt);
}

#[test]
fn fine_tuning_and_joint_training_survive_kills_and_errors() {
    for fault in [Fault::KilledAt, Fault::FailsAt] {
        disturb("finetune", &[], fault);
        disturb("joint", &[], fault);
    }
}

#[test]
fn replay_survives_kills() {
    disturb("er", &[4], Fault::KilledAt);
    disturb("der++", &[], Fault::KilledAt);
}

#[test]
fn penalties_and_gdumb_survive_kills() {
    disturb("ewc", &[7], Fault::KilledAt);
    disturb("gdumb", &[], Fault::KilledAt);
}

// -------------------------------------------------------------------------------------------------- damaged checkpoints

/// A file with something in it changed, by a seed.
fn damaged(file: &[u8], seed: u64) -> Vec<u8> {
    let mut bytes = file.to_vec();
    let mut rng = Rng::keyed(seed, Purpose::Test, 0);
    let n = bytes.len() as u32;
    // Half of them in the header, which is read as text.
    let end = if seed.is_multiple_of(2) { n } else { n / 4 };
    let at = rng.below(end) as usize;
    let more = at + 1 + rng.below(64) as usize;
    match seed / 2 % 6 {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = b'0' + rng.below(10) as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.remove(at)),
        4 => bytes[at..more.min(n as usize)].fill(0),
        _ => bytes.insert(at, b'1'),
    }
    bytes
}

#[test]
fn no_damaged_checkpoint_ends_in_other_results() {
    let config = config("icarl");
    let dir = temp();
    let (whole, path) = (dir.path().join("whole"), dir.path().join("interrupted"));
    attempt(&config, &whole, 0).unwrap();
    let results =
        |path: &Path| ["metrics.json", "model.safetensors"].map(|name| std::fs::read(path.join(name)).unwrap());
    let expected = results(&whole);
    assert!(matches!(attempt(&config, &path, 6), Err(Error::Interrupted)));
    let left = files(&path);
    let good = &left[Path::new(CHECKPOINT_FILE)];
    let (mut n_refused, mut n_same) = (0, 0);
    for seed in 0..200 {
        let again = dir.path().join("again");
        for (name, bytes) in &left {
            std::fs::create_dir_all(again.join(name).parent().unwrap()).unwrap();
            std::fs::write(again.join(name), bytes).unwrap();
        }
        std::fs::write(again.join(CHECKPOINT_FILE), damaged(good, seed)).unwrap();
        match attempt(&config, &again, 0) {
            Ok(_) => {
                assert!(results(&again) == expected, "damage {seed} ends in other results");
                n_same += 1;
            }
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains(CHECKPOINT_FILE) && message.contains("--force"), "damage {seed}: {message}");
                n_refused += 1;
            }
        }
        std::fs::remove_dir_all(again).unwrap();
    }
    assert!(n_refused > 180, "{n_refused} of 200 were refused, {n_same} ended as they should");
}
