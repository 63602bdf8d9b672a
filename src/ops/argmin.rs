//! Where each row is smallest or largest. Twin: `shaders/argmin.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tensor::Tensor;

static FORWARD: Kernel = Kernel {
    name: "argmin_rows",
    source: &[PRELUDE, include_str!("../../shaders/argmin.wgsl")],
    entry: "forward",
    bindings: "rw",
    workgroup: Workgroup::Rows,
    constants: &[],
};

impl Tensor {
    /// The column of each row's smallest number, the first of equals. Shapes: (N, C) → (N), u32. In maps of channels
    /// (N, C, H, W) the channel of each pixel's smallest number: (N, H, W). Only the first `n_active` columns or channels take
    /// part. No derivative.
    ///
    /// # Errors
    /// If `n_active` is 0 or larger than C.
    pub fn argmin_rows(&self, n_active: usize) -> Result<Tensor> {
        self.extreme_column("argmin_rows", n_active, 1.0)
    }

    /// The column of each row's largest number, the first of equals; see [`Tensor::argmin_rows`].
    ///
    /// # Errors
    /// If `n_active` is 0 or larger than C.
    pub fn argmax_rows(&self, n_active: usize) -> Result<Tensor> {
        self.extreme_column("argmax_rows", n_active, -1.0)
    }

    /// argmin of sign · x.
    fn extreme_column(&self, op: &'static str, n_active: usize, sign: f32) -> Result<Tensor> {
        self.expect_f32(op)?;
        // A row is a pixel of an image, and neighbouring columns are `plane` numbers apart.
        let (shape, columns, plane) = match *self.shape() {
            [n, c, h, w] => (Shape::from([n, h, w]), c, h * w),
            _ => ([self.shape().rows_cols().0].into(), self.shape().rows_cols().1, 1),
        };
        if n_active == 0 || n_active > columns {
            return Err(Error::op(op, format!("{n_active} active columns of a matrix of shape {}", self.shape())));
        }
        let y = Array::empty(&self.device(), shape, DType::U32)?;
        match self.device() {
            Device::Cpu(_) => {
                let x = self.array().cpu();
                for (image, y) in y.cpu_mut().chunks_exact_mut(plane).enumerate() {
                    for (pixel, y) in y.iter_mut().enumerate() {
                        let at = |c: usize| sign * x[(image * columns + c) * plane + pixel];
                        let best = (1..n_active).fold(0, |best, c| if at(c) < at(best) { c } else { best });
                        *y = f32::from_bits(best as u32);
                    }
                }
            }
            Device::Gpu(gpu) => {
                gpu.expect_turns(op, n_active)?;
                let n = y.n_elements();
                let params = [n as u32, columns as u32, plane as u32, n_active as u32, sign.to_bits()];
                gpu.launch(&FORWARD, &[self.array(), &y], &params, Grid::Invocations(n))?;
            }
        }
        Ok(Tensor::constant(y))
    }
}

fn cases(all: fn(&[Tensor]) -> Result<Tensor>, first: fn(&[Tensor]) -> Result<Tensor>) -> Vec<Case> {
    let distinct = || vec![Input::constant([13, 7], Fill::Distinct)];
    let ties = vec![Input::constant([5, 7], Fill::Values(&[1.0, 0.0, 1.0, 0.0]))];
    vec![
        Case::new("matrix", distinct(), all).tolerance(Tolerance::Exact),
        Case::new("ties", ties, all).tolerance(Tolerance::Exact),
        Case::new("first_4", distinct(), first).tolerance(Tolerance::Exact),
        Case::new("maps", vec![Input::constant([3, 7, 4, 5], Fill::Distinct)], all).tolerance(Tolerance::Exact),
        Case::new("first_4_of_maps", vec![Input::constant([2, 7, 5, 3], Fill::Distinct)], first)
            .tolerance(Tolerance::Exact),
    ]
}

pub static ARGMIN: Op = Op {
    name: "argmin_rows",
    formula: "y[n] = first argmin_c x[n,c]",
    shaders: &["argmin"],
    kernels: &[&FORWARD],
    gradient: false,
    cases: || cases(|x| x[0].argmin_rows(x[0].shape()[1]), |x| x[0].argmin_rows(4)),
    refuses: |device| Tensor::from_f32(device, [1, 2], &[0.0; 2])?.argmin_rows(3),
};

pub static ARGMAX: Op = Op {
    name: "argmax_rows",
    formula: "y[n] = first argmax_c x[n,c]",
    shaders: &["argmin"],
    kernels: &[&FORWARD],
    gradient: false,
    cases: || cases(|x| x[0].argmax_rows(x[0].shape()[1]), |x| x[0].argmax_rows(4)),
    refuses: |device| Tensor::from_f32(device, [1, 2], &[0.0; 2])?.argmax_rows(3),
};
