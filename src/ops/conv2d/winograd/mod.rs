//! Convolution of 3×3 kernels with a stride of 1 by fewer products: F(2×2, 3×3) of Winograd's minimal filtering (Lavin
//! and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016).
//!
//! A tile of 2×2 outputs y needs 4×4 inputs d. With the kernel g, all three of them seen as matrices,
//!
//! ```text
//! y = Aᵀ·[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A        Bᵀ = 1  0 −1  0    G = 1   0   0    Aᵀ = 1 1  1  0
//!                                            0  1  1  0        ½   ½   ½         0 1 −1 −1
//! dg = Gᵀ·[(A·dy·Aᵀ) ⊙ (Bᵀ·d·B)]·G           0 −1  1  0        ½  −½   ½
//!                                            0  1  0 −1        0   0   1
//! ```
//!
//! which takes 16 products for a tile and a kernel instead of 36. Summed over channels, or for dg over tiles, the products at each of
//! the 16 points of a tile are a matrix product. The input gradient is a convolution with kernels turned by half a turn.
//!
//! This file is the CPU's, on `product.rs` and `transforms.rs`; the GPU's is `gpu.rs`.

pub mod gpu;
mod transforms;

use super::Sizes;
use super::cpu::{TASKS, transpose_filled};
use super::product::{Panel, Product, UNIT, panels, run_along, split};
use super::transpose::{add_transposed, transpose};
use pulp::Arch;
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;
use transforms::{Inputs, OutputGradients, Outputs, WeightGradients, Weights};

/// Numbers of a transformed tile.
pub const POINTS: usize = 16;
/// Tiles that are worked on together, at least: enough to pay for reading all weights.
const TILES: usize = 128;
/// Numbers of transformed tiles that are worked on together, at most, if those are enough tiles: they stay in the cache.
const NUMBERS: usize = 1 << 16;
/// Channels whose kernels are packed and transformed at a time: they stay in the cache.
const KERNELS: usize = 16;
/// The fewest channels on either side for which the transforms pay.
const MIN_CHANNELS: usize = 20;
/// The fewest tiles of an image for which the transform of the weights pays in small batches.
const MIN_TILES: usize = 4;

/// Convolutions of images (N, C, H, W) with 3×3 kernels and a stride of 1, block by block of tiles.
pub struct Tiling {
    c: usize,
    h: usize,
    w: usize,
    padding: usize,
    p: usize,
    q: usize,
    /// Images of a block, where it holds whole ones; else 1.
    pub images: usize,
    /// Rows of tiles in a block.
    rows: usize,
    /// Where the tiles of a block lie among the numbers of a channel: image by image, row by row.
    tiles: Vec<u32>,
}

/// What a thread works in; kept, because fresh memory costs a page fault per 4 KiB.
#[derive(Default)]
struct Scratch {
    /// Pixels of one channel by the parity of their row and column.
    phases: Vec<f32>,
    /// Transformed inputs: (16, C, numbers).
    inputs: Vec<f32>,
    /// Transformed outputs: (16, tiles, width).
    outputs: Vec<f32>,
    /// A panel of pixels, (pixels, width), or of weights.
    panel: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Tiles of an image, if it can be computed this way with a third fewer products: tiles that reach beyond it compute for nothing.
fn tiles_of_image(sizes: &Sizes) -> Option<usize> {
    let &Sizes { kh, kw, p, q, stride, dilation, .. } = sizes;
    let fits = (kh, kw, stride, dilation) == (3, 3, 1, 1);
    let n_tiles = p.div_ceil(2) * q.div_ceil(2);
    (fits && 3 * POINTS * n_tiles <= 2 * 9 * p * q).then_some(n_tiles)
}

/// Whether a convolution is computed this way. The batch does not matter: an image's result is the same in any.
pub fn pays(sizes: &Sizes) -> bool {
    sizes.c.min(sizes.o) >= MIN_CHANNELS && tiles_of_image(sizes).is_some_and(|n_tiles| n_tiles >= MIN_TILES)
}

impl Tiling {
    /// That of the forward pass and of the weight gradient, if this way pays.
    pub fn of(sizes: &Sizes) -> Option<Tiling> {
        let &Sizes { n, c, h, w, p, q, padding, .. } = sizes;
        pays(sizes).then(|| Tiling::new(n, [c, h, w], padding, [p, q]))
    }

