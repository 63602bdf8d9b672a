//! Huber's loss with δ = 1: the square near zero, the distance far away. Twin: `shaders/smooth_l1.wgsl` on `pair_loss.wgsl`.

use super::case::{Fill, Op};
use super::pair_loss::{PAIR_LOSS, cases, each_gradient, mean_of_pairs, sum_of_pairs};
use super::row_loss::{RowLoss, backward, forward};
use super::wide::ROWS;
use crate::device::{Kernel, PRELUDE};
use crate::error::Result;
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, ROWS, PAIR_LOSS, include_str!("../../shaders/smooth_l1.wgsl")];
static FORWARD: Kernel = forward("smooth_l1.forward", SOURCE);
static BACKWARD: Kernel = backward("smooth_l1.backward", SOURCE);

static LOSS: RowLoss = RowLoss {
    name: "smooth_l1",
    forward: &FORWARD,
    backward: &BACKWARD,
    row: |x, t, _| {
        let huber = |d: f64| if d.abs() < 1.0 { 0.5 * d * d } else { d.abs() - 0.5 };
        sum_of_pairs(x, t, |x, t| huber(f64::from(x - t)))
    },
    row_gradient: |x, t, _, dx| each_gradient(x, t, dx, |x, t| (x - t).clamp(-1.0, 1.0)),
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
    shaders: &["smooth_l1", "pair_loss", "rows", "sum"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        // Away from |d| = 1, where the second derivative jumps: on either side of it, with either sign.
        let target = || Fill::Values(&[0.3, -0.2, 2.0, -1.8]);
        cases(|| Fill::Uniform(-0.4, 0.4), target, |x| x[0].smooth_l1(&x[1]))
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.smooth_l1(&Tensor::from_f32(device, [3, 2], &[0.0; 6])?)
    },
};
