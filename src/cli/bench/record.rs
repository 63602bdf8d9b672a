//! `engram bench record`: what the host does for launches whose kernels have nothing to do.

use super::{BenchArgs, Host};
use crate::device::{Array, Counters, DType, Device, Grid, Kernel};
use crate::error::{Error, Result};
use crate::ops;
use serde::Serialize;
use std::time::Instant;

/// Kernels in turn: as many as a training step has.
const MAX_KERNELS: usize = 24;
/// Arrays bound in turn; a prime number, so that every launch binds others.
const N_ARRAYS: usize = 499;

#[derive(Serialize)]
struct Figures {
    launches: usize,
    kernels: usize,
    submissions: u64,
    /// Of one round, the least of all.
    #[serde(flatten)]
    host: Host,
    /// The three together.
    host_ms: f64,
    /// Compiling the kernels, before the rounds.
    compile_ms: f64,
}

/// Launches kernels of three to eight bindings without workgroups. The least of several rounds is what it costs: whatever else
/// the machine does only adds to it.
pub fn run(device: &Device, launches: usize, common: &BenchArgs) -> Result<()> {
    let repeat = common.repeat;
    let Device::Gpu(gpu) = device else {
        return Err(Error::usage("bench record times launches on a GPU; the CPU has none. Use --device gpu"));
    };
    let mut kernels: Vec<&'static Kernel> = Vec::new();
    for &kernel in ops::ALL.iter().flat_map(|op| op.kernels) {
        let is_new = !kernels.iter().any(|other| std::ptr::eq(*other, kernel));
        if is_new && kernel.bindings.len() >= 3 && kernels.len() < MAX_KERNELS {
            kernels.push(kernel);
        }
    }
    let arrays = (0..N_ARRAYS).map(|_| Array::empty(device, [64], DType::F32)).collect::<Result<Vec<_>>>()?;
    let round = || -> Result<()> {
        for i in 0..launches {
            let kernel = kernels[i % kernels.len()];
            let mut bound = [&arrays[0]; 8];
            for (j, slot) in bound.iter_mut().enumerate() {
                *slot = &arrays[(7 * i + 31 * j) % N_ARRAYS];
            }
            gpu.launch(kernel, &bound[..kernel.bindings.len()], &[0; 8], Grid::Groups { x: 0, y: 0, z: 0 })?;
        }
        device.flush()
    };
    round()?;
    device.synchronize()?;
    let compile_ms = device.counters().host.compiling as f64 / 1e6;
    let mut times = Vec::new();
    let mut submissions = 0;
    for _ in 0..repeat {
        let before = device.counters();
        let started = Instant::now();
        round()?;
        let whole_ms = started.elapsed().as_secs_f64() * 1e3;
        let Counters { host, submissions: after, .. } = device.counters();
        device.synchronize()?;
        times.push(Host::between(before.host, host, whole_ms));
        submissions = after - before.submissions;
    }
    let least = |part: fn(&Host) -> f64| times.iter().map(part).fold(f64::INFINITY, f64::min);
    let host = Host {
        record_ms: least(|host| host.record_ms),
        encode_ms: least(|host| host.encode_ms),
        submit_ms: least(|host| host.submit_ms),
    };
    let (host_ms, kernels) = (least(Host::sum), kernels.len());
    common.write_json(&Figures { launches, kernels, submissions, host, host_ms, compile_ms })?;
    if common.json {
        return Ok(());
    }
    println!("{}, least of {repeat}: {launches} launches of {kernels} kernels", device.describe());
    println!("{:<44} {:>9} {:>12}", "", "ms", "µs/launch");
    for (what, ms) in [
        ("record (engram)".into(), host.record_ms),
        ("encode (wgpu)".into(), host.encode_ms),
        (format!("submit, {submissions} times (wgpu and the driver)"), host.submit_ms),
        ("the host, all of it".into(), host_ms),
    ] {
        println!("{what:<44} {ms:>9.3} {:>12.3}", 1e3 * ms / launches as f64);
    }
    println!("(compiling the kernels took {compile_ms:.0} ms)");
    if gpu.is_software() {
        println!("(a software adapter does its work, barriers above all, while it is handed over)");
    }
    Ok(())
}
