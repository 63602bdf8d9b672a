//! The mean squared error, of logits or of features. Twin: `shaders/mse.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use super::row_loss::RowLoss;
use crate::device::{Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/mse.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "mse.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rrw",
    workgroup: Workgroup::Rows,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "mse.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rrrw",
    workgroup: Workgroup::Rows,
    constants: &[],
};

static LOSS: RowLoss = RowLoss {
    name: "mse",
    forward: &FORWARD,
    backward: &BACKWARD,
    row: |x, t, _| x.iter().zip(t).map(|(&x, &t)| f64::from(x - t) * f64::from(x - t)).sum(),
    row_gradient: |x, t, _, dx| {
        for ((dx, &x), &t) in dx.iter_mut().zip(x).zip(t) {
            *dx = 2.0 * (x - t);
        }
    },
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

/// A loss of two tensors of one shape, as the mean over all elements; one row of work per last axis.
pub fn mean_of_pairs(loss: &'static RowLoss, x: &Tensor, target: &Tensor) -> Result<Tensor> {
    target.expect_f32(loss.name)?;
    if x.shape() != target.shape() {
        return Err(Error::op(loss.name, format!("the shapes {} and {} differ", x.shape(), target.shape())));
    }
    let n = x.n_elements();
    let width = if x.shape().len() == 1 { 1 } else { x.shape()[x.shape().len() - 1] };
    let x = if x.shape().len() == 2 { x.clone() } else { x.reshape([n / width, width])? };
    loss.apply(&x, target, 0.0, 1.0 / n as f32)
}

/// What such a loss is tried on: random numbers in two shapes, and very different ones.
pub fn cases(run: fn(&[Tensor]) -> Result<Tensor>) -> Vec<Case> {
    let pair = |shape: &[usize]| {
        let shape = crate::shape::Shape::new(shape).expect("a good shape");
        let fill = || Fill::Uniform(-2.0, 2.0);
        vec![Input::new(shape, fill()), Input::constant(shape, fill())]
    };
    let edges = &[0.0, -0.0, 1e-30, -1e-30, 20.0, -20.0, 100.0, -1e4];
    let far = vec![Input::new([3, 5], Fill::Values(edges)), Input::constant([3, 5], Fill::Values(&[1.0, -1.0, 0.0]))];
    vec![
        Case::new("logits", pair(&[11, 7]), run).tolerance(Tolerance::Exponential),
        Case::new("maps", pair(&[2, 3, 4, 5]), run).tolerance(Tolerance::Exponential),
        Case::new("edges", far, run).tolerance(Tolerance::Exponential).without_differences(),
    ]
}

pub static OP: Op = Op {
    name: "mse",
    formula: "y = mean (x − t)²",
    shaders: &["mse", "sum"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || cases(|x| x[0].mse(&x[1])),
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.mse(&Tensor::from_f32(device, [3, 2], &[0.0; 6])?)
    },
};
