//! The planner of the GPU's matrix products: which skeleton and which tile a product gets, and how its operands are laid out.
//! Twins: `shaders/gemm_8x8.wgsl`, `gemm_tile.wgsl`, `gemm_dot.wgsl`, `pack.wgsl`.

use super::coop::{self, Fragments};
use crate::device::{Array, DType, Family, Gpu, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::Result;

/// The skeleton for software adapters: registers only, a packed operand.
pub const GEMM_8X8: &str = include_str!("../../shaders/gemm_8x8.wgsl");
/// Rows and columns of its tile.
pub const TILE: usize = 8;
/// The skeleton for hardware: tiles in shared memory, operands read where they lie.
pub const GEMM_TILE: &str = include_str!("../../shaders/gemm_tile.wgsl");
/// The same for factors that lie along k.
pub const GEMM_DOT: &str = include_str!("../../shaders/gemm_dot.wgsl");
/// Operands of [`GEMM_TILE`].
pub const A_FOURS: &str = include_str!("../../shaders/gemm_a_fours.wgsl");
pub const B_FOURS: &str = include_str!("../../shaders/gemm_b_fours.wgsl");
pub const A_ALONG_K: &str = include_str!("../../shaders/gemm_a_along_k.wgsl");

/// A kernel on [`GEMM_8X8`].
pub const fn register(
    name: &'static str,
    source: &'static [&'static str],
    bindings: &'static str,
    constants: &'static [(&'static str, f64)],
) -> Kernel {
    Kernel { name, source, entry: "multiply", bindings, workgroup: Workgroup::Tile, constants }
}

/// The grid of the skeleton in registers.
pub fn register_grid(rows: usize, column_groups: usize, z: usize) -> Grid {
    Grid::Invocations3 { x: column_groups, y: rows.div_ceil(TILE), z }
}

/// Workgroups that keep a large GPU busy: with fewer, a tile gives way to a smaller one.
const ENOUGH_GROUPS: usize = 120;
/// Workgroups that a product over a long depth is cut into, of tiles with 64 rows and of smaller ones.
const SLICED_GROUPS: usize = 384;
const SMALL_SLICED_GROUPS: usize = 768;
/// Fours of k in a slice of [`GEMM_DOT`] at least: a shorter one reads and computes little for the tile that it writes. On an H100, of
/// all layers that were measured, the fewest slices that were tried were the quickest; one layer's had half this length, and longer ones
/// were not tried there.
const SHORTEST_SLICE: usize = 32;
/// What a workgroup computes, and its part of it for each invocation: rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    workgroup: [usize; 2],
    invocation: [usize; 2],
    /// Terms of the sum per slab in shared memory.
    depth: usize,
    /// Vec4s added to each row of a slab.
    pad: usize,
    /// On units for small matrices, how subgroups share it.
    fragments: Option<Fragments>,
}

/// Tiles of [`GEMM_TILE`], largest first.
const TILES: [Tile; 7] = [
    tile([128, 128], [8, 8]),
    tile([64, 128], [8, 8]),
    tile([64, 64], [8, 4]),
    tile([32, 128], [4, 8]),
    tile([32, 64], [4, 4]),
    tile([16, 256], [4, 8]),
    tile([16, 128], [4, 4]),
];

const fn tile(workgroup: [usize; 2], invocation: [usize; 2]) -> Tile {
    Tile { workgroup, invocation, depth: 16, pad: 1, fragments: None }
}

impl Tile {
    /// One for units for small matrices.
    pub fn of_fragments(workgroup: [usize; 2], depth: usize, fragments: Fragments) -> Tile {
        Tile { workgroup, invocation: [0; 2], depth, pad: 0, fragments: Some(fragments) }
    }

    pub fn columns(&self) -> usize {
        self.workgroup[1]
    }

    /// Bytes of shared memory for slabs [k][rows] and [k][columns].
    fn bytes_across(&self) -> usize {
        16 * self.depth * (self.workgroup.iter().sum::<usize>() / 4 + 2 * self.pad)
    }

    /// The slabs of this tile for runs of `run` terms that stay together, as deep as `bytes` of shared memory allow.
    fn with_depth(self, run: usize, bytes: usize) -> Option<Tile> {
        let depths: &[usize] = match run {
            3 => &[24, 12],
            5 => &[20],
            _ => &[16],
        };
        let deep = depths.iter().map(|&depth| Tile { depth, ..self });
        deep.flat_map(|tile| [tile, Tile { pad: 0, ..tile }]).find(|tile| tile.bytes_across() <= bytes)
    }

    /// Columns and rows of tiles.
    fn n_tiles(&self, rows: usize, columns: usize) -> [usize; 2] {
        [columns.div_ceil(self.workgroup[1]), rows.div_ceil(self.workgroup[0])]
    }

    fn n_groups(&self, rows: usize, columns: usize) -> usize {
        self.n_tiles(rows, columns).iter().product()
    }

