//! A continual-learning method written outside the crate: experience replay (Chaudhry et al., "On Tiny Episodic Memories in
//! Continual Learning", 2019), run on the built-in data beside fine-tuning, through engram's own training loop.
//!
//! ```text
//! cargo run --release --example custom_method                    # beside fine-tuning
//! cargo run --release --example custom_method -- replay --help   # as a command, with a flag of its own
//! ```

use engram::cli;
use engram::continual::{
    self, Batch, Exemplars, Keeps, Learner, Loss, MEMORY, Method, MethodSpec, Rounding, TaskData, exemplars_per_class,
};
use engram::data;
use engram::experiment::{Config, run, sink::Silent};
use engram::ops::Mode;
use engram::rng::{Purpose, Rng};
use engram::settings::Setting;
use engram::{Device, Result};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

/// K images in all, drawn at random and shared evenly among the classes seen; trained on beside the new ones.
struct Replay {
    /// K.
    budget: usize,
    /// How often an epoch uses a stored image; as often as balances them with the new ones if `None`.
    times: Option<usize>,
    /// By class, in random order: the first m are what a smaller share keeps.
    memory: Exemplars,
}

impl Method for Replay {
    /// The loss of one batch: what fine-tuning has too. The rest of the method is what it is shown.
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
        Ok(Loss::single("cross_entropy", logits.cross_entropy(&batch.labels, batch.n_seen)?))
    }

    /// An epoch goes through the new images and as often through the memory as makes about as many: a sample that is listed
    /// twice is used twice.
    fn training_set(&self, task: &TaskData) -> Vec<u32> {
        let (new, old) = (task.samples.concat(), self.memory.0.concat());
        let n_times = self.times.unwrap_or(new.len() / old.len().max(1));
        [new, old.repeat(n_times.max(1))].concat()
    }

    /// Every class may keep m = K/classes images: old ones give some up, new ones are drawn.
    fn end_task(&mut self, _learner: &Learner, task: &TaskData) -> Result<()> {
        let m = exemplars_per_class(self.budget, task.n_seen, Rounding::Ceil);
        for samples in &task.samples {
            let mut samples = samples.clone();
            Rng::keyed(1, Purpose::Memory, self.memory.0.len() as u64).shuffle(&mut samples);
            self.memory.0.push(samples);
        }
        self.memory.0.iter_mut().for_each(|samples| samples.truncate(m));
        Ok(())
    }

    /// What stays from batch to batch: checkpoints, the bytes in tables and the picture of exemplars follow from it.
    fn keeps(&mut self) -> Keeps<'_> {
        vec![("memory", &mut self.memory)]
    }
}

/// A setting of its own: the flag `--times`, its help, its check and its field in config.json come from this row.
const TIMES: Setting =
    Setting::whole("times", "N", "How often an epoch uses a stored image").open("as often as balances them");

/// The row that the crate's table would have.
static REPLAY: MethodSpec = MethodSpec {
    name: "replay",
    summary: "random exemplars, trained on beside the new images",
    paper: "Chaudhry et al., 2019",
    options: &[MEMORY, TIMES],
    build: |settings| {
        let (budget, times) = (settings.get("memory"), settings.find("times"));
        Box::new(Replay { budget, times, memory: Exemplars::default() })
    },
    ..MethodSpec::BASE
};

fn main() -> ExitCode {
    continual::register(&REPLAY).expect("the name is free");
    if std::env::args().len() > 1 {
        return cli::main();
    }
    match beside_finetuning() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn beside_finetuning() -> Result<()> {
    let dataset = data::spec("glyphs")?.load(Path::new("unused: the set is built in"))?;
    println!("ten classes in five tasks of two, 200 images each; accuracy on the test images of all classes\n");
    println!("{:<10} {:>8} {:>12} {:>12}", "method", "final", "forgetting", "memory KiB");
    let mut finals = Vec::new();
    for method in [continual::spec("finetune")?, &REPLAY] {
        // What is not set here is the data set's own recipe; the same settings as the flags of the command line.
        let mut settings = vec![("model", "mlp"), ("limit_per_task", "200"), ("epochs", "6")];
        if method.uses_memory() {
            settings.push(("memory", "100"));
        }
        let config = Config::of(method, &settings)?;
        // No folder: nothing is written. `Silent` drops the events that `report::Console` would print.
        let metrics = run(&config, &dataset, &Device::cpu(), None, &mut Silent, &AtomicBool::new(false))?;
        let result = &metrics.classifiers["network"];
        let (last, forgetting) =
            (result.final_accuracy().expect("five tasks"), result.forgetting().expect("five tasks"));
        let kib = metrics.memory_bytes.last().expect("five tasks").total as f64 / 1024.0;
        println!("{:<10} {:>6.1} % {:>10.1} % {kib:>12.1}", method.name, 100.0 * last, 100.0 * forgetting);
        finals.push(last);
    }
    assert!(finals[1] > finals[0], "replay should forget less than fine-tuning");
    Ok(())
}
