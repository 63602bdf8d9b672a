//! Convolution on hardware: implicit matrix products by tiles in shared memory, whose planner is in `src/ops/tiles.rs`. Square kernels
//! of 1, 3 or 5 rows with a stride of 1 or 2 read the image by windows, few out-channels are computed directly, many channels by fewer
//! products, and anything else is read four pixels at a time. Twins: see `families.rs`.

use super::families::{
    DIRECT_WITH_MOMENTS, Forward, INPUT_BY_PHASES, INPUT_BY_PIXEL, INPUT_OF_ANY, MAX_DIRECT_FOURS, PLAIN, PLAIN_DIRECT,
    RUNS, STRIDES, TURNED, TURNED_DIRECT, WEIGHT_BY_WINDOW, WEIGHT_OF_ANY, WITH_NORM, WITH_NORM_DIRECT, direct_kernel,
    window,
};
use super::winograd::gpu as winograd;
use super::{Conv2d, Place, Sizes};
use crate::device::{Array, ColumnSum, DType, Family, Gpu, Grid, Kernel, PRELUDE, Workgroup, column_sums};
use crate::error::Result;
use crate::ops::coop::{all_dot_tiles, all_tiles, dot_plan, plan};
use crate::ops::tiles::{Candidate, Tile, dot_grid, dot_groups, dot_slices, n_splits};
use crate::tensor::Tensor;

pub static TURN: Kernel = Kernel {
    name: "conv2d.turn_weight",
    source: &[PRELUDE, include_str!("../../../shaders/conv2d_turn_weight.wgsl")],
    entry: "turn",
    bindings: "rw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

/// Terms of a sum that the shaders can number by divisions in floating point.
const MAX_DEPTH: usize = 1 << 20;
/// Out-channels that a direct convolution is quicker for.
const MAX_DIRECT_CHANNELS: usize = 16;
/// Images that a direct convolution takes: a column of workgroups each.
const MAX_DIRECT_IMAGES: usize = 65_535;
/// Image rows that a workgroup of a direct convolution takes: `BAND` of shaders/conv2d_direct.wgsl.
const DIRECT_BAND: usize = 16;

/// True if these kernels take a convolution whose sums have so many terms.
pub fn takes(gpu: &Gpu, depth: usize) -> bool {
    !gpu.is_software() && depth < MAX_DEPTH
}

/// How a convolution is computed forward.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Direct,
    Winograd(Tile),
    Windows(Tile),
    Fours(Tile),
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

    /// Whether the direct kernel can compute this convolution.
    fn fits_direct(&self) -> bool {
        let has_room = self.w <= 4 * MAX_DIRECT_FOURS && self.n <= MAX_DIRECT_IMAGES;
        self.run() == Some(3) && self.stride == 1 && self.is_whole() && has_room
    }

    /// Bands of rows that a direct convolution cuts an image into.
    fn n_bands(&self) -> usize {
        self.p.div_ceil(DIRECT_BAND)
    }

    /// The ways to compute this convolution on this adapter.
    fn ways(&self, gpu: &Gpu) -> Vec<Way> {
        let direct = self.fits_direct().then_some(Way::Direct);
        let winograd = all_tiles(gpu, 1).into_iter().filter(|_| winograd::fits(self, gpu)).map(Way::Winograd);
        let windows = self.run().into_iter().flat_map(|run| all_tiles(gpu, run)).map(Way::Windows);
        let fours = all_tiles(gpu, 1).into_iter().map(Way::Fours);
        direct.into_iter().chain(winograd).chain(windows).chain(fours).collect()
    }

    /// The way this convolution is computed.
    fn way(&self, gpu: &Gpu) -> Way {
        match self.run() {
            // Units for small matrices are quicker still.
            Some(_) if self.o <= MAX_DIRECT_CHANNELS && self.fits_direct() && gpu.matrices().is_none() => Way::Direct,
            Some(_) if winograd::pays(self, gpu) => Way::Winograd(winograd::plan(self, gpu)),
            Some(run) => Way::Windows(plan(gpu, self.o, self.columns(), 1, run)),
            None => Way::Fours(plan(gpu, self.o, self.n * self.p * self.q, 1, 1)),
        }
    }

    /// Computes this convolution: bindings and parameters are those of the family's files.
    fn convolve(
        &self,
        way: Way,
        gpu: &Gpu,
        (forward, direct): (&Forward, &Family),
        bindings: &[&Array],
        params: &[u32],
    ) -> Result<()> {
        let &Sizes { n, o, p, q, w, stride, kw, .. } = self;
        let (kernel, grid) = match way {
            Way::Direct => {
                let grid = Grid::Groups { x: n, y: self.n_bands(), z: o.div_ceil(MAX_DIRECT_CHANNELS) };
                (direct_kernel(direct, w / 4), grid)
            }
            Way::Winograd(tile) => return winograd::convolve(self, tile, gpu, &forward.winograd, bindings, params),
            Way::Windows(tile) => {
                let family = &forward.windows[usize::from(self.is_whole())];
                (tile.kernel(family, &window(kw, stride)), tile.grid(o, self.columns(), 1))
            }
            Way::Fours(tile) => (tile.kernel(&forward.fours, &[]), tile.grid(o, n * p * q, 1)),
        };
        gpu.launch(kernel, bindings, params, grid)
    }

    /// The convolution of dy that computes the input gradient of this one, if the stride is 1.
    pub(super) fn turned(&self) -> Option<Sizes> {
        let &Sizes { c, h, w, o, kh, kw, p, q, stride, padding, dilation, .. } = self;
        let padding = (kw - 1).checked_sub(padding)?;
        let fits = stride == 1 && dilation == 1 && kh == kw;
        fits.then_some(Sizes { c: o, h: p, w: q, o: c, p: h, q: w, padding, ..*self })
    }

    /// Whether the input gradient's pixels with a stride of 2 fall into phases of the size of dy, in whole vec4s.
    fn has_even_phases(&self) -> bool {
        self.stride == 2 && self.is_whole() && (self.h, self.w) == (2 * self.p, 2 * self.q)
    }
}

