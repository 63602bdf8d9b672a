//! Convolution on hardware: implicit matrix products by tiles in shared memory. Square kernels of 1, 3 or 5 rows with a stride of
//! 1 or 2 read the image by windows; any other is read four pixels at a time.
//! Twins: `shaders/conv2d_*_window.wgsl`, `conv2d_*_fours.wgsl`.

use super::Sizes;
use super::gpu::{BIAS, FOLDED, NORM, SIZES, Y, add_slices};
use crate::device::{Array, Family, Gpu, Kernel};
use crate::error::Result;
use crate::ops::tiles::{
    A_ALONG_K, A_FOURS, B_FOURS, GEMM_DOT, GEMM_TILE, all_dot_tiles, all_tiles, dot_grid, dot_plan, dot_slices,
    n_splits, plan,
};

const WEIGHT_ROWS: &str = include_str!("../../../shaders/conv2d_weight_rows.wgsl");
const WEIGHT_SCALARS: &str = include_str!("../../../shaders/conv2d_weight_scalars.wgsl");
const WEIGHT_FLIPPED: &str = include_str!("../../../shaders/conv2d_weight_flipped.wgsl");
const WINDOW: &str = include_str!("../../../shaders/conv2d_window.wgsl");
const WINDOW_FOURS: &str = include_str!("../../../shaders/conv2d_window_fours.wgsl");
const WINDOW_SCALARS: &str = include_str!("../../../shaders/conv2d_window_scalars.wgsl");
const FORWARD: &str = include_str!("../../../shaders/conv2d_forward_window.wgsl");
const WEIGHT: &str = include_str!("../../../shaders/conv2d_backward_weight_window.wgsl");
const DY_FOURS: &str = include_str!("../../../shaders/conv2d_dy_fours.wgsl");
const DY_SCALARS: &str = include_str!("../../../shaders/conv2d_dy_scalars.wgsl");
const Y_FOURS: &str = include_str!("../../../shaders/conv2d_y_fours.wgsl");
const FOLDED_FOURS: &str = include_str!("../../../shaders/conv2d_folded_fours.wgsl");
const PUT_SCALARS: &str = include_str!("../../../shaders/conv2d_put_scalars.wgsl");
const FORWARD_FOURS: &str = include_str!("../../../shaders/conv2d_forward_fours.wgsl");
const INPUT_FOURS: &str = include_str!("../../../shaders/conv2d_backward_input_fours.wgsl");
const WEIGHT_FOURS: &str = include_str!("../../../shaders/conv2d_backward_weight_fours.wgsl");

/// Forward by windows, and forward four pixels at a time; with a bias, or with a batch norm folded in.
struct Forward {
    /// By whether image rows, then patches of the weight, lie in whole vec4s.
    windows: [[Family; 2]; 2],
    fours: Family,
}

static PLAIN: Forward = Forward {
    windows: [
        [
            family(
                "conv2d.forward scalars",
                &[GEMM_TILE, SIZES, A_FOURS, WEIGHT_SCALARS, WINDOW, WINDOW_SCALARS, FORWARD, BIAS, Y, PUT_SCALARS],
                "rrrw",
            ),
            family(
                "conv2d.forward rows",
                &[GEMM_TILE, SIZES, A_ALONG_K, WEIGHT_ROWS, WINDOW, WINDOW_SCALARS, FORWARD, BIAS, Y, PUT_SCALARS],
                "rrrw",
            ),
        ],
        [
            family(
                "conv2d.forward pixels",
                &[GEMM_TILE, SIZES, A_FOURS, WEIGHT_SCALARS, WINDOW, WINDOW_FOURS, FORWARD, BIAS, Y_FOURS],
                "rrrw",
            ),
            family(
                "conv2d.forward",
                &[GEMM_TILE, SIZES, A_ALONG_K, WEIGHT_ROWS, WINDOW, WINDOW_FOURS, FORWARD, BIAS, Y_FOURS],
                "rrrw",
            ),
        ],
    ],
    fours: family(
        "conv2d.forward fours",
        &[GEMM_TILE, SIZES, A_FOURS, WEIGHT_SCALARS, B_FOURS, FORWARD_FOURS, BIAS, Y, PUT_SCALARS],
        "rrrw",
    ),
};
static WITH_NORM: Forward = Forward {
    windows: [
        [
            family(
                "conv2d.forward_folded scalars",
                &[
                    GEMM_TILE,
                    SIZES,
                    A_FOURS,
                    WEIGHT_SCALARS,
                    WINDOW,
                    WINDOW_SCALARS,
                    FORWARD,
                    NORM,
                    FOLDED,
                    PUT_SCALARS,
                ],
                "rrrrrrrw",
            ),
            family(
                "conv2d.forward_folded rows",
                &[GEMM_TILE, SIZES, A_ALONG_K, WEIGHT_ROWS, WINDOW, WINDOW_SCALARS, FORWARD, NORM, FOLDED, PUT_SCALARS],
                "rrrrrrrw",
            ),
        ],
        [
            family(
                "conv2d.forward_folded pixels",
                &[GEMM_TILE, SIZES, A_FOURS, WEIGHT_SCALARS, WINDOW, WINDOW_FOURS, FORWARD, NORM, FOLDED_FOURS],
                "rrrrrrrw",
            ),
            family(
                "conv2d.forward_folded",
                &[GEMM_TILE, SIZES, A_ALONG_K, WEIGHT_ROWS, WINDOW, WINDOW_FOURS, FORWARD, NORM, FOLDED_FOURS],
                "rrrrrrrw",
            ),
        ],
    ],
    fours: family(
        "conv2d.forward_folded fours",
        &[GEMM_TILE, SIZES, A_FOURS, WEIGHT_SCALARS, B_FOURS, FORWARD_FOURS, NORM, FOLDED, PUT_SCALARS],
        "rrrrrrrw",
    ),
};