    /// That of the input gradient.
    pub fn of_input(sizes: &Sizes) -> Option<Tiling> {
        let &Sizes { n, h, w, o, p, q, padding, .. } = sizes;
        let turned = 2usize.checked_sub(padding)?;
        pays(sizes).then(|| Tiling::new(n, [o, p, q], turned, [h, w]))
    }

    fn new(n: usize, [c, h, w]: [usize; 3], padding: usize, [p, q]: [usize; 2]) -> Tiling {
        let (all_rows, columns) = (p.div_ceil(2), q.div_ceil(2));
        let n_tiles = TILES.max(NUMBERS / (POINTS * c));
        let rows = all_rows.min(n_tiles.div_ceil(columns));
        let images = if rows == all_rows { n_tiles.div_ceil(rows * columns).min(n.div_ceil(TASKS)) } else { 1 };
        let mut tiling = Tiling { c, h, w, padding, p, q, images, rows, tiles: Vec::new() };
        let step = tiling.row_step();
        let of_image = |image: usize| (0..rows * columns).map(move |t| (image, t / columns, t % columns));
        let place = |(image, i, j): (usize, usize, usize)| ((image * (rows + 1) + i) * step + j) as u32;
        tiling.tiles = (0..images).flat_map(of_image).map(place).collect();
        tiling
    }

    fn columns(&self) -> usize {
        self.q.div_ceil(2)
    }

    /// From a number to that of the tile below.
    fn row_step(&self) -> usize {
        self.columns() + 1
    }

    /// Numbers of a channel, those between tiles with them, in whole units.
    fn step(&self) -> usize {
        self.tiles.last().map_or(0, |&last| last as usize + 1).next_multiple_of(UNIT)
    }

    /// The first rows of tiles of an image's blocks, and how many each has.
    fn bands(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, all) = (self.rows, self.p.div_ceil(2));
        (0..all).step_by(rows).map(move |first| (first, rows.min(all - first)))
    }

    /// Pixels of an image that so many rows of tiles cover.
    fn pixels(&self, first_row: usize, rows: usize) -> usize {
        (2 * rows).min(self.p - 2 * first_row) * self.q
    }

    /// The weights of each panel as [`Tiling::convolve`] wants them: (16, C, width). `pack` is asked for the kernels of some channels,
    /// (channels·9, width), which are to be `turned` by half a turn if the result is an input gradient.
    pub fn transform_weights(
        &self,
        panels: &[Panel],
        turned: bool,
        to: &mut [f32],
        pack: impl Fn(Panel, Range<usize>, &mut [f32]) + Sync,
    ) {
        split(panels, POINTS * self.c, to).into_par_iter().for_each(|(panel, transformed)| {
            SCRATCH.with_borrow_mut(|Scratch { panel: packed, .. }| {
                let width = panel.width;
                for first in (0..self.c).step_by(KERNELS) {
                    let channels = first..self.c.min(first + KERNELS);
                    let packed = grown(packed, channels.len() * 9 * width);
                    pack(panel, channels, packed);
                    Arch::new().dispatch(Weights { width, first, packed, turned, transformed });
                }
            });
        });
    }

