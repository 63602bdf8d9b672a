//! Feature maps of another height and width, linearly between their pixels. Twin: `shaders/resize_bilinear.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::max_pool2d::PLANES;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, PLANES, include_str!("../../shaders/resize_bilinear.wgsl")];
const fn kernel(name: &'static str, entry: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings: "rw", workgroup: Workgroup::Flat, constants: &[] }
}
static FORWARD: Kernel = kernel("resize_bilinear.forward", "forward");
static BACKWARD: Kernel = kernel("resize_bilinear.backward", "backward");

/// Twice the product of two sides must fit into 32 bits.
const MOST_SIDE: usize = 1 << 14;

#[derive(Clone, Copy)]
struct Sizes {
    planes: usize,
    h: usize,
    w: usize,
    p: usize,
    q: usize,
}

/// The two inputs that an output lies between along an axis, and how far it is from the first to the second.
#[derive(Clone, Copy)]
struct Between {
    lower: usize,
    upper: usize,
    t: f32,
}

impl Tensor {
    /// Each plane x[n, c] between its pixels, linearly along either axis: y[n, c, p, q] is its value at
    /// ((p + ½)·H/P − ½, (q + ½)·W/Q − ½), where outside of the outermost pixels it stays what it is there (PyTorch's
    /// `interpolate` without `align_corners` and without antialiasing). Shapes: (N, C, H, W) → (N, C, P, Q). An output's
    /// gradient goes to its four pixels with the weights that it has of them.
    ///
    /// ```
    /// use engram::{Device, Tensor};
    /// let x = Tensor::from_f32(&Device::cpu(), [1, 1, 1, 2], &[0.0, 4.0])?;
    /// assert_eq!(x.resize_bilinear(1, 4)?.to_vec()?, [0.0, 1.0, 3.0, 4.0]);
    /// # Ok::<(), engram::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the input has not four axes, or a side is 0 or above 16,384.
    pub fn resize_bilinear(&self, height: usize, width: usize) -> Result<Tensor> {
        self.expect_f32("resize_bilinear")?;
        let &[n, c, h, w] = &*self.shape() else {
            return Err(Error::op("resize_bilinear", format!("needs N×C×H×W, not {}", self.shape())));
        };
        if [h, w, height, width].iter().any(|side| !(1..=MOST_SIDE).contains(side)) {
            let shape = self.shape();
            let why = format!("{shape} to {height}×{width}: sides are from 1 to {MOST_SIDE}");
            return Err(Error::op("resize_bilinear", why));
        }
        let sizes = Sizes { planes: n * c, h, w, p: height, q: width };
        let y = Array::empty(&self.device(), [n, c, height, width], DType::F32)?;
        match self.device() {
            Device::Cpu(_) => forward_cpu(sizes, &self.array().cpu(), &mut y.cpu_mut()),
            Device::Gpu(gpu) => {
                // Going back, a pixel gathers from all that lie between its neighbours.
                let gathered = |from: usize, to: usize| (2 * to.div_ceil(from) + 2).min(to);
                gpu.expect_turns("resize_bilinear", gathered(h, height) * (gathered(w, width) + 1))?;
                let outputs = Grid::Invocations(sizes.planes * height * width);
                gpu.launch(&FORWARD, &[self.array(), &y], &sizes.params(), outputs)?;
            }
        }
        Ok(Tensor::from_op("resize_bilinear", y, &[self], || ResizeBackward { sizes }))
    }
}

impl Sizes {
    fn params(&self) -> [u32; 5] {
        let Sizes { planes, h, w, p, q } = *self;
        [planes, h, w, p, q].map(|size| size as u32)
    }
}

/// Where the outputs of an axis lie among its inputs: (output + ½)·n_in/n_out − ½ as a fraction of whole numbers.
fn axis(n_in: usize, n_out: usize) -> Vec<Between> {
    let place = |output: usize| {
        let place = ((2 * output + 1) * n_in).saturating_sub(n_out);
        let lower = (place / (2 * n_out)).min(n_in - 1);
        Between { lower, upper: (lower + 1).min(n_in - 1), t: (place - lower * 2 * n_out) as f32 / (2 * n_out) as f32 }
    };
    (0..n_out).map(place).collect()
}

