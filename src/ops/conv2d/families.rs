//! The kernels of a convolution on hardware: which files make each. Twins: the `shaders/conv2d_*.wgsl` named here.

use super::gpu::{BIAS, FOLDED, NORM, SIZES, Y};
use super::winograd::gpu::{FOLDED_TRANSFORMS, PLAIN_TRANSFORMS, TURNED_TRANSFORMS, Transforms};
use crate::device::{Family, Kernel, Matrices};
use crate::ops::coop;
use crate::ops::tiles::{A_ALONG_K, A_FOURS, B_FOURS, GEMM_DOT, GEMM_TILE, all_dot_tiles, all_tiles};

const WEIGHT_ROWS: &str = include_str!("../../../shaders/conv2d_weight_rows.wgsl");
const WEIGHT_SCALARS: &str = include_str!("../../../shaders/conv2d_weight_scalars.wgsl");
const WEIGHT_FLIPPED: &str = include_str!("../../../shaders/conv2d_weight_flipped.wgsl");
const WINDOW: &str = include_str!("../../../shaders/conv2d_window.wgsl");
const WINDOW_FOURS: &str = include_str!("../../../shaders/conv2d_window_fours.wgsl");
const WINDOW_SCALARS: &str = include_str!("../../../shaders/conv2d_window_scalars.wgsl");
const WINDOWS: &str = include_str!("../../../shaders/conv2d_forward_window.wgsl");
const FOURS: &str = include_str!("../../../shaders/conv2d_forward_fours.wgsl");
const DIRECT: &str = include_str!("../../../shaders/conv2d_direct.wgsl");
const DIRECT_END: &str = include_str!("../../../shaders/conv2d_direct_end.wgsl");
const DIRECT_MOMENTS: &str = include_str!("../../../shaders/conv2d_direct_moments.wgsl");
const Y_FOURS: &str = include_str!("../../../shaders/conv2d_y_fours.wgsl");
const FOLDED_FOURS: &str = include_str!("../../../shaders/conv2d_folded_fours.wgsl");
const PUT_SCALARS: &str = include_str!("../../../shaders/conv2d_put_scalars.wgsl");
const INPUT_PHASES: &str = include_str!("../../../shaders/conv2d_backward_input_phases.wgsl");
const INPUT_SPARSE: &str = include_str!("../../../shaders/conv2d_backward_input_sparse.wgsl");
const INPUT_FOURS: &str = include_str!("../../../shaders/conv2d_backward_input_fours.wgsl");
const WEIGHT: &str = include_str!("../../../shaders/conv2d_backward_weight_window.wgsl");
const WEIGHT_FOURS: &str = include_str!("../../../shaders/conv2d_backward_weight_fours.wgsl");
const DY_FOURS: &str = include_str!("../../../shaders/conv2d_dy_fours.wgsl");
const DY_SCALARS: &str = include_str!("../../../shaders/conv2d_dy_scalars.wgsl");

/// Ways to compute a convolution forward.
pub struct Forward {
    /// By windows, where image rows are any and where they lie in whole vec4s.
    pub windows: [Family; 2],
    /// Any four pixels at a time.
    pub fours: Family,
    /// By fewer products.
    pub winograd: Transforms,
}

/// A convolution of these names for image rows that are any, for such in whole vec4s, and for any four pixels: from the files that read the
/// weight, and those that put a result, one number or four at a time; with the transforms for fewer products.
macro_rules! forward {
    ($names:expr, [$($weight:expr),+], [$($put:expr),+], [$($put_fours:expr),+], $winograd:expr, $bindings:literal) => {
        Forward {
            windows: [
                family(
                    $names[0],
                    &[GEMM_TILE, SIZES, $($weight,)+ WINDOW, WINDOW_SCALARS, WINDOWS, $($put,)+ PUT_SCALARS],
                    $bindings,
                ),
                family(
                    $names[1],
                    &[GEMM_TILE, SIZES, $($weight,)+ WINDOW, WINDOW_FOURS, WINDOWS, $($put_fours),+],
                    $bindings,
                ),
            ],
            fours: family($names[2], &[GEMM_TILE, SIZES, $($weight,)+ B_FOURS, FOURS, $($put),+], $bindings),
            winograd: $winograd,
        }
    };
}

