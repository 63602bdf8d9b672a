//! The matrix product of the CPU, on the calling thread.
//!
//! Every element of the result is added up in the same order wherever it stands, so a sample's result does not depend on the
//! batch around it. Where the processor has AVX-512 two register-tiled kernels of our own do the work, which read operands where
//! they lie. Elsewhere, and for the one layout that neither kernel reads well, the `gemm` crate does it.

/// The most products that the `gemm` crate adds up in one go, whatever the other sizes.
const CRATE_DEPTH: usize = 512;
/// Up to so many elements it may take a kernel that adds up in lanes.
const CRATE_FEW: usize = 256;

/// A matrix in a slice: steps from row to row and from column to column.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub column: usize,
}

impl Matrix<'_> {
    fn covers(&self, rows: usize, columns: usize) -> bool {
        (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }

    /// Its elements row by row, rows `width` apart, and zeros up to a length.
    fn copied(&self, rows: usize, columns: usize, len: usize, width: usize) -> Vec<f32> {
        let mut copy = vec![0.0; len];
        for (row, copy) in copy.chunks_exact_mut(width).take(rows).enumerate() {
            for (column, copy) in copy.iter_mut().take(columns).enumerate() {
                *copy = self.data[row * self.row + column * self.column];
            }
        }
        copy
    }
}

/// y (m, n), row-major: y ← a · b, or y ← y + a · b if `accumulate`. Shapes: a (m, k), b (k, n).
pub fn gemm_rows(m: usize, k: usize, n: usize, a: Matrix, b: Matrix, y: &mut [f32], accumulate: bool) {
    let fits = m > 0 && k > 0 && n > 0 && a.covers(m, k) && b.covers(k, n) && y.len() >= m * n;
    assert!(fits, "bug: a matrix of a product is too short");
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        if b.column == 1 {
            // SAFETY: the processor has AVX-512, and the assertion bounds every index the kernel forms.
            return unsafe { avx512::multiply_rows(m, k, n, a, b, y, accumulate) };
        }
        // A column of a stored matrix goes where more columns of it do, even if it is the only one.
        if b.row == 1 && a.column == 1 && a.row >= k {
            // SAFETY: as above.
            return unsafe { avx512::multiply_dots(m, k, n, a, b, y, accumulate) };
        }
    }
    by_crate(m, k, n, a, b, y, accumulate);
}

/// By the `gemm` crate, kept from what makes an element's sum depend on the number of rows: depths cut by all sizes at once, and
/// other orders for single rows, single columns and few elements.
fn by_crate(m: usize, k: usize, n: usize, a: Matrix, b: Matrix, y: &mut [f32], accumulate: bool) {
    let (rows, columns) = (m.max(2), n.max(2));
    let few = (a.column == 1 || m == 1) && b.row == 1 && rows * columns <= CRATE_FEW;
    if m > 1 && n > 1 && !few {
        return blocks_by_crate(m, k, n, a, b, y, accumulate);
    }
    let (two_rows, by_row);
    let a = match m {
        1 => {
            two_rows = a.copied(1, k, 2 * k, k);
            Matrix { data: &two_rows, row: k, column: 1 }
        }
        _ => a,
    };
    let b = match few || n == 1 {
        true => {
            by_row = b.copied(k, n, k * columns, columns);
            Matrix { data: &by_row, row: columns, column: 1 }
        }
        false => b,
    };
    let own = Matrix { data: y, row: n, column: 1 };
    let mut sums = if accumulate { own.copied(m, n, rows * columns, columns) } else { vec![0.0; rows * columns] };
    blocks_by_crate(rows, k, columns, a, b, &mut sums, accumulate);
    for (y, sums) in y[..m * n].chunks_exact_mut(n).zip(sums.chunks_exact(columns)) {
        y.copy_from_slice(&sums[..n]);
    }
}

