//! From the bytes of a batch to the network's input, cropped and mirrored. Twin: `shaders/image_batch.wgsl`.

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

/// How bytes become numbers: (byte/255 − mean) · inverse_std.
pub struct Normalization {
    /// (C) or, for a mean image, (C·H·W), in units of 0..=1.
    pub mean: Tensor,
    /// (C).
    pub inverse_std: Tensor,
}

/// y[n, c, v, u] = (x/255 − mean)·inverse_std at the source pixel (v + dy, u + dx), mirrored first if `flip`; zero outside
/// the image, so that the padding is the mean. Shapes: pixels (words), u32, with N·C·H·W bytes; draws (N, 3), u32, the bits
/// of (dy, dx, flip) per image → (N, C, H, W). No derivative.
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
        && draws.n_elements() == 3 * n
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
                    let [dy, dx, flip] = [0, 1, 2].map(|i| draws[3 * image + i].to_bits() as i32);
                    for (at, y) in y.iter_mut().enumerate() {
                        let (channel, row, column) = (at / (h * w), (at / w % h) as i32, (at % w) as i32);
                        let from_row = row + dy;
                        let from_column = column + dx;
                        let inside = (0..h as i32).contains(&from_row) && (0..w as i32).contains(&from_column);
                        let from_column = if flip != 0 { w as i32 - 1 - from_column } else { from_column };
                        *y = 0.0;
                        if inside {
                            let from = (channel * h + from_row as usize) * w + from_column as usize;
                            let mean = if mean.len() == c { mean[channel] } else { mean[from] };
                            *y = (f32::from(bytes[from]) * (1.0 / 255.0) - mean) * inverse_std[channel];
                        }
                    }
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

fn run(x: &[Tensor]) -> Result<Tensor> {
    let normalization = Normalization { mean: x[2].clone(), inverse_std: x[3].clone() };
    image_batch(&x[0], &x[1], &normalization, [2, 5, 6])
}

/// Three images of 2×5×6 with these draws.
fn case(name: &'static str, draws: &'static [u32], mean: usize) -> Case {
    let inputs = vec![
        Input::constant([45], Fill::Words),
        Input::constant([3, 3], Fill::Integers(draws)),
        Input::constant([mean], Fill::Uniform(0.0, 1.0)),
        Input::constant([2], Fill::Uniform(1.0, 5.0)),
    ];
    Case::new(name, inputs, run).tolerance(Tolerance::Elementwise)
}

const MINUS: u32 = u32::MAX; // the bits of −1

pub static OP: Op = Op {
    name: "image_batch",
    formula: "y[n,c,v,u] = (x[n,c,v+dy,u+dx]/255 − mean)/std, 0 outside",
    shaders: &["image_batch"],
    kernels: &[&FORWARD],
    gradient: false,
    cases: || {
        vec![
            case("plain", &[0, 0, 0], 2),
            case("crop_flip", &[1, MINUS, 1, MINUS - 1, 2, 0, 0, 0, 1], 2),
            case("mean_image", &[MINUS, 2, 1, 3, 0, 0, 0, MINUS, 1], 60),
            case("all_outside", &[9, 0, 0, 0, 9, 1, MINUS - 8, 0, 0], 2),
        ]
    },
    refuses: |device| {
        let words = Tensor::from_u32(device, [4], &[0; 4])?;
        let draws = Tensor::from_u32(device, [1, 3], &[0; 3])?;
        let numbers = Tensor::from_f32(device, [1], &[0.0])?;
        let normalization = Normalization { mean: numbers.clone(), inverse_std: numbers };
        image_batch(&words, &draws, &normalization, [1, 5, 5])
    },
};
