//! Numbers divided by the mean of the positive ones among them. Twin: `shaders/over_positive_mean.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use super::threads::CHUNK;
use super::wide;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::Result;
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, wide::ROWS, include_str!("../../shaders/over_positive_mean.wgsl")];
const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str, workgroup: Workgroup) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup, constants: &[] }
}
static ROWS: Kernel = kernel("over_positive_mean.rows", "rows", "rw", Workgroup::Row);
static FORWARD: Kernel = kernel("over_positive_mean.forward", "forward", "rrw", Workgroup::Flat);
static ALONG: Kernel = kernel("over_positive_mean.along", "along", "rrw", Workgroup::Row);
static BACKWARD: Kernel = kernel("over_positive_mean.backward", "backward", "rrrrw", Workgroup::Flat);

impl Tensor {
    /// y = x/m with m the mean of the positive elements; y = x if none is positive. Shapes: (N, C) → (N, C).
    /// dx = dy/m − \[x > 0\]·Σ dy·x/(n₊·m²), n₊ the number of positive elements: the gradient flows through the mean.
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn over_positive_mean(&self) -> Result<Tensor> {
        self.expect_f32("over_positive_mean")?;
        let (n_rows, n_columns) = self.shape().rows_cols();
        let y = Array::empty(&self.device(), self.shape(), DType::F32)?;
        let sums = Array::empty(&self.device(), [n_rows, 2], DType::F32)?;
        match self.device() {
            Device::Cpu(_) => {
                let x = self.array().cpu();
                for (row, sums) in x.chunks_exact(n_columns).zip(sums.cpu_mut().chunks_exact_mut(2)) {
                    let (total, count) = positive(row);
                    sums.copy_from_slice(&[total as f32, count as f32]);
                }
                let (factor, _) = factor_and_count(&sums.cpu());
                y.cpu_mut().par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = x * factor);
                });
            }
            Device::Gpu(gpu) => {
                gpu.expect_turns("over_positive_mean", n_rows)?;
                let params = [n_rows as u32, n_columns as u32];
                gpu.launch(&ROWS, &[self.array(), &sums], &params, Grid::Rows(n_rows))?;
                gpu.launch(&FORWARD, &[self.array(), &sums, &y], &params, Grid::Invocations(n_rows * n_columns))?;
            }
        }
        let saved = OverPositiveMeanBackward { x: self.array().clone(), sums };
        Ok(Tensor::from_op("over_positive_mean", y, &[self], || saved))
    }
}

/// Sum and number of the positive ones.
fn positive(x: &[f32]) -> (f64, f64) {
    x.iter().filter(|x| **x > 0.0).fold((0.0, 0.0), |(total, count), &x| (total + f64::from(x), count + 1.0))
}

/// 1/m and n₊ from the numbers of all rows.
fn factor_and_count(sums: &[f32]) -> (f32, f64) {
    let add = |(total, count), row: &[f32]| (total + f64::from(row[0]), count + f64::from(row[1]));
    let (total, count): (f64, f64) = sums.chunks_exact(2).fold((0.0, 0.0), add);
    if count > 0.0 { ((count / total) as f32, count) } else { (1.0, 0.0) }
}

struct OverPositiveMeanBackward {
    x: Array,
    sums: Array,
}

impl Backward for OverPositiveMeanBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let (n_rows, n_columns) = dx.shape().rows_cols();
        match dy.device() {
            Device::Cpu(_) => {
                let (dy, x) = (dy.cpu(), self.x.cpu());
                let (factor, count) = factor_and_count(&self.sums.cpu());
                let dot: f64 = dy.iter().zip(x.iter()).map(|(&dy, &x)| f64::from(dy) * f64::from(x)).sum();
                let pull = if count > 0.0 { (f64::from(factor) * f64::from(factor) * dot / count) as f32 } else { 0.0 };
                for ((dx, dy), x) in dx.cpu_mut().iter_mut().zip(dy.iter()).zip(x.iter()) {
                    *dx = dy * factor - if *x > 0.0 { pull } else { 0.0 };
                }
                Ok(())
            }
            Device::Gpu(gpu) => {
                let params = [n_rows as u32, n_columns as u32];
                let along = Array::empty(&dx.device(), [n_rows], DType::F32)?;
                gpu.launch(&ALONG, &[dy, &self.x, &along], &params, Grid::Rows(n_rows))?;
                let bindings = [dy, &self.x, &self.sums, &along, &dx];
                gpu.launch(&BACKWARD, &bindings, &params, Grid::Invocations(n_rows * n_columns))
            }
        }
    }
}

pub static OP: Op = Op {
    name: "over_positive_mean",
    formula: "y = x / mean of the positive x",
    shaders: &["over_positive_mean", "rows"],
    kernels: &[&ROWS, &FORWARD, &ALONG, &BACKWARD],
    gradient: true,
    cases: || {
        let run = |x: &[Tensor]| x[0].over_positive_mean();
        vec![
            Case::new("positive", vec![Input::new([7, 9], Fill::Uniform(0.5, 2.0))], run)
                .tolerance(Tolerance::Exponential),
            Case::new("some_zero", vec![Input::new([4, 4], Fill::Values(&[0.0, 1.5, 2.5, 0.5, 3.0]))], run)
                .tolerance(Tolerance::Exponential)
                .without_differences(),
            Case::new("all_zero", vec![Input::new([2, 3], Fill::Values(&[0.0]))], run).without_differences(),
        ]
    },
    refuses: |device| Tensor::from_u32(device, [2], &[1, 2])?.over_positive_mean(),
};
