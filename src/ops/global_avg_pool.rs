//! The mean of each channel of each image: row_mean under another shape. It has no kernels of its own.

use super::case::{Case, Input, Op, Tolerance};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

impl Tensor {
    /// y[n, c] = mean of x[n, c, ·, ·]. Shapes: (N, C, H, W) → (N, C). dx = dy/(H·W).
    ///
    /// # Errors
    /// If the input has not four axes.
    pub fn global_avg_pool(&self) -> Result<Tensor> {
        let &[n, c, h, w] = &*self.shape() else {
            return Err(Error::op("global_avg_pool", format!("needs N×C×H×W, not {}", self.shape())));
        };
        self.reshape([n * c, h * w])?.row_mean()?.reshape([n, c])
    }
}

pub static OP: Op = Op {
    name: "global_avg_pool",
    formula: "y[n,c] = mean of x[n,c,·,·]",
    shaders: &["row_sum"],
    kernels: &[],
    gradient: true,
    cases: || {
        vec![
            Case::new("image", vec![Input::random([2, 3, 5, 7])], |x| x[0].global_avg_pool())
                .tolerance(Tolerance::Sum(35)),
        ]
    },
    refuses: |device| Tensor::from_f32(device, [2, 2], &[0.0; 4])?.global_avg_pool(),
};
