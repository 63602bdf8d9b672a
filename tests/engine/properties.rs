//! Every op of the table on random shapes: the GPU agrees with the CPU, derivatives agree with finite differences, products with
//! plain loops; and for any shapes and types an op returns a result or an error, and never panics.
//!
//! The suite draws the same few shapes every time; `PROPTEST_CASES=500 cargo test --release --test engine properties::` draws more, and
//! different ones.

use crate::common;
use engram::device::{Array, DType};
use engram::ops::{self, AdamStep, BatchNorm, Case, Conv2d, Draw, Fill, Input, Mode, Normalization, Op, SgdStep};
use engram::ops::{Tolerance, compare};
use engram::shape::Shape;
use engram::tensor::check_gradients;
use engram::{Device, Error, Result, Tensor};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

type Run = fn(&[Tensor]) -> Result<Tensor>;

/// Sizes of the axes that ops have, and a number that picks a variant.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    k: usize,
    variant: usize,
}

fn sizes(most: [usize; 5]) -> impl Strategy<Value = Sizes> {
    let [n, c, h, w, k] = most;
    (1..=n, 1..=c, 1..=h, 1..=w, 1..=k, 0..720usize).prop_map(|(n, c, h, w, k, variant)| Sizes {
        n,
        c,
        h,
        w,
        k,
        variant,
    })
}

const USUAL: [usize; 5] = [19, 18, 13, 11, 6];
const TINY: [usize; 5] = [3, 4, 5, 4, 3];

impl Sizes {
    fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.variant % of.len()]
    }

    /// A shape of one to four axes.
    fn any_shape(&self) -> Shape {
        let axes = [self.n, self.c, self.h, self.w];
        Shape::new(&axes[..1 + self.variant % 4]).unwrap()
    }

    /// (N, C) or (N, C, H, W).
    fn channels_shape(&self) -> Shape {
        let axes = [self.n, self.c, self.h, self.w];
        Shape::new(&axes[..2 + 2 * (self.variant % 2)]).unwrap()
    }
}

/// Sizes of the second axis, 0 where there is none.
fn channels(x: &Tensor) -> usize {
    x.shape().get(1).copied().unwrap_or(0)
}

fn average<const K: usize, const STRIDE: usize, const PADDING: usize>(x: &[Tensor]) -> Result<Tensor> {
    x[0].avg_pool2d(ops::Windows { kernel: [K; 2], stride: [STRIDE; 2], padding: [PADDING; 2] })
}
/// Padding, size of a window, call.
const AVG_POOLS: [(usize, usize, Run); 6] = [
    (0, 2, average::<2, 2, 0>),
    (0, 3, average::<3, 1, 0>),
    (2, 4, average::<4, 1, 2>),
    (6, 12, average::<12, 1, 6>),
    (1, 3, average::<3, 2, 1>),
    (0, 1, average::<1, 3, 0>),
];
const RESIZES: [Run; 5] = [
    |x| x[0].resize_bilinear(8, 12),
    |x| x[0].resize_bilinear(1, 1),
    |x| x[0].resize_bilinear(3, 17),
    |x| x[0].resize_bilinear(2 * x[0].shape().get(2).copied().unwrap_or(1), 4),
    |x| x[0].resize_bilinear(13, 5),
];

fn columns(x: &Tensor) -> usize {
    x.shape().rows_cols().1
}

/// The passes over filters in turn: h filters that have half of the numbers, and w that have the rest.
fn filters(x: &[Tensor]) -> Result<Tensor> {
    let (w, n) = (x[0].shape()[0], x[2].shape()[0]);
    let h = x[1].n_elements().saturating_sub(w);
    let (flat, sums) = (copy(&x[0])?, copy(&x[1])?);
    let length = x[0].n_elements() / (2 * h.max(1));
    let second = x[0].n_elements().saturating_sub(h * length) / w;
    let runs = [ops::FilterRun { start: 0, n: h, length }, ops::FilterRun { start: h * length, n: w, length: second }];
    let filters = ops::Filters::new(&flat.device(), &runs)?;
    let dots = Array::empty(&flat.device(), [n, 2], DType::F32)?;
    filters.add_means(&flat, 0.3, &sums)?;
    filters.dots(x[2].array(), &sums, &dots)?;
    filters.add_gradient(&flat, x[2].array(), &dots, 0.1)?;
    Ok(Tensor::constant(flat))
}

const fn conv(stride: usize, padding: usize, dilation: usize) -> Conv2d {
    Conv2d { stride, padding, dilation }
}
const CONVS: [Conv2d; 9] = [
    conv(1, 0, 1),
    conv(1, 1, 1),
    conv(1, 2, 1),
    conv(2, 0, 1),
    conv(2, 1, 1),
    conv(3, 2, 1),
    conv(1, 3, 2),
    conv(2, 1, 2),
    conv(2, 2, 3),
];
fn run_conv<const I: usize>(x: &[Tensor]) -> Result<Tensor> {
    x[0].conv2d(&x[1], x.get(2), CONVS[I])
}
const RUN_CONV: [Run; 9] = [
    run_conv::<0>,
    run_conv::<1>,
    run_conv::<2>,
    run_conv::<3>,
    run_conv::<4>,
    run_conv::<5>,
    run_conv::<6>,
    run_conv::<7>,
    run_conv::<8>,
];

