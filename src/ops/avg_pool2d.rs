//! Means over windows of any height, width and step. Twin: `shaders/avg_pool2d.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::max_pool2d::PLANES;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;
use std::ops::Range;

const SOURCE: &[&str] = &[PRELUDE, PLANES, include_str!("../../shaders/avg_pool2d.wgsl")];
const fn kernel(name: &'static str, entry: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings: "rw", workgroup: Workgroup::Flat, constants: &[] }
}
static FORWARD: Kernel = kernel("avg_pool2d.forward", "forward");
static BACKWARD: Kernel = kernel("avg_pool2d.backward", "backward");

/// How windows move along rows and columns of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Pixels between neighbouring windows.
    pub stride: [usize; 2],
    /// Zeros around the image.
    pub padding: [usize; 2],
}

impl Windows {
    /// Windows that touch.
    pub const fn side_by_side(kernel: [usize; 2]) -> Windows {
        Windows { kernel, stride: kernel, padding: [0, 0] }
    }
}

/// An axis of an image under windows.
#[derive(Clone, Copy)]
struct Axis {
    n: usize,
    windows: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl Axis {
    fn new(n: usize, kernel: usize, stride: usize, padding: usize) -> Option<Axis> {
        // A window of nothing but zeros has no mean of anything.
        let fits = kernel > 0 && stride > 0 && padding < kernel && n.checked_add(2 * padding)? <= i32::MAX as usize;
        let windows = (n + 2 * padding).checked_sub(kernel)?.checked_div(stride)? + 1;
        fits.then_some(Axis { n, windows, kernel, stride, padding })
    }

    /// The pixels that a window covers.
    fn covered(&self, window: usize) -> Range<usize> {
        let start = window * self.stride;
        let before = |at: usize| at.saturating_sub(self.padding).min(self.n);
        before(start)..before(start + self.kernel)
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    planes: usize,
    rows: Axis,
    columns: Axis,
}

impl Tensor {
    /// y[n, c, p, q] = the mean of the window of KH × KW pixels at (p·SH − PH, q·SW − PW) of x[n, c], with zeros around the
    /// image that count as pixels (PyTorch's `avg_pool2d`). Shapes: (N, C, H, W) → (N, C, P, Q), P = ⌊(H + 2·PH − KH)/SH⌋ + 1.
    /// dx is the sum over the windows that cover a pixel of dy/(KH·KW).
    ///
    /// # Errors
    /// If the input has not four axes, a window does not fit the padded image, or could lie outside of it.
    pub fn avg_pool2d(&self, windows: Windows) -> Result<Tensor> {
        self.expect_f32("avg_pool2d")?;
        let &[n, c, h, w] = &*self.shape() else {
            return Err(Error::op("avg_pool2d", format!("needs N×C×H×W, not {}", self.shape())));
        };
        let Windows { kernel, stride, padding } = windows;
        let axis = |i: usize, n: usize| Axis::new(n, kernel[i], stride[i], padding[i]);
        let (Some(rows), Some(columns)) = (axis(0, h), axis(1, w)) else {
            return Err(Error::op("avg_pool2d", format!("{windows:?} do not fit {}", self.shape())));
        };
        let sizes = Sizes { planes: n * c, rows, columns };
        let y = Array::empty(&self.device(), [n, c, rows.windows, columns.windows], DType::F32)?;
        match self.device() {
            Device::Cpu(_) => forward_cpu(sizes, &self.array().cpu(), &mut y.cpu_mut()),
            Device::Gpu(gpu) => {
                gpu.expect_turns("avg_pool2d", rows.kernel.min(rows.n) * (columns.kernel.min(columns.n) + 1))?;
                let outputs = Grid::Invocations(y.n_elements());
                gpu.launch(&FORWARD, &[self.array(), &y], &sizes.params(), outputs)?;
            }
        }
        Ok(Tensor::from_op("avg_pool2d", y, &[self], || AvgPoolBackward { sizes }))
    }
}

impl Sizes {
    fn params(&self) -> [u32; 11] {
        let Sizes { planes, rows, columns } = *self;
        let pair = |of: fn(Axis) -> usize| [of(rows), of(columns)];
        let [[h, w], [p, q], [kh, kw]] = [pair(|a| a.n), pair(|a| a.windows), pair(|a| a.kernel)];
        let [[sh, sw], [ph, pw]] = [pair(|a| a.stride), pair(|a| a.padding)];
        [planes, h, w, p, q, kh, kw, sh, sw, ph, pw].map(|size| size as u32)
    }

    fn area(&self) -> f32 {
        self.rows.kernel as f32 * self.columns.kernel as f32
    }
}

/// Sums along rows of pixels, then of those along columns: a window costs its height and width, not its area.
fn forward_cpu(sizes: Sizes, x: &[f32], y: &mut [f32]) {
    let Sizes { rows, columns, .. } = sizes;
    let (pixels, outputs, q) = (rows.n * columns.n, rows.windows * columns.windows, columns.windows);
    y.par_chunks_exact_mut(outputs).zip(x.par_chunks_exact(pixels)).for_each(|(y, x)| {
        let mut along = vec![0.0f32; rows.n * q];
        for (along, x) in along.chunks_exact_mut(q).zip(x.chunks_exact(columns.n)) {
            for (window, along) in along.iter_mut().enumerate() {
                *along = x[columns.covered(window)].iter().sum();
            }
        }
        for (window, y) in y.chunks_exact_mut(q).enumerate() {
            y.fill(0.0);
            for i in rows.covered(window) {
                for (y, along) in y.iter_mut().zip(&along[i * q..(i + 1) * q]) {
                    *y += along;
                }
            }
            y.iter_mut().for_each(|y| *y /= sizes.area());
        }
    });
}

struct AvgPoolBackward {
    sizes: Sizes,
}

impl Backward for AvgPoolBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        match dy.device() {
            Device::Cpu(_) => {
                backward_cpu(self.sizes, &dy.cpu(), &mut dx.cpu_mut());
                Ok(())
            }
            Device::Gpu(gpu) => {
                let pixels = Grid::Invocations(dx.n_elements());
                gpu.launch(&BACKWARD, &[dy, &dx], &self.sizes.params(), pixels)
            }
        }
    }
}