/// With a bias: by whether patches of the weight lie in whole vec4s.
pub static PLAIN: [Forward; 2] = [
    forward!(
        ["conv2d.forward scalars", "conv2d.forward pixels", "conv2d.forward fours scalars"],
        [A_FOURS, WEIGHT_SCALARS],
        [BIAS, Y],
        [BIAS, Y_FOURS],
        PLAIN_TRANSFORMS,
        "rrrw"
    ),
    forward!(
        ["conv2d.forward rows", "conv2d.forward", "conv2d.forward fours"],
        [A_ALONG_K, WEIGHT_ROWS],
        [BIAS, Y],
        [BIAS, Y_FOURS],
        PLAIN_TRANSFORMS,
        "rrrw"
    ),
];
pub static PLAIN_DIRECT: Family =
    direct("conv2d.forward direct", &[SIZES, WEIGHT_SCALARS, DIRECT, BIAS, Y_FOURS, DIRECT_END], "rrrw");
/// With the moments of a batch norm, whose partials are a fifth binding.
pub static DIRECT_WITH_MOMENTS: Family =
    direct("conv2d.forward direct moments", &[SIZES, WEIGHT_SCALARS, DIRECT, BIAS, Y_FOURS, DIRECT_MOMENTS], "rrrww");

/// With a batch norm folded in, likewise.
pub static WITH_NORM: [Forward; 2] = [
    forward!(
        ["conv2d.forward_folded scalars", "conv2d.forward_folded pixels", "conv2d.forward_folded fours scalars"],
        [A_FOURS, WEIGHT_SCALARS],
        [NORM, FOLDED],
        [NORM, FOLDED_FOURS],
        FOLDED_TRANSFORMS,
        "rrrrrrrw"
    ),
    forward!(
        ["conv2d.forward_folded rows", "conv2d.forward_folded", "conv2d.forward_folded fours"],
        [A_ALONG_K, WEIGHT_ROWS],
        [NORM, FOLDED],
        [NORM, FOLDED_FOURS],
        FOLDED_TRANSFORMS,
        "rrrrrrrw"
    ),
];
pub static WITH_NORM_DIRECT: Family = direct(
    "conv2d.forward_folded direct",
    &[SIZES, WEIGHT_SCALARS, DIRECT, NORM, FOLDED_FOURS, DIRECT_END],
    "rrrrrrrw",
);

/// An input gradient with a stride of 1: a convolution of dy with the weight turned by half a turn.
pub static TURNED: Forward = forward!(
    ["conv2d.backward_input scalars", "conv2d.backward_input", "conv2d.backward_input fours"],
    [A_FOURS, WEIGHT_FLIPPED],
    [BIAS, Y],
    [BIAS, Y_FOURS],
    TURNED_TRANSFORMS,
    "rrrw"
);
pub static TURNED_DIRECT: Family =
    direct("conv2d.backward_input direct", &[SIZES, WEIGHT_FLIPPED, DIRECT, BIAS, Y_FOURS, DIRECT_END], "rrrw");

/// An input gradient with a stride of 2, for a kernel of three rows and for one of a single element.
pub static INPUT_BY_PHASES: Family =
    family("conv2d.backward_input phases", &[GEMM_TILE, SIZES, A_FOURS, INPUT_PHASES, Y], "rrw");
pub static INPUT_BY_PIXEL: Family =
    family("conv2d.backward_input sparse", &[GEMM_TILE, SIZES, A_FOURS, B_FOURS, INPUT_SPARSE, Y_FOURS], "rrw");
/// With any stride and kernel.
pub static INPUT_OF_ANY: Family =
    family("conv2d.backward_input any", &[GEMM_TILE, SIZES, A_FOURS, B_FOURS, INPUT_FOURS, Y], "rrw");