fn run_folded<const I: usize>(x: &[Tensor]) -> Result<Tensor> {
    let (weight, bias, running, residual) = (&x[2], &x[3], x[4].array(), x.get(5));
    let (mode, momentum, epsilon, relu) = (Mode::Eval, 0.1, 1e-3, I.is_multiple_of(2));
    let norm = BatchNorm { weight, bias, running, mode, momentum, epsilon, residual, relu };
    x[0].conv2d_batch_norm(&x[1], (I.is_multiple_of(3)).then_some(bias), CONVS[I], &norm)
}
const RUN_FOLDED: [Run; 9] = [
    run_folded::<0>,
    run_folded::<1>,
    run_folded::<2>,
    run_folded::<3>,
    run_folded::<4>,
    run_folded::<5>,
    run_folded::<6>,
    run_folded::<7>,
    run_folded::<8>,
];

fn pool<const SIZE: usize, const STRIDE: usize, const PADDING: usize>(x: &[Tensor]) -> Result<Tensor> {
    x[0].max_pool2d(SIZE, STRIDE, PADDING)
}
const POOLS: [(usize, Run); 7] = [
    (1, pool::<1, 1, 0>),
    (2, pool::<2, 2, 0>),
    (3, pool::<3, 1, 0>),
    (2, pool::<2, 3, 0>),
    (3, pool::<3, 2, 0>),
    (2, pool::<3, 2, 1>),
    (1, pool::<2, 1, 1>),
];

fn sgd(x: &[Tensor]) -> Result<Tensor> {
    let [w, gradient, velocity] = [&x[0], &x[1], &x[2]].map(copy);
    let step = SgdStep {
        lr: 0.1,
        velocity_of_steps: false,
        momentum: 0.9,
        weight_decay: 0.01,
        n_decayed: x[0].n_elements() / 2,
    };
    let (w, gradient, velocity) = (w?, gradient?, velocity?);
    ops::sgd_step(&gradient, &w, &velocity, step, None)?;
    Ok(Tensor::constant(w))
}

fn adam(x: &[Tensor]) -> Result<Tensor> {
    let [w, gradient, m, v] = [&x[0], &x[1], &x[2], &x[3]].map(copy);
    let (w, gradient, m, v) = (w?, gradient?, m?, v?);
    let (lr, beta1, beta2, epsilon) = (0.01, 0.9, 0.999, 1e-8);
    let n_decayed = x[0].n_elements() / 2;
    let step = AdamStep { lr, beta1, beta2, epsilon, weight_decay: 0.01, n_decayed, t: 3 };
    ops::adam_step(&gradient, &w, &m, &v, step, None)?;
    Ok(Tensor::constant(w))
}

fn copy(x: &Tensor) -> Result<Array> {
    let y = Array::empty(&x.device(), x.shape(), x.array().dtype())?;
    engram::device::copy(x.array(), &y)?;
    Ok(y)
}

/// Channels, height and width are those of the last input, which serves nothing else.
fn image_batch(x: &[Tensor]) -> Result<Tensor> {
    let normalization = Normalization { mean: x[2].clone(), inverse_std: x[3].clone() };
    let &[c, h, w] = &*x[4].shape() else { return Err(Error::op("image_batch", "no sizes")) };
    ops::image_batch(&x[0], &x[1], &normalization, [c, h, w])
}

/// x, weight, bias, running statistics and perhaps a residual. ε is large, so that a tiny variance does not blow errors up.
fn batch_norm(x: &[Tensor], mode: Mode) -> Result<Tensor> {
    let (weight, bias, residual) = (&x[1], &x[2], x.get(4));
    // Running statistics move; the case's input must not.
    let running = Array::from_f32(&x[3].device(), x[3].shape(), &x[3].to_vec()?)?;
    let norm = BatchNorm { weight, bias, running: &running, mode, momentum: 0.1, epsilon: 0.1, residual, relu: false };
    x[0].batch_norm(&norm)
}