fn forward_cpu(Sizes { h, w, p, q, .. }: Sizes, x: &[f32], y: &mut [f32]) {
    let (rows, columns) = (axis(h, p), axis(w, q));
    y.par_chunks_exact_mut(p * q).zip(x.par_chunks_exact(h * w)).for_each(|(y, x)| {
        let mut along = vec![0.0; w];
        for (y, row) in y.chunks_exact_mut(q).zip(&rows) {
            let [upper, lower] = [row.lower, row.upper].map(|i| &x[i * w..(i + 1) * w]);
            for (along, (upper, lower)) in along.iter_mut().zip(upper.iter().zip(lower)) {
                *along = (1.0 - row.t) * upper + row.t * lower;
            }
            for (y, at) in y.iter_mut().zip(&columns) {
                *y = (1.0 - at.t) * along[at.lower] + at.t * along[at.upper];
            }
        }
    });
}

struct ResizeBackward {
    sizes: Sizes,
}

impl Backward for ResizeBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        match dy.device() {
            Device::Cpu(_) => {
                backward_cpu(self.sizes, &dy.cpu(), &mut dx.cpu_mut());
                Ok(())
            }
            Device::Gpu(gpu) => {
                let pixels = Grid::Invocations(self.sizes.planes * self.sizes.h * self.sizes.w);
                gpu.launch(&BACKWARD, &[dy, &dx], &self.sizes.params(), pixels)
            }
        }
    }
}

fn backward_cpu(Sizes { h, w, p, q, .. }: Sizes, dy: &[f32], dx: &mut [f32]) {
    let (rows, columns) = (axis(h, p), axis(w, q));
    dx.par_chunks_exact_mut(h * w).zip(dy.par_chunks_exact(p * q)).for_each(|(dx, dy)| {
        let mut along = vec![0.0; w];
        dx.fill(0.0);
        for (dy, row) in dy.chunks_exact(q).zip(&rows) {
            along.fill(0.0);
            for (dy, at) in dy.iter().zip(&columns) {
                along[at.lower] += (1.0 - at.t) * dy;
                along[at.upper] += at.t * dy;
            }
            for (i, share) in [(row.lower, 1.0 - row.t), (row.upper, row.t)] {
                for (dx, along) in dx[i * w..(i + 1) * w].iter_mut().zip(&along) {
                    *dx += share * along;
                }
            }
        }
    });
}

pub static OP: Op = Op {
    name: "resize_bilinear",
    formula: "y[n,c,p,q] = x[n,c] at ((p+½)·H/P − ½, (q+½)·W/Q − ½), linearly between pixels",
    shaders: &["resize_bilinear", "planes"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let case = |name, shape: [usize; 4], run| {
            Case::new(name, vec![Input::random(shape)], run).tolerance(Tolerance::Sum(64))
        };
        vec![
            case("larger", [2, 3, 4, 5], |x| x[0].resize_bilinear(9, 20)),
            case("smaller", [2, 3, 9, 8], |x| x[0].resize_bilinear(4, 3)),
            case("from_one_pixel", [2, 3, 1, 1], |x| x[0].resize_bilinear(4, 7)),
            case("to_one_pixel", [1, 2, 5, 4], |x| x[0].resize_bilinear(1, 1)),
            case("mixed", [1, 2, 3, 8], |x| x[0].resize_bilinear(7, 5)),
            case("same", [2, 2, 4, 3], |x| x[0].resize_bilinear(4, 3)),
            case("by_four", [3, 5, 16, 12], |x| x[0].resize_bilinear(64, 48)).without_differences(),
        ]
    },
    refuses: |device| Tensor::from_f32(device, [1, 1, 2, 2], &[0.0; 4])?.resize_bilinear(0, 3),
};
