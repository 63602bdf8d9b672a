//! The same numbers under another shape: nothing is computed or copied.

use crate::device::Array;
use crate::error::Result;
use crate::shape::Shape;
use crate::tensor::{Backward, Destinations, Tensor};

impl Tensor {
    /// The same numbers under a shape of as many elements. dx = dy under the old shape.
    ///
    /// # Errors
    /// If the numbers of elements differ.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        let y = self.array().reshape(shape)?;
        let shape = self.shape();
        Ok(Tensor::from_op("reshape", y, &[self], || ReshapeBackward { shape }))
    }
}

struct ReshapeBackward {
    shape: Shape,
}

impl Backward for ReshapeBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        inputs.pass(0, &dy.reshape(self.shape)?)
    }
}