/// A good call of an op on tensors of these sizes.
fn case(op: &Op, s: Sizes) -> Case {
    let Sizes { n, c, h, w, k, variant } = s;
    let any = || Input::random(s.any_shape());
    let matrix = |fill| Input::new([n, c], fill);
    let targets = |fill| Input::constant([n, c], fill);
    let labels = |bound: usize| Input::constant([n], Fill::Indices(bound as u32));
    let logits = || matrix(Fill::Uniform(-3.0, 3.0));
    let sum = Tolerance::Sum;
    let (usual, exponential, exact) = (Tolerance::Elementwise, Tolerance::Exponential, Tolerance::Exact);
    let (inputs, run, tolerance): (Vec<Input>, Run, Tolerance) = match op.name {
        "add" => (vec![any(), any()], |x| x[0].add(&x[1]), usual),
        "sub" => (vec![any(), any()], |x| x[0].sub(&x[1]), usual),
        "mul" => (vec![any(), any()], |x| x[0].mul(&x[1]), usual),
        "scale" => (vec![any()], |x| x[0].scale(-1.5), usual),
        "relu" => (vec![Input::new(s.any_shape(), Fill::AwayFromZero)], |x| x[0].relu(), usual),
        "sigmoid" => (vec![any()], |x| x[0].sigmoid(), exponential),
        "exp" => (vec![any()], |x| x[0].exp(), exponential),
        "log" => (vec![Input::new(s.any_shape(), Fill::Uniform(0.7, 4.0))], |x| x[0].log(), exponential),
        "sqrt" => (vec![Input::new(s.any_shape(), Fill::Uniform(0.7, 4.0))], |x| x[0].sqrt(), usual),
        "bias_add" => {
            (vec![Input::random(s.channels_shape()), Input::random([c])], |x| x[0].bias_add(&x[1]), sum(n * h * w))
        }
        "lerp_channels" => {
            let maps = [s.channels_shape(), s.channels_shape()].map(Input::random);
            let weight = Input::constant([c], Fill::Uniform(0.0, 1.0));
            (maps.into_iter().chain([weight]).collect(), |x| x[0].lerp_channels(&x[1], &x[2]), usual)
        }
        "sum" => (vec![any()], |x| x[0].sum(), sum(n * c * h * w)),
        "mean" => (vec![any()], |x| x[0].mean(), sum(n * c * h * w)),
        "row_sum" => (vec![any()], |x| x[0].row_sum(), sum(c * h * w)),
        "row_mean" => (vec![any()], |x| x[0].row_mean(), sum(c * h * w)),
        "channel_sum" => (vec![Input::random(s.channels_shape())], |x| x[0].channel_sum(), sum(n * h * w)),
        "matmul" => {
            let (m, depth, width) = (4 * n, c * k, 3 * h);
            let runs: [Run; 4] = [
                |x| x[0].matmul(&x[1]),
                |x| x[0].matmul_transposed(false, &x[1], true),
                |x| x[0].matmul_transposed(true, &x[1], false),
                |x| x[0].matmul_transposed(true, &x[1], true),
            ];
            let flip = |rows, columns, flipped| if flipped { [columns, rows] } else { [rows, columns] };
            let a = Input::random(flip(m, depth, variant % 4 >= 2));
            let b = Input::random(flip(depth, width, variant % 2 == 1));
            (vec![a, b], s.pick(&runs), sum(m.max(depth).max(width)))
        }
        "linear" => {
            let mut inputs = vec![Input::random(s.channels_shape())];
            let depth = inputs[0].shape.rows_cols().1;
            inputs.push(Input::random([k, depth]));
            inputs.extend((variant % 3 > 0).then(|| Input::random([k])));
            (inputs, |x| x[0].linear(&x[1], x.get(2)), sum(n.max(depth).max(k)))
        }
        "conv2d" => {
            let (Conv2d { padding, dilation, .. }, run) = (s.pick(&CONVS), s.pick(&RUN_CONV));
            let largest = |size: usize| (size + 2 * padding - 1) / dilation + 1;
            let (kh, kw) = (k.min(largest(h)), (1 + (k + variant) % 6).min(largest(w)));
            // Fewer images and channels: a case is a product of everything.
            let (n, c, o) = (n.div_ceil(5), c.div_ceil(2), 1 + variant % 17);
            let mut inputs = vec![Input::random([n, c, h, w]), Input::random([o, c, kh, kw])];
            inputs.extend((variant % 5 > 0).then(|| Input::random([o])));
            // At a padding of 3 there are at most h + 6 rows of outputs.
            (inputs, run, sum((c * kh * kw).max(o * kh * kw).max(n * (h + 6) * (w + 6))))
        }
        "conv2d_batch_norm" => {
            let (Conv2d { stride, padding, dilation }, run) = (s.pick(&CONVS), s.pick(&RUN_FOLDED));
            let largest = |size: usize| (size + 2 * padding - 1) / dilation + 1;
            let (kh, kw) = (k.min(largest(h)), (1 + (k + variant) % 6).min(largest(w)));
            let (n, c, o) = (n.div_ceil(5), c.div_ceil(2), 1 + variant % 17);
            let uniform = |shape: &[usize]| Input::constant(Shape::new(shape).unwrap(), Fill::Uniform(-1.0, 1.0));
            let mut inputs = vec![uniform(&[n, c, h, w]), uniform(&[o, c, kh, kw]), uniform(&[o]), uniform(&[o])];
            inputs.push(Input::constant([2, o], Fill::Uniform(0.5, 1.5)));
            if variant % 2 == 1 {
                let outputs = |size: usize, k: usize| (size + 2 * padding - dilation * (k - 1) - 1) / stride + 1;
                inputs.push(uniform(&[n, o, outputs(h, kh), outputs(w, kw)]));
            }
            (inputs, run, Tolerance::Normalized)
        }
        "batch_norm" => {
            // At least two images: one number has no variance.
            let (n, c) = (n.div_ceil(3) + 1, c.div_ceil(2));
            let mut inputs = vec![
                Input::random([n, c, h, w]),
                Input::new([c], Fill::AwayFromZero),
                Input::random([c]),
                Input::constant([2, c], Fill::Uniform(0.5, 1.5)),
            ];
            match variant % 3 {
                0 => {}
                1 => inputs.push(Input::random([n, c, h, w])),
                _ => inputs.push(Input::random([n, c.div_ceil(2), 2 * h - 1, 2 * w - 1])),
            }
            let runs: [Run; 3] =
                [|x| batch_norm(x, Mode::Train), |x| batch_norm(x, Mode::Frozen), |x| batch_norm(x, Mode::Eval)];
            (inputs, s.pick(&runs), Tolerance::Normalized)
        }
        "max_pool2d" => {
            let (size, run) = s.pick(&POOLS);
            (vec![Input::new([n.div_ceil(3), c, h.max(size), w.max(size)], Fill::Distinct)], run, usual)
        }
        "global_avg_pool" => (vec![Input::random([n, c, h, w])], |x| x[0].global_avg_pool(), sum(h * w)),
        "avg_pool2d" => {
            let (padded, k, run) = s.pick(&AVG_POOLS);
            let side = |size: usize| size.max(k.saturating_sub(2 * padded)).max(1);
            (vec![Input::random([n.div_ceil(3), c, side(h), side(w)])], run, sum(k * k))
        }
        "resize_bilinear" => (vec![Input::random([n.div_ceil(3), c, h, w])], s.pick(&RESIZES), sum(300)),
        "concat_channels" => {
            let part = |channels: usize| Input::random([n, channels, h, w]);
            let all: Run = |x| Tensor::concat_channels(&x.iter().collect::<Vec<_>>());
            (vec![part(c), part(k), part(1 + variant % 3)], all, usual)
        }
        "narrow_channels" => {
            let runs: [Run; 3] = [
                |x| x[0].narrow_channels(0..channels(&x[0]).div_ceil(2)),
                |x| x[0].narrow_channels(channels(&x[0]) / 2..channels(&x[0])),
                |x| x[0].narrow_channels(0..1),
            ];
            (vec![Input::random(s.channels_shape())], s.pick(&runs), usual)
        }
        "to_pixels" => (vec![Input::random([n, c, h, w])], |x| x[0].to_pixels(), usual),
        "from_pixels" => {
            let run: Run = |x| x[0].from_pixels([x[0].shape()[0] / 6, 2, 3]);
            (vec![Input::random([6 * n, c])], run, usual)
        }
        "pixel_cross_entropy" => {
            let x = Input::new([n.div_ceil(3), c, h, w], Fill::Uniform(-3.0, 3.0));
            // A label of a class that is not active makes the loss not a number.
            let labels = match c {
                1 => Fill::Integers(&[0, ops::IGNORE]),
                _ => Fill::Integers(&[1, 0, ops::IGNORE, 1, 1, 0, 0]),
            };
            let runs: [Run; 3] = [
                |x| x[0].pixel_cross_entropy(&x[1], channels(&x[0]), 0),
                |x| x[0].pixel_cross_entropy(&x[1], channels(&x[0]), channels(&x[0]).div_ceil(2)),
                |x| x[0].pixel_cross_entropy(&x[1], channels(&x[0]).min(2), channels(&x[0]).min(2)),
            ];
            (vec![x, Input::constant([n.div_ceil(3), h, w], labels)], s.pick(&runs), exponential)
        }
        "share_of_labels" => (
            vec![Input::constant(s.any_shape(), Fill::Integers(&[0, ops::IGNORE, 4]))],
            |x| x[0].share_of_labels(),
            usual,
        ),
        "pixel_distillation" => {
            let maps = |channels| [n.div_ceil(3), channels, h, w];
            let (x, t) = (Input::new(maps(c), Fill::Uniform(-3.0, 3.0)), maps(c.div_ceil(2)));
            let runs: [Run; 2] = [
                |x| x[0].pixel_distillation(&x[1], channels(&x[1]), channels(&x[0])),
                |x| x[0].pixel_distillation(&x[1], channels(&x[1]), channels(&x[1])),
            ];
            (vec![x, Input::constant(t, Fill::Uniform(-3.0, 3.0))], s.pick(&runs), exponential)
        }
        "pseudo_labels" => {
            let inputs = vec![
                Input::constant([n.div_ceil(3), c, h, w], Fill::Uniform(-4.0, 4.0)),
                Input::constant([n.div_ceil(3), h, w], Fill::Integers(&[0, ops::IGNORE, 1, 0, 9])),
                Input::constant([c.div_ceil(2)], Fill::Uniform(0.2, 0.8)),
            ];
            let runs: [Run; 2] =
                [|x| Ok(x[0].pseudo_labels(&x[1], &x[2])?.labels), |x| Ok(x[0].pseudo_labels(&x[1], &x[2])?.accepted)];
            (inputs, s.pick(&runs), if variant % 2 == 0 { exact } else { usual })
        }
        "confusion" => {
            fn count(x: &[Tensor]) -> Result<Tensor> {
                let counts = Array::from_u32(&x[2].device(), x[2].shape(), &x[2].to_u32()?)?;
                ops::count_confusion(&x[0], &x[1], &counts)?;
                Ok(Tensor::constant(counts))
            }
            let indices = || Input::constant(s.any_shape(), Fill::Indices(c as u32 + 1));
            (vec![indices(), indices(), Input::constant([c, c], Fill::Integers(&[0, 5, 1 << 20]))], count, exact)
        }
        "l2_normalize" => (vec![matrix(Fill::AwayFromZero)], |x| x[0].l2_normalize(), sum(c)),
        "softmax" => (vec![logits()], |x| x[0].softmax(2.0), exponential),
        "log_softmax" => (vec![logits()], |x| x[0].log_softmax(2.0), exponential),
        "cross_entropy" if variant % 2 == 0 => {
            (vec![logits(), labels(c)], |x| x[0].cross_entropy(&x[1], columns(&x[0])), exponential)
        }
        "cross_entropy" => {
            let first_half: Run = |x| x[0].cross_entropy(&x[1], columns(&x[0]).div_ceil(2));
            (vec![logits(), labels(c.div_ceil(2))], first_half, exponential)
        }
        "kl_div" => {
            let inputs = vec![logits(), targets(Fill::Uniform(-3.0, 3.0))];
            (inputs, |x| x[0].kl_div(&x[1], 2.0), exponential)
        }
        "bce_with_logits" => {
            (vec![logits(), targets(Fill::Uniform(0.0, 1.0))], |x| x[0].bce_with_logits(&x[1]), exponential)
        }
        "mixed_targets" => {
            let runs: [Run; 3] = [
                |x| x[0].mixed_targets(&x[1], 0),
                |x| x[0].mixed_targets(&x[1], columns(&x[0]) / 2),
                |x| x[0].mixed_targets(&x[1], columns(&x[0])),
            ];
            (vec![targets(Fill::Uniform(-3.0, 3.0)), labels(c)], s.pick(&runs), exponential)
        }
        "mse" => {
            let t = Input::constant(s.any_shape(), Fill::Uniform(-1.0, 1.0));
            (vec![any(), t], |x| x[0].mse(&x[1]), exponential)
        }
        "smooth_l1" => {
            // Away from |d| = 1, where the second derivative jumps.
            let t = if variant % 2 == 0 { Fill::Uniform(-0.4, 0.4) } else { Fill::Uniform(2.0, 3.0) };
            let x = Input::new(s.any_shape(), Fill::Uniform(-0.4, 0.4));
            (vec![x, Input::constant(s.any_shape(), t)], |x| x[0].smooth_l1(&x[1]), exponential)
        }
        "partial_mse" => {
            // Away from x = t, where the second derivative jumps.
            let t = if variant % 2 == 0 { Fill::Uniform(-1.0, -0.5) } else { Fill::Uniform(0.5, 1.0) };
            let x = Input::new(s.any_shape(), Fill::Uniform(-0.4, 0.4));
            (vec![x, Input::constant(s.any_shape(), t)], |x| x[0].partial_mse(&x[1]), exponential)
        }
        "target_log_odds" => (
            vec![Input::new([n, c + 1], Fill::Uniform(-3.0, 3.0)), labels(c + 1)],
            |x| x[0].target_log_odds(&x[1], 2.0),
            exponential,
        ),
        "attention_map" => (vec![Input::random([n, c, h, w])], |x| x[0].attention_map(), sum(4 * c)),
        "over_positive_mean" => {
            (vec![matrix(Fill::Uniform(0.5, 2.0))], |x| x[0].over_positive_mean(), Tolerance::Normalized)
        }
        "pair_differences" => (vec![matrix(Fill::Uniform(-1.0, 1.0))], |x| x[0].pair_differences(), sum(2 * n)),
        "gram" => (vec![Input::random([k, n, c])], |x| x[0].gram(), sum(2 * n.max(c))),
        "variational_bound" => (
            vec![Input::random([k, n.min(9), c]), Input::random([k * n.min(9)])],
            |x| x[0].variational_bound(&x[1], 0.5, false),
            Tolerance::Normalized,
        ),
        "squared_distances" => (
            vec![Input::random([n, h]), Input::random([c, h])],
            |x| x[0].squared_distances(&x[1]),
            sum(4 * h.max(n).max(c)),
        ),
        "argmin_rows" => (vec![targets(Fill::Distinct)], |x| x[0].argmin_rows(columns(&x[0]).div_ceil(2)), exact),
        "argmax_rows" => (vec![targets(Fill::Distinct)], |x| x[0].argmax_rows(columns(&x[0])), exact),
        "gather_rows" => {
            let indices = Input::constant([k], Fill::Indices(n as u32));
            (vec![Input::random([n, c]), indices], |x| x[0].gather_rows(&x[1]), sum(k))
        }
        "herding" => {
            let runs: [Run; 2] = [|x| x[0].herding(x[0].shape()[0]), |x| x[0].herding(x[0].shape()[0].div_ceil(2))];
            // One number per row has ties in exact arithmetic, which rounding may break either way.
            (vec![Input::constant([n, c + 1], Fill::Uniform(-1.0, 1.0))], s.pick(&runs), exact)
        }
        "image_batch" => {
            const MINUS: u32 = u32::MAX;
            const UNIT: u32 = Draw::UNIT as u32;
            let draws =
                Fill::Integers(&[1, MINUS, 0, UNIT, MINUS - 1, 2, 1, 2900, 0, 0, 0, UNIT / 2, 30, 0, 1, 2 * UNIT]);
            let mean: Shape = if variant % 2 == 0 { [c].into() } else { [c, h, w].into() };
            let inputs = vec![
                Input::constant([(n * c * h * w).div_ceil(4)], Fill::Words),
                Input::constant([n, 4], draws),
                Input::constant(mean, Fill::Uniform(0.0, 1.0)),
                Input::constant([c], Fill::Uniform(1.0, 4.0)),
                Input::constant([c, h, w], Fill::Values(&[0.0])),
            ];
            (inputs, image_batch, usual)
        }
        "sgd" => ((0..3).map(|_| Input { gradient: false, ..any() }).collect(), sgd, usual),
        "adam" => {
            let moments = Input::constant(s.any_shape(), Fill::Uniform(0.1, 1.0));
            let mut inputs: Vec<Input> = (0..3).map(|_| Input { gradient: false, ..any() }).collect();
            inputs.push(moments);
            (inputs, adam, usual)
        }
        "gradient_scale" => {
            fn scaled_steps(x: &[Tensor]) -> Result<Tensor> {
                let scale = ops::GradientScale::new(&x[0].device())?;
                let (w, velocity) = (copy(&x[0])?, copy(&x[1])?);
                for gradient in &x[1..] {
                    let gradient = copy(gradient)?;
                    scale.unscale(&gradient)?;
                    scale.settle()?;
                    let step =
                        SgdStep { lr: 0.1, velocity_of_steps: false, momentum: 0.9, weight_decay: 0.0, n_decayed: 0 };
                    ops::sgd_step(&gradient, &w, &velocity, step, Some(scale.state()))?;
                }
                Ok(Tensor::constant(w))
            }
            ((0..3).map(|_| Input { gradient: false, ..any() }).collect(), scaled_steps, usual)
        }
        "quarter_turns" => {
            (vec![Input::constant([n, c, h, h], Fill::Uniform(-1.0, 1.0))], |x| ops::quarter_turns(&x[0]), exact)
        }
        "filters" => {
            let inputs = vec![
                Input::constant([w, k * h + h + 1], Fill::Uniform(-1.0, 1.0)),
                Input::constant([1, h + w], Fill::Uniform(-1.0, 1.0)),
                Input::constant([n, h + w], Fill::Uniform(-1.0, 1.0)),
            ];
            (inputs, filters, sum(w * (k + 1) + h + n))
        }
        "penalty" => {
            let runs: [Run; 2] = [
                |x| ops::penalty(x[0].array(), x[1].array(), x[2].array()),
                |x| {
                    let g = copy(&x[0])?;
                    ops::add_penalty_gradient(&g, x[0].array(), x[1].array(), x[2].array(), 0.7)?;
                    Ok(Tensor::constant(g))
                },
            ];
            ((0..3).map(|_| Input { gradient: false, ..any() }).collect(), s.pick(&runs), sum(n * c * h * w))
        }
        "importance" => {
            let runs: [Run; 3] = [
                |x| copy(&x[0]).and_then(|t| ops::add_squares(&t, x[1].array(), 0.3).map(|()| Tensor::constant(t))),
                |x| copy(&x[0]).and_then(|t| ops::add_magnitudes(&t, x[1].array(), 0.3).map(|()| Tensor::constant(t))),
                |x| {
                    let total = copy(&x[0])?;
                    ops::add_path(&total, x[1].array(), x[0].array(), x[1].array())?;
                    Ok(Tensor::constant(total))
                },
            ];
            ((0..2).map(|_| Input { gradient: false, ..any() }).collect(), s.pick(&runs), usual)
        }
        "project" => {
            fn project(x: &[Tensor]) -> Result<Tensor> {
                let (gradient, memory) = (copy(&x[0])?, copy(&x[1])?);
                ops::project(&gradient, &memory)?;
                Ok(Tensor::constant(gradient))
            }
            let inputs = (0..2).map(|_| Input { gradient: false, ..any() }).collect();
            (inputs, project, sum(4 * n * c * h * w))
        }
        "scatter_rows" => {
            fn scatter(x: &[Tensor]) -> Result<Tensor> {
                let table = copy(&x[1])?;
                // Different places, the last of which may lie behind the table's end.
                let slots: Vec<u32> = (1..=x[0].shape().rows_cols().0 as u32).collect();
                let slots = Tensor::from_u32(&x[0].device(), [slots.len()], &slots)?;
                ops::scatter_rows(&x[0], &slots, &table)?;
                Ok(Tensor::constant(table))
            }
            let random = |rows| Input { gradient: false, ..Input::random([rows, c]) };
            (vec![random(n), random(k)], scatter, exact)
        }
        name => panic!("{name} has no generator of random shapes: add one here"),
    };
    Case::new("random", inputs, run).tolerance(tolerance)
}

