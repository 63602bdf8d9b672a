//! The quadratic penalty of EWC, SI and MAS on flat parameter vectors: its value, and its gradient added to that of the
//! loss. Twin: `shaders/penalty.wgsl`.

use super::case::{Case, Input, Op};
use super::sum::sum_into;
use super::threads::CHUNK;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/penalty.wgsl")];
const fn kernel(name: &'static str, entry: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings: "rrrw", workgroup: Workgroup::Flat, constants: &[] }
}
static VALUE: Kernel = kernel("penalty.value", "value");
static GRADIENT: Kernel = kernel("penalty.gradient", "gradient");

/// Σ_i importance_i·(w_i − anchor_i)², shape \[1\], without a gradient. All of one length.
///
/// # Errors
/// If the lengths differ.
pub fn penalty(w: &Array, anchor: &Array, importance: &Array) -> Result<Tensor> {
    let terms = Array::empty(&w.device(), w.shape(), DType::F32)?;
    apply(&VALUE, w, anchor, importance, &terms, 0.0)?;
    let y = Array::empty(&w.device(), [1], DType::F32)?;
    sum_into(&terms, 1.0, &y)?;
    Ok(Tensor::constant(y))
}

/// gradient_i += factor·importance_i·(w_i − anchor_i): `factor` is twice the penalty's weight. All of one length.
///
/// # Errors
/// If the lengths differ.
pub fn add_penalty_gradient(
    gradient: &Array,
    w: &Array,
    anchor: &Array,
    importance: &Array,
    factor: f32,
) -> Result<()> {
    apply(&GRADIENT, w, anchor, importance, gradient, factor)
}

fn apply(
    kernel: &'static Kernel,
    w: &Array,
    anchor: &Array,
    importance: &Array,
    result: &Array,
    factor: f32,
) -> Result<()> {
    let n = w.n_elements();
    if [anchor, importance, result].iter().any(|array| array.n_elements() != n) {
        return Err(Error::op("penalty", format!("{n} parameters, but vectors of another length")));
    }
    if [w, anchor, importance, result].iter().any(|array| array.dtype() != DType::F32) {
        return Err(Error::op("penalty", "parameters, anchors and importances must hold numbers"));
    }
    w.expect_same_device("penalty", [anchor, importance, result])?;
    match w.device() {
        Device::Cpu(_) => {
            let (w, anchor, importance) = (w.cpu(), anchor.cpu(), importance.cpu());
            let adds = std::ptr::eq(kernel, &GRADIENT);
            result.cpu_mut().par_chunks_mut(CHUNK).enumerate().for_each(|(piece, result)| {
                for (i, result) in (piece * CHUNK..).zip(result) {
                    let d = w[i] - anchor[i];
                    *result = if adds { *result + factor * importance[i] * d } else { importance[i] * d * d };
                }
            });
            Ok(())
        }
        Device::Gpu(gpu) => {
            let params = [n as u32, factor.to_bits()];
            gpu.launch(kernel, &[w, anchor, importance, result], &params, Grid::Invocations(n.div_ceil(4)))
        }
    }
}

pub static OP: Op = Op {
    name: "penalty",
    formula: "y = Σ Ω (w − w*)², g += factor · Ω (w − w*)",
    shaders: &["penalty", "sum"],
    kernels: &[&VALUE, &GRADIENT],
    gradient: false,
    cases: || {
        let inputs = |n| (0..n).map(|_| Input { gradient: false, ..Input::random([301]) }).collect();
        vec![
            Case::new("value", inputs(3), |x| penalty(x[0].array(), x[1].array(), x[2].array()))
                .tolerance(super::case::Tolerance::Sum(301)),
            Case::new("gradient", inputs(4), |x| {
                let own = Array::empty(&x[3].device(), x[3].shape(), DType::F32)?;
                crate::device::copy(x[3].array(), &own)?;
                add_penalty_gradient(&own, x[0].array(), x[1].array(), x[2].array(), 0.7)?;
                Ok(Tensor::constant(own))
            }),
        ]
    },
    refuses: |device| {
        let [a, b] = [2, 3].map(|n| Array::from_f32(device, [n], &vec![0.0; n]));
        let (a, b) = (a?, b?);
        penalty(&a, &b, &b)
    },
};