/// What a convolution's results go through before they are put.
#[derive(Clone, Copy)]
pub enum End {
    /// A bias: shaders/conv2d_bias.wgsl.
    Bias,
    /// The same, and the moments of the batch norm that follows: shaders/conv2d_direct_moments.wgsl.
    Moments,
    /// A batch norm: shaders/conv2d_norm.wgsl.
    Norm,
}

/// `bindings` and `params` are those of the end's file.
pub fn forward(sizes: &Sizes, gpu: &Gpu, end: End, bindings: &[&Array], params: &[u32]) -> Result<()> {
    let rows = usize::from(sizes.patch().is_multiple_of(4));
    let families = match end {
        End::Bias => (&PLAIN[rows], &PLAIN_DIRECT),
        End::Moments => (&PLAIN[rows], &DIRECT_WITH_MOMENTS),
        End::Norm => (&WITH_NORM[rows], &WITH_NORM_DIRECT),
    };
    sizes.convolve(sizes.way(gpu), gpu, families, bindings, params)
}

/// Parts of the batch of which a convolution gives a batch norm the moments, if it can.
pub fn n_moments(sizes: &Sizes, gpu: &Gpu) -> Option<usize> {
    (takes(gpu, sizes.patch()) && sizes.way(gpu) == Way::Direct).then(|| sizes.n * sizes.n_bands())
}

/// Assigned, or added to what is there. With a stride of 1 the gradient is a convolution of dy with the weight turned by half a turn;
/// else its phases are slices of the grid.
pub fn backward_input(sizes: &Sizes, gpu: &Gpu, dy: &Array, weight: &Array, dx: &Array, adds: bool) -> Result<()> {
    let &Sizes { n, c, h, w, p, q, stride, .. } = sizes;
    if let Some(turned) = sizes.turned() {
        let params = turned.params_adding(adds);
        if gpu.matrices().is_some() {
            // Units for small matrices would wait for loads across the rows of a weight.
            let flat = Array::empty(&weight.device(), weight.shape(), DType::F32)?;
            let shape = [turned.c, turned.o, sizes.kh * sizes.kw].map(|size| size as u32);
            gpu.launch(&TURN, &[weight, &flat], &shape, Grid::Invocations(weight.n_elements()))?;
            return forward(&turned, gpu, End::Bias, &[&flat, dy, &flat, dx], &params);
        }
        let bindings = [weight, dy, weight, dx];
        return turned.convolve(turned.way(gpu), gpu, (&TURNED, &TURNED_DIRECT), &bindings, &params);
    }
    let (bindings, params) = ([weight, dy, dx], sizes.params_adding(adds));
    match sizes.run() {
        Some(3) if sizes.has_even_phases() => {
            let tile = plan(gpu, c, n * p * q, 2, 1);
            for taps in [1, 2] {
                let kernel = tile.kernel(&INPUT_BY_PHASES, &[("NV", taps)]);
                gpu.launch(kernel, &bindings, &params, tile.grid(c, n * p * q, 2))?;
            }
            Ok(())
        }
        Some(1) if sizes.has_even_phases() => {
            let tile = plan(gpu, c, n * p * q, 1, 1);
            gpu.launch(tile.kernel(&INPUT_BY_PIXEL, &[]), &bindings, &params, tile.grid(c, n * p * q, 1))
        }
        _ => {
            let columns = n * h.div_ceil(stride) * w.div_ceil(stride).next_multiple_of(4);
            let tile = plan(gpu, c, columns, stride * stride, 1);
            let grid = tile.grid(c, columns, stride * stride);
            gpu.launch(tile.kernel(&INPUT_OF_ANY, &[]), &bindings, &params, grid)
        }
    }
}

