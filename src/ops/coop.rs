//! The planner of products on the units for small matrices that some adapters have, for `--precision mixed` and `split`: which
//! tile, and the kernel for it. A family of kernels on `gemm_tile.wgsl` or `gemm_dot.wgsl` has one on `gemm_coop.wgsl` or
//! `gemm_coop_dot.wgsl` for every tile: the operands' files are the same.
//! Twins: `shaders/gemm_fragments.wgsl`, `gemm_matrices.wgsl`, `gemm_emulated.wgsl`.

use super::tiles::{self, GEMM_DOT, GEMM_TILE, Tile, pick};
use crate::device::{Family, Gpu, Kernel, Matrices};

const FRAGMENTS: &str = include_str!("../../shaders/gemm_fragments.wgsl");
const MATRICES: &str = include_str!("../../shaders/gemm_matrices.wgsl");
const EMULATED: &str = include_str!("../../shaders/gemm_emulated.wgsl");
const COOP: &str = include_str!("../../shaders/gemm_coop.wgsl");
const COOP_DOT: &str = include_str!("../../shaders/gemm_coop_dot.wgsl");
/// What stands in for a skeleton in f32, by whether matrices are emulated. Files with `enable` come first.
static TILES: [&[&str]; 2] = [&[MATRICES, FRAGMENTS, COOP], &[EMULATED, FRAGMENTS, COOP]];
static DOTS: [&[&str]; 2] = [&[MATRICES, FRAGMENTS, COOP_DOT], &[EMULATED, FRAGMENTS, COOP_DOT]];

/// How a tile is divided among subgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragments {
    /// Below each other, and side by side.
    subgroups: [usize; 2],
    /// Fragments of a subgroup that leave side by side.
    staged: usize,
    matrices: Matrices,
}

/// Rows and columns of a fragment, and its depth.
const SIDE: usize = 16;
/// Fours added to each row of a slab.
const PAD: usize = 2;

/// A tile without its depth: rows and columns of a workgroup, and its subgroups below each other and side by side.
type Division = ([usize; 2], [usize; 2]);

/// For products, largest first.
const DIVISIONS: [Division; 6] = [
    ([128, 128], [2, 4]),
    ([64, 64], [2, 2]),
    ([32, 128], [1, 4]),
    ([32, 64], [1, 2]),
    ([16, 128], [1, 4]),
    ([16, 64], [1, 2]),
];
/// Four large fragments each serve a deep product of two matrices better: 252 TFLOP/s of an H100 instead of 158.
const LARGE: Division = ([128, 128], [2, 2]);

/// A tile as deep as `bytes` of shared memory allow, and with as much room on the way out.
fn tile(matrices: Matrices, bytes: usize, (workgroup, subgroups): Division, depths: &[usize]) -> Option<Tile> {
    let [rows, columns] = workgroup;
    let width = columns / subgroups[1] / SIDE;
    let parts = if matrices.split { 2 } else { 1 };
    let slab = |across: usize, depth: usize| {
        let (along_k, along_rows) = (across * (depth / 4 + PAD), depth * (across / 4 + PAD));
        8 * parts * along_k.max(along_rows)
    };
    let stage = |staged: usize| 16 * subgroups.iter().product::<usize>() * SIDE * (4 * staged + 1);
    // Where there is but one part, the other still has one element.
    let unused = if matrices.split { 0 } else { 16 };
    let ways = depths.iter().flat_map(|&depth| (1..=width).rev().map(move |staged| (depth, staged)));
    let fits = |&(depth, staged): &(usize, usize)| {
        width.is_multiple_of(staged) && slab(rows, depth) + slab(columns, depth) + unused + stage(staged) <= bytes
    };
    let (depth, staged) = ways.into_iter().find(fits)?;
    Some(Tile::of_fragments(workgroup, depth, Fragments { subgroups, staged, matrices }))
}

/// Depths of a slab for runs of `run` terms that stay together.
fn depths(run: usize) -> &'static [usize] {
    match run {
        3 => &[48],
        5 => &[80],
        _ => &[32, 16],
    }
}

fn candidates(matrices: Matrices, bytes: usize, run: usize) -> impl Iterator<Item = Tile> {
    DIVISIONS.into_iter().filter_map(move |division| {
        let large = division.0 == LARGE.0 && run == 1 && !matrices.split;
        tile(matrices, bytes, if large { LARGE } else { division }, depths(run))
    })
}

/// The tile of a product of so many rows and columns (slices apart), as [`tiles::plan`] has it in f32; on units for small
/// matrices where the adapter was opened for them and has shared memory for a tile.
pub fn plan(gpu: &Gpu, rows: usize, columns: usize, slices: usize, run: usize) -> Tile {
    let coop = gpu
        .matrices()
        .and_then(|matrices| pick(candidates(matrices, gpu.shared_bytes(), run).collect(), rows, columns, slices));
    coop.unwrap_or_else(|| tiles::plan(gpu, rows, columns, slices, run))
}

/// The same for a product whose factors lie along k, as [`tiles::dot_plan`] has it in f32.
pub fn dot_plan(gpu: &Gpu, rows: usize, columns: usize, run: usize) -> Tile {
    let coop = gpu.matrices().and_then(|matrices| dot_tile(matrices, gpu.shared_bytes(), rows, columns, run));
    coop.unwrap_or_else(|| tiles::dot_plan(rows, columns, run))
}

