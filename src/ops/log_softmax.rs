//! The logarithm of softmax, computed without leaving log space. Twin: `shaders/log_softmax.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op, Tolerance};
use super::softmax::{ByRow, SOFTMAX_ROWS, log_sum_exp};
use super::wide::ROWS;
use crate::device::{Kernel, PRELUDE, Workgroup};
use crate::error::Result;
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, ROWS, SOFTMAX_ROWS, include_str!("../../shaders/log_softmax.wgsl")];
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
        LOG_SOFTMAX.of(self, temperature)
    }
}

static LOG_SOFTMAX: ByRow = ByRow {
    name: "log_softmax",
    forward: &FORWARD,
    backward: &BACKWARD,
    row: |x, temperature, y| {
        let total = log_sum_exp(x, temperature);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = (f64::from(x) / f64::from(temperature) - total) as f32;
        }
    },
    row_backward: |dy, y, temperature, dx| {
        let total: f64 = dy.iter().map(|&dy| f64::from(dy)).sum();
        for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
            *dx = (dy - y.exp() * total as f32) / temperature;
        }
    },
};

pub static OP: Op = Op {
    name: "log_softmax",
    formula: "y = x/T − ln Σ exp(x/T)",
    shaders: &["log_softmax", "softmax_rows", "rows"],
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
