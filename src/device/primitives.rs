//! The four things the tape itself needs: copy, fill, add, scale. Each has a WGSL kernel and a CPU loop.

use super::{Array, Device, Grid, Kernel, Workgroup};
use crate::error::{Error, Result};
use rayon::prelude::*;

/// Helpers that every shader may use.
pub const PRELUDE: &str = include_str!("../../shaders/prelude.wgsl");
const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/primitives.wgsl")];

const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup: Workgroup::Flat, constants: &[] }
}
static COPY: Kernel = kernel("copy", "copy", "rw");
static FILL: Kernel = kernel("fill", "fill", "w");
static ADD_ASSIGN: Kernel = kernel("add_assign", "add_assign", "rw");
static SCALE: Kernel = kernel("scale", "scale", "rw");

/// The kernels of this file, for the shader tests.
pub static KERNELS: &[&Kernel] = &[&COPY, &FILL, &ADD_ASSIGN, &SCALE];

/// Elements per rayon task of an elementwise loop: fixed, so that the split does not depend on the threads.
const CHUNK: usize = 1 << 14;

/// The kernels trust that both arrays have one length.
fn check(op: &'static str, from: &Array, to: &Array) -> Result<()> {
    if from.n_elements() != to.n_elements() || !from.device().same(&to.device()) {
        let (from, to) = (from.shape(), to.shape());
        return Err(Error::op(op, format!("{from} and {to} differ in length, or live on different devices")));
    }
    Ok(())
}

/// `to ← from`.
///
/// # Errors
/// If lengths or devices differ, or the adapter was lost.
pub fn copy(from: &Array, to: &Array) -> Result<()> {
    check("copy", from, to)?;
    match from.device() {
        Device::Cpu(_) => to.cpu_mut().copy_from_slice(&from.cpu()),
        Device::Gpu(gpu) => {
            let n = from.n_elements();
            gpu.launch(&COPY, &[from, to], &[n as u32], Grid::Invocations(n.div_ceil(4)))?;
        }
    }
    Ok(())
}

/// Every element of `to ← value`.
///
/// # Errors
/// If the adapter was lost.
pub fn fill(to: &Array, value: f32) -> Result<()> {
    match to.device() {
        Device::Cpu(_) => to.cpu_mut().fill(value),
        Device::Gpu(gpu) => {
            let n = to.n_elements();
            gpu.launch(&FILL, &[to], &[n as u32, value.to_bits()], Grid::Invocations(n.div_ceil(4)))?;
        }
    }
    Ok(())
}

/// `to ← to + from`: how gradients are accumulated, but for an input gradient that a convolution adds in place.
///
/// # Errors
/// If lengths or devices differ, or the adapter was lost.
pub fn add_assign(from: &Array, to: &Array) -> Result<()> {
    check("add_assign", from, to)?;
    match from.device() {
        Device::Cpu(_) => {
            let from = from.cpu();
            to.cpu_mut().par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| {
                for (to, from) in to.iter_mut().zip(from) {
                    *to += from;
                }
            });
        }
        Device::Gpu(gpu) => {
            let n = from.n_elements();
            gpu.launch(&ADD_ASSIGN, &[from, to], &[n as u32], Grid::Invocations(n.div_ceil(4)))?;
        }
    }
    Ok(())
}

/// `to ← factor · from`.
///
/// # Errors
/// If lengths or devices differ, or the adapter was lost.
pub fn scale(from: &Array, factor: f32, to: &Array) -> Result<()> {
    check("scale", from, to)?;
    match from.device() {
        Device::Cpu(_) => {
            let from = from.cpu();
            to.cpu_mut().par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = factor * from;
                }
            });
        }
        Device::Gpu(gpu) => {
            let n = from.n_elements();
            let params = [n as u32, factor.to_bits()];
            gpu.launch(&SCALE, &[from, to], &params, Grid::Invocations(n.div_ceil(4)))?;
        }
    }
    Ok(())
}
