//! Rows of a matrix by index. Twin: `shaders/gather_rows.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/gather_rows.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "gather_rows.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rrw",
    workgroup: Workgroup::Flat,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "gather_rows.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rrw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

impl Tensor {
    /// y\[k\] = x[indices\[k\]]. Shapes: x (N, D), indices (K), u32 → (K, D). dx\[r\] = Σ over k with indices\[k\] = r of dy\[k\].
    /// Indices must be below N: those beyond give the last row.
    ///
    /// # Errors
    /// If an input has another type or lives on another device.
    pub fn gather_rows(&self, indices: &Tensor) -> Result<Tensor> {
        self.expect_f32("gather_rows")?;
        indices.expect_u32("gather_rows")?;
        self.expect_same_device("gather_rows", indices)?;
        if self.shape().len() != 2 {
            return Err(Error::op("gather_rows", format!("needs a matrix, not {}", self.shape())));
        }
        let (n, d) = self.shape().rows_cols();
        let k = indices.n_elements();
        let y = Array::empty(&self.device(), [k, d], DType::F32)?;
        match self.device() {
            Device::Cpu(_) => {
                let (x, indices) = (self.array().cpu(), indices.array().cpu());
                for (y, index) in y.cpu_mut().chunks_exact_mut(d).zip(indices.iter()) {
                    let row = (index.to_bits() as usize).min(n - 1);
                    y.copy_from_slice(&x[row * d..(row + 1) * d]);
                }
            }
            Device::Gpu(gpu) => {
                let params = [n as u32, d as u32, k as u32];
                gpu.launch(&FORWARD, &[self.array(), indices.array(), &y], &params, Grid::Invocations(k * d))?;
            }
        }
        let saved = GatherRowsBackward { indices: indices.array().clone() };
        Ok(Tensor::from_op("gather_rows", y, &[self], || saved))
    }
}

struct GatherRowsBackward {
    indices: Array,
}

impl Backward for GatherRowsBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let (n, d) = dx.shape().rows_cols();
        match dy.device() {
            Device::Cpu(_) => {
                let (dy, indices) = (dy.cpu(), self.indices.cpu());
                let mut dx = dx.cpu_mut();
                dx.fill(0.0);
                for (dy, index) in dy.chunks_exact(d).zip(indices.iter()) {
                    let row = (index.to_bits() as usize).min(n - 1);
                    for (dx, dy) in dx[row * d..(row + 1) * d].iter_mut().zip(dy) {
                        *dx += dy;
                    }
                }
                Ok(())
            }
            Device::Gpu(gpu) => {
                gpu.expect_turns("gather_rows", self.indices.n_elements())?;
                let params = [n as u32, d as u32, self.indices.n_elements() as u32];
                gpu.launch(&BACKWARD, &[dy, &self.indices, &dx], &params, Grid::Invocations(n * d))
            }
        }
    }
}

pub static OP: Op = Op {
    name: "gather_rows",
    formula: "y[k] = x[index[k]]",
    shaders: &["gather_rows"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let indices = Input::constant([7], Fill::Integers(&[2, 0, 2, 4, 2]));
        vec![
            Case::new("rows", vec![Input::random([5, 13]), indices], |x| x[0].gather_rows(&x[1]))
                .tolerance(Tolerance::Sum(7)),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.gather_rows(&x)
    },
};