/// In slices, a row of partial sums each.
pub fn backward_weight(sizes: &Sizes, gpu: &Gpu, dy: &Array, x: &Array, place: Place) -> Result<()> {
    let (o, patch) = (sizes.o, sizes.patch());
    if winograd::pays(sizes, gpu) {
        return winograd::backward_weight(sizes, winograd::plan_weight(sizes, gpu), gpu, dy, x, &place(1)?);
    }
    if let Some(run) = sizes.run() {
        let tile = dot_plan(gpu, o, patch, run);
        return weight_by(tile, dot_groups(tile, o, patch), sizes, gpu, dy, x, place);
    }
    let pixels = sizes.n * sizes.p * sizes.q;
    let tile = plan(gpu, o, patch, 1, 1);
    let per_slice = pixels.div_ceil(n_splits(tile, o, patch, pixels)).next_multiple_of(16);
    let n_slices = pixels.div_ceil(per_slice);
    let (kernel, grid) = (tile.kernel(&WEIGHT_OF_ANY, &[]), tile.grid(o, patch, n_slices));
    gpu.launch(kernel, &[dy, x, &place(n_slices)?], &sizes.params(per_slice), grid)
}

fn weight_by(
    tile: Tile,
    wanted_slices: usize,
    sizes: &Sizes,
    gpu: &Gpu,
    dy: &Array,
    x: &Array,
    place: Place,
) -> Result<()> {
    let (n_slices, per_slice) = dot_slices(tile, wanted_slices, sizes.columns() / 4);
    let kernel = tile.kernel(&WEIGHT_BY_WINDOW[usize::from(sizes.is_whole())], &window(sizes.kw, sizes.stride));
    let grid = dot_grid(tile, sizes.o, sizes.patch(), n_slices);
    gpu.launch(kernel, &[dy, x, &place(n_slices)?], &sizes.params(per_slice), grid)
}

/// A weight gradient with its slices added up at once, as the tape does for many.
fn whole_weight(dw: &Array, compute: impl FnOnce(Place) -> Result<()>) -> Result<()> {
    let mut rows = None;
    compute(&mut |n_rows| {
        if n_rows == 1 {
            return Ok(dw.clone());
        }
        let partials = Array::empty(&dw.device(), [n_rows, dw.n_elements()], DType::F32)?;
        Ok(rows.insert(partials).clone())
    })?;
    rows.map_or(Ok(()), |rows| column_sums(&[ColumnSum { rows, to: dw.clone() }]))
}

impl Way {
    fn label(&self) -> String {
        match self {
            Way::Direct => "direct".into(),
            Way::Winograd(tile) => format!("{} winograd", tile.label()),
            Way::Windows(tile) => format!("{} windows", tile.label()),
            Way::Fours(tile) => format!("{} fours", tile.label()),
        }
    }
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
    let rows = usize::from(sizes.patch().is_multiple_of(4));
    let forward = sizes.ways(gpu).into_iter().map(|way| {
        let y = y.clone();
        Candidate::new(way.label(), way == sizes.way(gpu), move || {
            let families = (&PLAIN[rows], &PLAIN_DIRECT);
            sizes.convolve(way, gpu, families, &[weight, x, weight, &y], &sizes.params(0))
        })
    });
    let input = match sizes.turned() {
        Some(turned) => {
            let ways = turned.ways(gpu).into_iter();
            let candidates = ways.map(|way| {
                let dx = dx.clone();
                Candidate::new(way.label(), way == turned.way(gpu), move || {
                    let families = (&TURNED, &TURNED_DIRECT);
                    turned.convolve(way, gpu, families, &[weight, dy, weight, &dx], &turned.params(0))
                })
            });
            candidates.collect()
        }
        None => {
            vec![Candidate::new("phases".into(), true, move || backward_input(&sizes, gpu, dy, weight, &dx, false))]
        }
    };
    let (o, patch) = (sizes.o, sizes.patch());
    let by_points = winograd::pays(&sizes, gpu);
    let mut weight_ways = Vec::new();
    for tile in all_tiles(gpu, 1).into_iter().filter(|_| winograd::fits(&sizes, gpu)) {
        let dw = dw.clone();
        let chosen = by_points && tile == winograd::plan_weight(&sizes, gpu);
        weight_ways.push(Candidate::new(Way::Winograd(tile).label(), chosen, move || {
            winograd::backward_weight(&sizes, tile, gpu, dy, x, &dw)
        }));
    }
    for tile in sizes.run().into_iter().flat_map(|run| all_dot_tiles(gpu, run)) {
        let groups = dot_groups(tile, o, patch);
        let n_slices = |wanted| dot_slices(tile, wanted, sizes.columns() / 4).0;
        let planned = !by_points && tile == dot_plan(gpu, o, patch, sizes.kw);
        let mut numbers = [groups.div_ceil(2), groups, 2 * groups].map(n_slices).to_vec();
        numbers.dedup();
        for n in numbers {
            let dw = dw.clone();
            let chosen = planned && n == n_slices(groups);
            weight_ways.push(Candidate::new(format!("{} in {n} slices", tile.label()), chosen, move || {
                whole_weight(&dw, |place| weight_by(tile, n, &sizes, gpu, dy, x, place))
            }));
        }
    }
    Ok([forward.collect(), input, weight_ways])
}
