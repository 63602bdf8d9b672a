//! On hardware: transforms around a stack of matrix products, one for each of the 16 points of a tile. Twins:
//! `shaders/conv2d_winograd.wgsl`, `conv2d_winograd_y.wgsl`, `matmul_tile.wgsl`.

use super::super::gpu::{BIAS, FOLDED, NORM, SIZES, Y};
use super::{POINTS, Sizes, tiles_of_image};
use crate::device::{Array, DType, Gpu, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::Result;
use crate::ops::matmul::{Stack, multiply_by};
use crate::ops::tiles::{self, Tile};

/// c·o / (c + o) from which this way is quicker. For each number of a tile that is moved, ⅝ of it are the products that are saved;
/// an H100 computes 35 in the time that its memory takes for a number.
const MIN_CHANNELS: usize = 80;
/// Numbers of the transformed tiles of a batch, or of the weight, at most (256 MiB).
const MAX_NUMBERS: usize = 1 << 26;

const TRANSFORMS: &[&str] = &[PRELUDE, SIZES, include_str!("../../../../shaders/conv2d_winograd.wgsl")];
const END: &str = include_str!("../../../../shaders/conv2d_winograd_y.wgsl");

const fn transform(name: &'static str, entry: &'static str, constants: &'static [(&'static str, f64)]) -> Kernel {
    Kernel { name, source: TRANSFORMS, entry, bindings: "rw", workgroup: Workgroup::Flat, constants }
}

const fn end(name: &'static str, source: &'static [&'static str], bindings: &'static str) -> Kernel {
    Kernel {
        name,
        source,
        entry: "outputs",
        bindings,
        workgroup: Workgroup::Flat,
        constants: &[("FIRST_BINDING", 1.0)],
    }
}

pub static INPUTS: Kernel = transform("conv2d.winograd_inputs", "inputs", &[]);
pub static WEIGHTS: Kernel = transform("conv2d.winograd_weights", "weights", &[]);
pub static TURNED_WEIGHTS: Kernel = transform("conv2d.winograd_turned_weights", "weights", &[("TURNED", 1.0)]);
pub static OUTPUTS: Kernel = end("conv2d.winograd_outputs", &[PRELUDE, SIZES, BIAS, Y, END], "rrw");
pub static FOLDED_OUTPUTS: Kernel =
    end("conv2d.winograd_folded_outputs", &[PRELUDE, SIZES, NORM, FOLDED, END], "rrrrrrw");
pub static GRADIENTS: Kernel = transform("conv2d.winograd_gradients", "gradients", &[]);
pub static WEIGHT_GRADIENTS: Kernel = transform("conv2d.winograd_weight_gradients", "weight_gradients", &[]);

/// The transforms in which convolutions differ.
pub struct Transforms {
    weights: &'static Kernel,
    outputs: &'static Kernel,
}

pub const PLAIN_TRANSFORMS: Transforms = Transforms { weights: &WEIGHTS, outputs: &OUTPUTS };
pub const FOLDED_TRANSFORMS: Transforms = Transforms { weights: &WEIGHTS, outputs: &FOLDED_OUTPUTS };
pub const TURNED_TRANSFORMS: Transforms = Transforms { weights: &TURNED_WEIGHTS, outputs: &OUTPUTS };

/// Tiles of the batch, in whole fours.
fn n_tiles(sizes: &Sizes) -> usize {
    (sizes.n * sizes.p.div_ceil(2) * sizes.q.div_ceil(2)).next_multiple_of(4)
}

/// Whether a convolution can be computed this way: in f32, as transformed numbers have other sizes than f16 is scaled for.
pub fn fits(sizes: &Sizes, gpu: &Gpu) -> bool {
    let (&Sizes { c, o, .. }, t) = (sizes, n_tiles(sizes));
    let n_numbers = [c * t, o * t, c * o].map(|of_point| POINTS * of_point).into_iter().max().unwrap_or(0);
    let fits = n_numbers <= MAX_NUMBERS && 4 * n_numbers as u64 <= gpu.max_bytes();
    fits && gpu.matrices().is_none() && tiles_of_image(sizes).is_some()
}

/// Whether it is.
pub fn pays(sizes: &Sizes, gpu: &Gpu) -> bool {
    fits(sizes, gpu) && sizes.c * sizes.o >= MIN_CHANNELS * (sizes.c + sizes.o)
}

/// The tile of the products of a forward pass.
pub fn plan(sizes: &Sizes, gpu: &Gpu) -> Tile {
    tiles::plan(gpu, sizes.o, n_tiles(sizes), POINTS, 1)
}

/// That of a weight gradient, whose factors both lie along k.
pub fn plan_weight(sizes: &Sizes, gpu: &Gpu) -> Tile {
    tiles::plan_crosswise(gpu, sizes.o, sizes.c, POINTS)
}

/// `bindings` and `params` are those of shaders/conv2d_bias.wgsl or conv2d_norm.wgsl.
pub fn convolve(
    sizes: &Sizes,
    tile: Tile,
    gpu: &Gpu,
    transforms: &Transforms,
    bindings: &[&Array],
    params: &[u32],
) -> Result<()> {
    let (&Sizes { c, o, .. }, t) = (sizes, n_tiles(sizes));
    let &[weight, x, ..] = bindings else { panic!("bug: a convolution without a weight or an image") };
    let [weights, inputs, products] = [[c, o], [c, t], [o, t]].map(|shape| points(x, shape));
    let (weights, inputs, products) = (weights?, inputs?, products?);
    gpu.launch(transforms.weights, &[weight, &weights], params, Grid::Invocations(c * o))?;
    gpu.launch(&INPUTS, &[x, &inputs], params, Grid::Invocations(c * t))?;
    let a = Stack { array: &weights, row: 1, column: o, slice: c * o };
    let b = Stack { array: &inputs, row: t, column: 1, slice: c * t };
    multiply_by(tile, gpu, [POINTS, o, c, t], a, b, &products)?;
    let bindings = [&[&products], &bindings[2..]].concat();
    gpu.launch(transforms.outputs, &bindings, params, Grid::Invocations(o * t))
}

pub fn backward_weight(sizes: &Sizes, tile: Tile, gpu: &Gpu, dy: &Array, x: &Array, dw: &Array) -> Result<()> {
    let (&Sizes { c, o, .. }, t, params) = (sizes, n_tiles(sizes), sizes.params(0));
    let [inputs, gradients, sums] = [[c, t], [o, t], [o, c]].map(|shape| points(x, shape));
    let (inputs, gradients, sums) = (inputs?, gradients?, sums?);
    gpu.launch(&INPUTS, &[x, &inputs], &params, Grid::Invocations(c * t))?;
    gpu.launch(&GRADIENTS, &[dy, &gradients], &params, Grid::Invocations(o * t))?;
    let a = Stack { array: &gradients, row: t, column: 1, slice: o * t };
    let b = Stack { array: &inputs, row: 1, column: t, slice: c * t };
    multiply_by(tile, gpu, [POINTS, o, t, c], a, b, &sums)?;
    gpu.launch(&WEIGHT_GRADIENTS, &[&sums, dw], &params, Grid::Invocations(c * o))
}

/// Room for a matrix at each point.
fn points(like: &Array, [rows, columns]: [usize; 2]) -> Result<Array> {
    Array::empty(&like.device(), [POINTS, rows, columns], DType::F32)
}
