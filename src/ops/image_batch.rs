//! From the bytes of a batch to the network's input, cropped, mirrored and scaled. Twin: `shaders/image_batch.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use rayon::prelude::*;

static FORWARD: Kernel = Kernel {
    name: "image_batch",
    source: &[PRELUDE, include_str!("../../shaders/image_batch.wgsl")],
    entry: "forward",
    bindings: "rrrrw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

/// How one image of a batch is cropped, mirrored and scaled: `output(y, x) = source(y + dy, x + dx)`, zero outside the source,
/// where the source is mirrored left to right first if `flip` is 1, and scaled about its centre. The default is the plain image.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Rows; without scaling −pad ..= pad.
    pub dy: i32,
    /// Columns.
    pub dx: i32,
    /// 0 or 1.
    pub flip: u32,
    /// How far apart neighbours of the output are in the source, in [`Draw::UNIT`]s: half of one shows everything twice as large.
    /// Images are read between their pixels (bilinear), masks at the nearest one.
    pub step: i32,
}

impl Default for Draw {
    fn default() -> Draw {
        Draw { dy: 0, dx: 0, flip: 0, step: Draw::UNIT }
    }
}

impl Draw {
    /// The `step` of an image that is not scaled.
    pub const UNIT: i32 = 4096;

    /// Where an image of `size` \[rows, columns\] is read for a pixel of the output, in halves of a [`UNIT`](Draw::UNIT): whole
    /// numbers, so that every device reads at the same place.
    pub fn place(self, pixel: [usize; 2], size: [usize; 2]) -> [i32; 2] {
        let along = |at: usize, size: usize, shift: i32| {
            let (at, size) = (at as i32, size as i32);
            (2 * at + 1 - size) * self.step + (size - 1) * Draw::UNIT + 2 * Draw::UNIT * shift
        };
        let (row, column) = (along(pixel[0], size[0], self.dy), along(pixel[1], size[1], self.dx));
        [row, if self.flip == 0 { column } else { (size[1] as i32 - 1) * 2 * Draw::UNIT - column }]
    }

    /// The pixel nearest to such a place, row by row from 0, if it is in the image.
    pub fn nearest(place: [i32; 2], [rows, columns]: [usize; 2]) -> Option<usize> {
        let [row, column] = place.map(|place| (place + Draw::UNIT).div_euclid(2 * Draw::UNIT));
        let inside = (0..rows as i32).contains(&row) && (0..columns as i32).contains(&column);
        inside.then_some(row as usize * columns + column as usize)
    }
}

/// How bytes become numbers: (byte/255 − mean) · inverse_std.
pub struct Normalization {
    /// (C) or, for a mean image, (C·H·W), in units of 0..=1.
    pub mean: Tensor,
    /// (C).
    pub inverse_std: Tensor,
}

/// y[n, c, v, u] = (x/255 − mean)·inverse_std at the source pixel (v + dy, u + dx), mirrored first if `flip`, and scaled by
/// 1/step about the centre; zero outside the image, so that the padding is the mean. Between pixels x is bilinear, with the edge
/// repeated. Shapes: pixels (words), u32, with N·C·H·W bytes; draws (N, 4), u32, the bits of a [`Draw`] for each image →
/// (N, C, H, W). No derivative.
///
/// # Errors
/// If the sizes do not fit, an input has another type or lives on another device.
pub fn image_batch(
    pixels: &Tensor,
    draws: &Tensor,
    normalization: &Normalization,
    [c, h, w]: [usize; 3],
) -> Result<Tensor> {
    pixels.expect_u32("image_batch")?;
    draws.expect_u32("image_batch")?;
    let n = draws.shape()[0];
    let Normalization { mean, inverse_std } = normalization;
    for numbers in [mean, inverse_std] {
        numbers.expect_f32("image_batch")?;
        pixels.expect_same_device("image_batch", numbers)?;
    }
    pixels.expect_same_device("image_batch", draws)?;
    let fits = ![c, h, w].contains(&0)
        && draws.n_elements() == 4 * n
        && pixels.n_elements() == (n * c * h * w).div_ceil(4)
        && (mean.n_elements() == c || mean.n_elements() == c * h * w)
        && inverse_std.n_elements() == c;
    if !fits {
        return Err(Error::op(
            "image_batch",
            format!(
                "{} words, draws {}, mean {}, std {} do not fit images of {c}×{h}×{w}",
                pixels.n_elements(),
                draws.shape(),
                mean.shape(),
                inverse_std.shape()
            ),
        ));
    }
    let y = Array::empty(&pixels.device(), [n, c, h, w], DType::F32)?;
    match pixels.device() {
        Device::Cpu(_) => {
            let (pixels, draws) = (pixels.array().cpu(), draws.array().cpu());
            let (mean, inverse_std) = (mean.array().cpu(), inverse_std.array().cpu());
            let bytes: &[u8] = bytemuck::cast_slice(&pixels);
            y.cpu_mut().par_chunks_exact_mut(c * h * w).zip(bytes.par_chunks_exact(c * h * w)).enumerate().for_each(
                |(image, (y, bytes))| {
                    let [dy, dx, flip, step] = [0, 1, 2, 3].map(|i| draws[4 * image + i].to_bits() as i32);
                    let draw = Draw { dy, dx, flip: flip as u32, step };
                    read(y, bytes, draw, [h, w], |value, channel, in_plane| {
                        let mean = mean[if mean.len() == c { channel } else { channel * h * w + in_plane }];
                        (value * (1.0 / 255.0) - mean) * inverse_std[channel]
                    });
                },
            );
        }
        Device::Gpu(gpu) => {
            let per_pixel = u32::from(mean.n_elements() != c);
            let params = [n as u32, c as u32, h as u32, w as u32, per_pixel];
            let bindings = [pixels.array(), draws.array(), mean.array(), inverse_std.array(), &y];
            gpu.launch(&FORWARD, &bindings, &params, Grid::Invocations(n * c * h * w))?;
        }
    }
    Ok(Tensor::constant(y))
}

