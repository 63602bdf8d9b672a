//! Maximum over windows. Twin: `shaders/max_pool2d.wgsl`.

use super::case::{Case, Fill, Input, Op};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/max_pool2d.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "max_pool2d.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rww",
    workgroup: Workgroup::Flat,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "max_pool2d.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rrw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

#[derive(Clone, Copy)]
struct Sizes {
    planes: usize,
    h: usize,
    w: usize,
    p: usize,
    q: usize,
    size: usize,
    stride: usize,
}

impl Tensor {
    /// y[n, c, p, q] = max over the size × size window at (p·stride, q·stride); the window never leaves the image.
    /// Shapes: (N, C, H, W) → (N, C, P, Q), P = ⌊(H − size)/stride⌋ + 1. The gradient goes to the first of equal maxima in
    /// reading order, as in PyTorch.
    ///
    /// # Errors
    /// If the input has not four axes or the window does not fit.
    pub fn max_pool2d(&self, size: usize, stride: usize) -> Result<Tensor> {
        self.expect_f32("max_pool2d")?;
        let &[n, c, h, w] = &*self.shape() else {
            return Err(Error::op("max_pool2d", format!("needs N×C×H×W, not {}", self.shape())));
        };
        if size == 0 || stride == 0 || size > h || size > w {
            let shape = self.shape();
            return Err(Error::op(
                "max_pool2d",
                format!("a window of {size} with stride {stride} does not fit {shape}"),
            ));
        }
        let (p, q) = ((h - size) / stride + 1, (w - size) / stride + 1);
        let sizes = Sizes { planes: n * c, h, w, p, q, size, stride };
        let y = Array::empty(&self.device(), [n, c, p, q], DType::F32)?;
        // Where in its plane each maximum was found.
        let argmax = Array::empty(&self.device(), [n, c, p, q], DType::U32)?;
        match self.device() {
            Device::Cpu(_) => forward_cpu(sizes, &self.array().cpu(), &mut y.cpu_mut(), &mut argmax.cpu_mut()),
            Device::Gpu(gpu) => {
                let grid = Grid::Invocations(sizes.planes * p * q);
                gpu.launch(&FORWARD, &[self.array(), &y, &argmax], &sizes.params(), grid)?;
            }
        }
        Ok(Tensor::from_op("max_pool2d", y, &[self], || MaxPoolBackward { sizes, argmax }))
    }
}

impl Sizes {
    fn params(&self) -> [u32; 7] {
        let Sizes { planes, h, w, p, q, size, stride } = *self;
        [planes, h, w, p, q, size, stride].map(|size| size as u32)
    }
}

fn forward_cpu(sizes: Sizes, x: &[f32], y: &mut [f32], argmax: &mut [f32]) {
    let Sizes { h, w, p, q, size, stride, .. } = sizes;
    y.par_chunks_exact_mut(p * q).zip(argmax.par_chunks_exact_mut(p * q)).zip(x.par_chunks_exact(h * w)).for_each(
        |((y, argmax), x)| {
            if size == 2 && stride == 2 {
                return pool_pairs(w, q, x, y, argmax);
            }
            for row in 0..p {
                for column in 0..q {
                    let corner = row * stride * w + column * stride;
                    let (mut best, mut at) = (x[corner], corner);
                    for i in 0..size {
                        for j in 0..size {
                            let here = corner + i * w + j;
                            if x[here] > best {
                                (best, at) = (x[here], here);
                            }
                        }
                    }
                    y[row * q + column] = best;
                    argmax[row * q + column] = f32::from_bits(at as u32);
                }
            }
        },
    );
}

/// One plane with windows of 2 × 2 that touch: the common case, without index arithmetic per pixel.
fn pool_pairs(w: usize, q: usize, x: &[f32], y: &mut [f32], argmax: &mut [f32]) {
    let outputs = y.chunks_exact_mut(q).zip(argmax.chunks_exact_mut(q));
    for (i, ((y, argmax), rows)) in outputs.zip(x.chunks_exact(2 * w)).enumerate() {
        let (upper, lower) = rows.split_at(w);
        let windows = upper.chunks_exact(2).zip(lower.chunks_exact(2));
        for (column, ((y, argmax), (upper, lower))) in y.iter_mut().zip(argmax).zip(windows).enumerate() {
            let (best, at) = if upper[1] > upper[0] { (upper[1], 1) } else { (upper[0], 0) };
            let (best, at) = if lower[0] > best { (lower[0], w) } else { (best, at) };
            let (best, at) = if lower[1] > best { (lower[1], w + 1) } else { (best, at) };
            *y = best;
            *argmax = f32::from_bits((2 * i * w + 2 * column + at) as u32);
        }
    }
}

struct MaxPoolBackward {
    sizes: Sizes,
    argmax: Array,
}

impl Backward for MaxPoolBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let Sizes { planes, h, w, p, q, .. } = self.sizes;
        match dy.device() {
            Device::Cpu(_) => {
                let (dy, argmax) = (dy.cpu(), self.argmax.cpu());
                dx.cpu_mut()
                    .par_chunks_exact_mut(h * w)
                    .zip(dy.par_chunks_exact(p * q).zip(argmax.par_chunks_exact(p * q)))
                    .for_each(|(dx, (dy, argmax))| {
                        dx.fill(0.0);
                        for (dy, at) in dy.iter().zip(argmax) {
                            dx[at.to_bits() as usize] += dy;
                        }
                    });
                Ok(())
            }
            Device::Gpu(gpu) => {
                let grid = Grid::Invocations(planes * h * w);
                gpu.launch(&BACKWARD, &[dy, &self.argmax, &dx], &self.sizes.params(), grid)
            }
        }
    }
}

pub static OP: Op = Op {
    name: "max_pool2d",
    formula: "y[n,c,p,q] = max of a window of x[n,c]",
    shaders: &["max_pool2d"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let distinct = |shape: [usize; 4]| vec![Input::new(shape, Fill::Distinct)];
        vec![
            Case::new("k2_s2", distinct([2, 3, 6, 8]), |x| x[0].max_pool2d(2, 2)),
            Case::new("k3_s2", distinct([2, 3, 7, 9]), |x| x[0].max_pool2d(3, 2)),
            Case::new("odd_k2_s2", distinct([1, 2, 5, 7]), |x| x[0].max_pool2d(2, 2)),
            Case::new("ties_k2_s2", vec![Input::new([1, 2, 4, 6], Fill::Values(&[0.5]))], |x| x[0].max_pool2d(2, 2))
                .without_differences(),
            Case::new("overlapping_k3_s1", distinct([1, 2, 5, 4]), |x| x[0].max_pool2d(3, 1)),
        ]
    },
    refuses: |device| Tensor::from_f32(device, [1, 1, 2, 2], &[0.0; 4])?.max_pool2d(3, 1),
};
