//! Convolution on the CPU: the patches of one image as a matrix (im2col), and a matrix product.
//!
//! Images are independent, so threads take images; sums over images run in pieces of fixed size.

use super::Sizes;
use crate::ops::gemm::{Matrix, gemm_rows};
use rayon::prelude::*;
use std::cell::RefCell;

/// Pieces that a weight gradient is summed in, at most.
const MAX_PIECES: usize = 8;

/// Floats that are copied at once. Copies overrun the end of a row by less than this; the next row covers that.
const BLOCK: usize = 16;

/// What a thread needs to work on one image; kept, because fresh memory of this size costs a page fault per 4 KiB.
#[derive(Default)]
struct Scratch {
    /// (CKK, PQ), and a block more.
    patches: Vec<f32>,
    /// (C, H + 2·padding, W + 2·padding), and a block more.
    padded: Vec<f32>,
    /// (O, P, Q filled up to whole blocks).
    rows: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn with_scratch<R>(sizes: &Sizes, f: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        let n = sizes.patch() * sizes.p * sizes.q + BLOCK;
        scratch.patches.resize(n.max(scratch.patches.len()), 0.0);
        f(scratch)
    })
}

/// y\[n\] = w (O, CKK) · patches\[n\] (CKK, PQ) + b
pub fn forward(sizes: &Sizes, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let (patch, pq) = (sizes.patch(), sizes.p * sizes.q);
    let weight = Matrix { data: weight, row: patch, column: 1 };
    y.par_chunks_exact_mut(sizes.o * pq).zip(x.par_chunks_exact(sizes.c * sizes.h * sizes.w)).for_each(|(y, x)| {
        if let Some(bias) = bias {
            for (plane, &b) in y.chunks_exact_mut(pq).zip(bias) {
                plane.fill(b);
            }
        }
        with_scratch(sizes, |scratch| {
            gather(sizes, x, scratch);
            let patches = Matrix { data: &scratch.patches, row: pq, column: 1 };
            gemm_rows(sizes.o, patch, pq, weight, patches, y, bias.is_some());
        });
    });
}

/// dx\[n\] = the patches' places added up of wᵀ (CKK, O) · dy\[n\] (O, PQ)
///
/// Rows of dy are filled up with zeros to whole blocks, so that patches are added up in whole blocks too.
pub fn backward_input(sizes: &Sizes, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let Sizes { c, h, w, o, p, q, padding, .. } = *sizes;
    let (patch, row) = (sizes.patch(), q.next_multiple_of(BLOCK));
    let weight = Matrix { data: weight, row: 1, column: patch };
    let padded_w = w + 2 * padding;
    dx.par_chunks_exact_mut(c * h * w).zip(dy.par_chunks_exact(o * p * q)).for_each(|(dx, dy)| {
        SCRATCH.with_borrow_mut(|Scratch { patches, padded, rows }| {
            rows.clear();
            rows.resize(o * p * row, 0.0);
            for (to, from) in rows.chunks_exact_mut(row).zip(dy.chunks_exact(q)) {
                to[..q].copy_from_slice(from);
            }
            patches.resize((patch * p * row).max(patches.len()), 0.0);
            let dy = Matrix { data: rows, row: p * row, column: 1 };
            gemm_rows(patch, o, p * row, weight, dy, patches, false);

            padded.clear();
            padded.resize(c * (h + 2 * padding) * padded_w + row * sizes.stride, 0.0);
            scatter_add(sizes, row, patches, padded);
            for (i, dx) in dx.chunks_exact_mut(w).enumerate() {
                let at = ((i / h) * (h + 2 * padding) + i % h + padding) * padded_w + padding;
                dx.copy_from_slice(&padded[at..at + w]);
            }
        });
    });
}

