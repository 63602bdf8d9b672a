//! Maximum over windows. Twin: `shaders/max_pool2d.wgsl`.

use super::case::{Case, Fill, Input, Op};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

/// Also of other ops on planes of pixels.
pub const PLANES: &str = include_str!("../../shaders/planes.wgsl");
const SOURCE: &[&str] = &[PRELUDE, PLANES, include_str!("../../shaders/max_pool2d.wgsl")];
const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup: Workgroup::Flat, constants: &[] }
}
static FORWARD: Kernel = kernel("max_pool2d.forward", "forward", "rww");
static BACKWARD: Kernel = kernel("max_pool2d.backward", "backward", "rrw");
/// Windows of 2 × 2 that touch.
static FORWARD_PAIRS: Kernel = kernel("max_pool2d.forward_pairs", "forward_pairs", "rww");
static BACKWARD_PAIRS: Kernel = kernel("max_pool2d.backward_pairs", "backward_pairs", "rrw");

#[derive(Clone, Copy)]
struct Sizes {
    planes: usize,
    h: usize,
    w: usize,
    p: usize,
    q: usize,
    size: usize,
    stride: usize,
    padding: usize,
}

impl Tensor {
    /// y[n, c, p, q] = max over the size × size window at (p·stride − padding, q·stride − padding); pixels outside the image do
    /// not count. Shapes: (N, C, H, W) → (N, C, P, Q), P = ⌊(H + 2·padding − size)/stride⌋ + 1. The gradient goes to the first of
    /// equal maxima in reading order, as in PyTorch. So is this: a window with a NaN has it as its maximum, the last one where
    /// there are more.
    ///
    /// # Errors
    /// If the input has not four axes, the window does not fit, or the padding is more than half of it.
    pub fn max_pool2d(&self, size: usize, stride: usize, padding: usize) -> Result<Tensor> {
        self.expect_f32("max_pool2d")?;
        let &[n, c, h, w] = &*self.shape() else {
            return Err(Error::op("max_pool2d", format!("needs N×C×H×W, not {}", self.shape())));
        };
        let (Some(p), Some(q)) = (pooled(h, size, stride, padding), pooled(w, size, stride, padding)) else {
            let shape = self.shape();
            let message = format!("a window of {size} with stride {stride} and padding {padding} does not fit {shape}");
            return Err(Error::op("max_pool2d", message));
        };
        let sizes = Sizes { planes: n * c, h, w, p, q, size, stride, padding };
        let y = Array::empty(&self.device(), [n, c, p, q], DType::F32)?;
        // Where in its plane each maximum was found.
        let argmax = Array::empty(&self.device(), [n, c, p, q], DType::U32)?;
        match self.device() {
            Device::Cpu(_) => forward_cpu(sizes, &self.array().cpu(), &mut y.cpu_mut(), &mut argmax.cpu_mut()),
            Device::Gpu(gpu) => {
                gpu.expect_turns("max_pool2d", size * (size + 1))?;
                let bindings = [self.array(), &y, &argmax];
                let (kernel, n) = match sizes.in_pairs() {
                    true => (&FORWARD_PAIRS, sizes.planes * p * (w / 4)),
                    false => (&FORWARD, sizes.planes * p * q),
                };
                gpu.launch(kernel, &bindings, &sizes.params(), Grid::Invocations(n))?;
            }
        }
        Ok(Tensor::from_op("max_pool2d", y, &[self], || MaxPoolBackward { sizes, argmax }))
    }
}

/// Windows along a side of so many pixels; `None` if not one fits, or one might hold no pixel.
pub fn pooled(side: usize, size: usize, stride: usize, padding: usize) -> Option<usize> {
    let fits = size > 0 && stride > 0 && padding <= size / 2 && size <= side + 2 * padding;
    fits.then(|| (side + 2 * padding - size) / stride + 1)
}

impl Sizes {
    /// True if kernels may take two windows of 2 × 2 at once.
    fn in_pairs(&self) -> bool {
        (self.size, self.stride, self.padding) == (2, 2, 0) && self.w.is_multiple_of(4)
    }

    fn params(&self) -> [u32; 8] {
        let Sizes { planes, h, w, p, q, size, stride, padding } = *self;
        [planes, h, w, p, q, size, stride, padding].map(|size| size as u32)
    }
}