/// Calls `check` with random sizes for every op, and reports the smallest that fail.
fn for_every_op<T: std::fmt::Debug>(
    n_cases: u32,
    strategy: impl Fn() -> BoxedStrategy<T>,
    check: impl Fn(&'static Op, T) -> Result<(), TestCaseError>,
) {
    let mut failures = Vec::new();
    for op in ops::ALL {
        match runner(n_cases).run(&strategy(), |value| check(op, value)) {
            Ok(()) => (),
            Err(TestError::Fail(why, value)) => failures.push(format!("{}: {why}\n  {value:?}", op.name)),
            Err(error) => failures.push(format!("{}: {error}", op.name)),
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn runner(n_cases: u32) -> TestRunner {
    let config = Config { failure_persistence: None, ..Config::default() };
    TestRunner::new(match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => Config { cases: n_cases, rng_seed: RngSeed::Fixed(1), ..config },
    })
}

fn fail(error: Error) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

#[test]
fn the_gpu_agrees_with_the_cpu_on_random_shapes() {
    for gpu in [common::gpu(false), common::gpu_as_hardware(false)].into_iter().flatten() {
        for_every_op(
            12,
            || sizes(USUAL).boxed(),
            |op, sizes| {
                for comparison in compare(&case(op, sizes), &gpu).map_err(fail)? {
                    prop_assert!(comparison.passes(), "{comparison:?}");
                }
                Ok(())
            },
        );
    }
}

#[test]
fn derivatives_agree_with_finite_differences_on_random_shapes() {
    for_every_op(
        8,
        || sizes(TINY).boxed(),
        |op, sizes| {
            let case = case(op, sizes);
            if op.gradient {
                let inputs = case.tensors(&Device::cpu()).map_err(fail)?;
                let wanted: Vec<bool> = case.inputs.iter().map(|input| input.gradient).collect();
                for error in check_gradients(&case.run, &inputs, &wanted).map_err(fail)? {
                    prop_assert!(error.relative <= 1e-4, "{error:?}");
                }
            }
            Ok(())
        },
    );
}

/// What is done to one input of a good call.
#[derive(Clone, Debug)]
enum Damage {
    Shape(Vec<usize>),
    Type,
}

fn damage() -> impl Strategy<Value = Damage> {
    let shape = prop::collection::vec(1..=6usize, 1..=4).prop_map(Damage::Shape);
    prop_oneof![4 => shape, 1 => Just(Damage::Type)]
}

fn flipped(x: &Tensor) -> Result<Tensor> {
    match x.array().dtype() {
        DType::F32 => Tensor::from_u32(&x.device(), x.shape(), &vec![0; x.n_elements()]),
        DType::U32 => Tensor::from_f32(&x.device(), x.shape(), &vec![0.0; x.n_elements()]),
    }
}

#[test]
fn no_shape_and_no_type_makes_an_op_panic() {
    let devices = [Some(Device::cpu()), common::gpu(false)];
    let strategy = || (sizes(TINY), damage(), 0..4usize).boxed();
    for_every_op(150, strategy, |op, (sizes, damage, at)| {
        let mut case = case(op, sizes);
        let at = at % case.inputs.len();
        if let Damage::Shape(shape) = &damage {
            case.inputs[at].shape = Shape::new(shape).map_err(fail)?;
        }
        let mut answers = Vec::new();
        for device in devices.iter().flatten() {
            let mut inputs = case.tensors(device).map_err(fail)?;
            if matches!(damage, Damage::Type) {
                inputs[at] = flipped(&inputs[at]).map_err(fail)?;
            }
            let answer = (case.run)(&inputs);
            if let Err(error) = &answer {
                prop_assert!(matches!(error, Error::Op { .. }), "not an op's complaint: {error}");
            }
            // The sizes of image_batch come from a tensor here, whose type means nothing.
            let matters = op.name != "image_batch" || at < 4;
            prop_assert!(answer.is_err() || !matters || !matches!(damage, Damage::Type), "labels taken for numbers");
            answers.push(answer.is_ok());
        }
        prop_assert!(answers.iter().all(|&ok| ok == answers[0]), "one device refuses: {answers:?}");
        // An unusual shape that is taken means the same on both.
        if let (true, Damage::Shape(_), Some(gpu)) = (answers[0], &damage, &devices[1]) {
            if !matches!(case.tolerance, Tolerance::Exact | Tolerance::Exponential) {
                case.tolerance = Tolerance::Sum(10_000);
            }
            for comparison in compare(&case, gpu).map_err(fail)? {
                prop_assert!(comparison.passes(), "{comparison:?}");
            }
        }
        Ok(())
    });
}

/// The CPU's products against the definition, in f64.
#[test]
fn products_agree_with_plain_loops() {
    for name in ["matmul", "conv2d"] {
        let op = ops::ALL.iter().find(|op| op.name == name).unwrap();
        let result = runner(100).run(&sizes(USUAL), |s| {
            let case = case(op, s);
            let inputs = case.tensors(&Device::cpu()).map_err(fail)?;
            let y = (case.run)(&inputs).map_err(fail)?;
            let expected =
                if name == "matmul" { plain_matmul(s, &inputs) } else { plain_conv2d(s, &inputs, y.shape()) };
            let y = y.to_vec().map_err(fail)?;
            prop_assert_eq!(y.len(), expected.len());
            for (at, (y, (expected, magnitude))) in y.iter().zip(expected).enumerate() {
                let tolerance = 1e-6 + 1e-6 * magnitude;
                prop_assert!((f64::from(*y) - expected).abs() <= tolerance, "{name}[{at}] = {y}, not {expected}");
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Each sum, and the sum of its terms' sizes.
type Sums = Vec<(f64, f64)>;

fn plain_matmul(s: Sizes, x: &[Tensor]) -> Sums {
    let (transpose_a, transpose_b) = (s.variant % 4 >= 2, s.variant % 2 == 1);
    let (a, b) = (x[0].to_vec().unwrap(), x[1].to_vec().unwrap());
    let [(ra, ca), (rb, cb)] = [x[0].shape().rows_cols(), x[1].shape().rows_cols()];
    let (m, depth) = if transpose_a { (ca, ra) } else { (ra, ca) };
    let n = if transpose_b { rb } else { cb };
    let mut sums = Vec::new();
    for i in 0..m {
        for j in 0..n {
            sums.push((0..depth).fold((0.0, 0.0), |(sum, size), l| {
                let a = a[if transpose_a { l * ca + i } else { i * ca + l }];
                let b = b[if transpose_b { j * cb + l } else { l * cb + j }];
                let term = f64::from(a) * f64::from(b);
                (sum + term, size + term.abs())
            }));
        }
    }
    sums
}

fn plain_conv2d(s: Sizes, x: &[Tensor], y: Shape) -> Sums {
    let Conv2d { stride, padding, dilation } = s.pick(&CONVS);
    let (&[_, c, h, w], &[_, _, kh, kw]) = (&*x[0].shape(), &*x[1].shape()) else { unreachable!() };
    let &[n, o, p, q] = &*y else { unreachable!() };
    let bias = x.get(2).map(|bias| bias.to_vec().unwrap());
    let (weight, image) = (x[1].to_vec().unwrap(), x[0].to_vec().unwrap());
    let mut sums = Vec::new();
    for at in 0..n * o * p * q {
        let (image_idx, out, row, column) = (at / (o * p * q), at / (p * q) % o, at / q % p, at % q);
        let start = bias.as_ref().map_or(0.0, |bias| f64::from(bias[out]));
        let (mut sum, mut size) = (start, start.abs());
        for tap in 0..c * kh * kw {
            let (channel, i, j) = (tap / (kh * kw), tap / kw % kh, tap % kw);
            let (from_row, from_column) = (row * stride + i * dilation, column * stride + j * dilation);
            let inside = (padding..h + padding).contains(&from_row) && (padding..w + padding).contains(&from_column);
            if inside {
                let from = ((image_idx * c + channel) * h + from_row - padding) * w + from_column - padding;
                let term = f64::from(weight[out * c * kh * kw + tap]) * f64::from(image[from]);
                (sum, size) = (sum + term, size + term.abs());
            }
        }
        sums.push((sum, size));
    }
    sums
}
