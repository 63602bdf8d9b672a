//! Batch normalisation on the CPU: threads take images, and sums over the batch add up the images' sums in order.

use super::{Channel, Mode, Residual, Sizes};
use pulp::Arch;
use rayon::prelude::*;

/// Partial sums of a plane: enough that additions need not wait for each other.
const LANES: usize = 64;

/// Scale, shift, mean and inverse deviation of every channel; moves the running statistics (2, C).
pub fn channels(sizes: &Sizes, x: &[f32], weight: &[f32], bias: &[f32], running: &mut [f32]) -> Vec<Channel> {
    let (running_mean, running_var) = running.split_at_mut(sizes.c);
    let count = (sizes.n * sizes.inner) as f64;
    let batch = (sizes.mode != Mode::Eval).then(|| moments(sizes, x));
    (0..sizes.c)
        .map(|c| {
            let (mean, variance) = match &batch {
                Some(moments) => (moments[c].0 as f32, (moments[c].1 / count) as f32),
                None => (running_mean[c], running_var[c]),
            };
            if let Some(moments) = &batch
                && sizes.update() > 0.0
            {
                let unbiased = (moments[c].1 / (count - 1.0)) as f32;
                running_mean[c] += sizes.update() * (mean - running_mean[c]);
                running_var[c] += sizes.update() * (unbiased - running_var[c]);
            }
            let inverse = 1.0 / (variance + sizes.epsilon).sqrt();
            let scale = weight[c] * inverse;
            Channel { scale, shift: bias[c] - mean * scale, mean, inverse }
        })
        .collect()
}

/// Mean and Σ (x − mean)² of every channel: of each plane first, then joined (Chan, Golub, LeVeque 1979).
fn moments(sizes: &Sizes, x: &[f32]) -> Vec<(f64, f64)> {
    let planes: Vec<(f32, f32)> = x
        .par_chunks_exact(sizes.c * sizes.inner)
        .flat_map_iter(|image| {
            Arch::new().dispatch(|| image.chunks_exact(sizes.inner).map(plane_moments).collect::<Vec<_>>())
        })
        .collect();
    let inner = sizes.inner as f64;
    (0..sizes.c)
        .map(|c| {
            let of_channel = || planes[c..].iter().step_by(sizes.c).map(|&(mean, m2)| (f64::from(mean), f64::from(m2)));
            let mean = of_channel().map(|(mean, _)| mean).sum::<f64>() / sizes.n as f64;
            let m2 = of_channel().map(|(plane_mean, m2)| m2 + inner * (plane_mean - mean).powi(2)).sum();
            (mean, m2)
        })
        .collect()
}

#[inline(always)]
fn plane_moments(plane: &[f32]) -> (f32, f32) {
    let mean = lane_sum(plane, |x| x) / plane.len() as f32;
    (mean, lane_sum(plane, |x| (x - mean) * (x - mean)))
}

/// Σ f(x), in lanes that are added at the end.
#[inline(always)]
fn lane_sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let blocks = x.chunks_exact(LANES);
    for (lane, &x) in lanes.iter_mut().zip(blocks.remainder()) {
        *lane = f(x);
    }
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane += f(x);
        }
    }
    lanes.iter().sum()
}

/// The larger of two numbers; NaN if `value` is.
#[inline(always)]
pub fn at_least(lowest: f32, value: f32) -> f32 {
    if value < lowest { lowest } else { value }
}

/// dy where the result `z` of a ReLU, or what went into it, exceeds what is lowest or is NaN.
#[inline(always)]
fn passed(dy: f32, z: f32, lowest: f32) -> f32 {
    if z <= lowest { 0.0 } else { dy }
}

/// y ← max(x · scale + shift + residual, lowest)
pub fn forward(sizes: &Sizes, x: &[f32], channels: &[Channel], residual: Option<&[f32]>, y: &mut [f32]) {
    let (inner, lowest) = (sizes.inner, sizes.lowest);
    let image = sizes.c * inner;
    let of_image = residual.map_or(0, |residual| residual.len() / sizes.n);
    y.par_chunks_exact_mut(image).zip(x.par_chunks_exact(image)).enumerate().for_each(|(n, (y, x))| {
        let residual = residual.map(|residual| &residual[n * of_image..(n + 1) * of_image]);
        Arch::new().dispatch(|| {
            for (c, (y, x)) in y.chunks_exact_mut(inner).zip(x.chunks_exact(inner)).enumerate() {
                let Channel { scale, shift, .. } = channels[c];
                match residual {
                    Some(residual) if sizes.residual == Residual::Same => {
                        let residual = &residual[c * inner..(c + 1) * inner];
                        for ((y, x), residual) in y.iter_mut().zip(x).zip(residual) {
                            *y = at_least(lowest, x * scale + shift + residual);
                        }
                    }
                    _ => {
                        for (y, x) in y.iter_mut().zip(x) {
                            *y = at_least(lowest, x * scale + shift);
                        }
                    }
                }
            }
            if let (Residual::Subsampled { .. }, Some(residual)) = (sizes.residual, residual) {
                // These planes again, with what is added.
                for_subsampled(sizes, |at, from| {
                    let Channel { scale, shift, .. } = channels[at / inner];
                    y[at] = at_least(lowest, x[at] * scale + shift + residual[from]);
                });
            }
        });
    });
}

