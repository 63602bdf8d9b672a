//! What losses have in common that are a mean over pairs of numbers: y = mean f(x, t), dx = dy·df(x, t)/n. Twin of
//! `shaders/pair_loss.wgsl`.

use super::case::{Case, Fill, Input, Tolerance};
use super::row_loss::RowLoss;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The skeleton; the op's own file fills its holes.
pub const PAIR_LOSS: &str = include_str!("../../shaders/pair_loss.wgsl");

/// The loss of a row.
pub fn sum_of_pairs(x: &[f32], t: &[f32], f: impl Fn(f32, f32) -> f64) -> f64 {
    x.iter().zip(t).map(|(&x, &t)| f(x, t)).sum()
}

/// Its derivative with respect to x.
pub fn each_gradient(x: &[f32], t: &[f32], dx: &mut [f32], df: impl Fn(f32, f32) -> f32) {
    for ((dx, &x), &t) in dx.iter_mut().zip(x).zip(t) {
        *dx = df(x, t);
    }
}

/// A loss of two tensors of one shape, as the mean over all elements; one row of work per last axis, on GPUs per plane.
pub fn mean_of_pairs(loss: &'static RowLoss, x: &Tensor, target: &Tensor) -> Result<Tensor> {
    target.expect_f32(loss.name)?;
    if x.shape() != target.shape() {
        return Err(Error::op(loss.name, format!("the shapes {} and {} differ", x.shape(), target.shape())));
    }
    let n = x.n_elements();
    let width = match (&*x.shape(), x.device()) {
        (&[_], _) => 1,
        // A workgroup has a row: long ones keep it busy.
        (&[.., h, w], Device::Gpu(_)) if x.shape().len() > 2 => h * w,
        (shape, _) => shape[shape.len() - 1],
    };
    let x = if x.shape().len() == 2 { x.clone() } else { x.reshape([n / width, width])? };
    loss.apply(&x, target, 0.0, 1.0 / n as f32)
}

/// What such a loss is tried on: numbers filled in by `x` and `target`, in two shapes, and very different ones.
pub fn cases(x: fn() -> Fill, target: fn() -> Fill, run: fn(&[Tensor]) -> Result<Tensor>) -> Vec<Case> {
    let pair = |shape: &[usize]| {
        let shape = crate::shape::Shape::new(shape).expect("a good shape");
        vec![Input::new(shape, x()), Input::constant(shape, target())]
    };
    let edges = &[0.0, -0.0, 1e-30, -1e-30, 20.0, -20.0, 100.0, -1e4];
    let far = vec![Input::new([3, 5], Fill::Values(edges)), Input::constant([3, 5], Fill::Values(&[1.0, -1.0, 0.0]))];
    vec![
        Case::new("logits", pair(&[11, 7]), run).tolerance(Tolerance::Exponential),
        Case::new("maps", pair(&[2, 3, 4, 5]), run).tolerance(Tolerance::Exponential),
        Case::new("edges", far, run).tolerance(Tolerance::Exponential).without_differences(),
    ]
}
