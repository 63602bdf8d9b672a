//! Binary cross-entropy of independent outputs against soft targets: iCaRL's loss. Twin: `shaders/bce_with_logits.wgsl` on `pair_loss.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op, Tolerance};
use super::pair_loss::{PAIR_LOSS, each_gradient, mean_of_pairs, sum_of_pairs};
use super::row_loss::{RowLoss, backward, forward};
use super::unary::sigmoid;
use super::wide::ROWS;
use crate::device::{Kernel, PRELUDE};
use crate::error::Result;
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, ROWS, PAIR_LOSS, include_str!("../../shaders/bce_with_logits.wgsl")];
static FORWARD: Kernel = forward("bce_with_logits.forward", SOURCE);
static BACKWARD: Kernel = backward("bce_with_logits.backward", SOURCE);

static LOSS: RowLoss = RowLoss {
    name: "bce_with_logits",
    forward: &FORWARD,
    backward: &BACKWARD,
    // −t·ln σ(x) − (1 − t)·ln(1 − σ(x)) = max(x, 0) − t·x + ln(1 + e^−|x|)
    row: |x, t, _| sum_of_pairs(x, t, |x, t| f64::from(x.max(0.0) - t * x) + f64::from((-x.abs()).exp().ln_1p())),
    // σ(x) − t
    row_gradient: |x, t, _, dx| each_gradient(x, t, dx, |x, t| sigmoid(x) - t),
};

impl Tensor {
    /// y = −mean over all N·C outputs of t·ln σ(x) + (1 − t)·ln(1 − σ(x)), shape \[1\]. Shapes: x and targets (N, C), targets
    /// in 0..=1, which get no gradient. dx = (σ(x) − t)/(N·C).
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn bce_with_logits(&self, targets: &Tensor) -> Result<Tensor> {
        mean_of_pairs(&LOSS, self, targets)
    }
}

pub static OP: Op = Op {
    name: "bce_with_logits",
    formula: "y = −mean t·ln σ(x) + (1−t)·ln(1−σ(x))",
    shaders: &["bce_with_logits", "pair_loss", "rows", "sum"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let run = |x: &[Tensor]| x[0].bce_with_logits(&x[1]);
        let soft = || Input::constant([11, 7], Fill::Uniform(0.0, 1.0));
        let hard = || Input::constant([2, 14], Fill::Values(&[0.0, 1.0, 0.25]));
        vec![
            Case::new("soft", vec![Input::new([11, 7], Fill::Uniform(-3.0, 3.0)), soft()], run)
                .tolerance(Tolerance::Exponential),
            Case::new("extreme", vec![Input::new([2, 14], Fill::Values(EDGES)), hard()], run)
                .tolerance(Tolerance::Exponential)
                .without_differences(),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.bce_with_logits(&Tensor::from_f32(device, [3, 2], &[0.0; 6])?)
    },
};
