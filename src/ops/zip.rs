//! Functions of two elements at the same place: add, sub, mul. Twins: `shaders/{add,sub,mul}.wgsl` on `shaders/zip.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op};
use super::threads::CHUNK;
use crate::device::{self, Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

const ZIP: &str = include_str!("../../shaders/zip.wgsl");

const fn kernel(name: &'static str, source: &'static [&'static str]) -> Kernel {
    Kernel { name, source, entry: "forward", bindings: "rrw", workgroup: Workgroup::Flat, constants: &[] }
}
static ADD_KERNEL: Kernel = kernel("add.forward", &[PRELUDE, ZIP, include_str!("../../shaders/add.wgsl")]);
static SUB_KERNEL: Kernel = kernel("sub.forward", &[PRELUDE, ZIP, include_str!("../../shaders/sub.wgsl")]);
static MUL_KERNEL: Kernel = kernel("mul.forward", &[PRELUDE, ZIP, include_str!("../../shaders/mul.wgsl")]);

impl Tensor {
    /// y = a + b, both of one shape. dy/da = dy/db = 1.
    ///
    /// # Errors
    /// If the shapes or devices differ.
    pub fn add(&self, other: &Tensor) -> Result<Tensor> {
        let y = zip("add", &ADD_KERNEL, self, other, |a, b| a + b)?;
        Ok(Tensor::from_op("add", y, &[self, other], || AddBackward))
    }

    /// y = a − b, both of one shape. dy/da = 1, dy/db = −1.
    ///
    /// # Errors
    /// If the shapes or devices differ.
    pub fn sub(&self, other: &Tensor) -> Result<Tensor> {
        let y = zip("sub", &SUB_KERNEL, self, other, |a, b| a - b)?;
        Ok(Tensor::from_op("sub", y, &[self, other], || SubBackward))
    }

    /// y = a · b element by element, both of one shape. dy/da = b, dy/db = a.
    ///
    /// # Errors
    /// If the shapes or devices differ.
    pub fn mul(&self, other: &Tensor) -> Result<Tensor> {
        let y = zip("mul", &MUL_KERNEL, self, other, |a, b| a * b)?;
        let saved = MulBackward { a: self.array().clone(), b: other.array().clone() };
        Ok(Tensor::from_op("mul", y, &[self, other], || saved))
    }
}

fn zip(
    op: &'static str,
    kernel: &'static Kernel,
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<Array> {
    a.expect_f32(op)?;
    b.expect_f32(op)?;
    a.expect_same_device(op, b)?;
    if a.shape() != b.shape() {
        return Err(Error::op(op, format!("the shapes {} and {} differ", a.shape(), b.shape())));
    }
    let y = Array::empty(&a.device(), a.shape(), DType::F32)?;
    zip_into(kernel, a.array(), b.array(), &y, f)?;
    Ok(y)
}

fn zip_into(
    kernel: &'static Kernel,
    a: &Array,
    b: &Array,
    y: &Array,
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<()> {
    let n = y.n_elements();
    match y.device() {
        Device::Cpu(_) => {
            let (a, b) = (a.cpu(), b.cpu());
            y.cpu_mut().par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK))).for_each(
                |(y, (a, b))| {
                    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                        *y = f(a, b);
                    }
                },
            );
            Ok(())
        }
        Device::Gpu(gpu) => gpu.launch(kernel, &[a, b, y], &[n as u32], Grid::Invocations(n.div_ceil(4))),
    }
}

struct AddBackward;

impl Backward for AddBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        for i in 0..2 {
            if inputs.wants(i) {
                inputs.pass(i, dy)?;
            }
        }
        Ok(())
    }
}

struct SubBackward;

impl Backward for SubBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        if inputs.wants(0) {
            inputs.pass(0, dy)?;
        }
        if inputs.wants(1) {
            device::scale(dy, -1.0, &inputs.place(1)?)?;
        }
        Ok(())
    }
}

struct MulBackward {
    a: Array,
    b: Array,
}

impl Backward for MulBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        for (i, factor) in [&self.b, &self.a].into_iter().enumerate() {
            if inputs.wants(i) {
                zip_into(&MUL_KERNEL, dy, factor, &inputs.place(i)?, |a, b| a * b)?;
            }
        }
        Ok(())
    }
}

fn cases(run: fn(&[Tensor]) -> Result<Tensor>) -> Vec<Case> {
    let edges = vec![Input::new([29], Fill::Values(EDGES)), Input::new([29], Fill::Values(&[1.5, -2.0, 0.0]))];
    vec![
        Case::new("same_shape", vec![Input::random([2, 3, 5]), Input::random([2, 3, 5])], run),
        Case::new("odd_size", vec![Input::random([1, 997]), Input::random([1, 997])], run).without_differences(),
        Case::new("edges", edges, run).without_differences(),
    ]
}

/// Two shapes that do not fit.
fn unequal(device: &Device) -> Result<[Tensor; 2]> {
    Ok([Tensor::from_f32(device, [2], &[0.0; 2])?, Tensor::from_f32(device, [3], &[0.0; 3])?])
}

pub static ADD: Op = Op {
    name: "add",
    formula: "y = a + b",
    shaders: &["add", "zip"],
    kernels: &[&ADD_KERNEL],
    gradient: true,
    cases: || cases(|x| x[0].add(&x[1])),
    refuses: |device| unequal(device).and_then(|[a, b]| a.add(&b)),
};

pub static SUB: Op = Op {
    name: "sub",
    formula: "y = a − b",
    shaders: &["sub", "zip"],
    kernels: &[&SUB_KERNEL],
    gradient: true,
    cases: || cases(|x| x[0].sub(&x[1])),
    refuses: |device| unequal(device).and_then(|[a, b]| a.sub(&b)),
};

pub static MUL: Op = Op {
    name: "mul",
    formula: "y = a · b",
    shaders: &["mul", "zip"],
    kernels: &[&MUL_KERNEL],
    gradient: true,
    cases: || cases(|x| x[0].mul(&x[1])),
    refuses: |device| unequal(device).and_then(|[a, b]| a.mul(&b)),
};
