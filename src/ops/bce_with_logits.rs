//! Binary cross-entropy of independent outputs against soft targets: iCaRL's loss. Twin: `shaders/bce_with_logits.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op, Tolerance};
use super::row_loss::RowLoss;
use super::unary::sigmoid;
use crate::device::{Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/bce_with_logits.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "bce_with_logits.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rrw",
    workgroup: Workgroup::Rows,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "bce_with_logits.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rrrw",
    workgroup: Workgroup::Rows,
    constants: &[],
};

static LOSS: RowLoss = RowLoss {
    name: "bce_with_logits",
    forward: &FORWARD,
    backward: &BACKWARD,
    // −t·ln σ(x) − (1 − t)·ln(1 − σ(x)) = max(x, 0) − t·x + ln(1 + e^−|x|)
    row: |x, t, _| {
        x.iter().zip(t).map(|(&x, &t)| f64::from(x.max(0.0) - t * x) + f64::from((-x.abs()).exp().ln_1p())).sum()
    },
    // σ(x) − t
    row_gradient: |x, t, _, dx| {
        for ((dx, &x), &t) in dx.iter_mut().zip(x).zip(t) {
            *dx = sigmoid(x) - t;
        }
    },
};

impl Tensor {
    /// y = −mean over all N·C outputs of t·ln σ(x) + (1 − t)·ln(1 − σ(x)), shape \[1\]. Shapes: x and targets (N, C), targets
    /// in 0..=1, which get no gradient. dx = (σ(x) − t)/(N·C).
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn bce_with_logits(&self, targets: &Tensor) -> Result<Tensor> {
        targets.expect_f32("bce_with_logits")?;
        if self.shape() != targets.shape() {
            let (x, t) = (self.shape(), targets.shape());
            return Err(Error::op("bce_with_logits", format!("logits {x} and targets {t} differ")));
        }
        LOSS.apply(self, targets, 0.0, 1.0 / self.n_elements() as f32)
    }
}

pub static OP: Op = Op {
    name: "bce_with_logits",
    formula: "y = −mean t·ln σ(x) + (1−t)·ln(1−σ(x))",
    shaders: &["bce_with_logits", "sum"],
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
