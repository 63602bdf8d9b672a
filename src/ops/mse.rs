//! The mean squared error, of logits or of features. Twin: `shaders/mse.wgsl` on `pair_loss.wgsl`.

use super::case::{Fill, Op};
use super::pair_loss::{PAIR_LOSS, cases, each_gradient, mean_of_pairs, sum_of_pairs};
use super::row_loss::{RowLoss, backward, forward};
use super::wide::ROWS;
use crate::device::{Kernel, PRELUDE};
use crate::error::Result;
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, ROWS, PAIR_LOSS, include_str!("../../shaders/mse.wgsl")];
static FORWARD: Kernel = forward("mse.forward", SOURCE);
static BACKWARD: Kernel = backward("mse.backward", SOURCE);

static LOSS: RowLoss = RowLoss {
    name: "mse",
    forward: &FORWARD,
    backward: &BACKWARD,
    row: |x, t, _| sum_of_pairs(x, t, |x, t| f64::from(x - t) * f64::from(x - t)),
    row_gradient: |x, t, _, dx| each_gradient(x, t, dx, |x, t| 2.0 * (x - t)),
};

impl Tensor {
    /// y = mean over all n elements of (x − target)², shape \[1\]. Shapes: both the same, any. dx = 2·(x − target)/n; the
    /// target gets no gradient. With logits it is the loss of Ba and Caruana (2014) and of Dark Experience Replay.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn mse(&self, target: &Tensor) -> Result<Tensor> {
        mean_of_pairs(&LOSS, self, target)
    }
}

pub static OP: Op = Op {
    name: "mse",
    formula: "y = mean (x − t)²",
    shaders: &["mse", "pair_loss", "rows", "sum"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || cases(|| Fill::Uniform(-2.0, 2.0), || Fill::Uniform(-2.0, 2.0), |x| x[0].mse(&x[1])),
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.mse(&Tensor::from_f32(device, [3, 2], &[0.0; 6])?)
    },
};
