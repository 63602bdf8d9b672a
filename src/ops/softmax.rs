//! Softmax with temperature. Twin: `shaders/softmax.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op, Tolerance};
use super::threads::for_rows;
use super::wide::ROWS;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

pub(super) const SOFTMAX_ROWS: &str = include_str!("../../shaders/softmax_rows.wgsl");
const SOURCE: &[&str] = &[PRELUDE, ROWS, SOFTMAX_ROWS, include_str!("../../shaders/softmax.wgsl")];
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
        SOFTMAX.of(self, temperature)
    }
}

static SOFTMAX: ByRow = ByRow {
    name: "softmax",
    forward: &FORWARD,
    backward: &BACKWARD,
    row: softmax_row,
    row_backward: |dy, y, temperature, dx| {
        let along: f64 = dy.iter().zip(y).map(|(&dy, &y)| f64::from(dy) * f64::from(y)).sum();
        for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
            *dx = y * (dy - along as f32) / temperature;
        }
    },
};

/// A function of each row of a matrix and a temperature.
pub(super) struct ByRow {
    pub name: &'static str,
    /// Of x and y.
    pub forward: &'static Kernel,
    /// Of dy, y and dx.
    pub backward: &'static Kernel,
    /// A row of y, from that of x.
    pub row: fn(&[f32], f32, &mut [f32]),
    /// A row of dx, from those of dy and y.
    pub row_backward: fn(&[f32], &[f32], f32, &mut [f32]),
}

impl ByRow {
    /// (N, C) → (N, C).
    pub fn of(&'static self, x: &Tensor, temperature: f32) -> Result<Tensor> {
        x.expect_f32(self.name)?;
        check_temperature(self.name, temperature)?;
        let (n_rows, n_columns) = x.shape().rows_cols();
        let y = Array::empty(&x.device(), x.shape(), DType::F32)?;
        match x.device() {
            Device::Cpu(_) => {
                let x = x.array().cpu();
                for_rows(&mut y.cpu_mut(), n_columns, |first, rows| {
                    let x = x[first * n_columns..].chunks_exact(n_columns);
                    rows.chunks_exact_mut(n_columns).zip(x).for_each(|(y, x)| (self.row)(x, temperature, y));
                });
            }
            Device::Gpu(gpu) => {
                let params = [n_rows as u32, n_columns as u32, temperature.to_bits()];
                gpu.launch(self.forward, &[x.array(), &y], &params, Grid::Rows(n_rows))?;
            }
        }
        let saved = ByRowBackward { of: self, y: y.clone(), temperature };
        Ok(Tensor::from_op(self.name, y, &[x], || saved))
    }
}

struct ByRowBackward {
    of: &'static ByRow,
    y: Array,
    temperature: f32,
}

impl Backward for ByRowBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let (n_rows, n_columns) = dx.shape().rows_cols();
        match dy.device() {
            Device::Cpu(_) => {
                let (dy, y) = (dy.cpu(), self.y.cpu());
                for_rows(&mut dx.cpu_mut(), n_columns, |first, rows| {
                    for (i, dx) in rows.chunks_exact_mut(n_columns).enumerate() {
                        let row = (first + i) * n_columns..(first + i + 1) * n_columns;
                        (self.of.row_backward)(&dy[row.clone()], &y[row], self.temperature, dx);
                    }
                });
                Ok(())
            }
            Device::Gpu(gpu) => {
                let params = [n_rows as u32, n_columns as u32, self.temperature.to_bits()];
                gpu.launch(self.of.backward, &[dy, &self.y, &dx], &params, Grid::Rows(n_rows))
            }
        }
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

pub static OP: Op = Op {
    name: "softmax",
    formula: "y = exp(x/T) / Σ exp(x/T)",
    shaders: &["softmax", "softmax_rows", "rows"],
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