    /// A workgroup per tile and slice.
    pub fn grid(&self, rows: usize, columns: usize, slices: usize) -> Grid {
        let [x, y] = self.n_tiles(rows, columns);
        Grid::Tiles { x, y, z: slices }
    }

    /// As in `64x128x16`: rows, columns and depth.
    pub fn label(&self) -> String {
        let Tile { workgroup: [bm, bn], depth, fragments, .. } = self;
        format!("{bm}x{bn}x{depth}{}", fragments.as_ref().map_or("", Fragments::label))
    }

    /// The kernel of a family for this tile, with more constants of its own.
    pub fn kernel(&self, family: &Family, more: &[(&'static str, u32)]) -> &'static Kernel {
        let Tile { workgroup: [bm, bn], invocation: [tm, tn], depth, pad, fragments } = *self;
        let label = || {
            let more: String = more.iter().map(|(name, value)| format!(" {}{value}", name.to_lowercase())).collect();
            self.label() + &more
        };
        if let Some(fragments) = fragments {
            return coop::kernel(family, label, [bm, bn, depth], fragments, more);
        }
        let names = ["BM", "BN", "BK", "TM", "TN", "PAD"];
        let values = [bm, bn, depth, tm, tn, pad].map(|size| size as u32);
        let mut constants = [("", 0); 8];
        for (slot, constant) in constants.iter_mut().zip(names.into_iter().zip(values).chain(more.iter().copied())) {
            *slot = constant;
        }
        family.kernel(label, &constants[..names.len() + more.len()])
    }
}

/// One way to compute something, for `engram bench tiles`.
pub struct Candidate<'a> {
    /// Its tile.
    pub label: String,
    /// Whether the planner takes it.
    pub chosen: bool,
    /// Records it.
    pub run: Box<dyn Fn() -> Result<()> + 'a>,
}

impl<'a> Candidate<'a> {
    pub(super) fn new(label: String, chosen: bool, run: impl Fn() -> Result<()> + 'a) -> Candidate<'a> {
        Candidate { label, chosen, run: Box::new(run) }
    }
}

/// The tile of [`GEMM_TILE`] for a product of so many rows and columns (slices apart): no more rows than there are, and the largest
/// of which there are enough. `run`: terms of the sum that stay together in a slab.
pub fn plan(gpu: &Gpu, rows: usize, columns: usize, slices: usize, run: usize) -> Tile {
    plan_within(gpu.shared_bytes(), rows, columns, slices, run)
}

/// The same for a product whose A is read along k: the slab takes it crosswise, which more rows make slower.
pub fn plan_crosswise(gpu: &Gpu, rows: usize, columns: usize, slices: usize) -> Tile {
    let planned = plan(gpu, rows, columns, slices, 1);
    if planned.workgroup[0] <= 64 { planned } else { plan(gpu, 64, columns * rows.div_ceil(64), slices, 1) }
}

fn plan_within(bytes: usize, rows: usize, columns: usize, slices: usize, run: usize) -> Tile {
    let fitting = candidates(bytes, run).collect();
    pick(fitting, rows, columns, slices).expect("bug: no tile fits the smallest shared memory")
}

/// Of these tiles, largest first, the one for a product.
pub fn pick(mut tiles: Vec<Tile>, rows: usize, columns: usize, slices: usize) -> Option<Tile> {
    tiles.retain(|tile| match rows {
        0..=16 => tile.workgroup[0] == 16,
        17..=32 => tile.workgroup[0] == 32,
        33..=64 => tile.workgroup[0] <= 64 && tile.workgroup[0] > 16,
        _ => tile.workgroup[0] > 16,
    });
    let enough = tiles.iter().find(|tile| tile.n_groups(rows, columns) * slices >= ENOUGH_GROUPS);
    // With few of any kind, the one of which there are most.
    let most = tiles.iter().max_by_key(|tile| tile.n_groups(rows, columns));
    enough.or(most).copied()
}

fn candidates(bytes: usize, run: usize) -> impl Iterator<Item = Tile> {
    TILES.iter().filter_map(move |tile| tile.with_depth(run, bytes))
}

/// Slices that the depth of a product is cut into where its tiles alone would leave a large GPU idle.
pub fn n_splits(tile: Tile, rows: usize, columns: usize, depth: usize) -> usize {
    let groups = tile.n_groups(rows, columns);
    // A slice of less than four slabs costs more than it saves.
    if groups >= ENOUGH_GROUPS { 1 } else { (SLICED_GROUPS / groups).min(depth / (4 * tile.depth)).max(1) }
}

/// The tile of [`GEMM_DOT`], by rows and columns and the terms of a row of the kernel, which stay together.
pub fn dot_plan(rows: usize, columns: usize, run: usize) -> Tile {
    let (bm, tm) = match rows {
        0..=16 => (16, 4),
        17..=32 => (32, 8),
        _ => (64, 8),
    };
    // Sixteen invocations side by side.
    let tn = match (run, columns) {
        (5, _) => 5,
        (_, 49..) if bm == 64 => 6,
        _ => 3,
    };
    tile([bm, 16 * tn], [tm, tn])
}

/// Slices that give a large GPU enough workgroups of [`GEMM_DOT`].
pub fn dot_groups(tile: Tile, rows: usize, columns: usize) -> usize {
    let few = tile.workgroup[0] == 64 || tile.fragments.is_some();
    let wanted = if few { SLICED_GROUPS } else { SMALL_SLICED_GROUPS };
    (wanted / tile.n_groups(rows, columns)).max(1)
}

/// Slices of so many fours of k, no more than wanted, and fours per slice.
pub fn dot_slices(tile: Tile, wanted: usize, fours: usize) -> (usize, usize) {
    let slab = tile.depth / 4;
    let per_slice = fours.div_ceil(wanted).max(SHORTEST_SLICE).next_multiple_of(slab);
    (fours.div_ceil(per_slice), per_slice)
}

/// A workgroup of [`GEMM_DOT`] per tile and slice.
pub fn dot_grid(tile: Tile, rows: usize, columns: usize, slices: usize) -> Grid {
    let [x, y] = tile.n_tiles(rows, columns);
    Grid::Groups { x, y, z: slices }
}

/// Every tile that [`plan`] may choose with so much shared memory.
pub fn all_tiles(bytes: usize, run: usize) -> Vec<Tile> {
    candidates(bytes, run).collect()
}

/// Every tile that [`dot_plan`] may choose.
pub fn all_dot_tiles(run: usize) -> Vec<Tile> {
    let mut tiles: Vec<Tile> =
        [16, 32, 64].into_iter().flat_map(|rows| [48, 144].map(|n| dot_plan(rows, n, run))).collect();
    tiles.dedup();
    tiles
}

pub static PACK: Kernel = Kernel {
    name: "pack",
    source: &[PRELUDE, include_str!("../../shaders/pack.wgsl")],
    entry: "pack",
    bindings: "rw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

/// How an operand lies in its buffer: element (k, m) is at (k / inner)·outer_step + (k mod inner)·inner_step + m·m_step.
#[derive(Clone, Copy)]
pub struct Packing {
    pub n_k: usize,
    pub n_m: usize,
    pub inner: usize,
    pub outer_step: usize,
    pub inner_step: usize,
    pub m_step: usize,
}

impl Packing {
    /// The operand as [`GEMM_8X8`] reads it: (k, m), both filled up to a multiple of four. It is copied unless it lies so.
    pub fn of(self, gpu: &Gpu, origin: &Array) -> Result<Array> {
        let Packing { n_k, n_m, inner, outer_step, inner_step, m_step } = self;
        let whole = n_k.is_multiple_of(4) && n_m.is_multiple_of(4);
        if whole && m_step == 1 && inner == n_k && inner_step == n_m {
            return Ok(origin.clone());
        }
        let (height, width) = (n_k.next_multiple_of(4), n_m.div_ceil(4));
        let packed = Array::empty(&origin.device(), [height, 4 * width], DType::F32)?;
        let params = [n_k, n_m, inner, outer_step, inner_step, m_step].map(|size| size as u32);
        gpu.launch(&PACK, &[origin, &packed], &params, Grid::Invocations(height * width))?;
        Ok(packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layers of ResNets at batch 128 and what was quickest for them on an H100 (2026-11-26).
    #[test]
    fn plans_are_those_that_were_measured() {
        let planned = |rows, columns, run| plan_within(48 << 10, rows, columns, 1, run).workgroup;
        for (rows, columns, run, expected) in [
            (64, 131_072, 3, [64, 128]),
            (64, 8192, 3, [64, 64]),
            (128, 32_768, 3, [128, 128]),
            (256, 8192, 3, [128, 128]),
            (512, 2048, 3, [64, 128]),
            (32, 32_768, 3, [32, 128]),
            (4096, 4096, 1, [128, 128]),
            (1024, 1024, 1, [64, 128]),
            (512, 512, 1, [32, 64]),
        ] {
            assert_eq!(planned(rows, columns, run), expected, "{rows} × {columns}");
        }
    }

    /// Whatever the shape, there is a tile for the least shared memory and for the most.
    #[test]
    fn every_shape_has_a_tile_that_fits() {
        // The least that WebGPU guarantees, and more.
        for bytes in [16 << 10, 32 << 10, 48 << 10] {
            for run in [1, 3, 5] {
                for rows in [1, 16, 17, 33, 65, 1000] {
                    for columns in [1, 100, 10_000, 1_000_000] {
                        let tile = plan_within(bytes, rows, columns, 1, run);
                        assert!(tile.bytes_across() <= bytes && tile.depth.is_multiple_of(run.max(4)) || run == 5);
                    }
                }
            }
        }
    }
}