fn backward_cpu(sizes: Sizes, dy: &[f32], dx: &mut [f32]) {
    let Sizes { rows, columns, .. } = sizes;
    let (pixels, outputs, q) = (rows.n * columns.n, rows.windows * columns.windows, columns.windows);
    dx.par_chunks_exact_mut(pixels).zip(dy.par_chunks_exact(outputs)).for_each(|(dx, dy)| {
        let mut along = vec![0.0f32; rows.n * q];
        for (window, dy) in dy.chunks_exact(q).enumerate() {
            for i in rows.covered(window) {
                for (along, dy) in along[i * q..(i + 1) * q].iter_mut().zip(dy) {
                    *along += dy;
                }
            }
        }
        for (dx, along) in dx.chunks_exact_mut(columns.n).zip(along.chunks_exact(q)) {
            dx.fill(0.0);
            for (window, along) in along.iter().enumerate() {
                for dx in &mut dx[columns.covered(window)] {
                    *dx += along;
                }
            }
            dx.iter_mut().for_each(|dx| *dx /= sizes.area());
        }
    });
}

pub static OP: Op = Op {
    name: "avg_pool2d",
    formula: "y[n,c,p,q] = mean of a window of x[n,c]",
    shaders: &["avg_pool2d", "planes"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let case = |name, shape: [usize; 4], k: usize, run| {
            Case::new(name, vec![Input::random(shape)], run).tolerance(Tolerance::Sum(k))
        };
        vec![
            case("strips", [2, 3, 6, 8], 8, |x| x[0].avg_pool2d(Windows::side_by_side([1, 4]))),
            case("halves", [2, 3, 7, 5], 6, |x| x[0].avg_pool2d(Windows::side_by_side([3, 2]))),
            case("k4_s1_p2", [2, 2, 5, 6], 16, |x| {
                x[0].avg_pool2d(Windows { kernel: [4, 4], stride: [1, 1], padding: [2, 2] })
            }),
            case("larger_than_the_image", [1, 2, 5, 4], 64, |x| {
                x[0].avg_pool2d(Windows { kernel: [8, 8], stride: [1, 1], padding: [4, 4] })
            }),
            case("channels", [2, 1, 5, 12], 9, |x| {
                x[0].avg_pool2d(Windows { kernel: [3, 1], stride: [1, 1], padding: [1, 0] })
            }),
            case("all", [2, 3, 5, 7], 35, |x| x[0].avg_pool2d(Windows::side_by_side([5, 7]))),
            case("gaps", [1, 2, 9, 11], 6, |x| {
                x[0].avg_pool2d(Windows { kernel: [2, 3], stride: [4, 5], padding: [1, 0] })
            }),
        ]
    },
    refuses: |device| Tensor::from_f32(device, [1, 1, 2, 2], &[0.0; 4])?.avg_pool2d(Windows::side_by_side([3, 1])),
};
