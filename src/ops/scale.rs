//! Multiplication by a number known on the host. Twin: `scale` in `shaders/primitives.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op};
use crate::device::{self, Array, DType, PRIMITIVE_KERNELS};
use crate::error::Result;
use crate::tensor::{Backward, Destinations, Tensor};

impl Tensor {
    /// y = factor · x, any shape. dy/dx = factor.
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn scale(&self, factor: f32) -> Result<Tensor> {
        self.expect_f32("scale")?;
        let y = Array::empty(&self.device(), self.shape(), DType::F32)?;
        device::scale(self.array(), factor, &y)?;
        Ok(Tensor::from_op("scale", y, &[self], || ScaleBackward { factor }))
    }
}

struct ScaleBackward {
    factor: f32,
}

impl Backward for ScaleBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        device::scale(dy, self.factor, &inputs.place(0)?)
    }
}

pub static OP: Op = Op {
    name: "scale",
    formula: "y = factor · x",
    shaders: &["primitives"],
    kernels: PRIMITIVE_KERNELS,
    gradient: true,
    cases: || {
        vec![
            Case::new("by_2.5", vec![Input::random([2, 3, 5])], |x| x[0].scale(2.5)),
            // 300,000 groups of four: more workgroups than fit one dimension at four invocations each.
            Case::new("long", vec![Input::random([3, 400_001])], |x| x[0].scale(-0.5)).without_differences(),
            Case::new("edges", vec![Input::new([29], Fill::Values(EDGES))], |x| x[0].scale(3.0)).without_differences(),
        ]
    },
    refuses: |device| Tensor::from_u32(device, [2], &[1, 2])?.scale(2.0),
};
