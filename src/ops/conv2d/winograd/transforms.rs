//! The small transforms of tiles and kernels, with the matrices of `mod.rs`. They work on a register of numbers at a time: tiles side
//! by side for inputs, channels side by side for everything else. Loops and traits instead of closures: those would not be compiled
//! for the vector units that are there.

use super::{POINTS, Tiling};
use crate::ops::conv2d::product::{load, store};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Bᵀ·d·B of every tile of a block, in some channels. Shapes: x (images, C, H, W), transformed (16, channels, numbers). Of each
/// channel the pixels are first placed by the parity of their row and column.
pub struct Inputs<'a> {
    pub tiling: &'a Tiling,
    pub channels: Range<usize>,
    pub x: &'a [f32],
    pub first_row: usize,
    pub of_phase: usize,
    pub phases: &'a mut [f32],
    pub transformed: &'a mut [f32],
}

impl Inputs<'_> {
    /// Copies a channel of all images, each between zeros: pixel (2i + a, 2j + b) of an image with its padding lies in phase (a, b)
    /// at (i, j). The zeros were there before.
    #[inline(always)]
    fn place(&mut self, channel: usize) {
        let &Tiling { c, h, w, padding, rows, .. } = self.tiling;
        let step = self.tiling.row_step();
        let top = 2 * self.first_row;
        let end = h.min((top + 2 * rows + 2).saturating_sub(padding));
        let inside = top.saturating_sub(padding).min(end)..end;
        for (n, image) in self.x.chunks_exact(c * h * w).enumerate() {
            let from = &image[channel * h * w..][inside.start * w..inside.end * w];
            for (from, i) in from.chunks_exact(w).zip(inside.clone()) {
                let row = i + padding - top;
                let start = (n * (rows + 1) + row / 2) * step + padding / 2;
                let (even, odd) = self.phases[row % 2 * 2 * self.of_phase..].split_at_mut(self.of_phase);
                match padding % 2 {
                    0 => deal(from, &mut even[start..], &mut odd[start..]),
                    _ => deal(from, &mut odd[start..], &mut even[start + 1..]),
                }
            }
        }
    }
}

/// Pairs that are dealt together.
const PAIRS: usize = 4;

/// Deals the numbers of a row to two others in turn.
#[inline(always)]
fn deal(from: &[f32], first: &mut [f32], second: &mut [f32]) {
    let (first, second) = (&mut first[..from.len().div_ceil(2)], &mut second[..from.len() / 2]);
    let (pairs, last) = from.as_chunks::<2>();
    let (blocks, pairs) = pairs.as_chunks::<PAIRS>();
    for (block, pairs) in blocks.iter().enumerate() {
        // All loads before any store: else they are made one by one.
        let (mut evens, mut odds) = ([0.0; PAIRS], [0.0; PAIRS]);
        for k in 0..PAIRS {
            [evens[k], odds[k]] = pairs[k];
        }
        first[block * PAIRS..][..PAIRS].copy_from_slice(&evens);
        second[block * PAIRS..][..PAIRS].copy_from_slice(&odds);
    }
    let done = blocks.len() * PAIRS;
    for (k, &[even, odd]) in pairs.iter().enumerate() {
        (first[done + k], second[done + k]) = (even, odd);
    }
    if let &[even] = last {
        first[from.len() / 2] = even;
    }
}

/// A matrix (K, L) by which columns are multiplied.
trait Matrix<const K: usize, const L: usize> {
    fn times<S: Simd>(simd: S, column: [S::f32s; L]) -> [S::f32s; K];
}

struct Bt;
struct At;
struct A;
struct G;
struct Gt;

impl Matrix<4, 4> for Bt {
    #[inline(always)]
    fn times<S: Simd>(simd: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
        [simd.sub_f32s(d[0], d[2]), simd.add_f32s(d[1], d[2]), simd.sub_f32s(d[2], d[1]), simd.sub_f32s(d[1], d[3])]
    }
}

impl Matrix<2, 4> for At {
    #[inline(always)]
    fn times<S: Simd>(simd: S, m: [S::f32s; 4]) -> [S::f32s; 2] {
        [simd.add_f32s(simd.add_f32s(m[0], m[1]), m[2]), simd.sub_f32s(simd.sub_f32s(m[1], m[2]), m[3])]
    }
}

impl Matrix<4, 2> for A {
    #[inline(always)]
    fn times<S: Simd>(simd: S, y: [S::f32s; 2]) -> [S::f32s; 4] {
        [y[0], simd.add_f32s(y[0], y[1]), simd.sub_f32s(y[0], y[1]), simd.neg_f32s(y[1])]
    }
}

impl Matrix<4, 3> for G {
    #[inline(always)]
    fn times<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 4] {
        let half = simd.splat_f32s(0.5);
        let (ends, middle) = (simd.mul_f32s(half, simd.add_f32s(g[0], g[2])), simd.mul_f32s(half, g[1]));
        [g[0], simd.add_f32s(ends, middle), simd.sub_f32s(ends, middle), g[2]]
    }
}