fn dot_tile(matrices: Matrices, bytes: usize, rows: usize, columns: usize, run: usize) -> Option<Tile> {
    let [bm, wm] = match rows {
        0..=16 => [16, 1],
        17..=32 => [32, 1],
        _ => [64, 2],
    };
    // Columns, and subgroups below each other and side by side.
    let sides: &[(usize, [usize; 2])] = match run {
        5 => &[(80, [1, 5])],
        _ => &[(144, [wm, 3]), (96, [wm, 3]), (48, [wm, 3])],
    };
    let fitting = sides.iter().filter_map(|&(bn, subgroups)| tile(matrices, bytes, ([bm, bn], subgroups), &[32, 16]));
    // The one with the fewest columns to spare, and of those the widest.
    fitting.min_by_key(|tile| columns.next_multiple_of(tile.columns()))
}

/// Every tile that [`plan`] may choose.
pub fn all_tiles(gpu: &Gpu, run: usize) -> Vec<Tile> {
    match gpu.matrices() {
        Some(matrices) => candidates(matrices, gpu.shared_bytes(), run).collect(),
        None => tiles::all_tiles(gpu.shared_bytes(), run),
    }
}

/// Every tile that [`dot_plan`] may choose.
pub fn all_dot_tiles(gpu: &Gpu, run: usize) -> Vec<Tile> {
    match gpu.matrices() {
        Some(matrices) => dot_candidates(matrices, gpu.shared_bytes(), run),
        None => tiles::all_dot_tiles(run),
    }
}

fn dot_candidates(matrices: Matrices, bytes: usize, run: usize) -> Vec<Tile> {
    let sizes = [16, 32, 64].into_iter().flat_map(|rows| [48, 96, 144].map(|columns| [rows, columns]));
    let mut tiles: Vec<Tile> =
        sizes.filter_map(|[rows, columns]| dot_tile(matrices, bytes, rows, columns, run)).collect();
    tiles.dedup();
    tiles
}

/// The twins of a family in f32, for every tile that may be chosen for it on an adapter with so much shared memory.
pub fn twins(
    family: &'static Family,
    run: usize,
    more: &[(&'static str, u32)],
    matrices: Matrices,
    bytes: usize,
) -> Vec<&'static Kernel> {
    let tiles = match family.skeleton() == GEMM_DOT {
        true => dot_candidates(matrices, bytes, run),
        false => candidates(matrices, bytes, run).collect(),
    };
    tiles.into_iter().map(|tile| tile.kernel(family, more)).collect()
}

/// The kernel of a family in f32 for this tile.
pub fn kernel(
    family: &Family,
    label: impl FnOnce() -> String,
    [bm, bn, bk]: [usize; 3],
    fragments: Fragments,
    more: &[(&'static str, u32)],
) -> &'static Kernel {
    let Fragments { subgroups: [wm, wn], staged, matrices: Matrices { split, emulated } } = fragments;
    let skeleton = match family.skeleton() {
        GEMM_TILE => TILES[usize::from(emulated)],
        GEMM_DOT => DOTS[usize::from(emulated)],
        _ => panic!("bug: a family on another skeleton has no twin"),
    };
    let sizes = [("BM", bm), ("BN", bn), ("BK", bk), ("WM", wm), ("WN", wn), ("STAGED", staged)];
    let mut constants = [("SPLIT", u32::from(split)); 10];
    for (slot, (name, size)) in constants[1..].iter_mut().zip(sizes) {
        *slot = (name, size as u32);
    }
    let n = 1 + sizes.len();
    constants[n..n + more.len()].copy_from_slice(more);
    family.kernel_on(skeleton, label, &constants[..n + more.len()])
}

impl Fragments {
    /// Behind the sizes of a tile.
    pub fn label(&self) -> &'static str {
        if self.matrices.split { " split" } else { " mixed" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: Matrices = Matrices { split: false, emulated: false };
    const SPLIT: Matrices = Matrices { split: true, emulated: false };

    /// Layers of ResNets at batch 128 and what was quickest for them on an H100 (2026-11-26).
    #[test]
    fn plans_are_those_that_were_measured() {
        let planned = |rows, columns, run| {
            let tile = pick(candidates(MIXED, 48 << 10, run).collect(), rows, columns, 1).unwrap();
            tile.label()
        };
        for (rows, columns, run, expected) in [
            (64, 131_072, 3, "64x64x48 mixed"),
            (128, 32_768, 3, "128x128x48 mixed"),
            (256, 8192, 3, "128x128x48 mixed"),
            (512, 2048, 3, "64x64x48 mixed"),
            (32, 32_768, 3, "32x128x48 mixed"),
            (16, 131_072, 3, "16x128x48 mixed"),
            (4096, 4096, 1, "128x128x32 mixed"),
        ] {
            assert_eq!(planned(rows, columns, run), expected, "{rows} × {columns}");
        }
        assert_eq!(dot_tile(MIXED, 48 << 10, 64, 576, 3).unwrap().label(), "64x144x32 mixed");
        assert_eq!(dot_tile(MIXED, 48 << 10, 128, 64, 1).unwrap().label(), "64x96x32 mixed");
    }

    /// An adapter with the usual shared memory has a tile for whatever comes.
    #[test]
    fn every_shape_has_a_tile() {
        for (matrices, bytes) in [(MIXED, 32 << 10), (MIXED, 48 << 10), (SPLIT, 48 << 10)] {
            for run in [1, 3, 5] {
                for rows in [1, 16, 17, 33, 65, 1000] {
                    for columns in [1, 100, 10_000, 1_000_000] {
                        let tiles = candidates(matrices, bytes, run).collect();
                        assert!(pick(tiles, rows, columns, 1).is_some(), "{matrices:?} {run} {rows}×{columns}");
                        assert!(dot_tile(matrices, bytes, rows, columns, run).is_some());
                    }
                }
            }
        }
    }
}
