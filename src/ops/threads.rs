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

/// Σ x in f64, in eight lanes that are added at the end: one lane alone would wait for each addition.
pub fn sum_f64(x: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let chunks = x.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|&x| f64::from(x)).sum();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(x);
        }
    }
    lanes.iter().sum::<f64>() + rest
}
