//! Targets that keep old outputs and teach new ones. Twin: `shaders/mixed_targets.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use super::threads::for_rows;
use super::unary::sigmoid;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

static FORWARD: Kernel = Kernel {
    name: "mixed_targets",
    source: &[PRELUDE, include_str!("../../shaders/mixed_targets.wgsl")],
    entry: "forward",
    bindings: "rrw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

impl Tensor {
    /// t[n, c] = σ(self[n, c]) for c < n_soft, else 1 if label\[n\] = c and 0 otherwise. Shapes: self (N, C) are the logits of
    /// an old network, labels (N), u32 → (N, C). For a sample of an old class every new output is 0, and its old outputs are
    /// those of the old network, not its label. No derivative.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn mixed_targets(&self, labels: &Tensor, n_soft: usize) -> Result<Tensor> {
        self.expect_f32("mixed_targets")?;
        labels.expect_u32("mixed_targets")?;
        self.expect_same_device("mixed_targets", labels)?;
        let (n, classes) = self.shape().rows_cols();
        if labels.n_elements() != n || n_soft > classes {
            let (x, labels) = (self.shape(), labels.shape());
            return Err(Error::op("mixed_targets", format!("logits {x}, labels {labels}, {n_soft} soft do not fit")));
        }
        let y = Array::empty(&self.device(), [n, classes], DType::F32)?;
        match self.device() {
            Device::Cpu(_) => {
                let (x, labels) = (self.array().cpu(), labels.array().cpu());
                for_rows(&mut y.cpu_mut(), classes, |first, rows| {
                    for (row, y) in (first..).zip(rows.chunks_exact_mut(classes)) {
                        for (c, y) in y.iter_mut().enumerate() {
                            let hard = if labels[row].to_bits() == c as u32 { 1.0 } else { 0.0 };
                            *y = if c < n_soft { sigmoid(x[row * classes + c]) } else { hard };
                        }
                    }
                });
            }
            Device::Gpu(gpu) => {
                let params = [n as u32, classes as u32, n_soft as u32];
                let grid = Grid::Invocations(n * classes);
                gpu.launch(&FORWARD, &[self.array(), labels.array(), &y], &params, grid)?;
            }
        }
        Ok(Tensor::constant(y))
    }
}

pub static OP: Op = Op {
    name: "mixed_targets",
    formula: "t[n,c] = σ(old[n,c]) if c < n_soft else [label[n] = c]",
    shaders: &["mixed_targets"],
    kernels: &[&FORWARD],
    gradient: false,
    cases: || {
        let inputs =
            || vec![Input::constant([11, 7], Fill::Uniform(-5.0, 5.0)), Input::constant([11], Fill::Indices(7))];
        vec![
            Case::new("all_hard", inputs(), |x| x[0].mixed_targets(&x[1], 0)).tolerance(Tolerance::Exponential),
            Case::new("four_soft", inputs(), |x| x[0].mixed_targets(&x[1], 4)).tolerance(Tolerance::Exponential),
            Case::new("all_soft", inputs(), |x| x[0].mixed_targets(&x[1], 7)).tolerance(Tolerance::Exponential),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.mixed_targets(&Tensor::from_u32(device, [2], &[0, 1])?, 4)
    },
};
