//! Sums and means of each row of a matrix. Twin: `shaders/row_sum.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::threads::{for_rows, sum_f64};
use super::wide::{ROWS, VALUES_1, VALUES_4, loads};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::Result;
use crate::tensor::{Backward, Destinations, Tensor};

const SHADER: &str = include_str!("../../shaders/row_sum.wgsl");
const fn forward(name: &'static str, workgroup: Workgroup) -> Kernel {
    let source = &[PRELUDE, ROWS, VALUES_1, SHADER];
    Kernel { name, source, entry: "forward", bindings: "rw", workgroup, constants: &[] }
}
static FORWARD: Kernel = forward("row_sum.forward", Workgroup::Rows);
/// For rows that keep a workgroup busy.
static FORWARD_LONG: Kernel = forward("row_sum.forward_long", Workgroup::Row);
const LONG: usize = 32;

const fn backward(name: &'static str, source: &'static [&'static str]) -> Kernel {
    Kernel { name, source, entry: "backward", bindings: "rw", workgroup: Workgroup::Flat, constants: &[] }
}
/// By the loads of a row: four numbers at once, one number.
static BACKWARD: [Kernel; 2] = [
    backward("row_sum.backward_4", &[PRELUDE, ROWS, VALUES_4, SHADER]),
    backward("row_sum.backward_1", &[PRELUDE, ROWS, VALUES_1, SHADER]),
];

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
            match n_columns < LONG {
                true => gpu.launch(&FORWARD, &[x, y], &params, Grid::Invocations(n_rows)),
                false => gpu.launch(&FORWARD_LONG, &[x, y], &params, Grid::Rows(n_rows)),
            }
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
                let (kernel, n_loads) = loads(n_columns);
                let params = [n_rows as u32, n_loads as u32, self.factor.to_bits()];
                gpu.launch(&BACKWARD[kernel], &[dy, &dx], &params, Grid::Invocations(n_rows * n_loads))
            }
        }
    }
}

fn cases(run: fn(&[Tensor]) -> Result<Tensor>) -> Vec<Case> {
    vec![
        Case::new("matrix", vec![Input::random([13, 37])], run).tolerance(Tolerance::Sum(37)),
        Case::new("four_columns", vec![Input::random([301, 4])], run)
            .tolerance(Tolerance::Sum(4))
            .without_differences(),
        Case::new("long_rows", vec![Input::random([3, 1027])], run)
            .tolerance(Tolerance::Sum(1027))
            .without_differences(),
        Case::new("one_column", vec![Input::random([11, 1])], run),
    ]
}

pub static ROW_SUM: Op = Op {
    name: "row_sum",
    formula: "y[n] = Σ_c x[n,c]",
    shaders: &["row_sum", "rows", "values_4", "values_1"],
    kernels: &[&FORWARD, &FORWARD_LONG, &BACKWARD[0], &BACKWARD[1]],
    gradient: true,
    cases: || cases(|x| x[0].row_sum()),
    refuses: |device| Tensor::from_u32(device, [2], &[1, 2])?.row_sum(),
};

pub static ROW_MEAN: Op = Op {
    name: "row_mean",
    formula: "y[n] = Σ_c x[n,c] / C",
    shaders: &["row_sum", "rows", "values_4", "values_1"],
    kernels: &[&FORWARD, &FORWARD_LONG, &BACKWARD[0], &BACKWARD[1]],
    gradient: true,
    cases: || cases(|x| x[0].row_mean()),
    refuses: |device| Tensor::from_u32(device, [2], &[1, 2])?.row_mean(),
};
