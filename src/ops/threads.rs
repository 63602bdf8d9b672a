//! Splitting CPU loops over threads. Pieces depend on the shape alone, never on the number of threads, so that results
//! are the same bits however many there are.

use rayon::prelude::*;

/// Elements per piece of an elementwise loop.
pub const CHUNK: usize = 1 << 14;

/// Calls `f(index of the first row, rows)` for pieces of whole rows of `data`.
pub fn for_rows(data: &mut [f32], row: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let rows_per_piece = CHUNK.div_ceil(row).max(1);
    if data.len() <= CHUNK {
        return f(0, data);
    }
    data.par_chunks_mut(rows_per_piece * row).enumerate().for_each(|(piece, rows)| f(piece * rows_per_piece, rows));
}

/// Σ f(element) in f64: pieces of fixed size, added in order.
pub fn sum_f64(n: usize, f: impl Fn(usize) -> f64 + Sync) -> f64 {
    let pieces: Vec<f64> = (0..n.div_ceil(CHUNK))
        .into_par_iter()
        .map(|piece| (piece * CHUNK..((piece + 1) * CHUNK).min(n)).map(&f).sum())
        .collect();
    pieces.iter().sum()
}
