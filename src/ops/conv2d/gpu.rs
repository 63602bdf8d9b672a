//! Convolution on the GPU: implicit matrix products, on hardware with tiles in shared memory (`hardware.rs`), on software
//! adapters with tiles in registers. Twins: `shaders/conv2d_forward.wgsl`, `conv2d_backward_input.wgsl`,
//! `conv2d_backward_weight.wgsl`.

use super::folded::Finish;
use super::hardware::{self, End};
use super::winograd::gpu as winograd;
use super::{Place, Sizes};
use crate::device::{Array, Gpu, Kernel, MAX_TURNS};
use crate::error::Result;
use crate::ops::tiles::{GEMM_8X8, Packing, TILE, register, register_grid};
use crate::tensor::Tensor;

pub(super) const SIZES: &str = include_str!("../../../shaders/conv2d.wgsl");
/// What becomes of a sum, and where it goes.
pub(super) const BIAS: &str = include_str!("../../../shaders/conv2d_bias.wgsl");
pub(super) const Y: &str = include_str!("../../../shaders/conv2d_y.wgsl");
pub(super) const NORM: &str = include_str!("../../../shaders/conv2d_norm.wgsl");
pub(super) const FOLDED: &str = include_str!("../../../shaders/conv2d_folded.wgsl");
const FORWARD: &str = include_str!("../../../shaders/conv2d_forward.wgsl");
const INPUT: &[&str] = &[GEMM_8X8, SIZES, Y, include_str!("../../../shaders/conv2d_backward_input.wgsl")];
const WEIGHT: &[&str] = &[GEMM_8X8, SIZES, include_str!("../../../shaders/conv2d_backward_weight.wgsl")];

/// The names of the kernels of [`by_row`].
macro_rules! row_names {
    ($name:literal) => {
        [
            concat!($name, "_strided"),
            concat!($name, "_sliding"),
            concat!($name, "_by_1"),
            concat!($name, "_by_3"),
            concat!($name, "_by_5"),
        ]
    };
}

