//! Log-determinants of symmetric positive definite matrices, by Cholesky's factors. Twin: `shaders/log_det.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::wide::ROWS;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

const SOURCE: &[&str] = &[PRELUDE, ROWS, include_str!("../../shaders/log_det.wgsl")];
const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup: Workgroup::Row, constants: &[] }
}
static FORWARD: Kernel = kernel("log_det.forward", "forward", "rww");
static BACKWARD: Kernel = kernel("log_det.backward", "backward", "rrw");

impl Tensor {
    /// y\[n\] = log det(x\[n\] + εI), of symmetric matrices of which the lower triangle counts. Shapes: (N, M, M) → (N).
    /// dx\[n\] = dy\[n\]·(x\[n\] + εI)⁻¹. Where x\[n\] + εI is not positive definite, y is no number, or infinite.
    ///
    /// # Errors
    /// If the input is no stack of square matrices.
    pub fn log_det(&self, epsilon: f32) -> Result<Tensor> {
        self.expect_f32("log_det")?;
        let &[n, m, columns] = &*self.shape() else {
            return Err(Error::op("log_det", format!("{} is no stack of matrices (N, M, M)", self.shape())));
        };
        if columns != m {
            return Err(Error::op("log_det", format!("{} is no stack of square matrices", self.shape())));
        }
        let (l, y) =
            (Array::empty(&self.device(), [n, m, m], DType::F32)?, Array::empty(&self.device(), [n], DType::F32)?);
        match self.device() {
            Device::Cpu(_) => {
                let x = self.array().cpu();
                let (mut l, mut y) = (l.cpu_mut(), y.cpu_mut());
                for ((l, y), x) in l.chunks_exact_mut(m * m).zip(y.iter_mut()).zip(x.chunks_exact(m * m)) {
                    let exact = factor(x, m, f64::from(epsilon));
                    *y = (0..m).map(|k| 2.0 * exact[k * m + k].ln()).sum::<f64>() as f32;
                    l.iter_mut().zip(exact).for_each(|(l, exact)| *l = exact as f32);
                }
            }
            Device::Gpu(gpu) => {
                let params = [n as u32, m as u32, epsilon.to_bits()];
                gpu.launch(&FORWARD, &[self.array(), &l, &y], &params, Grid::Rows(n))?;
            }
        }
        Ok(Tensor::from_op("log_det", y, &[self], || LogDetBackward { l, m }))
    }
}

/// L of L·Lᵀ = x + εI, row after row, with zeros above the diagonal.
fn factor(x: &[f32], m: usize, epsilon: f64) -> Vec<f64> {
    let mut l = vec![0.0f64; m * m];
    for k in 0..m {
        for i in k..m {
            let before: f64 = (0..k).map(|j| l[i * m + j] * l[k * m + j]).sum();
            let value = f64::from(x[i * m + k]) - before;
            l[i * m + k] = if i == k { (value + epsilon).sqrt() } else { value / l[k * m + k] };
        }
    }
    l
}

/// Column c of (L·Lᵀ)⁻¹.
fn inverse_column(l: &[f32], m: usize, c: usize) -> Vec<f64> {
    let at = |i: usize, j: usize| f64::from(l[i * m + j]);
    let mut a = vec![0.0f64; m];
    for i in c..m {
        let before: f64 = (c..i).map(|j| at(i, j) * a[j]).sum();
        a[i] = (f64::from(u8::from(i == c)) - before) / at(i, i);
    }
    for i in (0..m).rev() {
        let behind: f64 = (i + 1..m).map(|j| at(j, i) * a[j]).sum();
        a[i] = (a[i] - behind) / at(i, i);
    }
    a
}

struct LogDetBackward {
    l: Array,
    m: usize,
}

impl Backward for LogDetBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let (dx, m) = (inputs.place(0)?, self.m);
        match dy.device() {
            Device::Cpu(_) => {
                let (dy, l, mut dx) = (dy.cpu(), self.l.cpu(), dx.cpu_mut());
                for ((dx, l), &dy) in dx.chunks_exact_mut(m * m).zip(l.chunks_exact(m * m)).zip(dy.iter()) {
                    for c in 0..m {
                        let column = inverse_column(l, m, c);
                        (0..m).for_each(|i| dx[i * m + c] = (f64::from(dy) * column[i]) as f32);
                    }
                }
                Ok(())
            }
            Device::Gpu(gpu) => {
                let n = dy.n_elements();
                gpu.launch(&BACKWARD, &[&self.l, dy, &dx], &[n as u32, m as u32, 0], Grid::Rows(n))
            }
        }
    }
}

pub static OP: Op = Op {
    name: "log_det",
    formula: "y[n] = log det(x[n] + εI)",
    shaders: &["log_det", "rows"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let case = |name, shape: [usize; 3]| {
            Case::new(name, vec![Input::random(shape)], |x| x[0].gram()?.log_det(0.5)).tolerance(Tolerance::Normalized)
        };
        vec![case("grams", [3, 5, 7]), case("one_row", [4, 1, 3]), case("large", [2, 37, 60]).without_differences()]
    },
    refuses: |device| Tensor::from_f32(device, [1, 2, 3], &[0.0; 6])?.log_det(0.5),
};