/// A weight gradient by windows, where image rows are any and where they lie in whole vec4s.
pub static WEIGHT_BY_WINDOW: [Family; 2] = [
    family("conv2d.backward_weight scalars", &[GEMM_DOT, SIZES, WINDOW, WINDOW_SCALARS, DY_SCALARS, WEIGHT], "rrw"),
    family("conv2d.backward_weight", &[GEMM_DOT, SIZES, WINDOW, WINDOW_FOURS, DY_FOURS, WEIGHT], "rrw"),
];
/// With any stride and kernel.
pub static WEIGHT_OF_ANY: Family =
    family("conv2d.backward_weight any", &[GEMM_TILE, SIZES, A_FOURS, B_FOURS, WEIGHT_FOURS], "rrw");

const fn family(name: &'static str, source: &'static [&'static str], bindings: &'static str) -> Family {
    Family::new(name, source, "multiply", bindings)
}

const fn direct(name: &'static str, source: &'static [&'static str], bindings: &'static str) -> Family {
    Family::new(name, source, "convolve", bindings)
}

/// Kernels and strides that are read by windows.
pub const RUNS: [usize; 3] = [1, 3, 5];
pub const STRIDES: [usize; 2] = [1, 2];

/// Constants of a kernel that reads windows.
pub fn window(run: usize, stride: usize) -> [(&'static str, u32); 2] {
    [("KW", run as u32), ("STRIDE", stride as u32)]
}

/// Vec4s of an image row that a direct convolution takes at most.
pub const MAX_DIRECT_FOURS: usize = 8;

/// The direct kernel of a family for image rows of so many vec4s.
pub fn direct_kernel(family: &Family, fours: usize) -> &'static Kernel {
    family.kernel(|| format!("w{}", 4 * fours), &[("W4", fours as u32)])
}

/// Every kernel of a convolution, on an adapter with so much shared memory.
pub fn tile_kernels(bytes: usize) -> Vec<&'static Kernel> {
    let mut kernels = over_families(|family, run, constants| {
        let tiles = if family.skeleton() == GEMM_DOT { all_dot_tiles(run) } else { all_tiles(bytes, run) };
        tiles.into_iter().map(|tile| tile.kernel(family, constants)).collect()
    });
    for family in [&PLAIN_DIRECT, &DIRECT_WITH_MOMENTS, &WITH_NORM_DIRECT, &TURNED_DIRECT] {
        kernels.extend((1..=MAX_DIRECT_FOURS).map(|fours| direct_kernel(family, fours)));
    }
    kernels
}

/// Those on units for small matrices.
pub fn matrix_kernels(matrices: Matrices, bytes: usize) -> Vec<&'static Kernel> {
    over_families(|family, run, constants| coop::twins(family, run, constants, matrices, bytes))
}

/// All kernels of all families on skeletons, by the terms that stay together and the constants of their files.
fn over_families(
    kernels: impl Fn(&'static Family, usize, &[(&'static str, u32)]) -> Vec<&'static Kernel>,
) -> Vec<&'static Kernel> {
    let mut all = Vec::new();
    let forward = || PLAIN.iter().chain(&WITH_NORM);
    for (run, stride) in RUNS.into_iter().flat_map(|run| STRIDES.map(|stride| (run, stride))) {
        let turned = TURNED.windows.iter().filter(|_| stride == 1);
        let windows = forward().flat_map(|forward| &forward.windows).chain(turned);
        for family in windows.chain(&WEIGHT_BY_WINDOW) {
            all.extend(kernels(family, run, &window(run, stride)));
        }
    }
    let fours = forward().chain([&TURNED]).map(|forward| &forward.fours);
    for family in fours.chain([&INPUT_BY_PIXEL, &INPUT_OF_ANY, &WEIGHT_OF_ANY]) {
        all.extend(kernels(family, 1, &[]));
    }
    for n_columns in [1, 2] {
        all.extend(kernels(&INPUT_BY_PHASES, 1, &[("NV", n_columns)]));
    }
    all
}
