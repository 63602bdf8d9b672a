//! Convolution on hardware: implicit matrix products by tiles in shared memory. Square kernels of 1, 3 or 5 rows with a stride of
//! 1 or 2 read the image by windows; any other is read four pixels at a time.
//! Twins: `shaders/conv2d_*_window.wgsl`, `conv2d_*_fours.wgsl`.

use super::gpu::{BIAS, FOLDED, NORM, SIZES, Y, add_slices};
use super::{Conv2d, Sizes};
use crate::device::{Array, DType, Family, Gpu, Kernel, Matrices};
use crate::error::Result;
use crate::ops::coop::{self, dot_plan, plan};
use crate::ops::tiles::{
    A_ALONG_K, A_FOURS, B_FOURS, Candidate, GEMM_DOT, GEMM_TILE, Tile, all_dot_tiles, all_tiles, dot_grid, dot_groups,
    dot_slices, n_splits,
};
use crate::tensor::Tensor;

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
    over_families(|family, run, constants| {
        let tiles = if family.skeleton() == GEMM_DOT { all_dot_tiles(run) } else { all_tiles(bytes, run) };
        tiles.into_iter().map(|tile| tile.kernel(family, constants)).collect()
    })
}

/// Those on units for small matrices.
pub fn matrix_kernels(matrices: Matrices, bytes: usize) -> Vec<&'static Kernel> {
    over_families(|family, run, constants| coop::twins(family, run, constants, matrices, bytes))
}

/// All kernels of all families, by the terms that stay together and the constants of the window.
fn over_families(
    kernels: impl Fn(&'static Family, usize, &[(&'static str, u32)]) -> Vec<&'static Kernel>,
) -> Vec<&'static Kernel> {
    let mut all = Vec::new();
    for (run, stride) in RUNS.into_iter().flat_map(|run| STRIDES.map(|stride| (run, stride))) {
        let forward = [&PLAIN, &WITH_NORM].into_iter().flat_map(|forward| forward.windows.iter().flatten());
        let input = INPUT.iter().filter(|_| stride == 1);
        for family in forward.chain(input).chain(&WEIGHT_BY_WINDOW) {
            all.extend(kernels(family, run, &window(run, stride)));
        }
    }
    for family in [&PLAIN.fours, &WITH_NORM.fours, &INPUT_BY_PHASE, &WEIGHT_BY_PIXEL] {
        all.extend(kernels(family, 1, &[]));
    }
    all
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
    let tile = plan(gpu, sizes.o, sizes.columns(), 1, sizes.run().unwrap_or(1));
    forward_by(tile, sizes, gpu, folded, bindings, params)
}

fn forward_by(tile: Tile, sizes: &Sizes, gpu: &Gpu, folded: bool, bindings: &[&Array], params: &[u32]) -> Result<()> {
    let forward = if folded { &WITH_NORM } else { &PLAIN };
    let kernel = match sizes.run() {
        Some(run) => {
            let rows = sizes.patch().is_multiple_of(4);
            let family = &forward.windows[usize::from(sizes.is_whole())][usize::from(rows)];
            tile.kernel(family, &window(run, sizes.stride))
        }
        None => tile.kernel(&forward.fours, &[]),
    };
    gpu.launch(kernel, bindings, params, tile.grid(sizes.o, sizes.columns(), 1))
}

/// With a stride of 1 the gradient is a convolution of dy with the weight turned by half a turn; else its phases are slices of
/// the grid.
pub fn backward_input(sizes: &Sizes, gpu: &Gpu, dy: &Array, weight: &Array, dx: &Array) -> Result<()> {
    let (rows, columns, slices, run) = sizes.input_product();
    input_by(plan(gpu, rows, columns, slices, run), sizes, gpu, dy, weight, dx)
}

fn input_by(tile: Tile, sizes: &Sizes, gpu: &Gpu, dy: &Array, weight: &Array, dx: &Array) -> Result<()> {
    let (rows, columns, slices, run) = sizes.input_product();
    let grid = tile.grid(rows, columns, slices);
    match sizes.turned() {
        Some(turned) => {
            let kernel = tile.kernel(&INPUT[usize::from(turned.is_whole())], &window(run, 1));
            gpu.launch(kernel, &[weight, dy, weight, dx], &turned.params(0), grid)
        }
        None => gpu.launch(tile.kernel(&INPUT_BY_PHASE, &[]), &[weight, dy, dx], &sizes.params(0), grid),
    }
}

