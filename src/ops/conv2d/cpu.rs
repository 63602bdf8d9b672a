//! Convolution on the CPU. All three passes are one product (`product.rs`) whose first factor is the matrix of patches,
//! which is read where it lies, in images with zeros around them (`layout.rs`); its second has channels along its rows:
//!
//! | pass | row m | depth d | a | b (D, channels) | result |
//! |---|---|---|---|---|---|
//! | forward | pixel of y | (c, i, j) | x | wᵀ | yᵀ |
//! | input gradient | pixel of x | (o, i, j) | dy | w | dxᵀ |
//! | weight gradient | (c, i, j) | pixel of y | x | dyᵀ | dwᵀ |
//!
//! Most 3×3 kernels with a stride of 1 take fewer products (`winograd/`).
//!
//! Threads take groups of images, or, for the weight gradient, panels of out-channels and pieces of the batch. Groups
//! are fixed by the shape, and a sum runs in the order of d, so neither threads nor the batch around an image show.

use super::Sizes;
use super::folded::Finish;
use super::layout::{Frame, Framed};
use super::product::{Panel, Product, UNIT, panels, run_along, split};
use super::transpose::{add_transposed, transpose};
use super::winograd::{self, POINTS, Tiling};
use crate::device::{Array, DType};
use crate::error::Result;
use crate::ops::batch_norm::at_least;
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Pixels that a group of images has about: enough to pay for reading all weights.
const GROUP_PIXELS: usize = 256;
/// Tasks that a pass is cut into at least, where the batch allows.
pub const TASKS: usize = 8;

/// What a thread works in; kept, because fresh memory costs a page fault per 4 KiB.
#[derive(Default)]
struct Scratch {
    framed: Framed,
    /// A panel of pixels: (pixels, width).
    pixels: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The offsets Σ index · step over all indices below `counts`, the last running fastest.
fn offsets(counts: &[usize], steps: &[usize]) -> Vec<u32> {
    let mut all = vec![0u32];
    for (&count, &step) in counts.iter().zip(steps) {
        all = all.iter().flat_map(|&base| (0..count).map(move |i| base + (i * step) as u32)).collect();
    }
    all
}

impl Sizes {
    /// Elements of the kernel from one that reaches a pixel to the next that does.
    fn tap_step(&self) -> usize {
        self.stride / self.divisor()
    }

    /// Images that are worked on together.
    fn group(&self, pixels: usize) -> usize {
        GROUP_PIXELS.div_ceil(pixels).min(self.n.div_ceil(TASKS))
    }

    /// The images that patches are taken from.
    fn frame(&self) -> Frame {
        let &Sizes { c, h, w, padding, .. } = self;
        Frame { c, h, w, top: padding, left: padding, height: h + 2 * padding, width: w + 2 * padding }
    }

