//! Memory does not grow during a long training, neither on the host nor on the device. To print the figures:
//! `cargo test --release --test steady -- --nocapture`

mod common;

use engram::continual::Learner;
use engram::data::{self, Augment, Dataset, Loader, Plan};
use engram::device::Counters;
use engram::models::Network;
use engram::ops::Mode;
use engram::optim::{Kind, Optimizer};
use engram::{Device, Tensor};
use std::path::Path;
use std::sync::Arc;

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

/// Trains as the runner does: loader thread, replayed batches whose last is smaller, losses read now and then.
fn train(device: &Device, dataset: &Dataset, batch_size: usize, n_steps: usize) -> Vec<Snapshot> {
    let input = [1, dataset.train.height, dataset.train.width];
    let network = Network::new("mlp", input, 10, device, 1).unwrap();
    let mut optimizer = Optimizer::new(Kind::Adam, 0.9, 1e-4, &network.parameters).unwrap();
    let learner = Learner::new(network, device, dataset).unwrap();
    let samples: Vec<u32> = (0..10 * batch_size as u32 + 1).collect();
    let plan = Plan {
        images: dataset.train.clone(),
        samples: Arc::new(samples),
        label_of_class: Arc::new((0..10).collect()),
        batch_size,
        seed: 1,
        first_epoch: 0,
        n_epochs: n_steps.div_ceil(11) as u64,
        augment: Augment::default(),
        drop_last: false,
    };
    let mut snapshots = Vec::new();
    for (step, (_, batch)) in Loader::new(plan).unwrap().take(n_steps).enumerate() {
        let x = learner.input(&batch).unwrap();
        let labels = Tensor::from_u32(device, [batch.len()], &batch.labels).unwrap();
        let loss = learner.network.forward(&x, Mode::Train).unwrap().logits.cross_entropy(&labels, 10).unwrap();
        learner.network.parameters.backward(&loss).unwrap();
        optimizer.step(&learner.network.parameters, 1e-4).unwrap();
        device.flush().unwrap();
        if step % 50 == 0 {
            assert!(loss.item().unwrap().is_finite());
        }
        if (step + 1) % (n_steps / 10) == 0 {
            device.synchronize().unwrap();
            snapshots.push(Snapshot { step: step + 1, resident: resident_bytes(), counters: device.counters() });
        }
    }
    assert_eq!(snapshots.len(), 10);
    snapshots
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
