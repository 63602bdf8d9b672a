//! `engram bench`: medians of ops and training steps.

mod record;
mod tiles;

use super::{DeviceArgs, INTERRUPTED, use_threads, warn};
use crate::device::{Array, Counters, Device, HostTime, KernelUse, Trace, kernel_table};
use crate::distill::{self, SchemeSpec, Student};
use crate::error::{Error, Result};
use crate::models::{self, Network, OutputKind};
use crate::nn::Parameters;
use crate::ops::{Conv2d, Mode};
use crate::optim::{Kind, Optimizer};
use crate::rng::{Purpose, Rng};
use crate::shape::Shape;
use crate::tensor::{Tensor, no_grad, random_cotangent};
use crate::training::{CrossEntropy, Objective, Step, learn};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Time an op: matmul, conv2d (forward and both gradients) or elementwise
    Op {
        /// matmul, conv2d, elementwise
        name: String,
        /// Rows, columns and depth of matmul; batch of the others
        #[arg(default_value_t = 512)]
        size: usize,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// Time a training step: forward, cross-entropy, backward, SGD with momentum
    Step {
        /// A name from `engram models`, or all for one after the other
        #[arg(long, value_name = "NAME", default_value = "cnn5")]
        model: String,
        /// Factor on the channels of every layer
        #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
        width: f32,
        /// Images per step
        #[arg(long, value_name = "N", default_value_t = 128)]
        batch_size: usize,
        /// Print how often each kernel runs in a step and how many bytes it moves
        #[arg(long)]
        traffic: bool,
        /// Print how long each kernel of a step takes, too; steps are slower then
        #[arg(long)]
        trace: bool,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// Time what the host does for a step: recording launches, encoding and submitting them; kernels do not run
    Record {
        /// Launches
        #[arg(default_value_t = 300)]
        launches: usize,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// Time every tile that a matrix product or a convolution could take on this adapter, and mark the one it takes
    Tiles {
        /// Images per step
        #[arg(long, value_name = "N", default_value_t = 128)]
        batch_size: usize,
        #[command(flatten)]
        common: BenchArgs,
    },
    /// Time a distillation step beside what it is made of: the teacher's forward pass and the student's own step
    Distill {
        /// A name from `engram distill list`
        #[arg(long, value_name = "NAME", default_value = "hinton")]
        scheme: String,
        /// A name from `engram models`
        #[arg(long, value_name = "NAME", default_value = "cnn5")]
        teacher: String,
        /// A name from `engram models`
        #[arg(long, value_name = "NAME", default_value = "cnn5")]
        student: String,
        /// Factor on the channels of every layer of both
        #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
        width: f32,
        /// Images per step
        #[arg(long, value_name = "N", default_value_t = 128)]
        batch_size: usize,
        #[command(flatten)]
        common: BenchArgs,
    },
}

#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Timed repetitions; the median is printed
    #[arg(long, value_name = "N", default_value_t = 10)]
    repeat: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the JSON to a file, beside the table
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    json_file: Option<PathBuf>,
    /// CPU threads [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl BenchArgs {
    /// Where it is wanted.
    fn write_json(&self, figures: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(figures).expect("bug: a bench row is no JSON");
        match &self.json_file {
            Some(path) => std::fs::write(path, text + "\n").map_err(Error::io(path, "write")),
            None if self.json => {
                println!("{text}");
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[derive(Serialize)]
struct Row {
    name: String,
    ms: f64,
    /// The first time, with all that is made once: kernels are compiled, buffers made.
    first_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Host>,
    gflops: f64,
    /// Per repetition.
    dispatches: u64,
    /// Bytes of newly created buffers per repetition.
    allocated_bytes: u64,
    /// Bytes of all buffers, in use or kept for use: the most that was needed at once.
    held_bytes: u64,
    /// Per repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernels: Option<Vec<KernelUse>>,
}

/// What the host does until everything is submitted, in milliseconds, without waits.
#[derive(Clone, Copy, Serialize)]
struct Host {
    /// The tape, the ops, buffers from the pool; launches are noted, their bind groups found.
    record_ms: f64,
    /// wgpu turns launches into commands of the driver.
    encode_ms: f64,
    /// wgpu and the driver hand them to the queue. A software adapter may do its work here.
    submit_ms: f64,
}

impl Host {
    /// Of that many milliseconds on the whole, between two readings of the counters.
    fn between(before: HostTime, after: HostTime, whole_ms: f64) -> Host {
        let ms = |of: fn(HostTime) -> u64| (of(after) - of(before)) as f64 / 1e6;
        let (encode_ms, submit_ms) = (ms(|host| host.encoding), ms(|host| host.submitting));
        let others = encode_ms + submit_ms + ms(|host| host.waiting) + ms(|host| host.compiling);
        Host { record_ms: whole_ms - others, encode_ms, submit_ms }
    }

    fn sum(&self) -> f64 {
        self.record_ms + self.encode_ms + self.submit_ms
    }
}

impl Row {
    fn print(&self) {
        let Row { name, ms, first_ms, host, gflops, dispatches, held_bytes, kernels, .. } = self;
        let host_ms = host.map_or("–".into(), |host| format!("{:.3}", host.sum()));
        let held = *held_bytes as f64 / f64::from(1 << 20);
        println!("{name:<31} {ms:>9.3} {gflops:>8.1} {dispatches:>8} {host_ms:>6} {first_ms:>6.0} {held:>6.0}");
        if let Some(kernels) = kernels {
            println!("\n{}", kernel_table(kernels));
        }
    }
}

/// Times and prints.
pub fn run(command: &BenchCommand) -> Result<()> {
    let (BenchCommand::Op { common, .. }
    | BenchCommand::Step { common, .. }
    | BenchCommand::Tiles { common, .. }
    | BenchCommand::Record { common, .. }
    | BenchCommand::Distill { common, .. }) = command;
    if common.repeat == 0 {
        return Err(Error::usage("--repeat must be at least 1"));
    }
    if common.threads == Some(0) {
        return Err(Error::usage("--threads must be at least 1"));
    }
    use_threads(common.threads);
    let trace = matches!(command, BenchCommand::Step { trace: true, .. });
    let open = || common.device.open_with(if trace { Trace::Totals } else { Trace::Off });
    let (device, warning) = open()?;
    if let Some(warning) = warning {
        warn(&warning);
    }
    if let BenchCommand::Op { size: 0, .. }
    | BenchCommand::Step { batch_size: 0, .. }
    | BenchCommand::Tiles { batch_size: 0, .. }
    | BenchCommand::Record { launches: 0, .. }
    | BenchCommand::Distill { batch_size: 0, .. } = command
    {
        return Err(Error::usage("the size must be at least 1"));
    }
    if let BenchCommand::Tiles { batch_size, .. } = command {
        return tiles::run(&device, *batch_size, common.repeat, common.json);
    }
    if let BenchCommand::Record { launches, .. } = command {
        return record::run(&device, *launches, common);
    }
    if !common.json {
        let [name, unit] = [device.describe(), format!("median of {}, in ms", common.repeat)];
        println!("{name}, {unit}");
        let columns = ["", "ms", "GFLOP/s", "launches", "host", "first", "MiB"];
        let [what, ms, gflops, dispatches, host, first, held] = columns;
        println!("{what:<31} {ms:>9} {gflops:>8} {dispatches:>8} {host:>6} {first:>6} {held:>6}");
    }
    let mut all = Vec::new();
    let mut tell = |rows: Vec<Row>| {
        if !common.json {
            rows.iter().for_each(Row::print);
        }
        all.extend(rows);
    };
    match command {
        BenchCommand::Op { name, size, .. } => tell(match name.as_str() {
            "matmul" => matmul(&device, *size, common.repeat)?,
            "conv2d" => conv2d(&device, *size, common.repeat)?,
            "elementwise" => elementwise(&device, *size, common.repeat)?,
            _ => {
                let message = format!("unknown op '{name}': there are matmul, conv2d, elementwise");
                return Err(Error::usage(message));
            }
        }),
        BenchCommand::Step { model, width, batch_size, traffic, trace, .. } => {
            let options = models::Options { width: *width, ..models::Options::default() };
            let profiled = *traffic || *trace;
            if model == "all" {
                drop(device);
                for spec in models::all() {
                    // A device of its own: what it holds is then what this model needs.
                    let (device, _) = open()?;
                    tell(vec![step(&device, spec.name, &options, *batch_size, common.repeat, profiled)?]);
                }
            } else {
                tell(vec![step(&device, model, &options, *batch_size, common.repeat, profiled)?]);
            }
        }
        BenchCommand::Distill { scheme, teacher, student, width, batch_size, .. } => {
            let options = models::Options { width: *width, ..models::Options::default() };
            tell(distill(&device, distill::spec(scheme)?, [teacher, student], &options, *batch_size, common.repeat)?);
        }
        BenchCommand::Tiles { .. } | BenchCommand::Record { .. } => unreachable!("ran above"),
    }
    common.write_json(&all)
}

/// # Errors
/// [`Error::Interrupted`] if so.
fn go_on() -> Result<()> {
    if INTERRUPTED.load(Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// Runs `f` twice to warm up, then times it; waits for the device each time.
fn time(device: &Device, name: String, flop: f64, repeat: usize, mut f: impl FnMut() -> Result<()>) -> Result<Row> {
    let mut timed = || -> Result<(f64, Host)> {
        go_on()?;
        let before = device.counters().host;
        let started = Instant::now();
        f()?;
        device.flush()?;
        let until_submitted = 1e3 * started.elapsed().as_secs_f64();
        let host = Host::between(before, device.counters().host, until_submitted);
        device.synchronize()?;
        Ok((1e3 * started.elapsed().as_secs_f64(), host))
    };
    let (first_ms, _) = timed()?;
    timed()?;
    let before = device.counters();
    let times = (0..repeat).map(|_| timed()).collect::<Result<Vec<_>>>()?;
    let Counters { dispatches, allocated_bytes, held_bytes, .. } = device.counters();
    let ms = median(times.iter().map(|(ms, _)| *ms));
    let part = |of: fn(&Host) -> f64| median(times.iter().map(|(_, host)| of(host)));
    let host = Host {
        record_ms: part(|host| host.record_ms),
        encode_ms: part(|host| host.encode_ms),
        submit_ms: part(|host| host.submit_ms),
    };
    Ok(Row {
        name,
        ms,
        first_ms,
        host: matches!(device, Device::Gpu(_)).then_some(host),
        gflops: flop / ms / 1e6,
        dispatches: (dispatches - before.dispatches) / repeat as u64,
        allocated_bytes: (allocated_bytes - before.allocated_bytes) / repeat as u64,
        held_bytes,
        kernels: None,
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn random(device: &Device, shape: impl Into<Shape>, counter: u64) -> Result<Tensor> {
    let shape = shape.into();
    let mut rng = Rng::keyed(0, Purpose::Test, counter);
    let values: Vec<f32> = (0..shape.n_elements()).map(|_| rng.range(-1.0, 1.0)).collect();
    Tensor::from_f32(device, shape, &values)
}

fn matmul(device: &Device, n: usize, repeat: usize) -> Result<Vec<Row>> {
    let (a, b) = (random(device, [n, n], 0)?, random(device, [n, n], 1)?);
    let flop = 2.0 * (n as f64).powi(3);
    let mut rows = Vec::new();
    for (name, ta, tb) in [("a·b", false, false), ("a·bᵀ", false, true), ("aᵀ·b", true, false)] {
        let name = format!("matmul {name} {n}×{n}×{n}");
        rows.push(time(device, name, flop, repeat, || a.matmul_transposed(ta, &b, tb).map(drop))?);
    }
    Ok(rows)
}

/// The second convolution of cnn5 and of cnn: forward, and each gradient alone.
fn conv2d(device: &Device, batch: usize, repeat: usize) -> Result<Vec<Row>> {
    let batch = batch.min(128);
    let mut rows = Vec::new();
    for kernel in [5, 3] {
        let (x, w) = (random(device, [batch, 32, 14, 14], 0)?, random(device, [64, 32, kernel, kernel], 1)?);
        let flop = 2.0 * (batch * 14 * 14 * 64 * 32 * kernel * kernel) as f64;
        let geometry = Conv2d::new(1, kernel / 2);
        let name = |pass: &str| format!("conv2d {pass} {batch}×32×14×14 {kernel}×{kernel} 64");
        rows.push(time(device, name("y"), flop, repeat, || x.conv2d(&w, None, geometry).map(drop))?);
        for (pass, x, w) in [("dx", x.with_gradient(), w.clone()), ("dw", x.clone(), w.with_gradient())] {
            let y = x.conv2d(&w, None, geometry)?;
            let dy = Array::from_f32(device, y.shape(), &random_cotangent(y.shape()))?;
            rows.push(time(device, name(pass), flop, repeat, || y.backward_with(dy.clone()).map(drop))?);
        }
    }
    Ok(rows)
}

fn elementwise(device: &Device, batch: usize, repeat: usize) -> Result<Vec<Row>> {
    let x = random(device, [batch, 32, 28, 28], 0)?;
    let n = x.n_elements() as f64;
    let name = |op: &str| format!("{op} {}", x.shape());
    Ok(vec![
        time(device, name("relu"), n, repeat, || x.relu().map(drop))?,
        time(device, name("add"), n, repeat, || x.add(&x).map(drop))?,
        time(device, name("max_pool2d"), n, repeat, || x.max_pool2d(2, 2, 0).map(drop))?,
        time(device, name("sum"), n, repeat, || x.sum().map(drop))?,
    ])
}

/// Images for a network and labels of ten classes.
fn images(device: &Device, batch: usize, [c, h, w]: [usize; 3], kind: OutputKind) -> Result<(Tensor, Tensor)> {
    let labels = |n: usize| (0..n as u32).map(|i| i % 10).collect::<Vec<u32>>();
    let labels = match kind {
        OutputKind::Classes => Tensor::from_u32(device, [batch], &labels(batch))?,
        OutputKind::Pixels => Tensor::from_u32(device, [batch, h, w], &labels(batch * h * w))?,
    };
    Ok((random(device, [batch, c, h, w], 0)?, labels))
}

fn sgd(parameters: &Parameters) -> Result<Optimizer> {
    Optimizer::new(Kind::Sgd, 0.9, 0.0, parameters)
}

/// A step in the middle of a training.
fn train(objective: &mut impl Objective<Batch = (Tensor, Tensor)>, images: &(Tensor, Tensor), lr: f32) -> Result<()> {
    let loss = objective.loss(images.clone(), Step { index: 1, per_epoch: 2, n_epochs: 1 })?;
    learn(objective, &loss.total()?, lr)
}

/// One training step; `profiled`, with what its kernels do.
fn step(
    device: &Device,
    model: &str,
    options: &models::Options,
    batch: usize,
    repeat: usize,
    profiled: bool,
) -> Result<Row> {
    let input = models::spec(model)?.input;
    let gpu = match device {
        Device::Gpu(gpu) => profiled.then_some(gpu),
        Device::Cpu(_) if profiled => {
            return Err(Error::usage("--traffic and --trace show GPU dispatches; the CPU has none. Use --device gpu"));
        }
        Device::Cpu(_) => None,
    };
    let network = Network::with_options(model, options, input, 10, device, 1)?;
    let images = images(device, batch, input, network.kind)?;
    let name = format!("step {model} batch {batch}");
    let flop = network.training_flop() * batch as f64;
    let mut objective = CrossEntropy { network: &network, optimizer: sgd(&network.parameters)? };
    let mut one = || train(&mut objective, &images, 0.01);
    let mut row = time(device, name, flop, repeat, &mut one)?;
    if let Some(gpu) = gpu {
        let kernels = gpu.profile(|| (0..repeat).try_for_each(|_| one()))?;
        row.kernels = Some(kernels.into_iter().map(|kernel| kernel.per(repeat as u64)).collect());
    }
    Ok(row)
}

/// A whole step beside what it is made of: the student's own step and, where there is one, the teacher's forward pass.
fn distill(
    device: &Device,
    spec: &'static SchemeSpec,
    [teacher, student]: [&str; 2],
    options: &models::Options,
    batch: usize,
    repeat: usize,
) -> Result<Vec<Row>> {
    let input = models::spec(student)?.input;
    let network = |name, seed| Network::with_options(name, options, input, 10, device, seed);
    let student_network = network(student, 2)?;
    let images = images(device, batch, input, OutputKind::Classes)?;
    let student_flop = student_network.training_flop() * batch as f64;
    let (mut rows, mut teachers, mut teacher_flop) = (Vec::new(), Vec::new(), 0.0);
    if spec.has_teacher() || spec.has_generations() {
        let name = if spec.has_teacher() { teacher } else { student };
        let network = network(name, 1)?;
        teacher_flop = (2 * network.macs) as f64 * batch as f64;
        rows.push(time(device, format!("teacher {name}, forward"), teacher_flop, repeat, || {
            no_grad(|| network.forward(&images.0, Mode::Eval)).map(drop)
        })?);
        teachers.push(network);
    }
    let name = format!("student {student}, step");
    let mut alone = Student::new(&student_network, None, sgd)?;
    rows.push(time(device, name, student_flop, repeat, || train(&mut alone, &images, 1e-4))?);
    let mut companions = spec.companions(&spec.settings(), teachers, &student_network, device, 1)?;
    companions.prepare(&mut std::iter::once_with(|| Ok(images.0.clone())))?;
    let name = format!("{} batch {batch}", spec.name);
    let mut taught = Student::new(&student_network, Some(&*companions), sgd)?;
    rows.push(time(device, name, teacher_flop + student_flop, repeat, || train(&mut taught, &images, 1e-4))?);
    let (whole, parts) = rows.split_last_mut().expect("bug: nothing was timed");
    let sum: f64 = parts.iter().map(|row| row.ms).sum();
    let ratio = whole.ms / sum;
    whole.name += &match parts.len() {
        2 => format!(": {:+.1} % on both", 100.0 * (ratio - 1.0)),
        _ => format!(": {ratio:.2} × the student"),
    };
    Ok(rows)
}
