//! `cargo bench`: the engine's parts and a whole step, on the CPU and on an adapter if there is one (a software adapter gets
//! smaller sizes). `cargo bench -- --test` runs each once; `cargo bench -- conv2d` runs those with this name. README.md in this
//! folder has figures and explains them.

use criterion::{BenchmarkId, Criterion, Throughput};
use engram::continual::Learner;
use engram::data::{self, Augment, Plan};
use engram::device::{Array, Options, Selection};
use engram::models::Network;
use engram::ops::{Conv2d, Mode};
use engram::optim::{Kind, Optimizer};
use engram::rng::{Purpose, Rng};
use engram::shape::Shape;
use engram::tensor::{no_grad, random_cotangent};
use engram::training::Trainee;
use engram::{Device, Result, Tensor};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// A device, its name in reports, and how much smaller the sizes are there.
struct Place {
    device: Device,
    name: &'static str,
    shrink: usize,
}

fn places() -> Vec<Place> {
    let mut places = vec![Place { device: Device::cpu(), name: "cpu", shrink: 1 }];
    if let Ok((device, _)) = Selection::Gpu.open(Options::default()) {
        let software = matches!(&device, Device::Gpu(gpu) if gpu.is_software());
        places.push(match software {
            true => Place { device, name: "software adapter", shrink: 4 },
            false => Place { device, name: "gpu", shrink: 1 },
        });
    }
    places
}

fn random(device: &Device, shape: impl Into<Shape>, counter: u64) -> Tensor {
    let shape = shape.into();
    let mut rng = Rng::keyed(0, Purpose::Test, counter);
    let values: Vec<f32> = (0..shape.n_elements()).map(|_| rng.range(-1.0, 1.0)).collect();
    Tensor::from_f32(device, shape, &values).expect("room for an input")
}

impl Place {
    /// Times `f` with the wait for the device; `amount` is FLOP, images or whatever the group counts.
    fn time<R>(&self, c: &mut Criterion, group: &str, what: &str, amount: u64, mut f: impl FnMut() -> Result<R>) {
        let mut group = c.benchmark_group(group);
        group.throughput(Throughput::Elements(amount));
        group.bench_function(BenchmarkId::new(what, self.name), |bencher| {
            bencher.iter(|| {
                black_box(f().expect("a bench runs"));
                self.device.synchronize().expect("the device is there");
            });
        });
        group.finish();
    }

    fn matmul(&self, c: &mut Criterion) {
        let n = 512 / self.shrink;
        let (a, b) = (random(&self.device, [n, n], 0), random(&self.device, [n, n], 1));
        let flop = 2 * (n as u64).pow(3);
        for (name, ta, tb) in [("a·b", false, false), ("a·bᵀ", false, true), ("aᵀ·b", true, false)] {
            self.time(c, "matmul", &format!("{name} {n}³"), flop, || a.matmul_transposed(ta, &b, tb));
        }
    }

    /// The second convolution of cnn5.
    fn conv2d(&self, c: &mut Criterion) {
        let batch = 64 / self.shrink / self.shrink;
        let (x, w) = (random(&self.device, [batch, 32, 14, 14], 0), random(&self.device, [64, 32, 5, 5], 1));
        let flop = 2 * (batch * 14 * 14 * 64 * 32 * 25) as u64;
        let geometry = Conv2d::new(1, 2);
        let name = |pass: &str| format!("{pass} {batch}×32×14×14 5×5 64");
        self.time(c, "conv2d", &name("forward"), flop, || x.conv2d(&w, None, geometry));
        for (pass, x, w) in [("d input", x.with_gradient(), w.clone()), ("d weight", x.clone(), w.with_gradient())] {
            let y = x.conv2d(&w, None, geometry).expect("the shapes fit");
            let dy = Array::from_f32(&self.device, y.shape(), &random_cotangent(y.shape())).expect("room for dy");
            self.time(c, "conv2d", &name(pass), flop, || y.backward_with(dy.clone()));
        }
    }

    /// From bytes in memory to the network's input: the loader on the host, `image_batch` on the device.
    fn batches(&self, c: &mut Criterion) {
        let dataset =
            data::spec("glyphs").and_then(|spec| spec.load("built in".as_ref())).expect("the set is built in");
        let network = Network::new("mlp", [1, 28, 28], 10, &self.device, 1).expect("room for a network");
        let learner = Learner::new(network, &self.device, &dataset).expect("room for the means");
        let plan = Plan {
            images: dataset.train.clone(),
            samples: Arc::new((0..128).collect()),
            label_of_class: Arc::new((0..10).collect()),
            batch_size: 128,
            seed: 1,
            first_epoch: 0,
            n_epochs: 1,
            augment: Augment { pad: 4, flip: true, scale: false },
            drop_last: false,
        };
        let assemble = || plan.clone().batches().map(|mut batches| batches.next().expect("a batch").1);
        if matches!(self.device, Device::Cpu(_)) {
            self.time(c, "batch", "assemble 128×1×28×28, crop and flip", 128, assemble);
        }
        let batch = assemble().expect("a batch");
        self.time(c, "batch", "to the device 128×1×28×28", 128, || learner.input(&batch));
    }

    /// Exemplars of a class of MNIST's size.
    fn herding(&self, c: &mut Criterion) {
        let (n, m) = (5000 / self.shrink, 200 / self.shrink);
        let features = random(&self.device, [n, 128], 0).l2_normalize().expect("room for features");
        let distances = (n * m) as u64;
        self.time(c, "herding", &format!("{m} of {n}×128"), distances, || features.herding(m)?.to_u32());
    }

    fn step(&self, c: &mut Criterion) {
        let batch = 64 / self.shrink / self.shrink;
        let network = Network::new("cnn5", [1, 28, 28], 10, &self.device, 1).expect("room for a network");
        let mut optimizer = Optimizer::new(Kind::Sgd, 0.9, 0.0, &network.parameters).expect("room for its state");
        let x = random(&self.device, [batch, 1, 28, 28], 0);
        let labels: Vec<u32> = (0..batch as u32).map(|i| i % 10).collect();
        let labels = Tensor::from_u32(&self.device, [batch], &labels).expect("room for labels");
        let flop = (network.training_flop() * batch as f64) as u64;
        self.time(c, "step", &format!("cnn5 batch {batch}"), flop, || {
            let loss = network.forward(&x, Mode::Train)?.logits.cross_entropy(&labels, 10)?;
            Trainee { parameters: &network.parameters, optimizer: &mut optimizer }.learn(&loss, 0.01)
        });
        let name = format!("cnn5 forward alone, batch {batch}");
        self.time(c, "step", &name, network.macs * 2 * batch as u64, || no_grad(|| network.forward(&x, Mode::Eval)));
    }
}

fn main() {
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    for place in places() {
        place.matmul(&mut c);
        place.conv2d(&mut c);
        place.batches(&mut c);
        place.herding(&mut c);
        place.step(&mut c);
    }
    c.final_summary();
}