    /// Where the patches of a group begin, and where in a patch its elements (c, i, j) lie.
    fn patches(&self, group: usize) -> (Vec<u32>, Vec<u32>) {
        let (frame, s, d) = (self.frame(), self.stride, self.dilation);
        let (image, channel) = frame.steps(group);
        let pixels = offsets(&[group, self.p, self.q], &[image, s * frame.width, s]);
        (pixels, offsets(&[self.c, self.kh, self.kw], &[channel, d * frame.width, d]))
    }
}

/// Floats that the weights need as the second factor, with so many channels along the rows.
pub fn packed_len(sizes: &Sizes, channels: usize) -> usize {
    let of_kernel = if winograd::pays(sizes) { POINTS } else { sizes.kh * sizes.kw };
    sizes.o * sizes.c / channels * of_kernel * channels.next_multiple_of(UNIT)
}

/// How the images of a group are convolved: by tiles, or patch by patch.
enum Way {
    Tiles(Tiling),
    Patches { pixels: Vec<u32>, taps: Vec<u32> },
}

/// yᵀ\[n\] = patches\[n\] (PQ, CKK) · wᵀ (CKK, O), and what becomes of it.
pub fn forward(sizes: &Sizes, x: &Array, weight: &Array, finish: Finish, y: &Array) -> Result<()> {
    let (patch, pq, o, kh, kw) = (sizes.patch(), sizes.p * sizes.q, sizes.o, sizes.kh, sizes.kw);
    let packed = Array::empty(&y.device(), [packed_len(sizes, o)], DType::F32)?;
    let packed = &mut packed.cpu_mut();
    // The factors go into the weights; the summands are where the sums begin.
    let mut summands = finish.bias.map(|bias| bias.cpu().to_vec());
    let (mut scales, mut residual, mut lowest) = (None, None, f32::NEG_INFINITY);
    if let Some(norm) = finish.norm {
        let (factors, mut shifts) = norm.affine();
        if let Some(bias) = &summands {
            shifts.iter_mut().zip(bias).zip(&factors).for_each(|((shift, bias), factor)| *shift += bias * factor);
        }
        (scales, summands) = (Some(factors), Some(shifts));
        residual = norm.residual.map(|residual| residual.array().cpu());
        lowest = norm.lowest();
    }
    let (x, weight, y) = (&*x.cpu(), &*weight.cpu(), &mut *y.cpu_mut());
    let panels = panels(o);
    let pack = |panel: Panel, channels: Range<usize>, to: &mut [f32]| {
        let (first, depth) = (channels.start * kh * kw, channels.len() * kh * kw);
        transpose_filled(panel, depth, &weight[panel.first * patch + first..], patch, to);
        if let Some(scales) = &scales {
            for row in to.chunks_exact_mut(panel.width) {
                row.iter_mut().zip(&scales[panel.first..]).for_each(|(weight, scale)| *weight *= scale);
            }
        }
    };
    let (way, group) = match Tiling::of(sizes) {
        Some(tiling) => {
            tiling.transform_weights(&panels, false, packed, pack);
            let images = tiling.images;
            (Way::Tiles(tiling), images)
        }
        None => {
            let parts = split(&panels, patch, packed);
            parts.into_par_iter().for_each(|(panel, to)| pack(panel, 0..sizes.c, to));
            let group = sizes.group(pq);
            let (pixels, taps) = sizes.patches(group);
            (Way::Patches { pixels, taps }, group)
        }
    };
    let run = if sizes.stride == 1 { run_along(sizes.q) } else { 1 };
    let image = sizes.c * sizes.h * sizes.w;
    let groups = y.par_chunks_mut(group * o * pq).zip(x.par_chunks(group * image)).enumerate();
    groups.for_each(|(i, (y, x))| {
        match &way {
            Way::Tiles(tiling) => tiling.convolve(x, packed, o, summands.as_deref(), false, y),
            Way::Patches { pixels, taps } => SCRATCH.with_borrow_mut(|Scratch { framed, pixels: result }| {
                let rows = &pixels[..y.len() / o];
                let a = framed.place(x, sizes.frame(), group);
                let mut b = &**packed;
                for &Panel { first, columns, width } in &panels {
                    result.resize((rows.len() * width).max(result.len()), 0.0);
                    if let Some(summands) = &summands {
                        for row in result.chunks_exact_mut(width).take(rows.len()) {
                            row[..columns].copy_from_slice(&summands[first..first + columns]);
                        }
                    }
                    Product { a, rows, run, depth: taps, b, width, y: result, accumulate: summands.is_some() }.run();
                    b = &b[patch * width..];
                    for (y, result) in y.chunks_exact_mut(o * pq).zip(result.chunks_exact(pq * width)) {
                        transpose(pq, columns, result, width, &mut y[first * pq..], pq);
                    }
                }
            }),
        }
        // What follows finds the group in the cache.
        if let Some(residual) = &residual {
            let residual = &residual[i * group * o * pq..];
            y.iter_mut().zip(residual).for_each(|(y, residual)| *y = at_least(lowest, *y + residual));
        } else if lowest > f32::NEG_INFINITY {
            y.iter_mut().for_each(|y| *y = at_least(lowest, *y));
        }
    });
    Ok(())
}

/// Along one axis, the pixels of x that the same elements of the kernel reach: every `stride`-th.
///
/// Pixel h gets what element i leads to output p = (h + padding − i·dilation) / stride, where that is whole. With g the common
/// divisor of stride and dilation, those are every (stride/g)-th element, from the last to the first of them to outputs
/// dilation/g apart.
#[derive(Clone, Copy)]
struct Reach {
    first_pixel: usize,
    n_pixels: usize,
    /// The first of the outputs of the first pixel, counted from the margin's begin.
    first_output: usize,
    last_tap: usize,
    n_taps: usize,
}

impl Reach {
    fn along(h: usize, k: usize, sizes: &Sizes) -> Vec<Reach> {
        let &Sizes { stride, padding, dilation, .. } = sizes;
        let reach = |first_pixel: usize| {
            let n_pixels = (h - first_pixel).div_ceil(stride);
            let tap_step = sizes.tap_step();
            let reaches = |tap: usize| (first_pixel + padding).abs_diff(tap * dilation).is_multiple_of(stride);
            let Some(first_tap) = (0..tap_step.min(k)).find(|&tap| reaches(tap)) else {
                return Reach { first_pixel, n_pixels, first_output: 0, last_tap: 0, n_taps: 0 };
            };
            let n_taps = (k - first_tap).div_ceil(tap_step);
            let last_tap = first_tap + (n_taps - 1) * tap_step;
            let before = Self::before(k, sizes) * stride;
            let first_output = (before + first_pixel + padding - last_tap * dilation) / stride;
            Reach { first_pixel, n_pixels, first_output, last_tap, n_taps }
        };
        (0..stride.min(h)).map(reach).collect()
    }

