//! Batch normalisation on a GPU: which kernels, cut into which slices.

use super::{BatchNorm, Mode, Residual, Sizes};
use crate::device::{Array, DType, Gpu, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::Result;
use crate::ops::wide::{ADD_UP, VALUES_1, VALUES_4, WIDTH, lanes, loads};

const SHARED: &str = include_str!("../../../shaders/batch_norm.wgsl");
const MOMENTS: &str = include_str!("../../../shaders/batch_norm_moments.wgsl");
const FORWARD: &str = include_str!("../../../shaders/batch_norm_forward.wgsl");
const FORWARD_WIDE: &str = include_str!("../../../shaders/batch_norm_forward_wide.wgsl");
const BACKWARD: &str = include_str!("../../../shaders/batch_norm_backward.wgsl");
const BACKWARD_WIDE: &str = include_str!("../../../shaders/batch_norm_backward_wide.wgsl");

const fn kernel(
    name: &'static str,
    source: &'static [&'static str],
    entry: &'static str,
    bindings: &'static str,
) -> Kernel {
    Kernel { name, source, entry, bindings, workgroup: Workgroup::Shared, constants: &[] }
}

/// The kernels of one kind of adapter and row.
pub(super) struct Kernels {
    pub statistics: Kernel,
    /// By the kind of residual: none, of the result's shape, of another shape.
    pub forward: [Kernel; 3],
    pub reduce: Kernel,
    pub reduce_residual: Kernel,
    pub backward: Kernel,
}

const SOFTWARE_FORWARD: &[&str] = &[PRELUDE, ADD_UP, SHARED, MOMENTS, FORWARD];
const SOFTWARE_BACKWARD: &[&str] = &[PRELUDE, ADD_UP, SHARED, BACKWARD];
pub(super) static SOFTWARE: Kernels = Kernels {
    statistics: kernel("batch_norm.statistics", SOFTWARE_FORWARD, "statistics", "rw"),
    forward: [
        kernel("batch_norm.forward", SOFTWARE_FORWARD, "forward", "rrrwrwwr"),
        Kernel {
            constants: &[("RESIDUAL", 1.0)],
            ..kernel("batch_norm.forward_residual", SOFTWARE_FORWARD, "forward", "rrrwrwwr")
        },
        Kernel {
            constants: &[("RESIDUAL", 2.0)],
            ..kernel("batch_norm.forward_subsampled", SOFTWARE_FORWARD, "forward", "rrrwrwwr")
        },
    ],
    reduce: kernel("batch_norm.reduce", SOFTWARE_BACKWARD, "reduce", "rrrw"),
    reduce_residual: kernel("batch_norm.reduce_residual", SOFTWARE_BACKWARD, "reduce_residual", "rrrwrw"),
    backward: kernel("batch_norm.backward", SOFTWARE_BACKWARD, "backward", "rrrwwwr"),
};
pub(super) static SPREAD: Kernel =
    Kernel { workgroup: Workgroup::Flat, ..kernel("batch_norm.spread", SOFTWARE_BACKWARD, "spread", "rw") };

/// The kernels for hardware, for rows of one kind.
pub(super) struct WideKernels {
    pub statistics: Kernel,
    pub forward: Kernel,
    pub forward_whole: Kernel,
    pub reduce: Kernel,
    pub reduce_residual: Kernel,
    pub backward: Kernel,
    pub backward_whole: Kernel,
    pub backward_whole_residual: Kernel,
}

/// Names in the order of the fields.
const fn wide(
    names: [&'static str; 8],
    forward: &'static [&'static str],
    backward: &'static [&'static str],
) -> WideKernels {
    WideKernels {
        statistics: kernel(names[0], forward, "statistics", "rw"),
        forward: kernel(names[1], forward, "forward", "rrrwrwwr"),
        forward_whole: kernel(names[2], forward, "whole", "rrrwrww"),
        reduce: kernel(names[3], backward, "reduce", "rrrw"),
        reduce_residual: kernel(names[4], backward, "reduce_residual", "rrrwrw"),
        backward: kernel(names[5], backward, "backward", "rrrwwwr"),
        backward_whole: kernel(names[6], backward, "whole", "rrrwww"),
        backward_whole_residual: kernel(names[7], backward, "whole_residual", "rrrwwwrw"),
    }
}
/// By the loads of a plane: four pixels at once, one pixel.
pub(super) static WIDE: [WideKernels; 2] = [
    wide(
        [
            "batch_norm.statistics_4",
            "batch_norm.forward_4",
            "batch_norm.forward_whole_4",
            "batch_norm.reduce_4",
            "batch_norm.reduce_residual_4",
            "batch_norm.backward_4",
            "batch_norm.backward_whole_4",
            "batch_norm.backward_whole_residual_4",
        ],
        &[PRELUDE, ADD_UP, VALUES_4, SHARED, MOMENTS, FORWARD_WIDE],
        &[PRELUDE, ADD_UP, VALUES_4, SHARED, BACKWARD_WIDE],
    ),
    wide(
        [
            "batch_norm.statistics_1",
            "batch_norm.forward_1",
            "batch_norm.forward_whole_1",
            "batch_norm.reduce_1",
            "batch_norm.reduce_residual_1",
            "batch_norm.backward_1",
            "batch_norm.backward_whole_1",
            "batch_norm.backward_whole_residual_1",
        ],
        &[PRELUDE, ADD_UP, VALUES_1, SHARED, MOMENTS, FORWARD_WIDE],
        &[PRELUDE, ADD_UP, VALUES_1, SHARED, BACKWARD_WIDE],
    ),
];