/// dwᵀ (CKK, O) = Σ_n patches\[n\] (CKK, PQ) · dy\[n\]ᵀ (PQ, O): transposed, because the product wants rows of its second factor
/// in one piece, and dy is much smaller than the patches.
pub fn backward_weight(sizes: &Sizes, dy: &[f32], x: &[f32], dw: &mut [f32]) {
    let (patch, pq, o) = (sizes.patch(), sizes.p * sizes.q, sizes.o);
    let images = sizes.n.div_ceil(MAX_PIECES);
    let pieces: Vec<Vec<f32>> = dy
        .par_chunks(images * o * pq)
        .zip(x.par_chunks(images * sizes.c * sizes.h * sizes.w))
        .map(|(dy, x)| {
            let mut sum = vec![0.0; patch * o];
            let mut transposed = vec![0.0; pq * o];
            for (dy, x) in dy.chunks_exact(o * pq).zip(x.chunks_exact(sizes.c * sizes.h * sizes.w)) {
                with_scratch(sizes, |scratch| {
                    gather(sizes, x, scratch);
                    transpose(dy, pq, &mut transposed);
                    let patches = Matrix { data: &scratch.patches, row: pq, column: 1 };
                    let dy = Matrix { data: &transposed, row: o, column: 1 };
                    gemm_rows(patch, pq, o, patches, dy, &mut sum, true);
                });
            }
            sum
        })
        .collect();
    let (first, rest) = pieces.split_first().expect("bug: a batch without images");
    let mut total = first.clone();
    for piece in rest {
        for (total, piece) in total.iter_mut().zip(piece) {
            *total += piece;
        }
    }
    transpose(&total, o, dw);
}

/// to (columns, rows) = fromᵀ, where from is (rows, columns); in blocks, so that neither side strays through memory.
fn transpose(from: &[f32], columns: usize, to: &mut [f32]) {
    let rows = from.len() / columns;
    for i0 in (0..rows).step_by(BLOCK) {
        for j0 in (0..columns).step_by(BLOCK) {
            for j in j0..(j0 + BLOCK).min(columns) {
                let to = &mut to[j * rows + i0..j * rows + (i0 + BLOCK).min(rows)];
                for (to, from) in to.iter_mut().zip(from[i0 * columns + j..].iter().step_by(columns)) {
                    *to = *from;
                }
            }
        }
    }
}

/// patches[(c, i, j), (p, q)] = x[c, p·stride + i − padding, q·stride + j − padding]
fn gather(sizes: &Sizes, x: &[f32], Scratch { patches, padded, .. }: &mut Scratch) {
    let Sizes { c, h, w, kh, kw, p, q, stride, padding, .. } = *sizes;
    let (padded_h, padded_w) = (h + 2 * padding, w + 2 * padding);
    padded.clear();
    padded.resize(c * padded_h * padded_w + BLOCK, 0.0);
    for (row, x) in x.chunks_exact(w).enumerate() {
        let at = ((row / h) * padded_h + row % h + padding) * padded_w + padding;
        padded[at..at + w].copy_from_slice(x);
    }
    let mut to = 0;
    for channel in 0..c {
        for i in 0..kh {
            for j in 0..kw {
                for out_row in 0..p {
                    let from = (channel * padded_h + out_row * stride + i) * padded_w + j;
                    if stride == 1 {
                        copy_row(&padded[from..], &mut patches[to..], q);
                    } else {
                        for (patch, x) in patches[to..to + q].iter_mut().zip(padded[from..].iter().step_by(stride)) {
                            *patch = *x;
                        }
                    }
                    to += q;
                }
            }
        }
    }
}

/// Copies at least `n` floats, in whole blocks: far cheaper than the exact copy of a short row.
fn copy_row(from: &[f32], to: &mut [f32], n: usize) {
    for at in (0..n).step_by(BLOCK) {
        let block: [f32; BLOCK] = from[at..at + BLOCK].try_into().expect("bug: a block of another length");
        to[at..at + BLOCK].copy_from_slice(&block);
    }
}

/// padded[c, p·stride + i, q·stride + j] += patches[(c, i, j), (p, q)], where rows of the patches are `row` long
fn scatter_add(sizes: &Sizes, row: usize, patches: &[f32], padded: &mut [f32]) {
    let Sizes { c, h, w, kh, kw, p, q, stride, padding, .. } = *sizes;
    let mut rows = patches.chunks_exact(row);
    for channel in 0..c {
        for i in 0..kh {
            for j in 0..kw {
                for out_row in 0..p {
                    let at = (channel * (h + 2 * padding) + out_row * stride + i) * (w + 2 * padding) + j;
                    let patch = rows.next().expect("bug: too few patches");
                    if stride == 1 {
                        for (to, from) in padded[at..at + row].chunks_exact_mut(BLOCK).zip(patch.chunks_exact(BLOCK)) {
                            for lane in 0..BLOCK {
                                to[lane] += from[lane];
                            }
                        }
                    } else {
                        for (to, from) in padded[at..].iter_mut().step_by(stride).zip(&patch[..q]) {
                            *to += from;
                        }
                    }
                }
            }
        }
    }
}