/// Calls `f` with the place in an image of y and the place in the image of a subsampled residual that is added there.
#[inline(always)]
fn for_subsampled(sizes: &Sizes, mut f: impl FnMut(usize, usize)) {
    let Residual::Subsampled { c, h, w, stride, first } = sizes.residual else { return };
    let height = sizes.inner / sizes.width;
    for channel in 0..c {
        for p in 0..height {
            for q in 0..sizes.width {
                let at = (first + channel) * sizes.inner + p * sizes.width + q;
                f(at, (channel * h + p * stride) * w + q * stride);
            }
        }
    }
}

/// Σ dz and Σ dz · (x − mean) of every channel, where dz is dy wherever y exceeds what is lowest; writes dz if there is a
/// place for it.
pub fn reduce(
    sizes: &Sizes,
    dy: &[f32],
    x: &[f32],
    y: &[f32],
    channels: &[Channel],
    dz: Option<&mut [f32]>,
) -> Vec<[f32; 2]> {
    let (inner, image) = (sizes.inner, sizes.c * sizes.inner);
    let planes: Vec<[f32; 2]> = match dz {
        Some(dz) => dz
            .par_chunks_exact_mut(image)
            .zip(dy.par_chunks_exact(image))
            .zip(x.par_chunks_exact(image).zip(y.par_chunks_exact(image)))
            .flat_map_iter(|((dz, dy), (x, y))| {
                Arch::new().dispatch(|| {
                    let planes = dz.chunks_exact_mut(inner).zip(dy.chunks_exact(inner));
                    let values = x.chunks_exact(inner).zip(y.chunks_exact(inner)).zip(channels);
                    planes
                        .zip(values)
                        .map(|((dz, dy), ((x, y), channel))| {
                            for ((dz, &dy), &y) in dz.iter_mut().zip(dy).zip(y) {
                                *dz = passed(dy, y, 0.0);
                            }
                            plane_sums(dz, x, channel, -f32::MAX)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect(),
        None => dy
            .par_chunks_exact(image)
            .zip(x.par_chunks_exact(image))
            .flat_map_iter(|(dy, x)| {
                Arch::new().dispatch(|| {
                    let planes = dy.chunks_exact(inner).zip(x.chunks_exact(inner)).zip(channels);
                    planes.map(|((dy, x), channel)| plane_sums(dy, x, channel, sizes.lowest)).collect::<Vec<_>>()
                })
            })
            .collect(),
    };
    (0..sizes.c)
        .map(|c| {
            let sum = |i: usize| planes[c..].iter().step_by(sizes.c).map(|sums| f64::from(sums[i])).sum::<f64>() as f32;
            [sum(0), sum(1)]
        })
        .collect()
}

#[inline(always)]
fn plane_sums(dy: &[f32], x: &[f32], channel: &Channel, lowest: f32) -> [f32; 2] {
    let &Channel { scale, shift, mean, .. } = channel;
    let (mut sum, mut product) = ([0.0f32; LANES], [0.0f32; LANES]);
    for (dy, x) in dy.chunks(LANES).zip(x.chunks(LANES)) {
        for (((sum, product), &dy), &x) in sum.iter_mut().zip(&mut product).zip(dy).zip(x) {
            let dz = passed(dy, x * scale + shift, lowest);
            *sum += dz;
            *product += dz * (x - mean);
        }
    }
    [sum.iter().sum(), product.iter().sum()]
}

/// dx ← scale · (dz − (Σ dz + x̂ · Σ dz · x̂) / (N·I)); without the sums where the statistics are running ones.
pub fn backward(sizes: &Sizes, dz: &[f32], x: &[f32], channels: &[Channel], sums: &[[f32; 2]], dx: &mut [f32]) {
    let image = sizes.c * sizes.inner;
    let per_pixel = if sizes.mode == Mode::Eval { 0.0 } else { 1.0 / (sizes.n * sizes.inner) as f32 };
    // What dz leaves to do was masked already where there is a residual.
    let lowest = if sizes.residual == Residual::None { sizes.lowest } else { -f32::MAX };
    dx.par_chunks_exact_mut(image).zip(dz.par_chunks_exact(image).zip(x.par_chunks_exact(image))).for_each(
        |(dx, (dz, x))| {
            Arch::new().dispatch(|| {
                let planes = dz.chunks_exact(sizes.inner).zip(x.chunks_exact(sizes.inner));
                let of_channel = channels.iter().zip(sums);
                for ((dx, (dz, x)), (channel, [sum, product])) in
                    dx.chunks_exact_mut(sizes.inner).zip(planes).zip(of_channel)
                {
                    let &Channel { scale, shift, mean, inverse } = channel;
                    let along = -scale * inverse * inverse * product * per_pixel;
                    let rest = -scale * sum * per_pixel - along * mean;
                    for ((dx, &dz), &x) in dx.iter_mut().zip(dz).zip(x) {
                        let dz = passed(dz, x * scale + shift, lowest);
                        *dx = dz * scale + (x * along + rest);
                    }
                }
            });
        },
    );
}

/// Gives a subsampled residual its gradient.
pub fn spread(sizes: &Sizes, dz: &[f32], dresidual: &mut [f32]) {
    let image = sizes.c * sizes.inner;
    let of_residual = dresidual.len() / sizes.n;
    dresidual.par_chunks_exact_mut(of_residual).zip(dz.par_chunks_exact(image)).for_each(|(to, dz)| {
        to.fill(0.0);
        for_subsampled(sizes, |at, from| to[from] = dz[at]);
    });
}
