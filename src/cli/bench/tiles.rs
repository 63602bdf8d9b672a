//! `engram bench tiles`: every tile that a product or a convolution could take, timed on this adapter.

use super::{go_on, random};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::{Candidate, Conv2d, conv2d_candidates, matmul_candidates};
use serde::Serialize;
use std::time::Instant;

/// A candidate and its time.
#[derive(Serialize)]
struct Row {
    /// The product or the pass of a convolution.
    case: String,
    tile: String,
    /// Per launch, of launches that follow each other.
    us: f64,
    tflops: f64,
    /// What the planner takes.
    chosen: bool,
}

/// Launches per measurement.
const LAUNCHES: usize = 20;

/// Products of square matrices, and convolutions by channels, image side, out-channels, kernel and stride: the layers of ResNet-32,
/// ResNet-18, VGG11 and cnn5.
const PRODUCTS: [usize; 4] = [512, 1024, 2048, 4096];
const CONVOLUTIONS: [[usize; 5]; 21] = [
    [16, 32, 16, 3, 1],
    [32, 16, 32, 3, 1],
    [64, 8, 64, 3, 1],
    [64, 32, 64, 3, 1],
    [128, 16, 128, 3, 1],
    [128, 8, 256, 3, 1],
    [256, 8, 256, 3, 1],
    [256, 4, 512, 3, 1],
    [512, 4, 512, 3, 1],
    [512, 2, 512, 3, 1],
    [16, 32, 32, 3, 2],
    [32, 16, 64, 3, 2],
    [64, 32, 128, 3, 2],
    [256, 8, 512, 3, 2],
    [64, 32, 128, 1, 2],
    [3, 32, 16, 3, 1],
    [3, 32, 64, 3, 1],
    [64, 16, 128, 3, 1],
    [1, 28, 32, 5, 1],
    [32, 14, 64, 5, 1],
    [64, 16, 64, 1, 1],
];

/// Times all cases at this batch size, `repeat` measurements of each, of which the median counts; and prints them.
pub fn run(device: &Device, batch: usize, repeat: usize, json: bool) -> Result<()> {
    let rows = measure(device, batch, repeat)?;
    if json {
        println!("{}", serde_json::to_string(&rows).expect("bug: a bench row is no JSON"));
    } else {
        println!("{}, median of {repeat}", device.describe());
        print(&rows);
    }
    Ok(())
}

fn measure(device: &Device, batch: usize, repeat: usize) -> Result<Vec<Row>> {
    let Device::Gpu(gpu) = device else {
        return Err(Error::usage("tiles are kernels of a GPU: give --device gpu"));
    };
    let mut rows = Vec::new();
    for n in PRODUCTS.into_iter().filter(|&n| n <= 32 * batch) {
        let (a, b) = (random(device, [n, n], 0)?, random(device, [n, n], 1)?);
        let flop = 2.0 * (n as f64).powi(3);
        for (name, ta, tb) in [("a·b", false, false), ("a·bᵀ", false, true), ("aᵀ·b", true, false)] {
            let candidates = matmul_candidates(gpu, (&a, ta), (&b, tb))?;
            time(device, &format!("matmul {name} {n}"), flop, &candidates, repeat, &mut rows)?;
        }
    }
    for [c, side, o, kernel, stride] in CONVOLUTIONS {
        let geometry = Conv2d::new(stride, kernel / 2);
        let x = random(device, [batch, c, side, side], 0)?;
        let weight = random(device, [o, c, kernel, kernel], 1)?;
        let out = side.div_ceil(stride);
        let dy = random(device, [batch, o, out, out], 2)?;
        let flop = 2.0 * (batch * out * out * o * c * kernel * kernel) as f64;
        let passes = conv2d_candidates(gpu, &x, &weight, dy.array(), geometry)?;
        for (pass, candidates) in ["forward", "d input", "d weight"].into_iter().zip(&passes) {
            let case = format!("conv {kernel}x{kernel} {c}->{o} @{side} s{stride} {pass}");
            time(device, &case, flop, candidates, repeat, &mut rows)?;
        }
    }
    Ok(rows)
}

fn time(
    device: &Device,
    case: &str,
    flop: f64,
    candidates: &[Candidate],
    repeat: usize,
    rows: &mut Vec<Row>,
) -> Result<()> {
    for Candidate { run, .. } in candidates {
        go_on()?;
        run()?;
    }
    device.synchronize()?;
    for Candidate { label, chosen, run } in candidates {
        let mut seconds = Vec::new();
        for _ in 0..repeat {
            go_on()?;
            let started = Instant::now();
            for _ in 0..LAUNCHES {
                run()?;
            }
            device.synchronize()?;
            seconds.push(started.elapsed().as_secs_f64() / LAUNCHES as f64);
        }
        seconds.sort_by(f64::total_cmp);
        let median = seconds[repeat / 2];
        rows.push(Row {
            case: case.into(),
            tile: label.clone(),
            us: 1e6 * median,
            tflops: flop / median / 1e12,
            chosen: *chosen,
        });
    }
    Ok(())
}

/// A table by case, quickest first; the planner's choice is marked.
fn print(rows: &[Row]) {
    for case in rows.chunk_by(|a, b| a.case == b.case) {
        println!("{}", case[0].case);
        let mut sorted: Vec<&Row> = case.iter().collect();
        sorted.sort_by(|a, b| a.us.total_cmp(&b.us));
        for Row { tile, us, tflops, chosen, .. } in sorted {
            let mark = if *chosen { " <- chosen" } else { "" };
            println!("  {tile:<28} {us:>10.1} us {tflops:>8.2} TFLOP/s{mark}");
        }
    }
}