    /// Zeros before the outputs along an axis.
    fn before(k: usize, &Sizes { stride, dilation, .. }: &Sizes) -> usize {
        (k - 1) * dilation / stride
    }

    /// Those, and the length with those before and after.
    fn margin(h: usize, p: usize, k: usize, sizes: &Sizes) -> (usize, usize) {
        let before = Self::before(k, sizes);
        (before, before + p.max((h - 1 + sizes.padding) / sizes.stride + 1))
    }
}

/// Pixels of x that the same elements of the kernel reach.
struct Kind<'a> {
    down: Reach,
    right: Reach,
    rows: Vec<u32>,
    depth: Vec<u32>,
    /// (OI'J', C), in panels.
    weight: &'a mut [f32],
}

/// dxᵀ\[n\] = patches of dy\[n\] (HW, OKK) · w (OKK, C), for each kind of pixel; `packed` is for w.
/// It `adds` that to what is there, or assigns.
pub fn backward_input(sizes: &Sizes, dy: &[f32], weight: &[f32], mut packed: &mut [f32], adds: bool, dx: &mut [f32]) {
    let &Sizes { c, h, w, o, kh, kw, p, q, stride, .. } = sizes;
    let panels = panels(c);
    if let Some(tiling) = Tiling::of_input(sizes) {
        tiling.transform_weights(&panels, true, packed, |panel, kernels, to| {
            for (o, to) in kernels.zip(to.chunks_exact_mut(9 * panel.width)) {
                transpose_filled(panel, 9, &weight[(o * c + panel.first) * 9..], 9, to);
            }
        });
        let groups = dx.par_chunks_mut(tiling.images * c * h * w).zip(dy.par_chunks(tiling.images * o * p * q));
        groups.for_each(|(dx, dy)| tiling.convolve(dy, packed, c, None, adds, dx));
        return;
    }
    let put = if adds { add_transposed } else { transpose };
    let group = sizes.group(h * w);
    let ((top, height), (left, width)) = (Reach::margin(h, p, kh, sizes), Reach::margin(w, q, kw, sizes));
    let frame = Frame { c: o, h: p, w: q, top, left, height, width };
    let (image, channel) = frame.steps(group);
    // Outputs between those that neighbouring taps lead to.
    let apart = sizes.dilation / sizes.divisor();
    let mut kinds = Vec::new();
    for down in Reach::along(h, kh, sizes) {
        for right in Reach::along(w, kw, sizes) {
            let mut rows = offsets(&[group, down.n_pixels, right.n_pixels], &[image, width, 1]);
            rows.iter_mut().for_each(|row| *row += (down.first_output * width + right.first_output) as u32);
            let depth = offsets(&[o, down.n_taps, right.n_taps], &[channel, apart * width, apart]);
            let (weight, rest) = packed.split_at_mut(depth.len() * c.next_multiple_of(UNIT));
            packed = rest;
            kinds.push(Kind { down, right, rows, depth, weight });
        }
    }
    let parts = kinds.iter_mut().flat_map(|Kind { down, right, depth, weight, .. }| {
        split(&panels, depth.len(), weight).into_iter().map(|(panel, to)| (*down, *right, panel, to))
    });
    parts.collect::<Vec<_>>().into_par_iter().for_each(|(down, right, panel, to)| {
        pack_reached(sizes, weight, down, right, panel, to);
    });
    dx.par_chunks_mut(group * c * h * w).zip(dy.par_chunks(group * o * p * q)).for_each(|(dx, dy)| {
        SCRATCH.with_borrow_mut(|Scratch { framed, pixels: result }| {
            let a = framed.place(dy, frame, group);
            for Kind { down, right, rows, depth, weight } in &kinds {
                let n_pixels = down.n_pixels * right.n_pixels;
                let rows = &rows[..dx.len() / (c * h * w) * n_pixels];
                let mut b = &**weight;
                for &Panel { first, columns, width } in &panels {
                    result.resize((rows.len() * width).max(result.len()), 0.0);
                    Product { a, rows, run: run_along(right.n_pixels), depth, b, width, y: result, accumulate: false }
                        .run();
                    b = &b[depth.len() * width..];
                    for (dx, result) in dx.chunks_exact_mut(c * h * w).zip(result.chunks_exact(n_pixels * width)) {
                        let dx = &mut dx[first * h * w..];
                        if stride == 1 {
                            put(n_pixels, columns, result, width, dx, h * w);
                            continue;
                        }
                        for (i, row) in result.chunks_exact(right.n_pixels * width).enumerate() {
                            let at = (down.first_pixel + i * stride) * w + right.first_pixel;
                            for (j, pixel) in row.chunks_exact(width).enumerate() {
                                for (dx, &value) in
                                    dx[at + j * stride..].iter_mut().step_by(h * w).zip(&pixel[..columns])
                                {
                                    *dx = if adds { *dx + value } else { value };
                                }
                            }
                        }
                    }
                }
            }
        });
    });
}

