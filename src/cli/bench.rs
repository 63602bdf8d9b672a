//! `engram bench`: medians of ops and training steps.

use super::{DeviceArgs, tiles, use_threads, warn};
use crate::device::{Array, Counters, Device};
use crate::distill::{self, Distiller, SchemeSpec};
use crate::error::{Error, Result};
use crate::models::{self, Network};
use crate::ops::{Conv2d, Mode};
use crate::optim::{Kind, Optimizer};
use crate::rng::{Purpose, Rng};
use crate::shape::Shape;
use crate::tensor::{Tensor, no_grad, random_cotangent};
use clap::{Args, Subcommand};
use serde::Serialize;
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
        /// A name from `engram models`
        #[arg(long, value_name = "NAME", default_value = "cnn5")]
        model: String,
        /// Factor on the channels of every layer
        #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
        width: f32,
        /// Images per step
        #[arg(long, value_name = "N", default_value_t = 128)]
        batch_size: usize,
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
    /// CPU threads [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    ms: f64,
    gflops: f64,
    /// Per repetition.
    dispatches: u64,
    /// Bytes of newly created buffers per repetition.
    allocated_bytes: u64,
    /// Bytes of all buffers, in use or kept for use: the most that was needed at once.
    held_bytes: u64,
}

/// Times and prints.
pub fn run(command: &BenchCommand) -> Result<()> {
    let (BenchCommand::Op { common, .. }
    | BenchCommand::Step { common, .. }
    | BenchCommand::Tiles { common, .. }
    | BenchCommand::Distill { common, .. }) = command;
    if common.repeat == 0 {
        return Err(Error::usage("--repeat must be at least 1"));
    }
    if common.threads == Some(0) {
        return Err(Error::usage("--threads must be at least 1"));
    }
    use_threads(common.threads);
    let (device, warning) = common.device.open()?;
    if let Some(warning) = warning {
        warn(&warning);
    }
    if let BenchCommand::Tiles { batch_size: batch_size @ 1.., .. } = command {
        let rows = tiles::run(&device, *batch_size, common.repeat)?;
        if common.json {
            println!("{}", serde_json::to_string(&rows).expect("bug: a bench row is no JSON"));
        } else {
            println!("{}, median of {}", device.describe(), common.repeat);
            tiles::print(&rows);
        }
        return Ok(());
    }
    let rows = match command {
        BenchCommand::Op { size: 0, .. }
        | BenchCommand::Step { batch_size: 0, .. }
        | BenchCommand::Tiles { batch_size: 0, .. }
        | BenchCommand::Distill { batch_size: 0, .. } => {
            return Err(Error::usage("the size must be at least 1"));
        }
        BenchCommand::Tiles { .. } => unreachable!("tiles have a table of their own"),
        BenchCommand::Op { name, size, .. } => match name.as_str() {
            "matmul" => matmul(&device, *size, common.repeat)?,
            "conv2d" => conv2d(&device, *size, common.repeat)?,
            "elementwise" => elementwise(&device, *size, common.repeat)?,
            _ => {
                let message = format!("unknown op '{name}': there are matmul, conv2d, elementwise");
                return Err(Error::usage(message));
            }
        },
        BenchCommand::Step { model, width, batch_size, .. } => {
            let options = models::Options { width: *width, ..models::Options::default() };
            step(&device, model, &options, *batch_size, common.repeat)?
        }
        BenchCommand::Distill { scheme, teacher, student, width, batch_size, .. } => {
            let options = models::Options { width: *width, ..models::Options::default() };
            distill(&device, distill::spec(scheme)?, [teacher, student], &options, *batch_size, common.repeat)?
        }
    };
    if common.json {
        println!("{}", serde_json::to_string(&rows).expect("bug: a bench row is no JSON"));
        return Ok(());
    }
    println!("{}, median of {}", device.describe(), common.repeat);
    println!("{:<44} {:>10} {:>9} {:>11} {:>10} {:>9}", "", "ms", "GFLOP/s", "dispatches", "new bytes", "MiB held");
    for Row { name, ms, gflops, dispatches, allocated_bytes, held_bytes } in rows {
        let held = held_bytes as f64 / (1 << 20) as f64;
        println!("{name:<44} {ms:>10.3} {gflops:>9.1} {dispatches:>11} {allocated_bytes:>10} {held:>9.1}");
    }
    Ok(())
}