/// With a stride of 1, by whether image rows lie in whole vec4s.
static INPUT: [Family; 2] = [
    family(
        "conv2d.backward_input scalars",
        &[GEMM_TILE, SIZES, A_FOURS, WEIGHT_FLIPPED, WINDOW, WINDOW_SCALARS, FORWARD, BIAS, Y, PUT_SCALARS],
        "rrrw",
    ),
    family(
        "conv2d.backward_input",
        &[GEMM_TILE, SIZES, A_FOURS, WEIGHT_FLIPPED, WINDOW, WINDOW_FOURS, FORWARD, BIAS, Y_FOURS],
        "rrrw",
    ),
];
static INPUT_BY_PHASE: Family =
    family("conv2d.backward_input fours", &[GEMM_TILE, SIZES, A_FOURS, B_FOURS, INPUT_FOURS], "rrw");

/// By whether image rows lie in whole vec4s.
static WEIGHT_BY_WINDOW: [Family; 2] = [
    family("conv2d.backward_weight scalars", &[GEMM_DOT, SIZES, WINDOW, WINDOW_SCALARS, DY_SCALARS, WEIGHT], "rrw"),
    family("conv2d.backward_weight", &[GEMM_DOT, SIZES, WINDOW, WINDOW_FOURS, DY_FOURS, WEIGHT], "rrw"),
];
static WEIGHT_BY_PIXEL: Family =
    family("conv2d.backward_weight fours", &[GEMM_TILE, SIZES, A_FOURS, B_FOURS, WEIGHT_FOURS], "rrw");

const fn family(name: &'static str, source: &'static [&'static str], bindings: &'static str) -> Family {
    Family::new(name, source, "multiply", bindings)
}

/// Kernels and strides that are read by windows.
const RUNS: [usize; 3] = [1, 3, 5];
const STRIDES: [usize; 2] = [1, 2];

/// Every kernel of a convolution, on an adapter with so much shared memory.
pub fn tile_kernels(bytes: usize) -> Vec<&'static Kernel> {
    let mut kernels = Vec::new();
    for run in RUNS {
        for stride in STRIDES {
            let constants = window(run, stride);
            let forward = [&PLAIN, &WITH_NORM].into_iter().flat_map(|forward| forward.windows.iter().flatten());
            let input = INPUT.iter().filter(|_| stride == 1);
            for family in forward.chain(input) {
                kernels.extend(all_tiles(bytes, run).into_iter().map(|tile| tile.kernel(family, &constants)));
            }
            for family in &WEIGHT_BY_WINDOW {
                kernels.extend(all_dot_tiles(run).into_iter().map(|tile| tile.kernel(family, &constants)));
            }
        }
    }
    for family in [&PLAIN.fours, &WITH_NORM.fours, &INPUT_BY_PHASE, &WEIGHT_BY_PIXEL] {
        kernels.extend(all_tiles(bytes, 1).into_iter().map(|tile| tile.kernel(family, &[])));
    }
    kernels
}