pub(super) const ALL: &[&Kernel] = &[
    &SOFTWARE.statistics,
    &SOFTWARE.forward[0],
    &SOFTWARE.forward[1],
    &SOFTWARE.forward[2],
    &SOFTWARE.reduce,
    &SOFTWARE.reduce_residual,
    &SOFTWARE.backward,
    &SPREAD,
    &WIDE[0].statistics,
    &WIDE[0].forward,
    &WIDE[0].forward_whole,
    &WIDE[0].reduce,
    &WIDE[0].reduce_residual,
    &WIDE[0].backward,
    &WIDE[0].backward_whole,
    &WIDE[0].backward_whole_residual,
    &WIDE[1].statistics,
    &WIDE[1].forward,
    &WIDE[1].forward_whole,
    &WIDE[1].reduce,
    &WIDE[1].reduce_residual,
    &WIDE[1].backward,
    &WIDE[1].backward_whole,
    &WIDE[1].backward_whole_residual,
];

/// Numbers that a slice of the batch has at least, on a software adapter.
const SLICE: usize = 4096;
/// Slices at most, there.
const MAX_SLICES: usize = 64;
/// Workgroups that fill the largest GPUs.
const ENOUGH_GROUPS: usize = 1024;
/// Loads of an invocation that are worth a workgroup, on hardware.
const LOADS: usize = 4;
/// Loads of a channel up to which one workgroup does all of it in one dispatch, on hardware. Its 256 invocations load 16 KiB
/// at a time, so that 32 × 256 loads from the cache take a microsecond or two, as a second dispatch does.
const WHOLE: usize = 32 * WIDTH;

/// How a launch cuts the batch.
struct Cut {
    /// Loads per plane.
    loads: usize,
    lanes: usize,
    per_slice: usize,
    n_slices: usize,
}

impl Cut {
    fn new(sizes: &Sizes, loads: usize, lanes: usize, n_slices: usize) -> Cut {
        let per_slice = sizes.n.div_ceil(n_slices.clamp(1, sizes.n));
        Cut { loads, lanes, per_slice, n_slices: sizes.n.div_ceil(per_slice) }
    }

    fn software(sizes: &Sizes) -> Cut {
        let n_slices = (sizes.n * sizes.inner / SLICE).min(MAX_SLICES);
        Cut::new(sizes, sizes.inner, sizes.inner.next_power_of_two(), n_slices)
    }

    fn hardware(sizes: &Sizes, loads: usize) -> Cut {
        let n_slices = (sizes.n * loads / (LOADS * WIDTH)).min(ENOUGH_GROUPS / sizes.c);
        Cut::new(sizes, loads, lanes(loads), n_slices)
    }

    fn whole(sizes: &Sizes, loads: usize) -> Cut {
        Cut::new(sizes, loads, lanes(loads), 1)
    }

    fn grid(&self, sizes: &Sizes) -> Grid {
        Grid::Groups { x: sizes.c, y: self.n_slices, z: 1 }
    }
}

