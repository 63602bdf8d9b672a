//! The difference of every row to every other. Twin: `shaders/pair_differences.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::threads::for_rows;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/pair_differences.wgsl")];
const fn kernel(name: &'static str, entry: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings: "rw", workgroup: Workgroup::Flat, constants: &[] }
}
static FORWARD: Kernel = kernel("pair_differences.forward", "forward");
static BACKWARD: Kernel = kernel("pair_differences.backward", "backward");

impl Tensor {
    /// y\[i·N + j\] = x\[j\] − x\[i\]. Shapes: (N, D) → (N·N, D). dx\[k\] = Σ_i dy\[i·N + k\] − Σ_j dy\[k·N + j\].
    ///
    /// # Errors
    /// If the input is no matrix.
    pub fn pair_differences(&self) -> Result<Tensor> {
        self.expect_f32("pair_differences")?;
        let &[n, d] = &*self.shape() else {
            return Err(Error::op("pair_differences", format!("{} is not the shape of a matrix", self.shape())));
        };
        let y = Array::empty(&self.device(), [n * n, d], DType::F32)?;
        match self.device() {
            Device::Cpu(_) => {
                let x = self.array().cpu();
                for_rows(&mut y.cpu_mut(), d, |first, rows| {
                    for (pair, y) in (first..).zip(rows.chunks_exact_mut(d)) {
                        let (from, to) = (&x[pair / n * d..], &x[pair % n * d..]);
                        for ((y, from), to) in y.iter_mut().zip(from).zip(to) {
                            *y = to - from;
                        }
                    }
                });
            }
            Device::Gpu(gpu) => {
                gpu.expect_turns("pair_differences", n)?;
                gpu.launch(&FORWARD, &[self.array(), &y], &[n as u32, d as u32], Grid::Invocations(n * n * d))?;
            }
        }
        Ok(Tensor::from_op("pair_differences", y, &[self], || PairDifferencesBackward))
    }
}

struct PairDifferencesBackward;

impl Backward for PairDifferencesBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let (n, d) = dx.shape().rows_cols();
        match dy.device() {
            Device::Cpu(_) => {
                let dy = dy.cpu();
                for_rows(&mut dx.cpu_mut(), d, |first, rows| {
                    for (k, dx) in (first..).zip(rows.chunks_exact_mut(d)) {
                        dx.fill(0.0);
                        for other in 0..n {
                            let (to, from) = (&dy[(other * n + k) * d..], &dy[(k * n + other) * d..]);
                            for ((dx, to), from) in dx.iter_mut().zip(to).zip(from) {
                                *dx += to - from;
                            }
                        }
                    }
                });
                Ok(())
            }
            Device::Gpu(gpu) => gpu.launch(&BACKWARD, &[dy, &dx], &[n as u32, d as u32], Grid::Invocations(n * d)),
        }
    }
}

pub static OP: Op = Op {
    name: "pair_differences",
    formula: "y[i·N+j] = x[j] − x[i]",
    shaders: &["pair_differences"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let run = |x: &[Tensor]| x[0].pair_differences();
        vec![
            Case::new("rows", vec![Input::random([7, 5])], run).tolerance(Tolerance::Sum(14)),
            Case::new("one_row", vec![Input::random([1, 3])], run),
        ]
    },
    refuses: |device| Tensor::from_f32(device, [2, 3, 1, 1], &[0.0; 6])?.pair_differences(),
};
