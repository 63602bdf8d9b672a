//! The squared distance of every row to every other matrix's row. Twin: `shaders/squared_distances.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::threads::for_rows;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/squared_distances.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "squared_distances.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rrw",
    workgroup: Workgroup::Flat,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "squared_distances.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rrrw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

impl Tensor {
    /// y[n, m] = ‖x\[n\] − means\[m\]‖². Shapes: x (N, D), means (M, D) → (N, M). dx\[n\] = Σ_m 2·dy[n, m]·(x\[n\] − means\[m\]), and
    /// likewise for the means. Computed from differences, not from products, which would cancel.
    ///
    /// # Errors
    /// If the rows differ in length.
    pub fn squared_distances(&self, means: &Tensor) -> Result<Tensor> {
        self.expect_f32("squared_distances")?;
        means.expect_f32("squared_distances")?;
        self.expect_same_device("squared_distances", means)?;
        let ((n, d), (m, d_means)) = (self.shape().rows_cols(), means.shape().rows_cols());
        if d != d_means {
            let (x, means) = (self.shape(), means.shape());
            return Err(Error::op("squared_distances", format!("the rows of {x} and {means} differ in length")));
        }
        let y = Array::empty(&self.device(), [n, m], DType::F32)?;
        match self.device() {
            Device::Cpu(_) => {
                let (x, means) = (self.array().cpu(), means.array().cpu());
                for_rows(&mut y.cpu_mut(), m, |first, rows| {
                    for (y, x) in rows.chunks_exact_mut(m).zip(x[first * d..].chunks_exact(d)) {
                        for (y, mean) in y.iter_mut().zip(means.chunks_exact(d)) {
                            *y = squared_distance(x, mean);
                        }
                    }
                });
            }
            Device::Gpu(gpu) => {
                gpu.expect_turns("squared_distances", n.max(m).max(d))?;
                let params = [n as u32, m as u32, d as u32];
                gpu.launch(&FORWARD, &[self.array(), means.array(), &y], &params, Grid::Invocations(n * m))?;
            }
        }
        let saved = SquaredDistancesBackward { x: self.array().clone(), means: means.array().clone() };
        Ok(Tensor::from_op("squared_distances", y, &[self, means], || saved))
    }
}

/// ‖a − b‖², added up in eight lanes.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| (a - b) * (a - b)).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += (a - b) * (a - b);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

struct SquaredDistancesBackward {
    x: Array,
    means: Array,
}

impl Backward for SquaredDistancesBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let m = self.means.shape().rows_cols().0;
        // dy is read as (N, M) for x and as its transpose for the means: steps to the next own row and to the next other.
        for (i, own, other, own_step, other_step) in [(0, &self.x, &self.means, m, 1), (1, &self.means, &self.x, 1, m)]
        {
            if inputs.wants(i) {
                backward(dy, own, other, own_step, other_step, &inputs.place(i)?)?;
            }
        }
        Ok(())
    }
}

/// d_own\[r\] = Σ_o 2·dy[r, o]·(own\[r\] − other\[o\])
fn backward(dy: &Array, own: &Array, other: &Array, own_step: usize, other_step: usize, d_own: &Array) -> Result<()> {
    let ((n, d), (n_other, _)) = (own.shape().rows_cols(), other.shape().rows_cols());
    match dy.device() {
        Device::Cpu(_) => {
            let (dy, own, other) = (dy.cpu(), own.cpu(), other.cpu());
            for_rows(&mut d_own.cpu_mut(), d, |first, rows| {
                for (r, d_own) in (first..).zip(rows.chunks_exact_mut(d)) {
                    d_own.fill(0.0);
                    for o in 0..n_other {
                        let factor = 2.0 * dy[r * own_step + o * other_step];
                        let pairs = own[r * d..(r + 1) * d].iter().zip(&other[o * d..(o + 1) * d]);
                        for (d_own, (own, other)) in d_own.iter_mut().zip(pairs) {
                            *d_own += factor * (own - other);
                        }
                    }
                }
            });
            Ok(())
        }
        Device::Gpu(gpu) => {
            let params = [n, n_other, d, own_step, other_step].map(|size| size as u32);
            gpu.launch(&BACKWARD, &[dy, own, other, d_own], &params, Grid::Invocations(n * d))
        }
    }
}

pub static OP: Op = Op {
    name: "squared_distances",
    formula: "y[n,m] = ‖x[n] − means[m]‖²",
    shaders: &["squared_distances"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        vec![
            Case::new("rows", vec![Input::random([11, 13]), Input::random([3, 13])], |x| x[0].squared_distances(&x[1]))
                .tolerance(Tolerance::Sum(52)),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.squared_distances(&Tensor::from_f32(device, [3, 2], &[0.0; 6])?)
    },
};