/// An image of C×H×W bytes as it is drawn, each value by (value, channel, pixel of the plane).
fn read(y: &mut [f32], bytes: &[u8], draw: Draw, [h, w]: [usize; 2], normalized: impl Fn(f32, usize, usize) -> f32) {
    for (row, y) in y.chunks_exact_mut(w).enumerate() {
        let (channel, row) = (row / h, row % h);
        let plane = &bytes[channel * h * w..(channel + 1) * h * w];
        y.fill(0.0);
        if draw.step != Draw::UNIT {
            for (column, y) in y.iter_mut().enumerate() {
                let place = draw.place([row, column], [h, w]);
                if let Some(in_plane) = Draw::nearest(place, [h, w]) {
                    *y = normalized(between(plane, place, [h, w]), channel, in_plane);
                }
            }
            continue;
        }
        // Not scaled: rows are read along.
        let Some(row) = moved(row, draw.dy, h) else { continue };
        for (column, y) in y.iter_mut().enumerate() {
            let Some(column) = moved(column, draw.dx, w) else { continue };
            let in_plane = row * w + if draw.flip == 0 { column } else { w - 1 - column };
            *y = normalized(f32::from(plane[in_plane]), channel, in_plane);
        }
    }
}

/// `at + by`, if it lies in 0..n.
fn moved(at: usize, by: i32, n: usize) -> Option<usize> {
    at.checked_add_signed(by as isize).filter(|&at| at < n)
}

/// The value at a place between the pixels of a plane, in halves of [`Draw::UNIT`].
fn between(plane: &[u8], place: [i32; 2], [h, w]: [usize; 2]) -> f32 {
    let unit = 2 * Draw::UNIT;
    let [row, column] = place.map(|place| place.div_euclid(unit));
    let [down, right] = place.map(|place| place.rem_euclid(unit) as f32 / unit as f32);
    let at = |row: i32, column: i32| {
        let (row, column) = (row.clamp(0, h as i32 - 1) as usize, column.clamp(0, w as i32 - 1) as usize);
        f32::from(plane[row * w + column])
    };
    if down == 0.0 && right == 0.0 {
        return at(row, column);
    }
    let [upper, lower] = [row, row + 1].map(|row| at(row, column) * (1.0 - right) + at(row, column + 1) * right);
    upper * (1.0 - down) + lower * down
}

fn run(x: &[Tensor]) -> Result<Tensor> {
    let normalization = Normalization { mean: x[2].clone(), inverse_std: x[3].clone() };
    image_batch(&x[0], &x[1], &normalization, [2, 5, 6])
}

/// Three images of 2×5×6 with these draws.
fn case(name: &'static str, draws: &'static [u32], mean: usize) -> Case {
    let inputs = vec![
        Input::constant([45], Fill::Words),
        Input::constant([3, 4], Fill::Integers(draws)),
        Input::constant([mean], Fill::Uniform(0.0, 1.0)),
        Input::constant([2], Fill::Uniform(1.0, 5.0)),
    ];
    Case::new(name, inputs, run).tolerance(Tolerance::Elementwise)
}

const MINUS: u32 = u32::MAX; // the bits of −1
const UNIT: u32 = Draw::UNIT as u32;

pub static OP: Op = Op {
    name: "image_batch",
    formula: "y[n,c,v,u] = (x[n,c,v+dy,u+dx]/255 − mean)/std, 0 outside, scaled by 1/step",
    shaders: &["image_batch"],
    kernels: &[&FORWARD],
    gradient: false,
    cases: || {
        vec![
            case("plain", &[0, 0, 0, UNIT], 2),
            case("crop_flip", &[1, MINUS, 1, UNIT, MINUS - 1, 2, 0, UNIT, 0, 0, 1, UNIT], 2),
            case("mean_image", &[MINUS, 2, 1, UNIT, 3, 0, 0, UNIT, 0, MINUS, 1, UNIT], 60),
            case("all_outside", &[9, 0, 0, UNIT, 0, 9, 1, UNIT, MINUS - 8, 0, 0, UNIT], 2),
            case("scaled", &[0, 0, 0, UNIT / 2, 1, MINUS, 1, UNIT * 2, MINUS, 1, 1, 5001], 2),
            case("scaled_mean_image", &[1, 1, 0, UNIT / 2, MINUS, 0, 1, 3333, 0, 0, 0, UNIT * 2], 60),
        ]
    },
    refuses: |device| {
        let words = Tensor::from_u32(device, [4], &[0; 4])?;
        let draws = Tensor::from_u32(device, [1, 4], &[0; 4])?;
        let numbers = Tensor::from_f32(device, [1], &[0.0])?;
        let normalization = Normalization { mean: numbers.clone(), inverse_std: numbers };
        image_batch(&words, &draws, &normalization, [1, 5, 5])
    },
};
