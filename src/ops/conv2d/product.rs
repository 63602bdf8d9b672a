//! The matrix product inside a convolution. Its first factor is never stored: an element of it lies where a row and a
//! column say together, so patches are read in the image they come from. The second is packed in panels.

use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Numbers in a unit of a panel: a register of AVX-512, two of AVX2, four of NEON.
pub const UNIT: usize = 16;
/// Units in a panel at most.
const MAX_UNITS: usize = 4;
/// Depth that is gone through at a time: that much of a panel stays in the cache for all rows.
const DEPTH: usize = 256;

/// Columns of a matrix that lie together: (depth, width), row-major, columns that are too many being zero.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    pub first: usize,
    /// Of the matrix.
    pub columns: usize,
    /// Columns filled up to whole units.
    pub width: usize,
}

impl Panel {
    /// Its columns of the matrix.
    pub fn range(&self) -> Range<usize> {
        self.first..self.first + self.columns
    }
}

/// The panels of a matrix of so many columns, as even as can be.
pub fn panels(columns: usize) -> Vec<Panel> {
    let units = columns.div_ceil(UNIT);
    let n = units.div_ceil(MAX_UNITS);
    let starts: Vec<usize> = (0..=n).map(|i| units * i / n * UNIT).collect();
    let panel =
        |ends: &[usize]| Panel { first: ends[0], columns: ends[1].min(columns) - ends[0], width: ends[1] - ends[0] };
    starts.windows(2).map(panel).collect()
}

/// Each panel of a matrix of this depth, with its part of `data`.
pub fn split<'a>(panels: &[Panel], depth: usize, mut data: &'a mut [f32]) -> Vec<(Panel, &'a mut [f32])> {
    let mut parts = Vec::new();
    for &panel in panels {
        let (part, rest) = data.split_at_mut(depth * panel.width);
        parts.push((panel, part));
        data = rest;
    }
    parts
}

/// y[m, ·] ← Σ_d a[rows[m] + depth[d]] · b[d, ·], or y ← y + that if `accumulate`. Shapes: b (D, width), y (M, width).
///
/// Every element is one sum in the order of d, whatever stands beside it.
pub struct Product<'a> {
    pub a: &'a [f32],
    pub rows: &'a [u32],
    /// Rows come in runs of so many neighbours: rows[m + 1] = rows[m] + 1 inside a run.
    pub run: usize,
    pub depth: &'a [u32],
    pub b: &'a [f32],
    pub width: usize,
    pub y: &'a mut [f32],
    pub accumulate: bool,
}

impl Product<'_> {
    /// Computes it on the calling thread, with the registers that the processor has.
    pub fn run(self) {
        self.check();
        pulp::Arch::new().dispatch(self);
    }

    fn check(&self) {
        let &Product { a, rows, run, depth, b, width, .. } = self;
        let last = |offsets: &[u32]| offsets.iter().max().map_or(0, |&offset| offset as usize);
        let reads_inside = rows.is_empty() || depth.is_empty() || last(rows) + last(depth) < a.len();
        let is_run = |run: &[u32]| run.iter().zip(run[0]..).all(|(&row, next)| row == next);
        let whole_runs = rows.len().is_multiple_of(run) && rows.chunks(run).all(is_run);
        let fits = b.len() >= depth.len() * width && self.y.len() >= rows.len() * width && width.is_multiple_of(UNIT);
        assert!(reads_inside && whole_runs && fits, "bug: the parts of a product do not fit together");
    }

    /// Tiles of RUNS runs of RUN rows by C registers: blocks of depth outside, so that b stays in the cache; then tiles of
    /// rows.
    #[inline(always)]
    fn tiles<S: Simd, const RUNS: usize, const RUN: usize, const C: usize>(self, simd: S) {
        let Product { a, rows, depth, b, width, y, accumulate, .. } = self;
        if depth.is_empty() && !accumulate {
            y[..rows.len() * width].fill(0.0);
        }
        for column in (0..width).step_by(C * S::F32_LANES) {
            for (block, depth) in depth.chunks(DEPTH).enumerate() {
                let b = &b[block * DEPTH * width + column..];
                for (tile, rows) in rows.chunks(RUNS * RUN).enumerate() {
                    let y = &mut y[tile * RUNS * RUN * width + column..];
                    // SAFETY: `check` has found that the largest offsets stay inside a, and that b and y hold whole rows of
                    // `width` for every d and every row; column + C · lanes ≤ width because all widths are whole units. Where RUN
                    // is more than 1, it is the length of the runs, which the number of rows is a multiple of.
                    unsafe { tile_of::<S, RUNS, RUN, C>(simd, a, rows, depth, b, width, y, accumulate || block > 0) }
                }
            }
        }
    }
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many sums as registers allow, beside those for b and for an element of a. A run needs one address only; with
        // few columns there are more rows than registers for addresses.
        match (S::F32_LANES, self.width / UNIT, self.run) {
            (16, 4, _) => self.tiles::<S, 6, 1, 4>(simd),
            (16, 3, _) => self.tiles::<S, 8, 1, 3>(simd),
            (16, 2, _) => self.tiles::<S, 8, 1, 2>(simd),
            (16, _, 4) => self.tiles::<S, 6, 4, 1>(simd),
            (16, _, 3) => self.tiles::<S, 8, 3, 1>(simd),
            (16, ..) => self.tiles::<S, 8, 1, 1>(simd),
            (8, ..) => self.tiles::<S, 6, 1, 2>(simd),
            (4, ..) => self.tiles::<S, 6, 1, 4>(simd),
            _ => self.tiles::<S, 1, 1, UNIT>(simd),
        }
    }
}