    /// y (N, O, P, Q) of the images x (N, C, H, W), at most `images` of them, with transformed weights; `summands` are for the
    /// channels of y. It `adds` them to what is there, or assigns.
    pub fn convolve(&self, x: &[f32], weights: &[f32], o: usize, summands: Option<&[f32]>, adds: bool, y: &mut [f32]) {
        let put = if adds { add_transposed } else { transpose };
        let &Tiling { c, p, q, .. } = self;
        let n_images = y.len() / (o * p * q);
        let depth = self.places(c);
        SCRATCH.with_borrow_mut(|Scratch { phases, inputs, outputs, panel: result }| {
            for (first_row, rows) in self.bands() {
                let inputs = &*self.transform_inputs(0..c, x, first_row, phases, inputs);
                let tiles = &self.tiles[..n_images * rows * self.columns()];
                let (n_tiles, n_pixels) = (tiles.len(), self.pixels(first_row, rows));
                let mut weights = weights;
                for Panel { first, columns, width } in panels(o) {
                    let transformed = grown(outputs, POINTS * n_tiles * width);
                    let points =
                        transformed.chunks_exact_mut(n_tiles * width).zip(inputs.chunks_exact(c * self.step()));
                    let run = run_along(self.columns());
                    for ((y, a), b) in points.zip(weights.chunks_exact(c * width)) {
                        Product { a, rows: tiles, run, depth: &depth, b, width, y, accumulate: false }.run();
                    }
                    weights = &weights[POINTS * c * width..];
                    let result = grown(result, n_images * n_pixels * width);
                    if let Some(summands) = summands {
                        for row in result.chunks_exact_mut(width) {
                            row[..columns].copy_from_slice(&summands[first..first + columns]);
                        }
                    }
                    let add = summands.is_some();
                    Arch::new().dispatch(Outputs { n_pixels, q, width, transformed, n_tiles, add, y: result });
                    for (y, result) in y.chunks_exact_mut(o * p * q).zip(result.chunks_exact(n_pixels * width)) {
                        let y = &mut y[(first * p + 2 * first_row) * q..];
                        put(n_pixels, columns, result, width, y, p * q);
                    }
                }
            }
        });
    }

    /// dw (O, C, 3, 3) of the images x (N, C, H, W), given dy (N, O, P, Q); `sums` is for the gradients of transformed weights of
    /// each piece of the batch: block of channels by block, and of each panel of out-channels by panel.
    pub fn backward_weight(&self, x: &[f32], dy: &[f32], o: usize, sums: &mut [f32], mut dw: &mut [f32]) {
        let (image, image_of_y) = (self.c * self.h * self.w, o * self.p * self.q);
        let filled = o.next_multiple_of(UNIT);
        let (blocks, of_piece) = (panels(self.c), POINTS * self.c * filled);
        let images = images_in_piece(x.len() / image, self.c);
        let mut tasks = Vec::new();
        let pieces = x.chunks(images * image).zip(dy.chunks(images * image_of_y));
        for (mut sums, (x, dy)) in sums.chunks_exact_mut(of_piece).zip(pieces) {
            for &block in &blocks {
                let (of_block, rest) = sums.split_at_mut(POINTS * block.columns * filled);
                tasks.push((block, of_block, x, dy));
                sums = rest;
            }
        }
        tasks.into_par_iter().for_each(|(block, sums, x, dy)| {
            let groups = x.chunks(self.images * image).zip(dy.chunks(self.images * image_of_y));
            for (i, (x, dy)) in groups.enumerate() {
                self.add_weight_gradients(block, x, dy, o, sums, i == 0);
            }
        });
        let mut parts = Vec::new();
        for panel in panels(o) {
            let (part, rest) = dw.split_at_mut(panel.columns * self.c * 9);
            parts.push((panel, part));
            dw = rest;
        }
        parts.into_par_iter().for_each(|(panel, dw)| {
            for &block in &blocks {
                let first = POINTS * (block.first * filled + block.columns * panel.first);
                let len = POINTS * block.columns * panel.width;
                let of_pieces = sums.chunks_exact(of_piece).map(|sums| &sums[first..first + len]);
                take_weight_gradient(panel, block, self.c, of_pieces, dw);
            }
        });
    }