/// to[(o, i, j), c] = w[o, c, i, j] for the elements that are reached, the last of them first.
fn pack_reached(sizes: &Sizes, weight: &[f32], down: Reach, right: Reach, panel: Panel, to: &mut [f32]) {
    let &Sizes { c, o, kh, kw, .. } = sizes;
    let step = sizes.tap_step();
    let mut rows = to.chunks_exact_mut(panel.width);
    for o in 0..o {
        let weight = &weight[(o * c + panel.first) * kh * kw..];
        for i in 0..down.n_taps {
            for j in 0..right.n_taps {
                let tap = (down.last_tap - i * step) * kw + right.last_tap - j * step;
                let row = rows.next().expect("bug: too little room for the weights");
                row[panel.columns..].fill(0.0);
                for (to, from) in row[..panel.columns].iter_mut().zip(weight[tap..].iter().step_by(kh * kw)) {
                    *to = *from;
                }
            }
        }
    }
}

/// Images in a piece of the batch that a weight gradient is summed over first: small weights are summed in several pieces,
/// of large ones the panels are tasks enough.
fn images_in_piece(sizes: &Sizes) -> usize {
    sizes.n.div_ceil(TASKS.div_ceil(panels(sizes.o).len()))
}

/// Floats that the sums of a weight gradient need.
pub fn sums_len(sizes: &Sizes) -> usize {
    if winograd::pays(sizes) {
        return winograd::sums_len(sizes);
    }
    sizes.n.div_ceil(images_in_piece(sizes)) * packed_len(sizes, sizes.o)
}