/// The longest run that neighbours along an axis come in, of those that tiles are made for.
pub fn run_along(n: usize) -> usize {
    [4, 3].into_iter().find(|&run| n.is_multiple_of(run)).unwrap_or(1)
}

/// A tile of y: the sum over d of a column of a times C registers of b. Runs that are missing repeat the last one.
///
/// # Safety
/// The number of rows must be a multiple of RUN, and rows must come in runs of that length; rows[r] + depth[d] must lie
/// inside a; b must hold C registers at each d · width, and y at each r · width.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tile_of<S: Simd, const RUNS: usize, const RUN: usize, const C: usize>(
    simd: S,
    a: &[f32],
    rows: &[u32],
    depth: &[u32],
    b: &[f32],
    width: usize,
    y: &mut [f32],
    accumulate: bool,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let n_runs = rows.len() / RUN;
        // Of a run, only the first address is kept.
        let mut starts = [a.as_ptr(); RUNS];
        for (run, start) in starts.iter_mut().enumerate() {
            *start = a.as_ptr().add(rows[run.min(n_runs - 1) * RUN] as usize);
        }
        // Runs within runs: one loop over all rows is not written out by the compiler, and its sums then lie in memory.
        let mut sums = [[[simd.splat_f32s(0.0); C]; RUN]; RUNS];
        if accumulate {
            for (run, sums) in sums.iter_mut().enumerate() {
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (c, sum) in sums.iter_mut().enumerate() {
                        *sum = load(y.as_ptr().add((run.min(n_runs - 1) * RUN + i) * width + c * S::F32_LANES));
                    }
                }
            }
        }
        let mut b = b.as_ptr();
        for &offset in depth {
            let mut registers = [simd.splat_f32s(0.0); C];
            for (c, register) in registers.iter_mut().enumerate() {
                *register = load(b.add(c * S::F32_LANES));
            }
            for (start, sums) in starts.iter().zip(&mut sums) {
                for (i, sums) in sums.iter_mut().enumerate() {
                    let a = simd.splat_f32s(*start.add(offset as usize + i));
                    for (sum, &b) in sums.iter_mut().zip(&registers) {
                        *sum = simd.mul_add_e_f32s(a, b, *sum);
                    }
                }
            }
            b = b.add(width);
        }
        for (run, sums) in sums.iter().enumerate().take(n_runs) {
            for (i, sums) in sums.iter().enumerate() {
                for (c, &sum) in sums.iter().enumerate() {
                    store(y.as_mut_ptr().add((run * RUN + i) * width + c * S::F32_LANES), sum);
                }
            }
        }
    }
}

/// # Safety
/// A whole register must lie there.
#[inline(always)]
pub unsafe fn load<T: Copy>(from: *const f32) -> T {
    // SAFETY: as the caller promises.
    unsafe { from.cast::<T>().read_unaligned() }
}

/// # Safety
/// There must be room for a whole register.
#[inline(always)]
pub unsafe fn store<T: Copy>(to: *mut f32, register: T) {
    // SAFETY: as the caller promises.
    unsafe { to.cast::<T>().write_unaligned(register) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product with whole and broken tiles, runs and blocks of depth, on these vector units.
    fn is_right<S: Simd>(simd: S, width: usize, run: usize) {
        let value = |i: usize| ((i * 7919 + 13) % 101) as f32 / 50.0 - 1.0;
        let rows: Vec<u32> = (0..36).map(|m| m / run as u32 * 40 + m % run as u32).collect();
        let depth: Vec<u32> = (0..300).map(|d| d * 7 % 64).collect();
        let a: Vec<f32> = (0..36 * 40 + 64).map(value).collect();
        let b: Vec<f32> = (0..300 * width).map(|i| value(i + 5)).collect();
        for accumulate in [false, true] {
            let mut y = vec![0.5; rows.len() * width];
            let (a, rows, depth, b, y_mut) = (&a[..], &rows[..], &depth[..], &b[..], &mut y[..]);
            let product = Product { a, rows, run, depth, b, width, y: y_mut, accumulate };
            product.check();
            simd.vectorize(product);
            for (at, y) in y.iter().enumerate() {
                let (m, n) = (at / width, at % width);
                let terms =
                    depth.iter().enumerate().map(|(d, &offset)| a[(rows[m] + offset) as usize] * b[d * width + n]);
                let expected = terms.sum::<f32>() + if accumulate { 0.5 } else { 0.0 };
                assert!((y - expected).abs() <= 1e-4, "width {width}, run {run}: {y} instead of {expected}");
            }
        }
    }

    fn is_right_everywhere<S: Simd>(simd: S) {
        for width in [16, 32, 48, 64] {
            for run in [1, 3, 4] {
                is_right(simd, width, run);
            }
        }
    }

    #[test]
    fn all_vector_units_agree_with_the_sum() {
        is_right_everywhere(pulp::Scalar);
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            is_right_everywhere(simd);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V4::try_new() {
            is_right_everywhere(simd);
        }
    }

    #[test]
    fn panels_are_even_and_cover_all_columns() {
        for (columns, widths) in [(5, vec![16]), (64, vec![64]), (65, vec![32, 48]), (160, vec![48, 48, 64])] {
            let panels = panels(columns);
            assert_eq!(panels.iter().map(|panel| panel.width).collect::<Vec<_>>(), widths);
            assert_eq!(panels.iter().map(|panel| panel.columns).sum::<usize>(), columns);
        }
    }
}
