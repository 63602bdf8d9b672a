//! Softmax with temperature. Twin: `shaders/softmax.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op, Tolerance};
use super::threads::for_rows;
use super::wide::ROWS;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

const SOURCE: &[&str] = &[PRELUDE, ROWS, include_str!("../../shaders/softmax.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "softmax.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rw",
    workgroup: Workgroup::Row,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "softmax.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rrw",
    workgroup: Workgroup::Row,
    constants: &[],
};

impl Tensor {
    /// y[n, c] = exp(x[n, c]/T) / Σ_k exp(x[n, k]/T). Shapes: (N, C) → (N, C). dx = y·(dy − Σ_k y·dy)/T.
    ///
    /// A high temperature shows what the network knows about the classes it did not choose:
    /// ```
    /// use engram::{Device, Tensor};
    /// let logits = Tensor::from_f32(&Device::cpu(), [1, 3], &[100.0, 10.0, 1.0])?;
    /// let y = logits.softmax(100.0)?.to_vec()?; // 0.56, 0.23, 0.21; at T = 1 it is 1, 0, 0
    /// assert_eq!(y.iter().map(|y| format!("{y:.2}")).collect::<Vec<_>>(), ["0.56", "0.23", "0.21"]);
    /// # Ok::<(), engram::Error>(())
    /// ```
    ///
    /// # Errors
    /// If T is not positive.
    pub fn softmax(&self, temperature: f32) -> Result<Tensor> {
        self.expect_f32("softmax")?;
        check_temperature("softmax", temperature)?;
        let (n_rows, n_columns) = self.shape().rows_cols();
        let y = Array::empty(&self.device(), self.shape(), DType::F32)?;
        match self.device() {
            Device::Cpu(_) => {
                let x = self.array().cpu();
                for_rows(&mut y.cpu_mut(), n_columns, |first, rows| {
                    for (y, x) in rows.chunks_exact_mut(n_columns).zip(x[first * n_columns..].chunks_exact(n_columns)) {
                        softmax_row(x, temperature, y);
                    }
                });
            }
            Device::Gpu(gpu) => {
                let params = [n_rows as u32, n_columns as u32, temperature.to_bits()];
                gpu.launch(&FORWARD, &[self.array(), &y], &params, Grid::Rows(n_rows))?;
            }
        }
        let saved = SoftmaxBackward { y: y.clone(), temperature };
        Ok(Tensor::from_op("softmax", y, &[self], || saved))
    }
}

/// Fails unless a temperature is positive and finite.
pub fn check_temperature(op: &'static str, temperature: f32) -> Result<()> {
    if !(temperature > 0.0 && temperature.is_finite()) {
        return Err(Error::op(op, format!("the temperature must be positive, not {temperature}")));
    }
    Ok(())
}

/// y = softmax(x/T). The maximum is subtracted so that nothing overflows.
pub fn softmax_row(x: &[f32], temperature: f32, y: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0f64;
    for (y, x) in y.iter_mut().zip(x) {
        *y = ((x - max) / temperature).exp();
        total += f64::from(*y);
    }
    for y in y {
        *y = (f64::from(*y) / total) as f32;
    }
}

/// max + T·ln Σ exp((x − max)/T), divided by T: ln Σ exp(x/T).
pub fn log_sum_exp(x: &[f32], temperature: f32) -> f64 {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = x.iter().map(|x| f64::from((x - max) / temperature).exp()).sum();
    f64::from(max) / f64::from(temperature) + total.ln()
}

struct SoftmaxBackward {
    y: Array,
    temperature: f32,
}

impl Backward for SoftmaxBackward {
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
                        let along: f64 = dy.iter().zip(y).map(|(&dy, &y)| f64::from(dy) * f64::from(y)).sum();
                        for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                            *dx = y * (dy - along as f32) / self.temperature;
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
    name: "softmax",
    formula: "y = exp(x/T) / Σ exp(x/T)",
    shaders: &["softmax", "rows"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let rows = || vec![Input::new([11, 7], Fill::Uniform(-3.0, 3.0))];
        vec![
            Case::new("t1", rows(), |x| x[0].softmax(1.0)).tolerance(Tolerance::Exponential),
            Case::new("t2", rows(), |x| x[0].softmax(2.0)).tolerance(Tolerance::Exponential),
            Case::new("lecture", vec![Input::new([1, 3], Fill::Values(&[100.0, 10.0, 1.0]))], |x| x[0].softmax(100.0))
                .tolerance(Tolerance::Exponential)
                .without_differences(),
            Case::new("edges", vec![Input::new([2, 14], Fill::Values(EDGES))], |x| x[0].softmax(1.0))
                .tolerance(Tolerance::Exponential)
                .without_differences(),
        ]
    },
    refuses: |device| Tensor::from_f32(device, [1, 2], &[0.0; 2])?.softmax(0.0),
};