/// dwᵀ (CKK, O) = Σ_n patches\[n\]ᵀ (CKK, PQ) · dy\[n\]ᵀ (PQ, O); `sums` is for those over the pieces of the batch.
pub fn backward_weight(sizes: &Sizes, dy: &[f32], x: &[f32], sums: &mut [f32], mut dw: &mut [f32]) {
    let (patch, pq, o, image) = (sizes.patch(), sizes.p * sizes.q, sizes.o, sizes.c * sizes.h * sizes.w);
    if let Some(tiling) = Tiling::of(sizes) {
        return tiling.backward_weight(x, dy, o, sums, dw);
    }
    let panels = panels(o);
    let images = images_in_piece(sizes);
    let group = GROUP_PIXELS.div_ceil(pq).min(images);
    let (pixels, taps) = sizes.patches(group);
    let of_piece = packed_len(sizes, o);
    let tasks = sums
        .chunks_exact_mut(of_piece)
        .enumerate()
        .flat_map(|(piece, sums)| split(&panels, patch, sums).into_iter().map(move |(panel, sum)| (piece, panel, sum)));
    tasks.collect::<Vec<_>>().into_par_iter().for_each(|(piece, panel, sum)| {
        let end = sizes.n.min((piece + 1) * images);
        let (dy, x) = (&dy[piece * images * o * pq..end * o * pq], &x[piece * images * image..end * image]);
        SCRATCH.with_borrow_mut(|Scratch { framed, pixels: b }| {
            for (i, (dy, x)) in dy.chunks(group * o * pq).zip(x.chunks(group * image)).enumerate() {
                let depth = &pixels[..dy.len() / o];
                b.resize((depth.len() * panel.width).max(b.len()), 0.0);
                for (dy, b) in dy.chunks_exact(o * pq).zip(b.chunks_exact_mut(pq * panel.width)) {
                    transpose_filled(panel, pq, &dy[panel.first * pq..], pq, b);
                }
                let a = framed.place(x, sizes.frame(), group);
                let run = if sizes.dilation == 1 { run_along(sizes.kw) } else { 1 };
                let (width, accumulate) = (panel.width, i > 0);
                Product { a, rows: &taps, run, depth, b, width, y: sum, accumulate }.run();
            }
        });
    });
    let (totals, rest) = sums.split_at_mut(of_piece);
    let mut parts = Vec::new();
    for (panel, total) in split(&panels, patch, totals) {
        let (part, after) = dw.split_at_mut(panel.columns * patch);
        parts.push((panel, total, part));
        dw = after;
    }
    parts.into_par_iter().for_each(|(panel, total, dw)| {
        for piece in rest.chunks_exact(of_piece) {
            for (total, piece) in total.iter_mut().zip(&piece[patch * panel.first..]) {
                *total += piece;
            }
        }
        transpose(patch, panel.columns, total, panel.width, dw, patch);
    });
}

/// to (depth, width) = fromᵀ, where from holds the rows of a panel, of which a step leads to the next; the columns that are too many
/// are zero.
pub fn transpose_filled(panel: Panel, depth: usize, from: &[f32], from_step: usize, to: &mut [f32]) {
    transpose(panel.columns, depth, from, from_step, to, panel.width);
    if panel.columns < panel.width {
        for row in to.chunks_exact_mut(panel.width) {
            row[panel.columns..].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Conv2d;
    use crate::tensor::{Tensor, random_cotangent};
    use crate::{Device, Result};

    /// Groups of images, blocks of depth and panels must not show in an image's result.
    #[test]
    fn the_batch_around_an_image_changes_no_bit() -> Result<()> {
        let device = Device::cpu();
        let random = |shape: [usize; 4]| Tensor::from_f32(&device, shape, &random_cotangent(shape.into()));
        for (shape, weight, padding) in [([19, 30, 4, 3], [70, 30, 3, 3], 1), ([17, 3, 9, 9], [5, 3, 5, 5], 0)] {
            let (x, weight) = (random(shape)?, random(weight)?);
            let forward = |x: &Tensor| x.conv2d(&weight, None, Conv2d::new(1, padding))?.to_vec();
            let together = forward(&x)?;
            let of_image = together.len() / shape[0];
            for (x, y) in x.to_vec()?.chunks_exact(shape[1] * shape[2] * shape[3]).zip(together.chunks_exact(of_image))
            {
                let alone = forward(&Tensor::from_f32(&device, [1, shape[1], shape[2], shape[3]], x)?)?;
                assert!(alone.iter().zip(y).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
        Ok(())
    }
}
