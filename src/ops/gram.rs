//! Inner products of the rows of each matrix of a stack. Twin: `shaders/gram.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::gemm::{Matrix, gemm_rows};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/gram.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "gram.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rw",
    workgroup: Workgroup::Flat,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "gram.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rrw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

impl Tensor {
    /// y\[n\] = x\[n\] · x\[n\]ᵀ. Shapes: (N, M, D) → (N, M, M). dx\[n\] = (dy\[n\] + dy\[n\]ᵀ) · x\[n\].
    ///
    /// # Errors
    /// If the input has no three axes.
    pub fn gram(&self) -> Result<Tensor> {
        self.expect_f32("gram")?;
        let &[n, m, d] = &*self.shape() else {
            return Err(Error::op("gram", format!("{} is no stack of matrices (N, M, D)", self.shape())));
        };
        let y = Array::empty(&self.device(), [n, m, m], DType::F32)?;
        match self.device() {
            Device::Cpu(_) => {
                let x = self.array().cpu();
                y.cpu_mut().par_chunks_mut(m * m).zip(x.par_chunks(m * d)).for_each(|(y, x)| {
                    let (rows, columns) =
                        (Matrix { data: x, row: d, column: 1 }, Matrix { data: x, row: 1, column: d });
                    gemm_rows(m, d, m, rows, columns, y, false);
                });
            }
            Device::Gpu(gpu) => {
                let params = [n * m * m, m, d].map(|size| size as u32);
                gpu.launch(&FORWARD, &[self.array(), &y], &params, Grid::Invocations(n * m * m))?;
            }
        }
        let saved = GramBackward { x: self.array().clone() };
        Ok(Tensor::from_op("gram", y, &[self], || saved))
    }
}

struct GramBackward {
    x: Array,
}

impl Backward for GramBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let (m, d) = (self.x.shape()[1], self.x.shape()[2]);
        match dy.device() {
            Device::Cpu(_) => {
                let (dy, x) = (dy.cpu(), self.x.cpu());
                let stack = x.par_chunks(m * d).zip(dy.par_chunks(m * m));
                dx.cpu_mut().par_chunks_mut(m * d).zip(stack).for_each(|(dx, (x, dy))| {
                    let both: Vec<f32> = (0..m * m).map(|at| dy[at] + dy[at % m * m + at / m]).collect();
                    let (both, x) = (Matrix { data: &both, row: m, column: 1 }, Matrix { data: x, row: d, column: 1 });
                    gemm_rows(m, m, d, both, x, dx, false);
                });
                Ok(())
            }
            Device::Gpu(gpu) => {
                let n = dx.n_elements();
                let params = [n, m, d].map(|size| size as u32);
                gpu.launch(&BACKWARD, &[dy, &self.x, &dx], &params, Grid::Invocations(n))
            }
        }
    }
}

pub static OP: Op = Op {
    name: "gram",
    formula: "y[n,i,j] = Σ_d x[n,i,d] · x[n,j,d]",
    shaders: &["gram"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || vec![Case::new("stack", vec![Input::random([3, 5, 7])], |x| x[0].gram()).tolerance(Tolerance::Sum(20))],
    refuses: |device| Tensor::from_f32(device, [2, 3], &[0.0; 6])?.gram(),
};
