//! Sums and means over everything. Twin: `shaders/sum.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use super::threads::{CHUNK, sum_f64};
use super::wide::{ADD_UP, WIDTH};
use crate::device::{Array, DType, Device, Gpu, Grid, Kernel, MAX_TURNS, PRELUDE, Workgroup};
use crate::error::Result;
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, ADD_UP, include_str!("../../shaders/sum.wgsl")];
/// Both stages on hardware.
static WIDE: Kernel = Kernel {
    name: "sum.wide",
    source: SOURCE,
    entry: "wide",
    bindings: "rw",
    workgroup: Workgroup::Shared,
    constants: &[],
};
static PARTIAL: Kernel = Kernel {
    name: "sum.partial",
    source: SOURCE,
    entry: "partial",
    bindings: "rw",
    workgroup: Workgroup::Rows,
    constants: &[],
};
static FINISH: Kernel = Kernel {
    name: "sum.finish",
    source: SOURCE,
    entry: "finish",
    bindings: "rw",
    workgroup: Workgroup::One,
    constants: &[],
};
static BROADCAST: Kernel = Kernel {
    name: "sum.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

impl Tensor {
    /// y = Σ x over all elements, shape \[1\]. dx = dy everywhere.
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn sum(&self) -> Result<Tensor> {
        self.scaled_sum("sum", 1.0)
    }

    /// y = (1/n)·Σ x over all n elements, shape \[1\]. dx = dy/n everywhere.
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn mean(&self) -> Result<Tensor> {
        self.scaled_sum("mean", 1.0 / self.n_elements() as f32)
    }

    fn scaled_sum(&self, op: &'static str, factor: f32) -> Result<Tensor> {
        self.expect_f32(op)?;
        let y = Array::empty(&self.device(), [1], DType::F32)?;
        sum_into(self.array(), factor, &y)?;
        Ok(Tensor::from_op(op, y, &[self], || SumBackward { factor }))
    }
}

/// Partial sums of the first of two stages, on a software adapter, where one invocation can add as many numbers as each is of.
const MAX_PARTIALS: usize = 256;
/// The same on hardware: as many workgroups as the largest GPUs hold at once.
const MAX_WIDE_PARTIALS: usize = 1024;
/// Numbers that one workgroup adds up in less time than a second dispatch takes, on hardware.
const ONE_STAGE: usize = 1 << 15;

/// y\[0\] ← factor · Σ x, in an order that depends on the size alone.
pub fn sum_into(x: &Array, factor: f32, y: &Array) -> Result<()> {
    let n = x.n_elements();
    match x.device() {
        Device::Cpu(_) => {
            let pieces: Vec<f64> = x.cpu().par_chunks(CHUNK).map(sum_f64).collect();
            y.cpu_mut()[0] = (f64::from(factor) * pieces.iter().sum::<f64>()) as f32;
        }
        Device::Gpu(gpu) if !gpu.is_software() => {
            if n <= ONE_STAGE {
                return wide(&gpu, x, factor, y);
            }
            // At least four vec4s for each invocation.
            let n_partials = (n / (16 * WIDTH)).clamp(1, MAX_WIDE_PARTIALS);
            let partials = Array::empty(&x.device(), [n_partials], DType::F32)?;
            wide(&gpu, x, 1.0, &partials)?;
            wide(&gpu, &partials, factor, y)?;
        }
        Device::Gpu(gpu) => {
            let finish = |x: &Array| {
                let params = [x.n_elements() as u32, factor.to_bits()];
                gpu.launch(&FINISH, &[x, y], &params, Grid::Invocations(1))
            };
            let n_partials = n.div_ceil(16).min(MAX_PARTIALS).max(n.div_ceil(MAX_TURNS));
            if n <= MAX_PARTIALS {
                return finish(x);
            }
            let partials = Array::empty(&x.device(), [n_partials], DType::F32)?;
            let params = [n as u32, 0, n_partials as u32];
            gpu.launch(&PARTIAL, &[x, &partials], &params, Grid::Invocations(n_partials))?;
            finish(&partials)?;
        }
    }
    Ok(())
}

/// A workgroup for each element of `y`: together they are factor · Σ x.
fn wide(gpu: &Gpu, x: &Array, factor: f32, y: &Array) -> Result<()> {
    let n_groups = y.n_elements();
    let params = [x.n_elements() as u32, factor.to_bits(), n_groups as u32];
    gpu.launch(&WIDE, &[x, y], &params, Grid::Groups { x: n_groups, y: 1, z: 1 })
}

struct SumBackward {
    factor: f32,
}

impl Backward for SumBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        match dy.device() {
            Device::Cpu(_) => {
                let value = self.factor * dy.cpu()[0];
                dx.cpu_mut().fill(value);
                Ok(())
            }
            Device::Gpu(gpu) => {
                let n = dx.n_elements();
                let params = [n as u32, self.factor.to_bits()];
                gpu.launch(&BROADCAST, &[dy, &dx], &params, Grid::Invocations(n.div_ceil(4)))
            }
        }
    }
}

fn cases(run: fn(&[Tensor]) -> Result<Tensor>) -> Vec<Case> {
    vec![
        Case::new("all", vec![Input::random([3, 5, 7])], run).tolerance(Tolerance::Sum(105)),
        Case::new("one", vec![Input::random([1])], run),
        Case::new("long", vec![Input::random([70_001])], run).tolerance(Tolerance::Sum(70_001)).without_differences(),
        // Two stages on hardware, the last vec4 in part, and what is left over by four rows at a time.
        Case::new("two_stages", vec![Input::random([3, 131_073])], run)
            .tolerance(Tolerance::Sum(3 * 131_073))
            .without_differences(),
        Case::new("large", vec![Input::new([1031], Fill::Values(&[1e4, -1e4, 1e-30, 3.0]))], run)
            .tolerance(Tolerance::Sum(1031))
            .without_differences(),
    ]
}

pub static SUM: Op = Op {
    name: "sum",
    formula: "y = Σ x",
    shaders: &["sum", "add_up"],
    kernels: &[&WIDE, &PARTIAL, &FINISH, &BROADCAST],
    gradient: true,
    cases: || cases(|x| x[0].sum()),
    refuses: |device| Tensor::from_u32(device, [2], &[1, 2])?.sum(),
};

pub static MEAN: Op = Op {
    name: "mean",
    formula: "y = Σ x / n",
    shaders: &["sum", "add_up"],
    kernels: &[&WIDE, &PARTIAL, &FINISH, &BROADCAST],
    gradient: true,
    cases: || cases(|x| x[0].mean()),
    refuses: |device| Tensor::from_u32(device, [2], &[1, 2])?.mean(),
};