fn forward_cpu(sizes: Sizes, x: &[f32], y: &mut [f32], argmax: &mut [f32]) {
    let Sizes { h, w, p, q, size, stride, padding, .. } = sizes;
    // The pixels of a side that the window of this number covers.
    let covered = |number: usize, side: usize| {
        let start = number * stride;
        start.saturating_sub(padding)..(start + size - padding).min(side)
    };
    y.par_chunks_exact_mut(p * q).zip(argmax.par_chunks_exact_mut(p * q)).zip(x.par_chunks_exact(h * w)).for_each(
        |((y, argmax), x)| {
            if (size, stride, padding) == (2, 2, 0) {
                return pool_pairs(w, q, x, y, argmax);
            }
            for row in 0..p {
                for column in 0..q {
                    let (rows, columns) = (covered(row, h), covered(column, w));
                    let corner = rows.start * w + columns.start;
                    let (mut best, mut at) = (x[corner], corner);
                    for i in rows {
                        for j in columns.clone() {
                            let here = i * w + j;
                            if exceeds(x[here], best) {
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

/// True if x becomes the maximum.
#[inline(always)]
fn exceeds(x: f32, best: f32) -> bool {
    x > best || x.is_nan()
}

/// One plane with windows of 2 × 2 that touch: the common case, without index arithmetic per pixel.
fn pool_pairs(w: usize, q: usize, x: &[f32], y: &mut [f32], argmax: &mut [f32]) {
    let outputs = y.chunks_exact_mut(q).zip(argmax.chunks_exact_mut(q));
    for (i, ((y, argmax), rows)) in outputs.zip(x.chunks_exact(2 * w)).enumerate() {
        let (upper, lower) = rows.split_at(w);
        let windows = upper.chunks_exact(2).zip(lower.chunks_exact(2));
        for (column, ((y, argmax), (upper, lower))) in y.iter_mut().zip(argmax).zip(windows).enumerate() {
            let (best, at) = if exceeds(upper[1], upper[0]) { (upper[1], 1) } else { (upper[0], 0) };
            let (best, at) = if exceeds(lower[0], best) { (lower[0], w) } else { (best, at) };
            let (best, at) = if exceeds(lower[1], best) { (lower[1], w + 1) } else { (best, at) };
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
                let (kernel, n) = match self.sizes.in_pairs() {
                    true => (&BACKWARD_PAIRS, planes * h.div_ceil(2) * (w / 4)),
                    false => (&BACKWARD, planes * h * w),
                };
                gpu.launch(kernel, &[dy, &self.argmax, &dx], &self.sizes.params(), Grid::Invocations(n))
            }
        }
    }
}

pub static OP: Op = Op {
    name: "max_pool2d",
    formula: "y[n,c,p,q] = max of a window of x[n,c]",
    shaders: &["max_pool2d", "planes"],
    kernels: &[&FORWARD, &BACKWARD, &FORWARD_PAIRS, &BACKWARD_PAIRS],
    gradient: true,
    cases: || {
        let not_a_number = |shape: [usize; 4]| {
            vec![Input::new(shape, Fill::Values(&[0.5, f32::NAN, -1.0, 2.0, 3.0, -2.0, 0.0, 1.0, 4.0, -3.0, 2.5]))]
        };
        let distinct = |shape: [usize; 4]| vec![Input::new(shape, Fill::Distinct)];
        vec![
            Case::new("k2_s2", distinct([2, 3, 6, 8]), |x| x[0].max_pool2d(2, 2, 0)),
            Case::new("k3_s2", distinct([2, 3, 7, 9]), |x| x[0].max_pool2d(3, 2, 0)),
            Case::new("odd_k2_s2", distinct([1, 2, 5, 7]), |x| x[0].max_pool2d(2, 2, 0)),
            Case::new("ties_k2_s2", vec![Input::new([1, 2, 4, 6], Fill::Values(&[0.5]))], |x| x[0].max_pool2d(2, 2, 0))
                .without_differences(),
            Case::new("pairs_odd_rows", distinct([2, 3, 5, 12]), |x| x[0].max_pool2d(2, 2, 0)),
            Case::new("pairs_not_a_number", not_a_number([1, 2, 4, 8]), |x| x[0].max_pool2d(2, 2, 0))
                .without_differences(),
            Case::new("not_a_number", not_a_number([1, 2, 5, 7]), |x| x[0].max_pool2d(3, 1, 0)).without_differences(),
            Case::new("k3_s2_p1", distinct([2, 3, 8, 7]), |x| x[0].max_pool2d(3, 2, 1)),
            Case::new("k3_s1_p1", distinct([1, 2, 1, 5]), |x| x[0].max_pool2d(3, 1, 1)),
            Case::new("k2_s2_p1", distinct([1, 3, 4, 8]), |x| x[0].max_pool2d(2, 2, 1)),
            Case::new("padding_not_a_number", not_a_number([1, 2, 5, 7]), |x| x[0].max_pool2d(3, 2, 1))
                .without_differences(),
            // Below every zero that padding might be taken for.
            Case::new("negative_k3_s2_p1", vec![Input::new([1, 1, 4, 4], Fill::Values(&[-3.0, -1.5, -2.0]))], |x| {
                x[0].max_pool2d(3, 2, 1)
            })
            .without_differences(),
            Case::new("overlapping_k3_s1", distinct([1, 2, 5, 4]), |x| x[0].max_pool2d(3, 1, 0)),
        ]
    },
    refuses: |device| Tensor::from_f32(device, [1, 1, 2, 2], &[0.0; 4])?.max_pool2d(3, 1, 0),
};