impl Sizes {
    /// The convolution of dy that computes the input gradient of this one, if windows can read it.
    fn turned(&self) -> Option<Sizes> {
        let &Sizes { c, h, w, o, kw, p, q, stride, padding, .. } = self;
        let padding = (kw - 1).checked_sub(padding)?;
        (stride == 1 && self.run().is_some()).then_some(Sizes { c: o, h: p, w: q, o: c, p: h, q: w, padding, ..*self })
    }

    /// Rows, columns and slices of the product that computes the input gradient, and terms that stay together.
    fn input_product(&self) -> (usize, usize, usize, usize) {
        let &Sizes { n, c, h, w, kw, stride, .. } = self;
        let columns = n * h.div_ceil(stride) * w.div_ceil(stride).next_multiple_of(4);
        (c, columns, stride * stride, if self.turned().is_some() { kw } else { 1 })
    }
}

/// In slices whose sums are added afterwards, in order.
pub fn backward_weight(sizes: &Sizes, gpu: &Gpu, dy: &Array, x: &Array, dw: &Array) -> Result<()> {
    let (o, patch) = (sizes.o, sizes.patch());
    if let Some(run) = sizes.run() {
        let tile = dot_plan(gpu, o, patch, run);
        return weight_by(tile, dot_groups(tile, o, patch), sizes, gpu, dy, x, dw);
    }
    let pixels = sizes.n * sizes.p * sizes.q;
    let tile = plan(gpu, o, patch, 1, 1);
    let per_slice = pixels.div_ceil(n_splits(tile, o, patch, pixels)).next_multiple_of(16);
    let n_slices = pixels.div_ceil(per_slice);
    let (kernel, grid) = (tile.kernel(&WEIGHT_BY_PIXEL, &[]), tile.grid(o, patch, n_slices));
    add_slices(sizes, n_slices, dw, |to| gpu.launch(kernel, &[dy, x, to], &sizes.params(per_slice), grid))
}

fn weight_by(
    tile: Tile,
    wanted_slices: usize,
    sizes: &Sizes,
    gpu: &Gpu,
    dy: &Array,
    x: &Array,
    dw: &Array,
) -> Result<()> {
    let (n_slices, per_slice) = dot_slices(tile, wanted_slices, sizes.columns() / 4);
    let kernel = tile.kernel(&WEIGHT_BY_WINDOW[usize::from(sizes.is_whole())], &window(sizes.kw, sizes.stride));
    let grid = dot_grid(tile, sizes.o, sizes.patch(), n_slices);
    add_slices(sizes, n_slices, dw, |to| gpu.launch(kernel, &[dy, x, to], &sizes.params(per_slice), grid))
}

/// Every way to compute the three passes of a convolution on this adapter: forward, input gradient, weight gradient.
pub fn candidates<'a>(
    gpu: &'a Gpu,
    x: &'a Tensor,
    weight: &'a Tensor,
    dy: &'a Array,
    geometry: Conv2d,
) -> Result<[Vec<Candidate<'a>>; 3]> {
    let sizes = Sizes::new(x, weight, None, geometry)?;
    let (x, weight) = (x.array(), weight.array());
    let empty = |like: &Array| Array::empty(&like.device(), like.shape(), DType::F32);
    let (y, dx, dw) = (empty(dy)?, empty(x)?, empty(weight)?);
    let run = sizes.run().unwrap_or(1);
    let planned = plan(gpu, sizes.o, sizes.columns(), 1, run);
    let forward = coop::all_tiles(gpu, run).into_iter().map(|tile| {
        let y = y.clone();
        Candidate::new(tile.label(), tile == planned, move || {
            forward_by(tile, &sizes, gpu, false, &[weight, x, weight, &y], &sizes.params(0))
        })
    });
    let (rows, columns, slices, run) = sizes.input_product();
    let planned = plan(gpu, rows, columns, slices, run);
    let input = coop::all_tiles(gpu, run).into_iter().map(|tile| {
        let dx = dx.clone();
        Candidate::new(tile.label(), tile == planned, move || input_by(tile, &sizes, gpu, dy, weight, &dx))
    });
    let (o, patch) = (sizes.o, sizes.patch());
    let mut dot = Vec::new();
    for tile in sizes.run().into_iter().flat_map(|run| coop::all_dot_tiles(gpu, run)) {
        let groups = dot_groups(tile, o, patch);
        for wanted in [groups.div_ceil(2), groups, 2 * groups] {
            let dw = dw.clone();
            let chosen = tile == dot_plan(gpu, o, patch, sizes.kw) && wanted == groups;
            dot.push(Candidate::new(format!("{} in {wanted} slices", tile.label()), chosen, move || {
                weight_by(tile, wanted, &sizes, gpu, dy, x, &dw)
            }));
        }
    }
    Ok([forward.collect(), input.collect(), dot])
}