impl Matrix<3, 4> for Gt {
    #[inline(always)]
    fn times<S: Simd>(simd: S, u: [S::f32s; 4]) -> [S::f32s; 3] {
        let half = simd.splat_f32s(0.5);
        let sum = simd.mul_f32s(half, simd.add_f32s(u[1], u[2]));
        let difference = simd.mul_f32s(half, simd.sub_f32s(u[1], u[2]));
        [simd.add_f32s(u[0], sum), difference, simd.add_f32s(sum, u[3])]
    }
}

/// M·t·Mᵀ.
#[inline(always)]
fn both_ways<M: Matrix<K, L>, S: Simd, const K: usize, const L: usize>(
    simd: S,
    tile: [[S::f32s; L]; L],
) -> [[S::f32s; K]; K] {
    let zero = simd.splat_f32s(0.0);
    let mut down = [[zero; L]; K];
    for j in 0..L {
        let mut column = [zero; L];
        for i in 0..L {
            column[i] = tile[i][j];
        }
        let column = M::times(simd, column);
        for i in 0..K {
            down[i][j] = column[i];
        }
    }
    let mut result = [[zero; K]; K];
    for i in 0..K {
        result[i] = M::times(simd, down[i]);
    }
    result
}

impl WithSimd for Inputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (step, below) = (self.tiling.step(), self.tiling.row_step());
        let all = self.channels.len() * step;
        assert!(
            self.phases.len() >= 4 * self.of_phase && self.transformed.len() >= POINTS * all,
            "bug: too little room"
        );
        assert!(self.of_phase > step + below && step.is_multiple_of(S::F32_LANES), "bug: phases are too short");
        for (c, channel) in self.channels.clone().enumerate() {
            self.place(channel);
            for at in (0..step).step_by(S::F32_LANES) {
                let mut tile = [[simd.splat_f32s(0.0); 4]; 4];
                // SAFETY: at + lanes ≤ step, so the assertions bound the loads, of which the last begins at + below + 1 in its
                // phase, and the stores.
                unsafe {
                    for (i, row) in tile.iter_mut().enumerate() {
                        for (j, number) in row.iter_mut().enumerate() {
                            let phase = (i % 2 * 2 + j % 2) * self.of_phase;
                            *number = load(self.phases.as_ptr().add(phase + at + i / 2 * below + j / 2));
                        }
                    }
                    let tile = both_ways::<Bt, S, 4, 4>(simd, tile);
                    for (point, &number) in tile.as_flattened().iter().enumerate() {
                        store(self.transformed.as_mut_ptr().add(point * all + c * step + at), number);
                    }
                }
            }
        }
    }
}

/// The pixels of each tile of an image of so many pixels, row by row of tiles; `None` for those outside.
fn pixels_of_tiles(n_pixels: usize, q: usize) -> Vec<[[Option<usize>; 2]; 2]> {
    let tile = |i: usize, j: usize| {
        let pixel = |row: usize, column: usize| {
            let pixel = row * q + column;
            (column < q && pixel < n_pixels).then_some(pixel)
        };
        [0, 1].map(|a| [0, 1].map(|b| pixel(2 * i + a, 2 * j + b)))
    };
    let rows = (n_pixels / q).div_ceil(2);
    (0..rows).flat_map(|i| (0..q.div_ceil(2)).map(move |j| (i, j))).map(|(i, j)| tile(i, j)).collect()
}

/// y ← Aᵀ·m·A of every tile, or y + that if `add`. Shapes: transformed (16, tiles, width), y (images, pixels, width).
pub struct Outputs<'a> {
    pub n_pixels: usize,
    pub q: usize,
    pub width: usize,
    pub transformed: &'a [f32],
    pub n_tiles: usize,
    pub add: bool,
    pub y: &'a mut [f32],
}

impl WithSimd for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Outputs { n_pixels, q, width, transformed, n_tiles, add, y } = self;
        let tiles = pixels_of_tiles(n_pixels, q);
        let fits = transformed.len() >= POINTS * n_tiles * width && width.is_multiple_of(S::F32_LANES);
        assert!(fits && y.len() / (n_pixels * width) * tiles.len() <= n_tiles, "bug: too few transformed outputs");
        let mut tile = 0;
        for y in y.chunks_exact_mut(n_pixels * width) {
            for pixels in &tiles {
                for lane in (0..width).step_by(S::F32_LANES) {
                    let mut sums = [[simd.splat_f32s(0.0); 4]; 4];
                    // SAFETY: tile < n_tiles, pixels lie inside the image, and lane + lanes ≤ width.
                    unsafe {
                        for (point, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
                            *sum = load(transformed.as_ptr().add((point * n_tiles + tile) * width + lane));
                        }
                        let sums = both_ways::<At, S, 2, 4>(simd, sums);
                        for (pixel, &sum) in pixels.as_flattened().iter().zip(sums.as_flattened()) {
                            let Some(pixel) = pixel else { continue };
                            let y = y.as_mut_ptr().add(pixel * width + lane);
                            store(y, if add { simd.add_f32s(load(y), sum) } else { sum });
                        }
                    }
                }
                tile += 1;
            }
        }
    }
}