    /// Adds what these images lead to to the sums of a block of channels, or assigns it if they are the first.
    fn add_weight_gradients(&self, block: Panel, x: &[f32], dy: &[f32], o: usize, sums: &mut [f32], is_first: bool) {
        let &Tiling { p, q, .. } = self;
        let n_images = dy.len() / (o * p * q);
        let channels = self.places(block.columns);
        SCRATCH.with_borrow_mut(|Scratch { phases, inputs, outputs, panel: pixels }| {
            for (first_row, rows) in self.bands() {
                let inputs = &*self.transform_inputs(block.range(), x, first_row, phases, inputs);
                let tiles = &self.tiles[..n_images * rows * self.columns()];
                let (n_tiles, n_pixels) = (tiles.len(), self.pixels(first_row, rows));
                let mut sums = &mut *sums;
                for panel in panels(o) {
                    let width = panel.width;
                    let of_panel = grown(pixels, n_images * n_pixels * width);
                    for (dy, to) in dy.chunks_exact(o * p * q).zip(of_panel.chunks_exact_mut(n_pixels * width)) {
                        transpose_filled(panel, n_pixels, &dy[(panel.first * p + 2 * first_row) * q..], p * q, to);
                    }
                    let transformed = grown(outputs, POINTS * n_tiles * width);
                    Arch::new().dispatch(OutputGradients { n_pixels, q, width, dy: of_panel, n_tiles, transformed });
                    let of_point = block.columns * width;
                    let points = sums.chunks_exact_mut(of_point).zip(inputs.chunks_exact(block.columns * self.step()));
                    let accumulate = !is_first || first_row > 0;
                    for ((y, a), b) in points.zip(transformed.chunks_exact(n_tiles * width)) {
                        Product { a, rows: &channels, run: 1, depth: tiles, b, width, y, accumulate }.run();
                    }
                    sums = &mut sums[POINTS * of_point..];
                }
            }
        });
    }

    /// Where so many channels lie among the transformed inputs of a point.
    fn places(&self, channels: usize) -> Vec<u32> {
        (0..channels).map(|c| (c * self.step()) as u32).collect()
    }

    /// Bᵀ·d·B of every tile of a block that begins at a row of tiles: (16, channels, numbers).
    fn transform_inputs<'a>(
        &self,
        channels: Range<usize>,
        x: &[f32],
        first_row: usize,
        phases: &mut Vec<f32>,
        inputs: &'a mut Vec<f32>,
    ) -> &'a mut [f32] {
        let of_phase = self.step() + self.row_step() + 1;
        phases.clear();
        phases.resize(4 * of_phase, 0.0);
        let transformed = grown(inputs, POINTS * channels.len() * self.step());
        Arch::new().dispatch(Inputs { tiling: self, channels, x, first_row, of_phase, phases, transformed });
        transformed
    }
}

/// So many of the numbers, of which there are more if there are too few.
fn grown(numbers: &mut Vec<f32>, len: usize) -> &mut [f32] {
    numbers.resize(len.max(numbers.len()), 0.0);
    &mut numbers[..len]
}

/// Images in a piece of the batch that a weight gradient is summed over first: small weights are summed in several pieces, of
/// large ones the blocks of channels are tasks enough.
fn images_in_piece(n: usize, c: usize) -> usize {
    n.div_ceil(TASKS.div_ceil(panels(c).len()))
}

/// Floats that [`Tiling::backward_weight`] needs for its sums.
pub fn sums_len(sizes: &Sizes) -> usize {
    let &Sizes { n, c, o, .. } = sizes;
    n.div_ceil(images_in_piece(n, c)) * POINTS * c * o.next_multiple_of(UNIT)
}

/// The rows of a panel of dw (O, C, 3, 3), at a block of channels, from the gradients of transformed weights (16, channels, width)
/// of all pieces of the batch.
fn take_weight_gradient<'a>(
    panel: Panel,
    block: Panel,
    c: usize,
    mut of_pieces: impl Iterator<Item = &'a [f32]>,
    dw: &mut [f32],
) {
    SCRATCH.with_borrow_mut(|Scratch { outputs, panel: gradient, .. }| {
        let (taps, width) = (block.columns * 9, panel.width);
        let mut transformed = of_pieces.next().expect("bug: a batch without images");
        let mut rest = of_pieces.peekable();
        if rest.peek().is_some() {
            let total = grown(outputs, transformed.len());
            total.copy_from_slice(transformed);
            for piece in rest {
                total.iter_mut().zip(piece).for_each(|(total, piece)| *total += piece);
            }
            transformed = total;
        }
        let gradient = grown(gradient, taps * width);
        Arch::new().dispatch(WeightGradients { width, transformed, gradient });
        transpose(taps, panel.columns, gradient, width, &mut dw[block.first * 9..], c * 9);
    });
}
