//! What losses over the rows of a batch have in common: a kernel gives one number per row, a sum adds them, and the
//! gradient is the local derivative times the gradient of that single number.

use super::sum::sum_into;
use super::threads::for_rows;
use crate::device::{Array, DType, Device, Grid, Kernel, Workgroup};
use crate::error::Result;
use crate::tensor::{Backward, Destinations, Tensor};

/// A loss y\[0\] = factor · Σ_n row(n) of logits (N, C) and something constant with the same rows.
#[derive(Clone, Copy)]
pub struct RowLoss {
    pub name: &'static str,
    pub forward: &'static Kernel,
    pub backward: &'static Kernel,
    /// The loss of one row from (logits, other, number); `number` is the loss's own parameter.
    pub row: fn(&[f32], &[f32], f32) -> f64,
    /// The derivative of that with respect to the logits, assigned to the last argument.
    pub row_gradient: fn(&[f32], &[f32], f32, &mut [f32]),
}

/// The kernel from (logits, other) to one number per row.
pub const fn forward(name: &'static str, source: &'static [&'static str]) -> Kernel {
    Kernel { name, source, entry: "forward", bindings: "rrw", workgroup: Workgroup::Row, constants: &[] }
}

/// The kernel from (logits, other) and dy, which is bound last, to the gradient of the logits.
pub const fn backward(name: &'static str, source: &'static [&'static str]) -> Kernel {
    Kernel { name, source, entry: "backward", bindings: "rrwr", workgroup: Workgroup::Row, constants: &[] }
}

impl RowLoss {
    /// Applies the loss; `other` has N or N×C elements. `number` goes to the kernels as its bits, behind what all of them need.
    pub fn apply(&'static self, logits: &Tensor, other: &Tensor, number: f32, factor: f32) -> Result<Tensor> {
        logits.expect_f32(self.name)?;
        logits.expect_same_device(self.name, other)?;
        let device = logits.device();
        let (n, classes) = logits.shape().rows_cols();
        let rows = Array::empty(&device, [n], DType::F32)?;
        match &device {
            Device::Cpu(_) => {
                let (x, t) = (logits.array().cpu(), other.array().cpu());
                let t_width = t.len() / n;
                for (i, row) in rows.cpu_mut().iter_mut().enumerate() {
                    let t = &t[i * t_width..(i + 1) * t_width];
                    *row = (self.row)(&x[i * classes..(i + 1) * classes], t, number) as f32;
                }
            }
            Device::Gpu(gpu) => {
                let params = [n as u32, classes as u32, factor.to_bits(), number.to_bits()];
                gpu.launch(self.forward, &[logits.array(), other.array(), &rows], &params, Grid::Rows(n))?;
            }
        }
        let y = Array::empty(&device, [1], DType::F32)?;
        sum_into(&rows, factor, &y)?;
        let saved = RowLossBackward { loss: self, x: logits.array().clone(), t: other.array().clone(), number, factor };
        Ok(Tensor::from_op(self.name, y, &[logits], || saved))
    }
}

struct RowLossBackward {
    loss: &'static RowLoss,
    x: Array,
    t: Array,
    number: f32,
    factor: f32,
}

impl Backward for RowLossBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let (n, classes) = self.x.shape().rows_cols();
        match dy.device() {
            Device::Cpu(_) => {
                let (dy, x, t) = (dy.cpu()[0] * self.factor, self.x.cpu(), self.t.cpu());
                let t_width = t.len() / n;
                for_rows(&mut dx.cpu_mut(), classes, |first, rows| {
                    for (i, dx) in (first..).zip(rows.chunks_exact_mut(classes)) {
                        let t = &t[i * t_width..(i + 1) * t_width];
                        (self.loss.row_gradient)(&x[i * classes..(i + 1) * classes], t, self.number, dx);
                        for dx in dx {
                            *dx *= dy;
                        }
                    }
                });
                Ok(())
            }
            Device::Gpu(gpu) => {
                let params = [n as u32, classes as u32, self.factor.to_bits(), self.number.to_bits()];
                let bindings = [&self.x, &self.t, &dx, dy];
                gpu.launch(self.loss.backward, &bindings, &params, Grid::Rows(n))
            }
        }
    }
}
