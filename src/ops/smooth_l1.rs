//! Huber's loss with δ = 1: the square near zero, the distance far away. Twin: `shaders/smooth_l1.wgsl`.

use super::case::Op;
use super::mse::{cases, mean_of_pairs};
use super::row_loss::RowLoss;
use crate::device::{Kernel, PRELUDE, Workgroup};
use crate::error::Result;
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/smooth_l1.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "smooth_l1.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rrw",
    workgroup: Workgroup::Rows,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "smooth_l1.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rrrw",
    workgroup: Workgroup::Rows,
    constants: &[],
};

static LOSS: RowLoss = RowLoss {
    name: "smooth_l1",
    forward: &FORWARD,
    backward: &BACKWARD,
    row: |x, t, _| {
        let huber = |d: f64| if d.abs() < 1.0 { 0.5 * d * d } else { d.abs() - 0.5 };
        x.iter().zip(t).map(|(&x, &t)| huber(f64::from(x - t))).sum()
    },
    row_gradient: |x, t, _, dx| {
        for ((dx, &x), &t) in dx.iter_mut().zip(x).zip(t) {
            *dx = (x - t).clamp(-1.0, 1.0);
        }
    },
};

impl Tensor {
    /// y = mean over all n elements of d²/2 if |d| < 1, else |d| − ½, with d = x − target; shape \[1\]. Shapes: both the same,
    /// any. dx = clamp(d, −1, 1)/n; the target gets no gradient.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn smooth_l1(&self, target: &Tensor) -> Result<Tensor> {
        mean_of_pairs(&LOSS, self, target)
    }
}

pub static OP: Op = Op {
    name: "smooth_l1",
    formula: "y = mean of d²/2 if |d| < 1 else |d| − ½, d = x − t",
    shaders: &["smooth_l1", "sum"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || cases(|x| x[0].smooth_l1(&x[1])),
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.smooth_l1(&Tensor::from_f32(device, [3, 2], &[0.0; 6])?)
    },
};
