//! Transposing, in registers where the processor has AVX-512.

/// Rows and columns of a block that is transposed at once.
const BLOCK: usize = 16;

/// to[j, i] = from[i, j] for i < rows and j < columns; a step leads from row to row of either. In blocks, so that neither
/// side strays through memory.
pub fn transpose(rows: usize, columns: usize, from: &[f32], from_step: usize, to: &mut [f32], to_step: usize) {
    put::<false>(rows, columns, from, from_step, to, to_step);
}

/// The same, added to what is there.
pub fn add_transposed(rows: usize, columns: usize, from: &[f32], from_step: usize, to: &mut [f32], to_step: usize) {
    put::<true>(rows, columns, from, from_step, to, to_step);
}

fn put<const ADD: bool>(rows: usize, columns: usize, from: &[f32], from_step: usize, to: &mut [f32], to_step: usize) {
    if rows == 0 || columns == 0 {
        return;
    }
    let (from_end, to_end) = ((rows - 1) * from_step + columns, (columns - 1) * to_step + rows);
    assert!(from_end <= from.len() && to_end <= to.len(), "bug: a matrix is too short to be transposed");
    #[cfg(target_arch = "x86_64")]
    let has_avx512 = std::arch::is_x86_feature_detected!("avx512f");
    for i in (0..rows).step_by(BLOCK) {
        let height = (rows - i).min(BLOCK);
        for j in (0..columns).step_by(BLOCK) {
            let width = (columns - j).min(BLOCK);
            let (from, to) = (&from[i * from_step + j..], &mut to[j * to_step + i..]);
            #[cfg(target_arch = "x86_64")]
            if has_avx512 {
                // SAFETY: the processor has AVX-512, and the assertion bounds both blocks.
                unsafe { avx512::put_block::<ADD>(height, width, from, from_step, to, to_step) };
                continue;
            }
            for j in 0..width {
                for (to, from) in to[j * to_step..][..height].iter_mut().zip(from[j..].iter().step_by(from_step)) {
                    *to = if ADD { *to + *from } else { *from };
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::BLOCK;
    use std::arch::x86_64::*;

    /// Neighbouring rows are interleaved by one number, then pairs of them by two, then by four, then by eight.
    ///
    /// # Safety
    /// AVX-512 must be there; `from` must hold `height` ≤ 16 rows of `width` ≤ 16 numbers, and `to` their transpose.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn put_block<const ADD: bool>(
        height: usize,
        width: usize,
        from: &[f32],
        from_step: usize,
        to: &mut [f32],
        to_step: usize,
    ) {
        // The lanes of row i of a block that is `n` high and has rows of this length.
        let lanes =
            |i: usize, n: usize, length: usize| if i < n { (0xffff >> (BLOCK - length)) as __mmask16 } else { 0 };
        let mut rows = [_mm512_setzero_ps(); BLOCK];
        for (i, row) in rows.iter_mut().enumerate() {
            // SAFETY: lanes of missing rows and columns are not touched.
            *row = unsafe { _mm512_maskz_loadu_ps(lanes(i, height, width), from.as_ptr().wrapping_add(i * from_step)) };
        }
        let mut ones = rows;
        for i in (0..BLOCK).step_by(2) {
            ones[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
            ones[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
        }
        // Afterwards register 4i + k holds rows 4i to 4i + 3 of the columns k, 4 + k, 8 + k, 12 + k.
        let mut twos = rows;
        for i in (0..BLOCK).step_by(4) {
            for half in 0..2 {
                let (a, b) = (_mm512_castps_pd(ones[i + half]), _mm512_castps_pd(ones[i + half + 2]));
                twos[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                twos[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            }
        }
        let mut columns = rows;
        for k in 0..4 {
            let even = |a, b| _mm512_shuffle_f32x4::<0x88>(a, b);
            let odd = |a, b| _mm512_shuffle_f32x4::<0xdd>(a, b);
            let (upper_even, lower_even) = (even(twos[k], twos[4 + k]), even(twos[8 + k], twos[12 + k]));
            let (upper_odd, lower_odd) = (odd(twos[k], twos[4 + k]), odd(twos[8 + k], twos[12 + k]));
            columns[k] = even(upper_even, lower_even);
            columns[4 + k] = even(upper_odd, lower_odd);
            columns[8 + k] = odd(upper_even, lower_even);
            columns[12 + k] = odd(upper_odd, lower_odd);
        }
        for (j, &column) in columns.iter().enumerate() {
            let (to, lanes) = (to.as_mut_ptr().wrapping_add(j * to_step), lanes(j, width, height));
            // SAFETY: lanes of missing rows and columns are not touched.
            unsafe {
                let sum = if ADD { _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, to), column) } else { column };
                _mm512_mask_storeu_ps(to, lanes, sum);
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{add_transposed, transpose};

    #[test]
    fn every_size_is_transposed_and_nothing_else_touched() {
        for (rows, columns) in [(1, 1), (16, 16), (4, 33), (17, 16), (31, 5), (48, 64)] {
            let (from_step, to_step) = (columns + 3, rows + 2);
            let from: Vec<f32> = (0..rows * from_step).map(|i| i as f32).collect();
            let mut to = vec![-1.0; columns * to_step];
            transpose(rows, columns, &from, from_step, &mut to, to_step);
            for (at, &to) in to.iter().enumerate() {
                let (j, i) = (at / to_step, at % to_step);
                assert_eq!(to, if i < rows { from[i * from_step + j] } else { -1.0 }, "{rows}×{columns} at {i}, {j}");
            }
            let twice: Vec<f32> = to.iter().map(|&to| if to < 0.0 { to } else { 2.0 * to }).collect();
            add_transposed(rows, columns, &from, from_step, &mut to, to_step);
            assert_eq!(to, twice, "{rows}×{columns}, added");
        }
    }
}
