//! How much each parameter matters, gathered over gradients: sums of squares (Fisher information), of magnitudes (MAS), and
//! the path integral of SI, on flat vectors. Twin: `shaders/importance.wgsl`.

use super::case::{Case, Input, Op};
use super::threads::CHUNK;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/importance.wgsl")];
const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup: Workgroup::Flat, constants: &[] }
}
static SQUARES: Kernel = kernel("importance.squares", "squares", "rw");
static MAGNITUDES: Kernel = kernel("importance.magnitudes", "magnitudes", "rw");
static PATH: Kernel = kernel("importance.path", "path", "rrrw");

/// total_i += factor·g_i². Both of one length.
///
/// # Errors
/// If the lengths differ.
pub fn add_squares(total: &Array, g: &Array, factor: f32) -> Result<()> {
    accumulate(&SQUARES, total, &[g], factor, |_, g| factor * g * g)
}

/// total_i += factor·|g_i|. Both of one length.
///
/// # Errors
/// If the lengths differ.
pub fn add_magnitudes(total: &Array, g: &Array, factor: f32) -> Result<()> {
    accumulate(&MAGNITUDES, total, &[g], factor, |_, g| factor * g.abs())
}

/// total_i −= g_i·(w_i − before_i): what a step has gained along parameter i. All of one length.
///
/// # Errors
/// If the lengths differ.
pub fn add_path(total: &Array, g: &Array, w: &Array, before: &Array) -> Result<()> {
    total.expect_same_device("importance", [g, w, before])?;
    let moved: Option<(_, _)> = match w.device() {
        Device::Cpu(_) => Some((w.cpu(), before.cpu())),
        Device::Gpu(_) => None,
    };
    accumulate(&PATH, total, &[g, w, before], 0.0, |i, g| {
        moved.as_ref().map_or(0.0, |(w, before)| -(g * (w[i] - before[i])))
    })
}

/// total_i += f(i, inputs\[0\]_i), on a GPU by the kernel.
fn accumulate(
    kernel: &'static Kernel,
    total: &Array,
    inputs: &[&Array],
    factor: f32,
    f: impl Fn(usize, f32) -> f32 + Sync,
) -> Result<()> {
    let n = total.n_elements();
    if inputs.iter().any(|array| array.n_elements() != n) {
        return Err(Error::op("importance", format!("{n} importances, but vectors of another length")));
    }
    if inputs.iter().copied().chain([total]).any(|array| array.dtype() != DType::F32) {
        return Err(Error::op("importance", "gradients, parameters and importances must hold numbers"));
    }
    total.expect_same_device("importance", inputs.iter().copied())?;
    match total.device() {
        Device::Cpu(_) => {
            let g = inputs[0].cpu();
            total.cpu_mut().par_chunks_mut(CHUNK).enumerate().for_each(|(piece, total)| {
                for (i, total) in (piece * CHUNK..).zip(total) {
                    *total += f(i, g[i]);
                }
            });
            Ok(())
        }
        Device::Gpu(gpu) => {
            let bindings: Vec<&Array> = inputs.iter().copied().chain([total]).collect();
            gpu.launch(kernel, &bindings, &[n as u32, factor.to_bits()], Grid::Invocations(n.div_ceil(4)))
        }
    }
}

fn own(x: &Tensor) -> Result<Array> {
    let own = Array::empty(&x.device(), x.shape(), DType::F32)?;
    crate::device::copy(x.array(), &own)?;
    Ok(own)
}

pub static OP: Op = Op {
    name: "importance",
    formula: "Ω += factor · g² or factor · |g|; ω −= g (w − w₀)",
    shaders: &["importance"],
    kernels: &[&SQUARES, &MAGNITUDES, &PATH],
    gradient: false,
    cases: || {
        let inputs = |n| (0..n).map(|_| Input { gradient: false, ..Input::random([301]) }).collect();
        vec![
            Case::new("squares", inputs(2), |x| {
                let total = own(&x[0])?;
                add_squares(&total, x[1].array(), 0.3).map(|()| Tensor::constant(total))
            }),
            Case::new("magnitudes", inputs(2), |x| {
                let total = own(&x[0])?;
                add_magnitudes(&total, x[1].array(), 0.3).map(|()| Tensor::constant(total))
            }),
            Case::new("path", inputs(4), |x| {
                let total = own(&x[0])?;
                add_path(&total, x[1].array(), x[2].array(), x[3].array()).map(|()| Tensor::constant(total))
            }),
        ]
    },
    refuses: |device| {
        let [a, b] = [2, 3].map(|n| Array::from_f32(device, [n], &vec![0.0; n]));
        let (a, b) = (a?, b?);
        add_squares(&a, &b, 1.0).map(|()| Tensor::constant(a))
    },
};
