//! Images in their four quarter turns. Twin: `shaders/quarter_turns.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use rayon::prelude::*;

static FORWARD: Kernel = Kernel {
    name: "quarter_turns.forward",
    source: &[PRELUDE, include_str!("../../shaders/quarter_turns.wgsl")],
    entry: "forward",
    bindings: "rw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

/// Square images as they are, then turned by 90, 180 and 270 degrees, counter-clockwise: (N, C, S, S) → (4·N, C, S, S), without a
/// gradient.
///
/// # Errors
/// If they are not square.
pub fn quarter_turns(x: &Tensor) -> Result<Tensor> {
    x.expect_f32("quarter_turns")?;
    let &[n, c, side, width] = &*x.shape() else {
        return Err(Error::op("quarter_turns", format!("{} are no images (N, C, S, S)", x.shape())));
    };
    if side != width {
        return Err(Error::op(
            "quarter_turns",
            format!("images of {side}×{width} are not square: they have no quarter turns"),
        ));
    }
    let y = Array::empty(&x.device(), [4 * n, c, side, side], DType::F32)?;
    match x.device() {
        Device::Cpu(_) => {
            let x = x.array().cpu();
            let size = side * side;
            y.cpu_mut().par_chunks_mut(size).enumerate().for_each(|(map, y)| {
                let x = &x[map % (n * c) * size..][..size];
                for (pixel, y) in y.iter_mut().enumerate() {
                    let (i, j, last) = (pixel / side, pixel % side, side - 1);
                    let (i, j) = match map / (n * c) {
                        0 => (i, j),
                        1 => (j, last - i),
                        2 => (last - i, last - j),
                        _ => (last - j, i),
                    };
                    *y = x[i * side + j];
                }
            });
        }
        Device::Gpu(gpu) => {
            let n = x.n_elements();
            gpu.launch(&FORWARD, &[x.array(), &y], &[n as u32, side as u32], Grid::Invocations(4 * n))?;
        }
    }
    Ok(Tensor::constant(y))
}

pub static OP: Op = Op {
    name: "quarter_turns",
    formula: "y[t·N + n] = x[n] turned t times by 90°",
    shaders: &["quarter_turns"],
    kernels: &[&FORWARD],
    gradient: false,
    cases: || {
        let input = Input::constant([3, 2, 5, 5], Fill::Uniform(-1.0, 1.0));
        vec![Case::new("images", vec![input], |x| quarter_turns(&x[0])).tolerance(Tolerance::Exact)]
    },
    refuses: |device| quarter_turns(&Tensor::from_f32(device, [1, 1, 2, 3], &[0.0; 6])?),
};