/// Runs `f` twice to warm up, then times it; waits for the device each time.
fn time(device: &Device, name: String, flop: f64, repeat: usize, mut f: impl FnMut() -> Result<()>) -> Result<Row> {
    for _ in 0..2 {
        f()?;
        device.synchronize()?;
    }
    let before = device.counters();
    let mut seconds = Vec::new();
    for _ in 0..repeat {
        let started = Instant::now();
        f()?;
        device.synchronize()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    let Counters { dispatches, allocated_bytes, held_bytes, .. } = device.counters();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[repeat / 2];
    Ok(Row {
        name,
        ms: 1e3 * median,
        gflops: flop / median / 1e9,
        dispatches: (dispatches - before.dispatches) / repeat as u64,
        allocated_bytes: (allocated_bytes - before.allocated_bytes) / repeat as u64,
        held_bytes,
    })
}

pub(super) fn random(device: &Device, shape: impl Into<Shape>, counter: u64) -> Result<Tensor> {
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
        rows.push(time(device, name("forward"), flop, repeat, || x.conv2d(&w, None, geometry).map(drop))?);
        for (pass, x, w) in [("d input", x.with_gradient(), w.clone()), ("d weight", x.clone(), w.with_gradient())] {
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
        time(device, name("max_pool2d"), n, repeat, || x.max_pool2d(2, 2).map(drop))?,
        time(device, name("sum"), n, repeat, || x.sum().map(drop))?,
    ])
}

fn step(device: &Device, model: &str, options: &models::Options, batch: usize, repeat: usize) -> Result<Vec<Row>> {
    let input = models::spec(model)?.input;
    let network = Network::with_options(model, options, input, 10, device, 1)?;
    let mut optimizer = Optimizer::new(Kind::Sgd, 0.9, 0.0, &network.parameters)?;
    let x = random(device, [batch, input[0], input[1], input[2]], 0)?;
    let labels: Vec<u32> = (0..batch as u32).map(|i| i % 10).collect();
    let labels = Tensor::from_u32(device, [batch], &labels)?;
    let name = format!("step {model} batch {batch}");
    let flop = network.training_flop() * batch as f64;
    let row = time(device, name, flop, repeat, || {
        let loss = network.forward(&x, Mode::Train)?.logits.cross_entropy(&labels, 10)?;
        network.parameters.backward(&loss)?;
        optimizer.step(&network.parameters, 0.01)
    })?;
    Ok(vec![row])
}

/// A whole step, its two parts alone, and by how much it is more than their sum.
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
    let (teacher_network, student_network) = (network(teacher, 1)?, network(student, 2)?);
    let mut optimizer = Optimizer::new(Kind::Sgd, 0.9, 0.0, &student_network.parameters)?;
    let x = random(device, [batch, input[0], input[1], input[2]], 0)?;
    let labels: Vec<u32> = (0..batch as u32).map(|i| i % 10).collect();
    let labels = Tensor::from_u32(device, [batch], &labels)?;
    let teacher_flop = (2 * teacher_network.macs) as f64 * batch as f64;
    let student_flop = student_network.training_flop() * batch as f64;
    let mut rows = vec![time(device, format!("forward of the teacher {teacher}"), teacher_flop, repeat, || {
        no_grad(|| teacher_network.forward(&x, Mode::Eval)).map(drop)
    })?];
    rows.push(time(device, format!("step of the student {student}"), student_flop, repeat, || {
        let loss = student_network.forward(&x, Mode::Train)?.logits.cross_entropy(&labels, 10)?;
        student_network.parameters.backward(&loss)?;
        optimizer.step(&student_network.parameters, 1e-4)
    })?);
    let distiller = Distiller::new(spec, spec.settings(), vec![teacher_network], &student_network, device, 1)?;
    let name = format!("step of {} batch {batch}", spec.name);
    rows.push(time(device, name, teacher_flop + student_flop, repeat, || {
        let loss = distiller.loss(&student_network, &x, &labels, 0.5)?.total()?;
        student_network.parameters.backward(&loss)?;
        optimizer.step(&student_network.parameters, 1e-4)
    })?);
    let extra = 100.0 * (rows[2].ms / (rows[0].ms + rows[1].ms) - 1.0);
    rows[2].name += &format!(": {extra:+.1} % on both");
    Ok(rows)
}
