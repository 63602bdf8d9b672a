//! Rows of length one. Twin: `shaders/l2_normalize.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use super::threads::for_rows;
use super::wide::ROWS;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::Result;
use crate::tensor::{Backward, Destinations, Tensor};

const SOURCE: &[&str] = &[PRELUDE, ROWS, include_str!("../../shaders/l2_normalize.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "l2_normalize.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rw",
    workgroup: Workgroup::Row,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "l2_normalize.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rrrw",
    workgroup: Workgroup::Row,
    constants: &[],
};

/// Shorter rows are divided by this instead of by their length.
const EPSILON: f32 = 1e-12;

impl Tensor {
    /// y\[n\] = x\[n\] / max(‖x\[n\]‖₂, 1e-12). Shapes: (N, C) → (N, C). dx = (dy − y·⟨y, dy⟩) / ‖x‖; dy / 1e-12 for a row
    /// shorter than that, and 0 for one of zeros.
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn l2_normalize(&self) -> Result<Tensor> {
        self.expect_f32("l2_normalize")?;
        let (n_rows, n_columns) = self.shape().rows_cols();
        let y = Array::empty(&self.device(), self.shape(), DType::F32)?;
        match self.device() {
            Device::Cpu(_) => {
                let x = self.array().cpu();
                for_rows(&mut y.cpu_mut(), n_columns, |first, rows| {
                    for (y, x) in rows.chunks_exact_mut(n_columns).zip(x[first * n_columns..].chunks_exact(n_columns)) {
                        let length = norm(x).max(EPSILON);
                        for (y, x) in y.iter_mut().zip(x) {
                            *y = x / length;
                        }
                    }
                });
            }
            Device::Gpu(gpu) => {
                let params = [n_rows as u32, n_columns as u32];
                gpu.launch(&FORWARD, &[self.array(), &y], &params, Grid::Rows(n_rows))?;
            }
        }
        let saved = L2NormalizeBackward { x: self.array().clone(), y: y.clone() };
        Ok(Tensor::from_op("l2_normalize", y, &[self], || saved))
    }
}

fn norm(x: &[f32]) -> f32 {
    x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32
}

struct L2NormalizeBackward {
    x: Array,
    y: Array,
}

impl Backward for L2NormalizeBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let (n_rows, n_columns) = dx.shape().rows_cols();
        match dy.device() {
            Device::Cpu(_) => {
                let (dy, x, y) = (dy.cpu(), self.x.cpu(), self.y.cpu());
                for_rows(&mut dx.cpu_mut(), n_columns, |first, rows| {
                    for (i, dx) in rows.chunks_exact_mut(n_columns).enumerate() {
                        let row = (first + i) * n_columns..(first + i + 1) * n_columns;
                        let (dy, x, y) = (&dy[row.clone()], &x[row.clone()], &y[row]);
                        let length = norm(x);
                        let along: f64 = dy.iter().zip(y).map(|(&dy, &y)| f64::from(dy) * f64::from(y)).sum();
                        if length == 0.0 {
                            dx.fill(0.0);
                            continue;
                        }
                        let along = if length > EPSILON { along as f32 } else { 0.0 };
                        for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                            *dx = (dy - y * along) / length.max(EPSILON);
                        }
                    }
                });
                Ok(())
            }
            Device::Gpu(gpu) => {
                let params = [n_rows as u32, n_columns as u32];
                gpu.launch(&BACKWARD, &[dy, &self.x, &self.y, &dx], &params, Grid::Rows(n_rows))
            }
        }
    }
}

pub static OP: Op = Op {
    name: "l2_normalize",
    formula: "y[n] = x[n] / max(‖x[n]‖, 1e-12)",
    shaders: &["l2_normalize", "rows"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let run = |x: &[Tensor]| x[0].l2_normalize();
        vec![
            Case::new("rows", vec![Input::new([11, 13], Fill::AwayFromZero)], run).tolerance(Tolerance::Sum(13)),
            Case::new("zero_row", vec![Input::new([2, 3], Fill::Values(&[0.0]))], run)
                .without_differences()
                .tolerance(Tolerance::Sum(3)),
        ]
    },
    refuses: |device| Tensor::from_u32(device, [2], &[1, 2])?.l2_normalize(),
};