/// A·dy·Aᵀ of every tile. Shapes: dy (images, pixels, width), transformed (16, tiles, width).
pub struct OutputGradients<'a> {
    pub n_pixels: usize,
    pub q: usize,
    pub width: usize,
    pub dy: &'a [f32],
    pub n_tiles: usize,
    pub transformed: &'a mut [f32],
}

impl WithSimd for OutputGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let OutputGradients { n_pixels, q, width, dy, n_tiles, transformed } = self;
        let tiles = pixels_of_tiles(n_pixels, q);
        let fits = transformed.len() >= POINTS * n_tiles * width && width.is_multiple_of(S::F32_LANES);
        assert!(fits && dy.len() / (n_pixels * width) * tiles.len() <= n_tiles, "bug: too little room for gradients");
        let mut tile = 0;
        for dy in dy.chunks_exact(n_pixels * width) {
            for pixels in &tiles {
                for lane in (0..width).step_by(S::F32_LANES) {
                    let mut gradients = [[simd.splat_f32s(0.0); 2]; 2];
                    // SAFETY: tile < n_tiles, pixels lie inside the image, and lane + lanes ≤ width.
                    unsafe {
                        for (gradient, pixel) in gradients.as_flattened_mut().iter_mut().zip(pixels.as_flattened()) {
                            let Some(pixel) = pixel else { continue };
                            *gradient = load(dy.as_ptr().add(pixel * width + lane));
                        }
                        let gradients = both_ways::<A, S, 4, 2>(simd, gradients);
                        for (point, &gradient) in gradients.as_flattened().iter().enumerate() {
                            store(transformed.as_mut_ptr().add((point * n_tiles + tile) * width + lane), gradient);
                        }
                    }
                }
                tile += 1;
            }
        }
    }
}

/// G·g·Gᵀ of the kernels of some channels, from `first` on. Shapes: packed (channels·9, width), transformed (16, C, width). A kernel that
/// is `turned` by half a turn gives the same numbers at other points: G times a column turned over is G times the column, the first
/// and the last number exchanged.
pub struct Weights<'a> {
    pub width: usize,
    pub first: usize,
    pub packed: &'a [f32],
    pub turned: bool,
    pub transformed: &'a mut [f32],
}

impl WithSimd for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Weights { width, first, packed, turned, transformed } = self;
        let of_point = transformed.len() / POINTS;
        let fits = first * width + packed.len() / 9 <= of_point && width.is_multiple_of(S::F32_LANES);
        assert!(fits, "bug: too little room for transformed weights");
        let places = if turned { [3, 1, 2, 0] } else { [0, 1, 2, 3] };
        for (c, kernels) in packed.chunks_exact(9 * width).enumerate() {
            for lane in (0..width).step_by(S::F32_LANES) {
                let mut kernel = [[simd.splat_f32s(0.0); 3]; 3];
                // SAFETY: lane + lanes ≤ width, and the chunks and the assertion bound the rows.
                unsafe {
                    for (tap, weight) in kernel.as_flattened_mut().iter_mut().enumerate() {
                        *weight = load(kernels.as_ptr().add(tap * width + lane));
                    }
                    let kernel = both_ways::<G, S, 4, 3>(simd, kernel);
                    for (row, i) in kernel.iter().zip(places) {
                        for (&weight, j) in row.iter().zip(places) {
                            let at = (4 * i + j) * of_point + (first + c) * width + lane;
                            store(transformed.as_mut_ptr().add(at), weight);
                        }
                    }
                }
            }
        }
    }
}

/// Gᵀ·u·G of every kernel. Shapes: transformed (16, C, width), gradient (C·9, width).
pub struct WeightGradients<'a> {
    pub width: usize,
    pub transformed: &'a [f32],
    pub gradient: &'a mut [f32],
}

impl WithSimd for WeightGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let WeightGradients { width, transformed, gradient } = self;
        let of_point = gradient.len() / 9;
        assert!(transformed.len() >= POINTS * of_point && width.is_multiple_of(S::F32_LANES), "bug: too few points");
        for (c, kernels) in gradient.chunks_exact_mut(9 * width).enumerate() {
            for lane in (0..width).step_by(S::F32_LANES) {
                let mut kernel = [[simd.splat_f32s(0.0); 4]; 4];
                // SAFETY: lane + lanes ≤ width, and the chunks and the assertion bound the rows.
                unsafe {
                    for (point, number) in kernel.as_flattened_mut().iter_mut().enumerate() {
                        *number = load(transformed.as_ptr().add(point * of_point + c * width + lane));
                    }
                    let kernel = both_ways::<Gt, S, 3, 4>(simd, kernel);
                    for (tap, &gradient) in kernel.as_flattened().iter().enumerate() {
                        store(kernels.as_mut_ptr().add(tap * width + lane), gradient);
                    }
                }
            }
        }
    }
}
