//! The matrix products of the GPU: which skeleton and which tile a product gets, and how its operands are laid out.
//! Twins: `shaders/gemm_8x8.wgsl`, `gemm_shared.wgsl`, `pack.wgsl`.

use crate::device::{Array, DType, Gpu, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::Result;

/// The skeleton for software adapters: registers only, a packed operand.
pub const GEMM_8X8: &str = include_str!("../../shaders/gemm_8x8.wgsl");
/// Rows and columns of its tile.
pub const TILE: usize = 8;
/// The skeleton for hardware: tiles in shared memory, operands read where they lie.
pub const GEMM_SHARED: &str = include_str!("../../shaders/gemm_shared.wgsl");

/// Rows and columns of the tiles of [`GEMM_SHARED`].
const SHARED_TILES: [[usize; 2]; 4] = [[16, 256], [32, 128], [64, 64], [128, 128]];
/// Workgroups that keep a large GPU busy: with fewer, the largest tile gives way to smaller ones.
const ENOUGH_GROUPS: usize = 256;

/// The names of the kernels of [`shared`].
macro_rules! shared_names {
    ($name:literal) => {
        [concat!($name, "_16x256"), concat!($name, "_32x128"), concat!($name, "_64x64"), concat!($name, "_128x128")]
    };
}
pub(super) use shared_names;

/// One kernel per tile of the skeleton in shared memory, in the order of [`SHARED_TILES`].
pub const fn shared(names: [&'static str; 4], source: &'static [&'static str], bindings: &'static str) -> [Kernel; 4] {
    const fn tile(
        name: &'static str,
        source: &'static [&'static str],
        bindings: &'static str,
        constants: &'static [(&'static str, f64)],
    ) -> Kernel {
        Kernel { name, source, entry: "multiply", bindings, workgroup: Workgroup::Own, constants }
    }
    [
        tile(names[0], source, bindings, &[("WG_X", 32.0), ("WG_Y", 2.0)]),
        tile(names[1], source, bindings, &[("WG_X", 16.0), ("WG_Y", 4.0)]),
        tile(names[2], source, bindings, &[("WG_X", 8.0), ("WG_Y", 8.0)]),
        tile(names[3], source, bindings, &[("WG_X", 16.0), ("WG_Y", 16.0)]),
    ]
}

/// A kernel on [`GEMM_8X8`].
pub const fn register(
    name: &'static str,
    source: &'static [&'static str],
    bindings: &'static str,
    constants: &'static [(&'static str, f64)],
) -> Kernel {
    Kernel { name, source, entry: "multiply", bindings, workgroup: Workgroup::Tile, constants }
}

/// The tile in shared memory for a product of so many rows and columns (slices apart), and its grid: no more rows than there
/// are, and a large tile only where there are enough of them.
pub fn shared_tile(rows: usize, columns: usize, slices: usize) -> (usize, Grid) {
    let tile = match rows {
        0..=16 => 0,
        17..=32 => 1,
        33..=64 => 2,
        _ if n_tiles(3, rows, columns).iter().product::<usize>() * slices < ENOUGH_GROUPS => 2,
        _ => 3,
    };
    let [x, y] = n_tiles(tile, rows, columns);
    (tile, Grid::Tiles { x, y, z: slices })
}

/// The slices that a product over a long depth is cut into, so that a large GPU has work.
pub fn shared_slices(rows: usize, columns: usize) -> usize {
    let (tile, _) = shared_tile(rows, columns, 1);
    (4 * ENOUGH_GROUPS / n_tiles(tile, rows, columns).iter().product::<usize>()).clamp(1, 128)
}

/// Columns and rows of tiles.
fn n_tiles(tile: usize, rows: usize, columns: usize) -> [usize; 2] {
    let [tile_rows, tile_columns] = SHARED_TILES[tile];
    [columns.div_ceil(tile_columns), rows.div_ceil(tile_rows)]
}

/// The grid of the skeleton in registers.
pub fn register_grid(rows: usize, column_groups: usize, z: usize) -> Grid {
    Grid::Invocations3 { x: column_groups, y: rows.div_ceil(TILE), z }
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
