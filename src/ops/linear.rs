//! A linear layer's product: matmul and bias_add under one backward node. It has no kernels of its own.

use super::bias_add::bias_add_into;
use super::case::{Case, Input, Op, Tolerance};
use super::channel_sum::channel_sum_into;
use super::matmul::{Operand, multiply};
use crate::device::{Array, DType};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

impl Tensor {
    /// y = x · wᵀ + b. Shapes: x (N, …) seen as (N, I), w (O, I), b (O) → y (N, O).
    /// dx = dy · w, dw = dyᵀ · x, db = Σ_n dy.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        self.expect_f32("linear")?;
        weight.expect_f32("linear")?;
        self.expect_same_device("linear", weight)?;
        if let Some(bias) = bias {
            bias.expect_f32("linear")?;
            self.expect_same_device("linear", bias)?;
        }
        let (n, inputs) = self.shape().rows_cols();
        let (outputs, weight_inputs) = weight.shape().rows_cols();
        if weight.shape().len() != 2 || inputs != weight_inputs || bias.is_some_and(|b| *b.shape() != [outputs]) {
            return Err(Error::op(
                "linear",
                format!(
                    "x {}, weight {}, bias {} do not fit: x is (N, I), the weight (O, I), the bias (O)",
                    self.shape(),
                    weight.shape(),
                    bias.map_or("none".into(), |b| b.shape().to_string())
                ),
            ));
        }
        let x = self.array().reshape([n, inputs])?;
        let product = Array::empty(&self.device(), [n, outputs], DType::F32)?;
        let w = Operand { array: weight.array(), transposed: true };
        multiply(Operand { array: &x, transposed: false }, w, &product)?;
        let saved = LinearBackward { x, weight: weight.array().clone() };
        let Some(bias) = bias else {
            return Ok(Tensor::from_op("linear", product, &[self, weight], || saved));
        };
        let y = Array::empty(&self.device(), [n, outputs], DType::F32)?;
        bias_add_into(&product, bias.array(), &y)?;
        Ok(Tensor::from_op("linear", y, &[self, weight, bias], || saved))
    }
}

struct LinearBackward {
    x: Array,
    weight: Array,
}

impl Backward for LinearBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let plain = |array| Operand { array, transposed: false };
        if inputs.wants(0) {
            let dx = inputs.place(0)?;
            multiply(plain(dy), plain(&self.weight), &dx)?;
        }
        if inputs.wants(1) {
            let dw = inputs.place(1)?;
            multiply(Operand { array: dy, transposed: true }, plain(&self.x), &dw)?;
        }
        if inputs.has(2) && inputs.wants(2) {
            channel_sum_into(dy, &inputs.place(2)?)?;
        }
        Ok(())
    }
}

pub static OP: Op = Op {
    name: "linear",
    formula: "y = x · wᵀ + b",
    shaders: &["matmul", "gemm_8x8", "pack", "bias_add", "channel_sum"],
    kernels: &[],
    gradient: true,
    cases: || {
        vec![
            Case::new("bias", vec![Input::random([9, 13]), Input::random([5, 13]), Input::random([5])], |x| {
                x[0].linear(&x[1], Some(&x[2]))
            })
            .tolerance(Tolerance::Product(13)),
            Case::new("no_bias", vec![Input::random([9, 13]), Input::random([5, 13])], |x| x[0].linear(&x[1], None))
                .tolerance(Tolerance::Product(13)),
            Case::new("image", vec![Input::random([3, 2, 3, 4]), Input::random([5, 24])], |x| x[0].linear(&x[1], None))
                .tolerance(Tolerance::Product(24)),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.linear(&Tensor::from_f32(device, [3, 2], &[0.0; 6])?, None)
    },
};
