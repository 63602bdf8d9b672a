//! Memory does not grow during a long training, neither on the host nor on the device. To print the figures:
//! `cargo test --release --test steady -- --nocapture`

mod common;

use engram::continual::Learner;
use engram::data::{self, Augment, Dataset};
use engram::device::Counters;
use engram::models::Network;
use engram::nn::Loss;
use engram::ops::Mode;
use engram::optim::{Decay, Kind, Optimizer, Velocity};
use engram::training::{Log, Objective, Recipe, Schedule, Silent, Step, TermRecord, Trainee, Trainer, batches_from};
use engram::{Device, Tensor};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Bytes of main memory the process holds now; `None` where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Memory after some of the steps: resident bytes, and what the device has made.
#[derive(Clone, Copy, Debug)]
struct Snapshot {
    step: usize,
    resident: Option<u64>,
    counters: Counters,
}

/// Plain classification of the loader's batches, and memory after each tenth of the steps.
struct Watched {
    learner: Learner,
    optimizer: Optimizer,
    snapshots: Vec<Snapshot>,
    n_records: usize,
}

impl Objective for Watched {
    type Batch = data::Batch;

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        vec![Trainee { parameters: &self.learner.network.parameters, optimizer: &mut self.optimizer }]
    }

    fn loss(&mut self, images: data::Batch, _: Step) -> engram::Result<Loss> {
        let labels = Tensor::from_u32(&self.learner.device, [images.len()], &images.labels)?;
        let logits = self.learner.network.forward(&self.learner.input(&images)?, Mode::Train)?.logits;
        Ok(Loss::single("cross_entropy", logits.cross_entropy(&labels, 10)?))
    }

    fn record(&mut self, _: TermRecord) {
        self.n_records += 1;
    }

    fn measure(&mut self, step: Step) -> engram::Result<()> {
        if (step.index + 1).is_multiple_of(step.n_steps() / 10) {
            self.learner.device.synchronize()?;
            let counters = self.learner.device.counters();
            self.snapshots.push(Snapshot { step: step.index + 1, resident: resident_bytes(), counters });
        }
        Ok(())
    }
}

/// Trains as runs do: loader thread, batches whose last is smaller, losses written down and read now and then.
fn train(device: &Device, dataset: &Dataset, batch_size: usize, n_steps: usize) -> Vec<Snapshot> {
    let input = [1, dataset.train.height, dataset.train.width];
    let network = Network::new("mlp", input, 10, device, 1).unwrap();
    let recipe = Recipe {
        epochs: n_steps / 10,
        batch_size,
        drop_last: false,
        schedule: Schedule::constant(1e-4),
        optimizer: Kind::Adam,
        momentum: 0.9,
        velocity: Velocity::Gradients,
        weight_decay: 1e-4,
        decay: Decay::Weights,
    };
    let optimizer = recipe.optimizer(&network.parameters).unwrap();
    let samples = (0..9 * batch_size as u32 + 1).collect();
    let batches = recipe.batches(dataset.train.clone(), samples, (0..10).collect(), Augment::default(), 1, 0);
    let mut plan = recipe.plan("a long one", &batches);
    plan.log = Some(Log::for_curve(n_steps));
    let learner = Learner::new(network, device, dataset).unwrap();
    let mut watched = Watched { learner, optimizer, snapshots: Vec::new(), n_records: 0 };
    let (mut listener, never) = (Silent, AtomicBool::new(false));
    let batches = batches_from(batches, 0).unwrap();
    Trainer::new(device, &mut listener, &never).run(&plan, batches, &mut watched).unwrap();
    assert_eq!((watched.snapshots.len(), watched.n_records), (10, n_steps / 50));
    watched.snapshots
}

/// From the second tenth on nothing may be made, and the host may grow by no more than `slack` bytes.
fn assert_steady(what: &str, snapshots: &[Snapshot], slack: u64) {
    let (first, last) = (snapshots[1], snapshots[9]);
    for snapshot in snapshots {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let Counters { held_bytes, allocations, pipelines, bind_groups, .. } = snapshot.counters;
        println!(
            "{what}, step {:>6}: host {:.1} MiB, device {:.2} MiB in {allocations} buffers, {pipelines} pipelines, \
             {bind_groups} bind groups",
            snapshot.step,
            mib(snapshot.resident.unwrap_or(0)),
            mib(held_bytes)
        );
    }
    let made = |s: Snapshot| {
        let Counters { allocations, allocated_bytes, held_bytes, pipelines, bind_groups, .. } = s.counters;
        [allocations, allocated_bytes, held_bytes, pipelines, bind_groups]
    };
    assert_eq!(made(first), made(last), "{what}: buffers, bytes ever, bytes now, pipelines, bind groups");
    if let (Some(first), Some(last)) = (first.resident, last.resident) {
        assert!(last <= first + slack, "{what}: the host's memory grew from {first} to {last} bytes");
    }
}

/// The built-in set, every third pixel of every third row: a tiny network for software adapters.
fn tiny() -> Dataset {
    let whole = glyphs();
    let mut images = (*whole.train).clone();
    let (h, w) = (images.height.div_ceil(3), images.width.div_ceil(3));
    let shrink = |image: usize| {
        let image = whole.train.image(image);
        let at = |i: usize| image[3 * (i / w) * 28 + 3 * (i % w)];
        (0..h * w).map(at).collect::<Vec<u8>>()
    };
    images.pixels = (0..images.len()).flat_map(shrink).collect();
    (images.height, images.width) = (h, w);
    Dataset { train: Arc::new(images), ..whole }
}

fn glyphs() -> Dataset {
    data::spec("glyphs").unwrap().load(Path::new("unused")).unwrap()
}

/// Allocators keep what they were given for a while: a leak of one tensor a step would be tens of megabytes.
const SLACK: u64 = 4 << 20;

/// One device after the other: the memory of the process is that of both.
#[test]
fn ten_thousand_steps_need_no_more_memory() {
    assert_steady("cpu", &train(&Device::cpu(), &glyphs(), 32, 10_000), SLACK);
    if let Some(gpu) = common::gpu(false) {
        assert_steady("gpu", &train(&gpu, &tiny(), 8, 10_000), SLACK);
    }
}