/// Kernels and cut of a pass.
enum Plan {
    Software(Cut),
    /// Partial sums, then the rest.
    Sliced(&'static WideKernels, Cut),
    /// Everything in one dispatch.
    Whole(&'static WideKernels, Cut),
}

impl Plan {
    fn new(gpu: &Gpu, sizes: &Sizes) -> Result<Plan> {
        if gpu.is_software() {
            let cut = Cut::software(sizes);
            let width = Workgroup::Shared.constants(true).1;
            gpu.expect_turns("batch_norm", cut.per_slice * (1 + sizes.inner.div_ceil(width)))?;
            return Ok(Plan::Software(cut));
        }
        let (kind, loads) = loads(sizes.inner);
        Ok(match takes_moments(gpu, sizes.n, sizes.inner) {
            true => Plan::Sliced(&WIDE[kind], Cut::hardware(sizes, loads)),
            false => Plan::Whole(&WIDE[kind], Cut::whole(sizes, loads)),
        })
    }
}

/// Whether the forward pass has a use for moments of parts: a channel that is done in one dispatch has none.
pub fn takes_moments(gpu: &Gpu, n: usize, inner: usize) -> bool {
    !gpu.is_software() && n * loads(inner).1 > WHOLE
}

pub(super) fn forward(
    gpu: &Gpu,
    sizes: &Sizes,
    x: &Array,
    norm: &BatchNorm,
    moments: Option<&Array>,
    table: &Array,
    y: &Array,
) -> Result<()> {
    // Without a residual x stands in for the binding and is not read.
    let residual = norm.residual.map_or(x, crate::tensor::Tensor::array);
    let [weight, bias] = [norm.weight, norm.bias].map(crate::tensor::Tensor::array);
    let (statistics, forward, cut) = match Plan::new(gpu, sizes)? {
        Plan::Whole(wide, cut) if sizes.mode != Mode::Eval => {
            let bindings = [x, weight, bias, norm.running, residual, table, y];
            return gpu.launch(&wide.forward_whole, &bindings, &sizes.params(&cut), cut.grid(sizes));
        }
        Plan::Software(cut) => (&SOFTWARE.statistics, &SOFTWARE.forward[sizes.residual.kind()], cut),
        Plan::Whole(wide, Cut { loads, .. }) | Plan::Sliced(wide, Cut { loads, .. }) => {
            (&wide.statistics, &wide.forward, Cut::hardware(sizes, loads))
        }
    };
    let mut params = sizes.params(&cut);
    let partials = match moments {
        Some(moments) => {
            params[N_SLICES] = moments.shape()[1] as u32;
            moments.clone()
        }
        None => {
            let partials = Array::empty(&x.device(), [sizes.c, cut.n_slices, 4], DType::F32)?;
            if sizes.mode != Mode::Eval {
                gpu.launch(statistics, &[x, &partials], &params, cut.grid(sizes))?;
            }
            partials
        }
    };
    let bindings = [x, weight, bias, norm.running, residual, table, y, &partials];
    gpu.launch(forward, &bindings, &params, cut.grid(sizes))
}

/// What the backward pass reads, and where it writes.
pub(super) struct Gradients<'a> {
    pub dy: &'a Array,
    pub x: &'a Array,
    pub table: &'a Array,
    pub y: &'a Array,
    /// The gradient of the sum where it is not dy: only then is it written.
    pub dz: Option<&'a Array>,
    pub dx: &'a Array,
    pub dweight: &'a Array,
    pub dbias: &'a Array,
}

pub(super) fn backward(gpu: &Gpu, sizes: &Sizes, of: &Gradients) -> Result<()> {
    let &Gradients { dy, x, table, y, dz, dx, dweight, dbias } = of;
    let (reduce, reduce_residual, backward, cut) = match Plan::new(gpu, sizes)? {
        Plan::Whole(wide, cut) => {
            let (params, grid) = (sizes.params(&cut), cut.grid(sizes));
            return match dz {
                None => gpu.launch(&wide.backward_whole, &[dy, x, table, dx, dweight, dbias], &params, grid),
                Some(dz) => {
                    let bindings = [dy, x, table, dx, dweight, dbias, y, dz];
                    gpu.launch(&wide.backward_whole_residual, &bindings, &params, grid)
                }
            };
        }
        Plan::Software(cut) => (&SOFTWARE.reduce, &SOFTWARE.reduce_residual, &SOFTWARE.backward, cut),
        Plan::Sliced(wide, cut) => (&wide.reduce, &wide.reduce_residual, &wide.backward, cut),
    };
    let mut params = sizes.params(&cut);
    let partials = Array::empty(&dy.device(), [sizes.c, cut.n_slices, 2], DType::F32)?;
    let dz = match dz {
        None => {
            gpu.launch(reduce, &[dy, x, table, &partials], &params, cut.grid(sizes))?;
            dy
        }
        Some(dz) => {
            gpu.launch(reduce_residual, &[dy, x, table, &partials, y, dz], &params, cut.grid(sizes))?;
            // Everything that is left of dz passes.
            params[LOWEST] = (-f32::MAX).to_bits();
            dz
        }
    };
    gpu.launch(backward, &[dz, x, table, dx, dweight, dbias, &partials], &params, cut.grid(sizes))
}

/// Gives a residual of another shape its gradient.
pub(super) fn spread(gpu: &Gpu, sizes: &Sizes, dz: &Array, dresidual: &Array) -> Result<()> {
    let grid = Grid::Invocations(dresidual.n_elements());
    gpu.launch(&SPREAD, &[dz, dresidual], &sizes.params(&Cut::software(sizes)), grid)
}

/// Where they stand in the parameter block.
const N_SLICES: usize = 3;
const LOWEST: usize = 9;

impl Sizes {
    fn params(&self, cut: &Cut) -> [u32; 18] {
        let batch = u32::from(self.mode != Mode::Eval);
        let &Cut { loads, lanes, per_slice, n_slices } = cut;
        let [n, c, inner, per_slice, n_slices, lanes, width] =
            [self.n, self.c, loads, per_slice, n_slices, lanes, self.width].map(|size| size as u32);
        let residual = match self.residual {
            Residual::Subsampled { c, h, w, stride, first } => [stride, c, h, w, first].map(|size| size as u32),
            _ => [1, c, 1, 1, 0],
        };
        let [stride, residual_c, residual_h, residual_w, first] = residual;
        let count = (self.n * self.inner) as f32;
        let [epsilon, momentum, lowest, count] = [self.epsilon, self.update(), self.lowest, count].map(f32::to_bits);
        let kind = self.residual.kind() as u32;
        [
            n, c, inner, n_slices, per_slice, lanes, batch, epsilon, momentum, lowest, width, stride, residual_c,
            residual_h, residual_w, first, kind, count,
        ]
    }
}
