//! Convolution on the CPU: the patches of one image as a matrix (im2col), and a matrix product.
//!
//! Images are independent, so threads take images; sums over images run in pieces of fixed size.

use super::Sizes;
use crate::ops::matmul::{Matrix, gemm_rows};
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
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn with_scratch<R>(sizes: &Sizes, f: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.patches.resize(sizes.patch() * sizes.p * sizes.q + BLOCK, 0.0);
        f(scratch)
    })
}

/// y[n] = w (O, CKK) · patches[n] (CKK, PQ) + b
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

/// dx[n] = the patches' places added up of wᵀ (CKK, O) · dy[n] (O, PQ)
pub fn backward_input(sizes: &Sizes, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let (patch, pq) = (sizes.patch(), sizes.p * sizes.q);
    let weight = Matrix { data: weight, row: 1, column: patch };
    dx.par_chunks_exact_mut(sizes.c * sizes.h * sizes.w).zip(dy.par_chunks_exact(sizes.o * pq)).for_each(|(dx, dy)| {
        with_scratch(sizes, |Scratch { patches, .. }| {
            let dy = Matrix { data: dy, row: pq, column: 1 };
            gemm_rows(patch, sizes.o, pq, weight, dy, patches, false);
            dx.fill(0.0);
            scatter_add(sizes, patches, dx);
        });
    });
}

/// dw (O, CKK) = Σ_n dy[n] (O, PQ) · patches[n]ᵀ (PQ, CKK)
pub fn backward_weight(sizes: &Sizes, dy: &[f32], x: &[f32], dw: &mut [f32]) {
    let (patch, pq) = (sizes.patch(), sizes.p * sizes.q);
    let images = sizes.n.div_ceil(MAX_PIECES);
    let pieces: Vec<Vec<f32>> = dy
        .par_chunks(images * sizes.o * pq)
        .zip(x.par_chunks(images * sizes.c * sizes.h * sizes.w))
        .map(|(dy, x)| {
            let mut sum = vec![0.0; dw_len(sizes)];
            for (i, (dy, x)) in
                dy.chunks_exact(sizes.o * pq).zip(x.chunks_exact(sizes.c * sizes.h * sizes.w)).enumerate()
            {
                with_scratch(sizes, |scratch| {
                    gather(sizes, x, scratch);
                    let dy = Matrix { data: dy, row: pq, column: 1 };
                    let patches = Matrix { data: &scratch.patches, row: 1, column: pq };
                    gemm_rows(sizes.o, pq, patch, dy, patches, &mut sum, i > 0);
                });
            }
            sum
        })
        .collect();
    dw.copy_from_slice(&pieces[0]);
    for piece in &pieces[1..] {
        for (dw, piece) in dw.iter_mut().zip(piece) {
            *dw += piece;
        }
    }
}

fn dw_len(sizes: &Sizes) -> usize {
    sizes.o * sizes.patch()
}

/// The output columns q for which q·stride + j − padding lies inside a row of `w` pixels.
fn inside(sizes: &Sizes, j: usize) -> std::ops::Range<usize> {
    let first = sizes.padding.saturating_sub(j).div_ceil(sizes.stride);
    let end = (sizes.w + sizes.padding).saturating_sub(j).div_ceil(sizes.stride);
    first.min(sizes.q)..end.clamp(first.min(sizes.q), sizes.q)
}

/// Calls `f(rows of the patch matrix, row of the image, columns inside)` for each kernel position and output row; the row
/// of the image is `None` where it lies outside.
fn for_patch_rows(sizes: &Sizes, mut f: impl FnMut(usize, Option<usize>, usize, std::ops::Range<usize>)) {
    let Sizes { c, h, w, kh, kw, p, q, stride, padding, .. } = *sizes;
    for channel in 0..c {
        for i in 0..kh {
            for j in 0..kw {
                let patch_row = (channel * kh + i) * kw + j;
                let columns = inside(sizes, j);
                for out_row in 0..p {
                    let y = (out_row * stride + i).checked_sub(padding).filter(|&y| y < h);
                    f((patch_row * p + out_row) * q, y.map(|y| (channel * h + y) * w), j, columns.clone());
                }
            }
        }
    }
}

/// patches[(c, i, j), (p, q)] = x[c, p·stride + i − padding, q·stride + j − padding]
fn gather(sizes: &Sizes, x: &[f32], Scratch { patches, padded }: &mut Scratch) {
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

/// dx[c, p·stride + i − padding, q·stride + j − padding] += patches[(c, i, j), (p, q)]
fn scatter_add(sizes: &Sizes, patches: &[f32], dx: &mut [f32]) {
    let Sizes { stride, padding, .. } = *sizes;
    for_patch_rows(sizes, |at, row, j, columns| {
        let Some(row) = row.filter(|_| !columns.is_empty()) else { return };
        let to = row + columns.start * stride + j - padding;
        let patch = &patches[at + columns.start..at + columns.end];
        if stride == 1 {
            for (dx, patch) in dx[to..to + patch.len()].iter_mut().zip(patch) {
                *dx += patch;
            }
        } else {
            for (dx, patch) in dx[to..].iter_mut().step_by(stride).zip(patch) {
                *dx += patch;
            }
        }
    });
}
