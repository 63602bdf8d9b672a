//! Softmax cross-entropy against labels. Twin: `shaders/cross_entropy.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op, Tolerance};
use super::pixel_cross_entropy::IGNORE;
use super::row_loss::{RowLoss, backward, forward};
use super::softmax::{log_sum_exp, softmax_row};
use super::wide::ROWS;
use crate::device::{Kernel, PRELUDE};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, ROWS, include_str!("../../shaders/cross_entropy.wgsl")];
static FORWARD: Kernel = forward("cross_entropy.forward", SOURCE);
static BACKWARD: Kernel = backward("cross_entropy.backward", SOURCE);

static LOSS: RowLoss = RowLoss {
    name: "cross_entropy",
    forward: &FORWARD,
    backward: &BACKWARD,
    // −ln softmax(x)[label] over the first `n_active` outputs
    row: |x, label, n_active| {
        let active = &x[..n_active.to_bits() as usize];
        active.get(label[0].to_bits() as usize).map_or(f64::NAN, |&x| log_sum_exp(active, 1.0) - f64::from(x))
    },
    // softmax(x) − onehot(label), 0 for inactive outputs
    row_gradient: |x, label, n_active, dx| {
        let (active, inactive) = dx.split_at_mut(n_active.to_bits() as usize);
        softmax_row(&x[..active.len()], 1.0, active);
        inactive.fill(0.0);
        match active.get_mut(label[0].to_bits() as usize) {
            Some(dx) => *dx -= 1.0,
            None => active.fill(f32::NAN),
        }
    },
};

impl Tensor {
    /// y = −(1/N)·Σ_n ln softmax(x[n, ..n_active])[label\[n\]], shape \[1\]. Shapes: x (N, C), labels (N), u32. Only the first
    /// `n_active` outputs take part: a network laid out for all classes is trained on those seen so far.
    /// dx = (softmax(x) − onehot)/N, 0 for the other outputs. A label ≥ n_active makes the loss NaN.
    ///
    /// Of maps of outputs (N, C, H, W) and a label for each pixel (N, H, W), the mean over pixels whose label is not
    /// [`IGNORE`]; 0 if there is none.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn cross_entropy(&self, labels: &Tensor, n_active: usize) -> Result<Tensor> {
        labels.expect_u32("cross_entropy")?;
        if let &[n, c, h, w] = &*self.shape() {
            if *labels.shape() != [n, h, w] || n_active == 0 || n_active > c {
                return Err(unfit(self, labels, n_active));
            }
            let losses = self.pixel_cross_entropy(labels, n_active, 0)?;
            return losses.sum()?.mul(&labels.share_of_labels()?);
        }
        let (n, classes) = self.shape().rows_cols();
        if labels.n_elements() != n || n_active == 0 || n_active > classes {
            return Err(unfit(self, labels, n_active));
        }
        LOSS.apply(self, labels, f32::from_bits(n_active as u32), 1.0 / n as f32)
    }
}

fn unfit(logits: &Tensor, labels: &Tensor, n_active: usize) -> Error {
    let (logits, labels) = (logits.shape(), labels.shape());
    Error::op("cross_entropy", format!("logits {logits}, labels {labels}, {n_active} active outputs do not fit"))
}

pub static OP: Op = Op {
    name: "cross_entropy",
    formula: "y = −mean_n ln softmax(x[n])[label[n]]",
    shaders: &["cross_entropy", "rows", "sum", "pixel_cross_entropy", "share_of_labels"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let all = |x: &[Tensor]| x[0].cross_entropy(&x[1], x[0].shape()[1]);
        let inputs = |classes| vec![Input::new([11, 7], Fill::Uniform(-3.0, 3.0)), labels(11, classes)];
        vec![
            Case::new("all", inputs(7), all).tolerance(Tolerance::Exponential),
            Case::new("first_3", inputs(3), |x| x[0].cross_entropy(&x[1], 3)).tolerance(Tolerance::Exponential),
            Case::new("extreme", vec![Input::new([4, 14], Fill::Values(EDGES)), labels(4, 14)], all)
                .tolerance(Tolerance::Exponential)
                .without_differences(),
            Case::new("pixels", pixels(), all).tolerance(Tolerance::Exponential),
            Case::new("pixels_first_4", pixels(), |x| x[0].cross_entropy(&x[1], 4)).tolerance(Tolerance::Exponential),
            Case::new("long", vec![Input::random([301, 10]), labels(301, 10)], all)
                .tolerance(Tolerance::Exponential)
                .without_differences(),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.cross_entropy(&Tensor::from_u32(device, [3], &[0, 1, 2])?, 3)
    },
};

/// Maps of five outputs, and labels of which some do not count.
fn pixels() -> Vec<Input> {
    let labels = Fill::Integers(&[0, 3, IGNORE, 1, 2, IGNORE, 3]);
    vec![Input::new([2, 5, 3, 4], Fill::Uniform(-3.0, 3.0)), Input::constant([2, 3, 4], labels)]
}

fn labels(n: usize, classes: u32) -> Input {
    Input::constant([n], Fill::Indices(classes))
}