fn window(run: usize, stride: usize) -> [(&'static str, u32); 2] {
    [("KW", run as u32), ("STRIDE", stride as u32)]
}

/// Terms of a sum that the shaders can number by divisions in floating point.
const MAX_DEPTH: usize = 1 << 20;

/// True if these kernels take a convolution whose sums have so many terms.
pub fn takes(gpu: &Gpu, depth: usize) -> bool {
    !gpu.is_software() && depth < MAX_DEPTH
}

impl Sizes {
    /// Rows of a kernel that is read by windows.
    fn run(&self) -> Option<usize> {
        let fits = self.kh == self.kw && self.dilation == 1 && STRIDES.contains(&self.stride);
        RUNS.into_iter().find(|&run| fits && run == self.kw)
    }

    /// Whether windows are read, and results written, by whole vec4s.
    fn is_whole(&self) -> bool {
        self.w.is_multiple_of(4) && self.q.is_multiple_of(4) && self.padding == self.kw / 2
    }

    /// Output pixels, where each image row is filled up to whole fours.
    fn columns(&self) -> usize {
        self.n * self.p * self.q.next_multiple_of(4)
    }
}

/// `bindings` and `params` are those of shaders/conv2d_bias.wgsl or, `folded`, conv2d_norm.wgsl.
pub fn forward(sizes: &Sizes, gpu: &Gpu, folded: bool, bindings: &[&Array], params: &[u32]) -> Result<()> {
    let forward = if folded { &WITH_NORM } else { &PLAIN };
    let columns = sizes.columns();
    let (tile, kernel) = match sizes.run() {
        Some(run) => {
            let tile = plan(gpu, sizes.o, columns, 1, run);
            let rows = sizes.patch().is_multiple_of(4);
            let family = &forward.windows[usize::from(sizes.is_whole())][usize::from(rows)];
            (tile, tile.kernel(family, &window(run, sizes.stride)))
        }
        None => {
            let tile = plan(gpu, sizes.o, columns, 1, 1);
            (tile, tile.kernel(&forward.fours, &[]))
        }
    };
    gpu.launch(kernel, bindings, params, tile.grid(sizes.o, columns, 1))
}

/// With a stride of 1 the gradient is a convolution of dy with the weight turned by half a turn; else its phases are slices of
/// the grid.
pub fn backward_input(sizes: &Sizes, gpu: &Gpu, dy: &Array, weight: &Array, dx: &Array) -> Result<()> {
    let &Sizes { n, c, h, w, o, kw, p, q, stride, padding, .. } = sizes;
    if let (Some(run), 1, Some(padding)) = (sizes.run(), stride, (kw - 1).checked_sub(padding)) {
        let turned = Sizes { c: o, h: p, w: q, o: c, p: h, q: w, padding, ..*sizes };
        let columns = turned.columns();
        let tile = plan(gpu, c, columns, 1, run);
        let kernel = tile.kernel(&INPUT[usize::from(turned.is_whole())], &window(run, 1));
        return gpu.launch(kernel, &[weight, dy, weight, dx], &turned.params(0), tile.grid(c, columns, 1));
    }
    let columns = n * h.div_ceil(stride) * w.div_ceil(stride).next_multiple_of(4);
    let tile = plan(gpu, c, columns, stride * stride, 1);
    let grid = tile.grid(c, columns, stride * stride);
    gpu.launch(tile.kernel(&INPUT_BY_PHASE, &[]), &[weight, dy, dx], &sizes.params(0), grid)
}

/// In slices whose sums are added afterwards, in order.
pub fn backward_weight(sizes: &Sizes, gpu: &Gpu, dy: &Array, x: &Array, dw: &Array) -> Result<()> {
    let (o, patch) = (sizes.o, sizes.patch());
    let (kernel, grid, n_slices, per_slice) = match sizes.run() {
        Some(run) => {
            let tile = dot_plan(o, patch, run);
            let (n_slices, per_slice) = dot_slices(tile, o, patch, sizes.columns() / 4);
            let family = &WEIGHT_BY_WINDOW[usize::from(sizes.is_whole())];
            let kernel = tile.kernel(family, &window(run, sizes.stride));
            (kernel, dot_grid(tile, o, patch, n_slices), n_slices, per_slice)
        }
        None => {
            let pixels = sizes.n * sizes.p * sizes.q;
            let tile = plan(gpu, o, patch, 1, 1);
            let per_slice = pixels.div_ceil(n_splits(tile, o, patch, pixels)).next_multiple_of(16);
            let n_slices = pixels.div_ceil(per_slice);
            (tile.kernel(&WEIGHT_BY_PIXEL, &[]), tile.grid(o, patch, n_slices), n_slices, per_slice)
        }
    };
    add_slices(sizes, n_slices, dw, |to| gpu.launch(kernel, &[dy, x, to], &sizes.params(per_slice), grid))
}
