//! The logarithm of softmax, computed without leaving log space. Twin: `shaders/log_softmax.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op, Tolerance};
use super::softmax::{check_temperature, log_sum_exp};
use super::threads::for_rows;
use super::wide::ROWS;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::Result;
use crate::tensor::{Backward, Destinations, Tensor};

const SOURCE: &[&str] = &[PRELUDE, ROWS, include_str!("../../shaders/log_softmax.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "log_softmax.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rw",
    workgroup: Workgroup::Row,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "log_softmax.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rrw",
    workgroup: Workgroup::Row,
    constants: &[],
};

impl Tensor {
    /// y[n, c] = x[n, c]/T − ln Σ_k exp(x[n, k]/T). Shapes: (N, C) → (N, C). dx = (dy − eʸ·Σ_k dy)/T.
    ///
    /// # Errors
    /// If T is not positive.
    pub fn log_softmax(&self, temperature: f32) -> Result<Tensor> {
        self.expect_f32("log_softmax")?;
        check_temperature("log_softmax", temperature)?;
        let (n_rows, n_columns) = self.shape().rows_cols();
        let y = Array::empty(&self.device(), self.shape(), DType::F32)?;
        match self.device() {
            Device::Cpu(_) => {
                let x = self.array().cpu();
                for_rows(&mut y.cpu_mut(), n_columns, |first, rows| {
                    for (y, x) in rows.chunks_exact_mut(n_columns).zip(x[first * n_columns..].chunks_exact(n_columns)) {
                        let total = log_sum_exp(x, temperature);
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = (f64::from(x) / f64::from(temperature) - total) as f32;
                        }
                    }
                });
            }
            Device::Gpu(gpu) => {
                let params = [n_rows as u32, n_columns as u32, temperature.to_bits()];
                gpu.launch(&FORWARD, &[self.array(), &y], &params, Grid::Rows(n_rows))?;
            }
        }
        let saved = LogSoftmaxBackward { y: y.clone(), temperature };
        Ok(Tensor::from_op("log_softmax", y, &[self], || saved))
    }
}

struct LogSoftmaxBackward {
    y: Array,
    temperature: f32,
}

impl Backward for LogSoftmaxBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let (n_rows, n_columns) = dx.shape().rows_cols();
        match dy.device() {
            Device::Cpu(_) => {
                let (dy, y) = (dy.cpu(), self.y.cpu());
                for_rows(&mut dx.cpu_mut(), n_columns, |first, rows| {
                    for (i, dx) in rows.chunks_exact_mut(n_columns).enumerate() {
                        let row = (first + i) * n_columns..(first + i + 1) * n_columns;
                        let (dy, y) = (&dy[row.clone()], &y[row]);
                        let total: f64 = dy.iter().map(|&dy| f64::from(dy)).sum();
                        for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                            *dx = (dy - y.exp() * total as f32) / self.temperature;
                        }
                    }
                });
                Ok(())
            }
            Device::Gpu(gpu) => {
                let params = [n_rows as u32, n_columns as u32, self.temperature.to_bits()];
                gpu.launch(&BACKWARD, &[dy, &self.y, &dx], &params, Grid::Rows(n_rows))
            }
        }
    }
}

pub static OP: Op = Op {
    name: "log_softmax",
    formula: "y = x/T − ln Σ exp(x/T)",
    shaders: &["log_softmax", "rows"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let rows = || vec![Input::new([11, 7], Fill::Uniform(-3.0, 3.0))];
        vec![
            Case::new("t1", rows(), |x| x[0].log_softmax(1.0)).tolerance(Tolerance::Exponential),
            Case::new("t4", rows(), |x| x[0].log_softmax(4.0)).tolerance(Tolerance::Exponential),
            Case::new("edges", vec![Input::new([2, 14], Fill::Values(EDGES))], |x| x[0].log_softmax(1.0))
                .tolerance(Tolerance::Exponential)
                .without_differences(),
        ]
    },
    refuses: |device| Tensor::from_f32(device, [1, 2], &[0.0; 2])?.log_softmax(-1.0),
};
