//! Maps of channels as rows of pixels, and back: with it every op on rows serves each pixel. Twin: `shaders/to_pixels.wgsl`.

use super::case::{Case, Input, Op};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/to_pixels.wgsl")];
const fn kernel(name: &'static str, entry: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings: "rw", workgroup: Workgroup::Flat, constants: &[] }
}
static TO_ROWS: Kernel = kernel("to_pixels.to_rows", "to_rows");
static TO_MAPS: Kernel = kernel("to_pixels.to_maps", "to_maps");

#[derive(Clone, Copy)]
struct Sizes {
    c: usize,
    plane: usize,
}

impl Tensor {
    /// A row per pixel: y[(n·H + h)·W + w, c] = x[n, c, h, w]. Shapes: (N, C, H, W) → (N·H·W, C). dx is dy in the old order.
    ///
    /// # Errors
    /// If the input has not four axes.
    pub fn to_pixels(&self) -> Result<Tensor> {
        self.expect_f32("to_pixels")?;
        let &[n, c, h, w] = &*self.shape() else {
            return Err(Error::op("to_pixels", format!("needs N×C×H×W, not {}", self.shape())));
        };
        let sizes = Sizes { c, plane: h * w };
        let y = Array::empty(&self.device(), [n * h * w, c], DType::F32)?;
        sizes.rows_of(self.array(), &y)?;
        Ok(Tensor::from_op("to_pixels", y, &[self], || ToPixelsBackward { sizes }))
    }

    /// The maps of channels of which these are the rows of pixels: the inverse of [`Tensor::to_pixels`]. Shapes: (N·H·W, C) →
    /// (N, C, H, W).
    ///
    /// # Errors
    /// If there are not N·H·W rows.
    pub fn from_pixels(&self, [n, h, w]: [usize; 3]) -> Result<Tensor> {
        self.expect_f32("from_pixels")?;
        let fits = match *self.shape() {
            [rows, _] => rows == n * h * w,
            _ => false,
        };
        if !fits {
            return Err(Error::op("from_pixels", format!("{} has no row for each pixel of {n}×{h}×{w}", self.shape())));
        }
        let sizes = Sizes { c: self.shape()[1], plane: h * w };
        let y = Array::empty(&self.device(), [n, sizes.c, h, w], DType::F32)?;
        sizes.maps_of(self.array(), &y)?;
        Ok(Tensor::from_op("from_pixels", y, &[self], || FromPixelsBackward { sizes }))
    }
}

impl Sizes {
    fn launch(&self, kernel: &'static Kernel, x: &Array, y: &Array) -> Result<()> {
        let Device::Gpu(gpu) = y.device() else { return Ok(()) };
        let n = y.n_elements();
        gpu.launch(kernel, &[x, y], &[n, self.c, self.plane].map(|size| size as u32), Grid::Invocations(n))
    }

    fn rows_of(&self, maps: &Array, rows: &Array) -> Result<()> {
        let &Sizes { c, plane } = self;
        if let Device::Cpu(_) = rows.device() {
            let maps = maps.cpu();
            rows.cpu_mut().par_chunks_exact_mut(c * plane).zip(maps.par_chunks_exact(c * plane)).for_each(
                |(rows, maps)| {
                    for (c_idx, map) in maps.chunks_exact(plane).enumerate() {
                        rows.chunks_exact_mut(c).zip(map).for_each(|(row, value)| row[c_idx] = *value);
                    }
                },
            );
        }
        self.launch(&TO_ROWS, maps, rows)
    }

    fn maps_of(&self, rows: &Array, maps: &Array) -> Result<()> {
        let &Sizes { c, plane } = self;
        if let Device::Cpu(_) = maps.device() {
            let rows = rows.cpu();
            maps.cpu_mut().par_chunks_exact_mut(c * plane).zip(rows.par_chunks_exact(c * plane)).for_each(
                |(maps, rows)| {
                    for (c_idx, map) in maps.chunks_exact_mut(plane).enumerate() {
                        map.iter_mut().zip(rows.chunks_exact(c)).for_each(|(value, row)| *value = row[c_idx]);
                    }
                },
            );
        }
        self.launch(&TO_MAPS, rows, maps)
    }
}

struct ToPixelsBackward {
    sizes: Sizes,
}

impl Backward for ToPixelsBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        self.sizes.maps_of(dy, &inputs.place(0)?)
    }
}

struct FromPixelsBackward {
    sizes: Sizes,
}

impl Backward for FromPixelsBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        self.sizes.rows_of(dy, &inputs.place(0)?)
    }
}

pub static TO: Op = Op {
    name: "to_pixels",
    formula: "y[(n·H+h)·W+w,c] = x[n,c,h,w]",
    shaders: &["to_pixels"],
    kernels: &[&TO_ROWS, &TO_MAPS],
    gradient: true,
    cases: || vec![Case::new("maps", vec![Input::random([3, 5, 4, 7])], |x| x[0].to_pixels())],
    refuses: |device| Tensor::from_f32(device, [2, 2], &[0.0; 4])?.to_pixels(),
};

pub static FROM: Op = Op {
    name: "from_pixels",
    formula: "y[n,c,h,w] = x[(n·H+h)·W+w,c]",
    shaders: &["to_pixels"],
    kernels: &[&TO_ROWS, &TO_MAPS],
    gradient: true,
    cases: || {
        vec![Case::new("rows", vec![Input::random([2 * 3 * 5, 4])], |x| x[0].from_pixels([x[0].shape()[0] / 15, 3, 5]))]
    },
    refuses: |device| Tensor::from_f32(device, [2, 2], &[0.0; 4])?.from_pixels([1, 1, 3]),
};