fn blocks_by_crate(m: usize, k: usize, n: usize, a: Matrix, b: Matrix, y: &mut [f32], accumulate: bool) {
    assert!(a.covers(m, k) && b.covers(k, n) && y.len() >= m * n, "bug: a matrix of a product is too short");
    for first in (0..k).step_by(CRATE_DEPTH) {
        // SAFETY: the assertion bounds every index that the strides can form in a, b and y, and y is borrowed mutably, so it
        // overlaps neither.
        unsafe {
            gemm::gemm(
                m,
                n,
                (k - first).min(CRATE_DEPTH),
                y.as_mut_ptr(),
                1,
                n as isize,
                accumulate || first > 0,
                a.data.as_ptr().add(first * a.column),
                a.column as isize,
                a.row as isize,
                b.data.as_ptr().add(first * b.row),
                b.column as isize,
                b.row as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::Matrix;
    use std::arch::x86_64::*;

    /// Floats in a register.
    const LANES: usize = 16;
    /// Rows and registers of columns of the tile of `multiply_rows`: 24 accumulators of the 32 registers.
    const ROWS: usize = 8;
    const COLUMNS: usize = 3;
    /// Rows of b that a tile goes through at a time: they stay in the first cache for all rows of a.
    const DEPTH: usize = 256;
    /// Rows and columns of the tile of `multiply_dots`.
    const DOT_ROWS: usize = 4;
    const DOT_COLUMNS: usize = 4;

    /// The lanes below `n`.
    fn mask(n: usize) -> __mmask16 {
        if n >= LANES { !0 } else { (1 << n) - 1 }
    }

    /// For b with rows that lie in one piece: a tile of y is the sum over k of a column of a times a row of b.
    ///
    /// # Safety
    /// AVX-512 must be there, and all indices inside the matrices' sizes must lie inside their slices.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn multiply_rows(m: usize, k: usize, n: usize, a: Matrix, b: Matrix, y: &mut [f32], accumulate: bool) {
        // Tiles of equal width, as far as whole registers allow.
        let step = n.div_ceil(n.div_ceil(COLUMNS * LANES)).next_multiple_of(LANES);
        for column in (0..n).step_by(step) {
            let width = (n - column).min(step);
            for first in (0..k).step_by(DEPTH) {
                for row in (0..m).step_by(ROWS) {
                    // SAFETY: row, first and column lie inside the matrices, and so does the tile.
                    unsafe {
                        let tile = Tile {
                            a: a.data.as_ptr().add(row * a.row + first * a.column),
                            a_row: a.row,
                            a_depth: a.column,
                            b: b.data.as_ptr().add(first * b.row + column),
                            b_depth: b.row,
                            y: y.as_mut_ptr().add(row * n + column),
                            y_row: n,
                            depth: (k - first).min(DEPTH),
                            width,
                            accumulate: accumulate || first > 0,
                        };
                        match (m - row).min(ROWS) {
                            8 => tile.rows::<8>(),
                            7 => tile.rows::<7>(),
                            6 => tile.rows::<6>(),
                            5 => tile.rows::<5>(),
                            4 => tile.rows::<4>(),
                            3 => tile.rows::<3>(),
                            2 => tile.rows::<2>(),
                            _ => tile.rows::<1>(),
                        }
                    }
                }
            }
        }
    }

    struct Tile {
        a: *const f32,
        a_row: usize,
        a_depth: usize,
        b: *const f32,
        b_depth: usize,
        y: *mut f32,
        y_row: usize,
        depth: usize,
        width: usize,
        accumulate: bool,
    }

    impl Tile {
        #[inline]
        #[target_feature(enable = "avx512f")]
        unsafe fn rows<const R: usize>(&self) {
            // SAFETY: as for the caller.
            unsafe {
                match self.width.div_ceil(LANES) {
                    3 => self.multiply::<R, 3>(),
                    2 => self.multiply::<R, 2>(),
                    _ => self.multiply::<R, 1>(),
                }
            }
        }

        /// R rows by C registers, the last of which may be partly used.
        #[inline]
        #[target_feature(enable = "avx512f")]
        unsafe fn multiply<const R: usize, const C: usize>(&self) {
            let last = mask(self.width - (C - 1) * LANES);
            let lanes = |c: usize| if c + 1 == C { last } else { !0 };
            let mut sums = [[_mm512_setzero_ps(); C]; R];
            // SAFETY: masked lanes are not touched, all others lie inside the matrices.
            unsafe {
                for d in 0..self.depth {
                    let mut b = [_mm512_setzero_ps(); C];
                    for (c, b) in b.iter_mut().enumerate() {
                        *b = _mm512_maskz_loadu_ps(lanes(c), self.b.add(d * self.b_depth + c * LANES));
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let a = _mm512_set1_ps(*self.a.add(r * self.a_row + d * self.a_depth));
                        for (sum, b) in sums.iter_mut().zip(b) {
                            *sum = _mm512_fmadd_ps(a, b, *sum);
                        }
                    }
                }
                for (r, sums) in sums.iter().enumerate() {
                    for (c, &sum) in sums.iter().enumerate() {
                        let y = self.y.add(r * self.y_row + c * LANES);
                        let before =
                            if self.accumulate { _mm512_maskz_loadu_ps(lanes(c), y) } else { _mm512_setzero_ps() };
                        _mm512_mask_storeu_ps(y, lanes(c), _mm512_add_ps(before, sum));
                    }
                }
            }
        }
    }

    /// For rows of a and columns of b that lie in one piece: every element of y is a dot product, in sixteen lanes that are
    /// added at the end.
    ///
    /// # Safety
    /// As for `multiply_rows`.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn multiply_dots(m: usize, k: usize, n: usize, a: Matrix, b: Matrix, y: &mut [f32], accumulate: bool) {
        for row in (0..m).step_by(DOT_ROWS) {
            for column in (0..n).step_by(DOT_COLUMNS) {
                // Surplus rows and columns compute a copy of the last one, which is not stored.
                let a_rows: [*const f32; DOT_ROWS] =
                    std::array::from_fn(|r| unsafe { a.data.as_ptr().add((row + r).min(m - 1) * a.row) });
                let b_columns: [*const f32; DOT_COLUMNS] =
                    std::array::from_fn(|c| unsafe { b.data.as_ptr().add((column + c).min(n - 1) * b.column) });
                let mut sums = [[_mm512_setzero_ps(); DOT_COLUMNS]; DOT_ROWS];
                for d in (0..k).step_by(LANES) {
                    let lanes = mask(k - d);
                    // SAFETY: masked lanes are not touched, all others lie inside the matrices.
                    let (a, b) = unsafe {
                        (
                            a_rows.map(|row| _mm512_maskz_loadu_ps(lanes, row.add(d))),
                            b_columns.map(|column| _mm512_maskz_loadu_ps(lanes, column.add(d))),
                        )
                    };
                    for (sums, a) in sums.iter_mut().zip(a) {
                        for (sum, b) in sums.iter_mut().zip(b) {
                            *sum = _mm512_fmadd_ps(a, b, *sum);
                        }
                    }
                }
                for (r, sums) in sums.iter().enumerate().take(m - row) {
                    for (c, &sum) in sums.iter().enumerate().take(n - column) {
                        let y = &mut y[(row + r) * n + column + c];
                        let sum = _mm512_reduce_add_ps(sum);
                        *y = if accumulate { *y + sum } else { sum };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the kernels of this processor, and with the crate's where those are not taken.
    #[test]
    fn a_row_alone_has_the_bits_that_it_has_among_others() {
        let value = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 500.0 - 1.0;
        for (m, k, n) in
            [(20, 5, 1), (20, 700, 1), (20, 700, 2), (30, 70, 10), (70, 1100, 10), (3, 33, 300), (5, 600, 129)]
        {
            let a: Vec<f32> = (0..m * k).map(value).collect();
            let b: Vec<f32> = (0..k * n).map(|i| value(i + 5)).collect();
            for (a_row, a_column) in [(k, 1), (1, m)] {
                for (b_row, b_column) in [(n, 1), (1, k)] {
                    let b = Matrix { data: &b, row: b_row, column: b_column };
                    for product in [gemm_rows, by_crate] {
                        let from = |first: usize, rows: usize, accumulate| {
                            let a = Matrix { data: &a[first * a_row..], row: a_row, column: a_column };
                            let mut y = vec![0.1; rows * n];
                            product(rows, k, n, a, b, &mut y, accumulate);
                            y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                        };
                        for accumulate in [false, true] {
                            let whole = from(0, m, accumulate);
                            if a_row == 1 {
                                // A row that is the only column of what is stored.
                                let only: Vec<f32> = (0..k).map(|d| a[d * m]).collect();
                                let mut y = vec![0.1; n];
                                product(1, k, n, Matrix { data: &only, row: 1, column: 1 }, b, &mut y, accumulate);
                                let y: Vec<u32> = y.into_iter().map(f32::to_bits).collect();
                                assert!(y == whole[..n], "a column of {k} in {m}×{k}×{n}, strides {b_row} {b_column}");
                            }
                            for (first, rows) in [(0, 1), (m - 1, 1), (1, 2), (0, m - 1)] {
                                let same = from(first, rows, accumulate) == whole[first * n..(first + rows) * n];
                                assert!(same, "{rows} of {m}×{k}×{n}, strides {a_row} {a_column}, {b_row} {b_column}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_layout_and_edge_size_is_right() {
        let value = |i: usize| ((i * 7919 + 13) % 101) as f32 / 50.0 - 1.0;
        for (m, k, n) in [(1, 1, 1), (3, 5, 17), (8, 16, 48), (9, 33, 49), (13, 7, 100), (5, 40, 3)] {
            let a: Vec<f32> = (0..m * k).map(value).collect();
            let b: Vec<f32> = (0..k * n).map(|i| value(i + 5)).collect();
            for (a_row, a_column) in [(k, 1), (1, m)] {
                for (b_row, b_column) in [(n, 1), (1, k)] {
                    for accumulate in [false, true] {
                        let mut y = vec![0.5; m * n];
                        let a = Matrix { data: &a, row: a_row, column: a_column };
                        let b = Matrix { data: &b, row: b_row, column: b_column };
                        gemm_rows(m, k, n, a, b, &mut y, accumulate);
                        for (at, y) in y.iter().enumerate() {
                            let (i, j) = (at / n, at % n);
                            let terms =
                                (0..k).map(|d| a.data[i * a_row + d * a_column] * b.data[d * b_row + j * b_column]);
                            let expected = terms.sum::<f32>() + if accumulate { 0.5 } else { 0.0 };
                            assert!((y - expected).abs() <= 1e-5 * k as f32, "{m}×{k}×{n}: {y} instead of {expected}");
                        }
                    }
                }
            }
        }
    }
}
