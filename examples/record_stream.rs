//! Records what a replay method sees under `--preset der-cifar10-short`, so that another engine can repeat it: the initial weights,
//! and for every step the new and the replayed images with their crops and mirrors.
//!
//! ```text
//! cargo run --release --example record_stream -- er 1 DATA_DIR out
//! python benches/pytorch/der_cifar10.py er --lr 0.1 --data DATA_DIR/cifar-10-batches-bin --stream out --out 1.json
//! ```
//!
//! Nothing is learnt unless a learning rate is given. In that case the weights before each step and after the last are written too
//! (4.4 GB), and the other engine can make every step from the same weights (`--lockstep`).

use engram::continual::{self, Batch, Learner, Loss, MEMORY, MEMORY_POLICY, Method, MethodSpec, REPLAY_BATCH};
use engram::continual::{ReplayMemory, TaskData, UNSEEN};
use engram::experiment::{Config, every_row, presets, run, sink::Silent};
use engram::rng::{Purpose, Rng};
use engram::settings::{Origin, Values};
use engram::{Device, Error, Result, data};
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const USAGE: &str = "record_stream METHOD SEED DATA_DIR OUT_DIR [LEARNING_RATE], where METHOD is er, der or der++";

/// As ER and DER do it, in their order and with their random numbers.
struct Recorder {
    replay_batch: Option<usize>,
    memory: ReplayMemory,
    /// The method itself, if it is to learn.
    method: Option<Box<dyn Method>>,
    folder: PathBuf,
    steps: BufWriter<File>,
    n_steps: usize,
    /// Of the running step.
    step: serde_json::Value,
}

/// Samples, and for each rows down, columns right in the mirrored image, and whether it is mirrored.
fn images(batch: &data::Batch) -> serde_json::Value {
    let draws: Vec<_> = batch.draws.iter().map(|draw| (draw.dy, draw.dx, draw.flip)).collect();
    json!({ "samples": batch.samples, "draws": draws })
}

/// Batches of the memory that a method replays in a step.
fn n_replays() -> usize {
    if argument(1) == "der++" { 2 } else { 1 }
}

impl Recorder {
    /// Those before the step of this number, from 0.
    fn write_weights(&self, learner: &Learner) -> Result<()> {
        let path = self.folder.join(format!("weights/{}.safetensors", self.n_steps));
        std::fs::write(&path, learner.network.to_safetensors()?).map_err(Error::io(&path, "write"))
    }
}

impl Method for Recorder {
    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        if task.index == 0 { self.write_weights(learner) } else { Ok(()) }
    }

    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let mut rng = Rng::keyed(learner.seed, Purpose::Replay, batch.key);
        let replays = (0..n_replays()).filter_map(|_| self.memory.replay(learner, batch, self.replay_batch, &mut rng));
        let replays: Vec<_> =
            replays.map(|replay| json!({ "images": images(&replay.images), "slots": replay.slots })).collect();
        self.step = json!({ "task": batch.n_seen / 2 - 1, "new": images(&batch.images), "replays": replays });
        self.method.as_mut().map_or(Ok(Loss(Vec::new())), |method| method.observe(learner, batch))
    }

    fn after_step(&mut self, learner: &Learner, batch: &Batch) -> Result<()> {
        self.n_steps += 1;
        if let Some(method) = &mut self.method {
            method.after_step(learner, batch)?;
            self.write_weights(learner)?;
        }
        let slots = self.memory.take_in(learner, batch).into_iter();
        self.step["slots"] = slots.map(|slot| (slot != u32::MAX).then_some(slot)).collect();
        writeln!(self.steps, "{}", self.step).map_err(Error::io(self.folder.join("steps.jsonl"), "write"))
    }
}

static RECORDER: MethodSpec = MethodSpec {
    name: "record",
    summary: "writes down what a replay method is shown",
    options: &[MEMORY, REPLAY_BATCH, MEMORY_POLICY, UNSEEN],
    build: |settings| {
        let folder = PathBuf::from(argument(4));
        std::fs::create_dir_all(folder.join("weights")).expect("cannot make the folder");
        let steps = BufWriter::new(File::create(folder.join("steps.jsonl")).expect("cannot make the file"));
        let memory = ReplayMemory::new(settings.get("memory"), settings.get("memory_policy"));
        let replay_batch = settings.find("replay_batch");
        let method = std::env::args().nth(5).map(|_| {
            let spec = continual::spec(&argument(1)).expect("a method of the table");
            let config = configured(spec).expect("settings of the preset");
            (spec.build)(&config.values)
        });
        Box::new(Recorder { replay_batch, memory, method, folder, steps, n_steps: 0, step: json!(null) })
    },
    ..MethodSpec::BASE
};

fn argument(i: usize) -> String {
    std::env::args().nth(i).expect(USAGE)
}

/// The preset with what the arguments say.
fn configured(method: &'static MethodSpec) -> Result<Config> {
    let (seed, data_dir, rate) = (argument(2), argument(3), std::env::args().nth(5));
    let mut given = vec![("seed", seed.as_str()), ("data_dir", data_dir.as_str())];
    given.extend(rate.as_deref().map(|rate| ("lr", rate)));
    let given = Values::of(&every_row(), &given, &Origin::Flag)?;
    Config::resolve(method, given.or(presets::settings("der-cifar10-short")?))
}

fn main() -> Result<()> {
    if !(5..=6).contains(&std::env::args().len()) || !["er", "der", "der++"].contains(&argument(1).as_str()) {
        return Err(Error::usage(USAGE));
    }
    let config = configured(&RECORDER)?;
    let mut dataset = config.data.source().load(&config.data.load_options())?;
    dataset.flips = config.data.augment.flips();
    run(&config, &dataset, &Device::cpu(), None, &mut Silent, &AtomicBool::new(false))?;
    println!("{}: what {} is shown with seed {}", argument(4), argument(1), argument(2));
    Ok(())
}
