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

use engram::continual::{self, Batch, Learner, Loss, Method, MethodSpec, Options, ReplayMemory, TaskData};
use engram::experiment::{presets, run, sink::Silent};
use engram::rng::{Purpose, Rng};
use engram::{Device, Error, Result, data};
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const USAGE: &str = "record_stream METHOD SEED DATA_DIR OUT_DIR [LEARNING_RATE], where METHOD is er, der or der++";

/// As ER and DER do it, in their order and with their random numbers.
struct Recorder {
    options: Options,
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
        let replays = (0..n_replays()).filter_map(|_| self.memory.replay(learner, batch, &self.options, &mut rng));
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
    uses_memory: true,
    options: &["replay_batch", "replay_forward", "replay_weight", "mse_weight", "memory_policy", "unseen"],
    build: |options| {
        let folder = PathBuf::from(argument(4));
        std::fs::create_dir_all(folder.join("weights")).expect("cannot make the folder");
        let steps = BufWriter::new(File::create(folder.join("steps.jsonl")).expect("cannot make the file"));
        let memory = ReplayMemory::new(options.memory, options.memory_policy);
        let spec = continual::spec(&argument(1)).expect("a method of the table");
        let method = std::env::args().nth(5).map(|_| (spec.build)(options.clone()));
        Box::new(Recorder { options, memory, method, folder, steps, n_steps: 0, step: json!(null) })
    },
    ..MethodSpec::BASE
};

fn argument(i: usize) -> String {
    std::env::args().nth(i).expect(USAGE)
}

fn main() -> Result<()> {
    if !(5..=6).contains(&std::env::args().len()) || !["er", "der", "der++"].contains(&argument(1).as_str()) {
        return Err(Error::usage(USAGE));
    }
    let mut settings = presets::settings("der-cifar10-short")?;
    settings.options = settings.options.only(&RECORDER);
    settings.seed = Some(argument(2).parse().map_err(|_| Error::usage(USAGE))?);
    settings.data_dir = Some(argument(3).into());
    if let Some(rate) = std::env::args().nth(5) {
        settings.lr = Some(rate.parse().map_err(|_| Error::usage(USAGE))?);
    }
    let config = settings.resolve(&RECORDER)?;
    let mut dataset = config.source().load(&config.load_options())?;
    dataset.flips = config.augment.flips();
    run(&config, &dataset, &Device::cpu(), None, &mut Silent, &AtomicBool::new(false))?;
    println!("{}: what {} is shown with seed {}", argument(4), argument(1), argument(2));
    Ok(())
}
