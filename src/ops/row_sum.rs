//! Sums and means of each row of a matrix. Twin: `shaders/row_sum.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::threads::{for_rows, sum_f64};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::Result;
use crate::tensor::{Backward, Destinations, Tensor};

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/row_sum.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "row_sum.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rw",
    workgroup: Workgroup::Rows,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "row_sum.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

impl Tensor {
    /// y\[n\] = Σ_c x\[n, c\]. Shapes: (N, C) → (N). dx\[n, c\] = dy\[n\].
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn row_sum(&self) -> Result<Tensor> {
        self.scaled_row_sum("row_sum", 1.0)
    }

    /// y\[n\] = (1/C)·Σ_c x\[n, c\]. Shapes: (N, C) → (N). dx\[n, c\] = dy\[n\]/C.
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn row_mean(&self) -> Result<Tensor> {
        self.scaled_row_sum("row_mean", 1.0 / self.shape().rows_cols().1 as f32)
    }

    fn scaled_row_sum(&self, op: &'static str, factor: f32) -> Result<Tensor> {
        self.expect_f32(op)?;
        let y = Array::empty(&self.device(), [self.shape()[0]], DType::F32)?;
        row_sum_into(self.array(), factor, &y)?;
        Ok(Tensor::from_op(op, y, &[self], || RowSumBackward { factor }))
    }
}

/// y\[n\] ← factor · Σ_c x\[n, c\].
pub fn row_sum_into(x: &Array, factor: f32, y: &Array) -> Result<()> {
    let n_rows = y.n_elements();
    let n_columns = x.n_elements() / n_rows;
    match x.device() {
        Device::Cpu(_) => {
            let x = x.cpu();
            for (y, row) in y.cpu_mut().iter_mut().zip(x.chunks_exact(n_columns)) {
                *y = (f64::from(factor) * sum_f64(row)) as f32;
            }
            Ok(())
        }
        Device::Gpu(gpu) => {
            let params = [n_rows as u32, n_columns as u32, factor.to_bits()];
            gpu.launch(&FORWARD, &[x, y], &params, Grid::Invocations(n_rows))
        }
    }
}

struct RowSumBackward {
    factor: f32,
}

impl Backward for RowSumBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let (n_rows, n_columns) = dx.shape().rows_cols();
        match dy.device() {
            Device::Cpu(_) => {
                let dy = dy.cpu();
                for_rows(&mut dx.cpu_mut(), n_columns, |first, rows| {
                    for (row, dy) in rows.chunks_exact_mut(n_columns).zip(&dy[first..]) {
                        row.fill(self.factor * dy);
                    }
                });
                Ok(())
            }
            Device::Gpu(gpu) => {
                let params = [n_rows as u32, n_columns as u32, self.factor.to_bits()];
                gpu.launch(&BACKWARD, &[dy, &dx], &params, Grid::Invocations(n_rows * n_columns))
            }
        }
    }
}

fn cases(run: fn(&[Tensor]) -> Result<Tensor>) -> Vec<Case> {
    vec![
        Case::new("matrix", vec![Input::random([13, 37])], run).tolerance(Tolerance::Sum(37)),
        Case::new("one_column", vec![Input::random([11, 1])], run),
    ]
}

pub static ROW_SUM: Op = Op {
    name: "row_sum",
    formula: "y[n] = Σ_c x[n,c]",
    shaders: &["row_sum"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || cases(|x| x[0].row_sum()),
    refuses: |device| Tensor::from_u32(device, [2], &[1, 2])?.row_sum(),
};

pub static ROW_MEAN: Op = Op {
    name: "row_mean",
    formula: "y[n] = Σ_c x[n,c] / C",
    shaders: &["row_sum"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || cases(|x| x[0].row_mean()),
    refuses: |device| Tensor::from_u32(device, [2], &[1, 2])?.row_mean(),
};
