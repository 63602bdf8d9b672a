//! Inner products of the rows of each matrix of a stack. Twins: `shaders/matmul_tile.wgsl`, `matmul_fours.wgsl`, `gram.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::gemm::{Matrix, gemm_rows};
use super::matmul::{Stack, multiply_stack};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

static ADD_TRANSPOSE: Kernel = Kernel {
    name: "gram.add_transpose",
    source: &[PRELUDE, include_str!("../../shaders/gram.wgsl")],
    entry: "add_transpose",
    bindings: "rw",
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
                let x = |row, column| Stack { array: self.array(), row, column, slice: m * d };
                multiply_stack(&gpu, [n, m, d, m], x(d, 1), x(1, d), &y)?;
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
        let &[n, m, d] = &*self.x.shape() else { panic!("bug: the input of gram had three axes") };
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
                let both = Array::empty(&dy.device(), [n, m, m], DType::F32)?;
                let params = [n * m * m, m].map(|size| size as u32);
                gpu.launch(&ADD_TRANSPOSE, &[dy, &both], &params, Grid::Invocations(n * m * m))?;
                let both = Stack { array: &both, row: m, column: 1, slice: m * m };
                let x = Stack { array: &self.x, row: d, column: 1, slice: m * d };
                multiply_stack(&gpu, [n, m, m, d], both, x, &dx)
            }
        }
    }
}

pub static OP: Op = Op {
    name: "gram",
    formula: "y[n,i,j] = Σ_d x[n,i,d] · x[n,j,d]",
    shaders: &["gram", "matmul_tile", "matmul_fours", "gemm_tile"],
    kernels: &[&ADD_TRANSPOSE],
    gradient: true,
    cases: || {
        let case = |name, shape: [usize; 3]| {
            Case::new(name, vec![Input::random(shape)], |x| x[0].gram())
                .tolerance(Tolerance::Sum(shape[1] + 2 * shape[2]))
        };
        vec![case("stack", [3, 5, 7]), case("several_tiles", [2, 67, 19]).without_differences()]
    },
    refuses: |device| Tensor::from_f32(device, [2, 3], &[0.0; 6])?.gram(),
};
