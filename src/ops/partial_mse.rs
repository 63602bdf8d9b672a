//! The squared error of features before their ReLU, where it does not matter how negative a negative one is. Twin:
//! `shaders/partial_mse.wgsl` on `pair_loss.wgsl`.

use super::case::{Fill, Op};
use super::pair_loss::{PAIR_LOSS, cases, each_gradient, mean_of_pairs, sum_of_pairs};
use super::row_loss::{RowLoss, backward, forward};
use super::wide::ROWS;
use crate::device::{Kernel, PRELUDE};
use crate::error::Result;
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, ROWS, PAIR_LOSS, include_str!("../../shaders/partial_mse.wgsl")];
static FORWARD: Kernel = forward("partial_mse.forward", SOURCE);
static BACKWARD: Kernel = backward("partial_mse.backward", SOURCE);

/// x − t, or 0 where both are on the side that a ReLU cuts off.
fn difference(x: f32, t: f32) -> f32 {
    if x <= t && t <= 0.0 { 0.0 } else { x - t }
}

static LOSS: RowLoss = RowLoss {
    name: "partial_mse",
    forward: &FORWARD,
    backward: &BACKWARD,
    row: |x, t, _| sum_of_pairs(x, t, |x, t| f64::from(difference(x, t)).powi(2)),
    row_gradient: |x, t, _, dx| each_gradient(x, t, dx, |x, t| 2.0 * difference(x, t)),
};

impl Tensor {
    /// y = mean over all n elements of (x − target)², without those where x ≤ target ≤ 0 (Heo et al. 2019); shape \[1\]. Shapes:
    /// both the same, any. dx = 2·(x − target)/n where it counts; the target gets no gradient.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn partial_mse(&self, target: &Tensor) -> Result<Tensor> {
        mean_of_pairs(&LOSS, self, target)
    }
}

pub static OP: Op = Op {
    name: "partial_mse",
    formula: "y = mean of (x − t)², 0 where x ≤ t ≤ 0",
    shaders: &["partial_mse", "pair_loss", "rows", "sum"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        // Away from x = t ≤ 0, where the second derivative jumps: targets of either sign, below x and above it.
        let target = || Fill::Values(&[-0.1, 0.5, -2.0, 0.0]);
        cases(|| Fill::AwayFromZero, target, |x| x[0].partial_mse(&x[1]))
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.partial_mse(&Tensor::from_f32(device, [3, 2], &[0.0; 6])?)
    },
};