/// A kernel for each way of going along a row of the kernel: element by element, or, where the window slides, as a loop or
/// written out for 1, 3 and 5 columns.
const fn by_row(names: [&'static str; 5], source: &'static [&'static str], bindings: &'static str) -> [Kernel; 5] {
    [
        register(names[0], source, bindings, &[("SLIDING", 0.0)]),
        register(names[1], source, bindings, &[("SLIDING", 1.0)]),
        register(names[2], source, bindings, &[("SLIDING", 1.0), ("DEPTH", 1.0)]),
        register(names[3], source, bindings, &[("SLIDING", 1.0), ("DEPTH", 3.0)]),
        register(names[4], source, bindings, &[("SLIDING", 1.0), ("DEPTH", 5.0)]),
    ]
}
static FORWARD_BY_ROW: [Kernel; 5] = by_row(row_names!("conv2d.forward"), &[GEMM_8X8, SIZES, BIAS, Y, FORWARD], "rrrw");
static INPUT_BY_ROW: [Kernel; 5] = by_row(row_names!("conv2d.backward_input"), INPUT, "rrw");
static WEIGHT_BY_PIXEL: Kernel = register("conv2d.backward_weight", WEIGHT, "rrw", &[]);

static FOLDED_BY_ROW: [Kernel; 5] =
    by_row(row_names!("conv2d.forward_folded"), &[GEMM_8X8, SIZES, NORM, FOLDED, FORWARD], "rrrrrrrw");
pub static KERNELS: &[&Kernel] = &[
    &hardware::TURN,
    &winograd::INPUTS,
    &winograd::WEIGHTS,
    &winograd::TURNED_WEIGHTS,
    &winograd::OUTPUTS,
    &winograd::GRADIENTS,
    &winograd::WEIGHT_GRADIENTS,
    &FORWARD_BY_ROW[0],
    &FORWARD_BY_ROW[1],
    &FORWARD_BY_ROW[2],
    &FORWARD_BY_ROW[3],
    &FORWARD_BY_ROW[4],
    &INPUT_BY_ROW[0],
    &INPUT_BY_ROW[1],
    &INPUT_BY_ROW[2],
    &INPUT_BY_ROW[3],
    &INPUT_BY_ROW[4],
    &WEIGHT_BY_PIXEL,
];

pub static FOLDED_KERNELS: &[&Kernel] = &[
    &FOLDED_BY_ROW[0],
    &FOLDED_BY_ROW[1],
    &FOLDED_BY_ROW[2],
    &FOLDED_BY_ROW[3],
    &FOLDED_BY_ROW[4],
    &winograd::FOLDED_OUTPUTS,
];

/// Where has_bias and adds stand in the parameter block.
const HAS_BIAS: usize = 13;
const ADDS: usize = 15;

/// The kernel for rows of so many columns.
fn along(kernels: &'static [Kernel; 5], sliding: bool, columns: usize) -> &'static Kernel {
    match (sliding, columns) {
        (false, _) => &kernels[0],
        (true, 1) => &kernels[2],
        (true, 3) => &kernels[3],
        (true, 5) => &kernels[4],
        (true, _) => &kernels[1],
    }
}

impl Sizes {
    /// The parameter block of shaders/conv2d.wgsl.
    pub(super) fn params(&self, per_slice: usize) -> [u32; 16] {
        let Sizes { n, c, h, w, o, kh, kw, p, q, stride, padding, dilation } = *self;
        [n, c, h, w, o, kh, kw, p, q, stride, padding, dilation, self.divisor(), 0, per_slice, 0]
            .map(|size| size as u32)
    }

    /// The same for an input gradient, which may be added to what is there.
    pub(super) fn params_adding(&self, adds: bool) -> [u32; 16] {
        let mut params = self.params(0);
        params[ADDS] = u32::from(adds);
        params
    }
}

pub fn forward(sizes: &Sizes, gpu: &Gpu, x: &Array, weight: &Array, finish: Finish, y: &Array) -> Result<()> {
    let (patch, o) = (sizes.patch(), sizes.o);
    let mut params = sizes.params(0).to_vec();
    params[HAS_BIAS] = u32::from(finish.bias.is_some());
    // Where something is missing the weight stands in for the binding and is not read.
    let mut rest = vec![finish.bias.unwrap_or(weight)];
    if let Some(norm) = finish.norm {
        let residual = norm.residual.map(Tensor::array);
        params.extend([u32::from(residual.is_some()), norm.epsilon.to_bits(), norm.lowest().to_bits()]);
        rest.extend([norm.weight.array(), norm.bias.array(), norm.running, residual.unwrap_or(weight)]);
    }
    rest.push(y);
    if hardware::takes(gpu, patch) {
        rest.extend(finish.moments);
        let end = match finish {
            Finish { norm: Some(_), .. } => End::Norm,
            Finish { moments: Some(_), .. } => End::Moments,
            _ => End::Bias,
        };
        return hardware::forward(sizes, gpu, end, &[&[weight, x][..], &rest].concat(), &params);
    }
    let slides = sizes.stride == 1 && sizes.dilation == 1;
    let per_row = if slides && [1, 3, 5].contains(&sizes.kw) { 1 } else { 1 + sizes.kw };
    gpu.expect_turns("conv2d", sizes.c * sizes.kh * per_row)?;
    let packing = Packing { n_k: patch, n_m: o, inner: patch, outer_step: 0, inner_step: 1, m_step: patch };
    let packed = packing.of(gpu, weight)?;
    let by_row = if finish.norm.is_some() { &FOLDED_BY_ROW } else { &FORWARD_BY_ROW };
    let kernel = along(by_row, slides, sizes.kw);
    let grid = register_grid(o, sizes.n * sizes.p * sizes.q.div_ceil(TILE), 1);
    gpu.launch(kernel, &[&[&packed, x][..], &rest].concat(), &params, grid)
}

/// Assigned, or added to what is there. On software adapters one dispatch, whatever the stride: its phases are slices of the grid.
pub fn backward_input(sizes: &Sizes, gpu: &Gpu, dy: &Array, weight: &Array, dx: &Array, adds: bool) -> Result<()> {
    let &Sizes { n, c, h, w, o, kh, kw, stride, dilation, .. } = sizes;
    if hardware::takes(gpu, o * kh * kw) {
        return hardware::backward_input(sizes, gpu, dy, weight, dx, adds);
    }
    let (window, patch) = (kh * kw, sizes.patch());
    // Taps that reach one phase.
    let taps = |kernel: usize| kernel.div_ceil(stride / sizes.divisor());
    gpu.expect_turns("conv2d", o * taps(kh) * (1 + taps(kw)))?;
    let packing = Packing { n_k: o * window, n_m: c, inner: window, outer_step: patch, inner_step: 1, m_step: window };
    let weight = packing.of(gpu, weight)?;
    // With a stride the phases have different numbers of taps.
    let taps = if stride == 1 { kw } else { 0 };
    let kernel = along(&INPUT_BY_ROW, dilation == 1, taps);
    let columns = n * h.div_ceil(stride) * w.div_ceil(stride).div_ceil(TILE);
    let grid = register_grid(c, columns, stride * stride);
    gpu.launch(kernel, &[&weight, dy, dx], &sizes.params_adding(adds), grid)
}

/// The sum runs over all output pixels of the batch while the result is small: it is split into slices, a row of
/// partial sums each. The split depends on the shape and the skeleton alone.
pub fn backward_weight(sizes: &Sizes, gpu: &Gpu, dy: &Array, x: &Array, place: Place) -> Result<()> {
    let &Sizes { n, o, p, q, .. } = sizes;
    let (pixels, patch) = (p * q, sizes.patch());
    if !gpu.is_software() {
        return hardware::backward_weight(sizes, gpu, dy, x, place);
    }
    let image_rows = n * p;
    let tiles = o.div_ceil(TILE) * patch.div_ceil(TILE);
    // Enough invocations to fill an adapter, none of which turns too often: once per pixel, and once per row.
    let per_slice = image_rows.div_ceil((8192 / tiles).clamp(1, 64).min(image_rows)).min((MAX_TURNS / (q + 1)).max(1));
    let n_slices = image_rows.div_ceil(per_slice);
    let grid = register_grid(o, patch.div_ceil(TILE), n_slices);
    let packing =
        Packing { n_k: n * pixels, n_m: o, inner: pixels, outer_step: o * pixels, inner_step: 1, m_step: pixels };
    let dy = &packing.of(gpu, dy)?;
    let params = sizes.params(per_slice);
    gpu.launch(&WEIGHT_BY_PIXEL, &[dy, x, &place(n_slices)?], &params, grid)
}
