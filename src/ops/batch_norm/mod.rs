//! Batch normalisation (Ioffe and Szegedy 2015) with the residual sum and the ReLU that follow it, in one pass over the
//! numbers. Twins: `shaders/batch_norm_forward.wgsl`, `batch_norm_backward.wgsl`, on hardware `…_wide.wgsl`, all of them on
//! `batch_norm.wgsl` and `batch_norm_moments.wgsl`.

mod cpu;
mod gpu;

pub(super) use cpu::at_least;
pub(super) use gpu::takes_moments;

use super::case::{Case, Fill, Input, Op, Tolerance};
use crate::device::{Array, DType, Device};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

/// Which mean and variance a batch norm goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Those of the batch, towards which the running ones move.
    Train,
    /// Those of the batch; the running ones stay.
    Frozen,
    /// The running ones.
    Eval,
}

/// What a batch norm works with besides its input.
#[derive(Clone, Copy)]
pub struct BatchNorm<'a> {
    /// γ, (C).
    pub weight: &'a Tensor,
    /// β, (C).
    pub bias: &'a Tensor,
    /// Running means, then running variances: (2, C).
    pub running: &'a Array,
    /// Which mean and variance.
    pub mode: Mode,
    /// Weight of a batch in the running statistics.
    pub momentum: f32,
    /// Added to the variance.
    pub epsilon: f32,
    /// Added to the result: (N, C, H, W); or (N, C′, H′, W′) with C′ ≤ C, of which every s-th pixel is taken, where
    /// H = ⌈H′/s⌉ and W = ⌈W′/s⌉, and which zero channels surround, ⌊(C − C′)/2⌋ of them in front (option A of He et al.
    /// 2016).
    pub residual: Option<&'a Tensor>,
    /// Cuts off what is negative in the end.
    pub relu: bool,
}

impl BatchNorm<'_> {
    /// Numbers that y must exceed for a gradient to pass.
    pub(super) fn lowest(&self) -> f32 {
        if self.relu { 0.0 } else { -f32::MAX }
    }

    /// Scale and shift of every channel by the running statistics, on the CPU.
    pub(super) fn affine(&self) -> (Vec<f32>, Vec<f32>) {
        let (weight, bias) = (self.weight.array().cpu(), self.bias.array().cpu());
        let running = self.running.cpu();
        let (mean, variance) = running.split_at(weight.len());
        let scales: Vec<f32> = weight.iter().zip(variance).map(|(w, v)| w / (v + self.epsilon).sqrt()).collect();
        let shifts = bias.iter().zip(mean).zip(&scales).map(|((b, mean), scale)| b - mean * scale).collect();
        (scales, shifts)
    }
}

/// Sizes of one batch norm: N batch, C channels, H·W pixels.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    n: usize,
    c: usize,
    inner: usize,
    /// Columns of y.
    width: usize,
    residual: Residual,
    mode: Mode,
    momentum: f32,
    epsilon: f32,
    relu: bool,
    /// Numbers that y must exceed for a gradient to pass.
    lowest: f32,
}

/// How a residual lies in the sum.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Residual {
    None,
    Same,
    Subsampled { c: usize, h: usize, w: usize, stride: usize, first: usize },
}

impl Residual {
    /// As the kernels number them.
    fn kind(self) -> usize {
        match self {
            Residual::None => 0,
            Residual::Same => 1,
            Residual::Subsampled { .. } => 2,
        }
    }
}

/// What the backward pass needs of a channel.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Channel {
    scale: f32,
    shift: f32,
    mean: f32,
    inverse: f32,
}

impl Tensor {
    /// y = act((x − mean) / √(var + ε) · weight + bias + residual) with mean and variance of each channel, over the batch and
    /// the pixels (the biased variance), or running ones. Shapes: x (N, C) or (N, C, H, W) → y, the same.
    ///
    /// With dz = dy where y > 0 (everywhere without ReLU) and x̂ the normalised input: dbias = Σ dz, dweight = Σ dz·x̂,
    /// dx = weight/√(var + ε) · (dz − (dbias + x̂·dweight)/(N·H·W)), without the mean terms in [`Mode::Eval`]; dresidual = dz.
    /// Running variances are unbiased, as PyTorch's are.
    ///
    /// # Errors
    /// If the shapes do not fit, or a batch has a single number per channel and is to be its own statistics.
    pub fn batch_norm(&self, norm: &BatchNorm) -> Result<Tensor> {
        self.batch_norm_of(norm, None)
    }

    /// The same, with the moments of parts of x where whoever made it knows them: (C, parts, 4), as shaders/batch_norm_moments.wgsl has
    /// them.
    pub(super) fn batch_norm_of(&self, norm: &BatchNorm, moments: Option<&Array>) -> Result<Tensor> {
        let sizes = Sizes::new(self, norm)?;
        let device = self.device();
        let y = Array::empty(&device, self.shape(), DType::F32)?;
        let table = Array::empty(&device, [sizes.c, 4], DType::F32)?;
        sizes.forward(self.array(), norm, moments, &table, &y)?;
        let saved = || BatchNormBackward { sizes, x: self.array().clone(), table, y: y.clone() };
        let inputs: Vec<&Tensor> = [self, norm.weight, norm.bias].into_iter().chain(norm.residual).collect();
        Ok(Tensor::from_op("batch_norm", y.clone(), &inputs, saved))
    }
}

impl Sizes {
    fn new(x: &Tensor, norm: &BatchNorm) -> Result<Sizes> {
        let &BatchNorm { weight, bias, running, mode, momentum, epsilon, residual, relu } = norm;
        for tensor in [x, weight, bias].into_iter().chain(residual) {
            tensor.expect_f32("batch_norm")?;
            x.expect_same_device("batch_norm", tensor)?;
        }
        x.array().expect_same_device("batch_norm", [running])?;
        let refuse = |what: String| Err(Error::op("batch_norm", format!("{what}; the input is {}", x.shape())));
        let (n, c, inner) = x.shape().batch_channels_inner();
        if *weight.shape() != [c] || *bias.shape() != [c] || *running.shape() != [2, c] {
            let (w, b, r) = (weight.shape(), bias.shape(), running.shape());
            return refuse(format!(
                "weight {w}, bias {b} and running statistics {r} are not [{c}], [{c}] and [2, {c}]"
            ));
        }
        if mode != Mode::Eval && n * inner == 1 {
            return refuse(
                "a batch norm over a single value per channel has no variance. Choose a --batch-size that leaves no last \
                 batch of one picture, leave that batch out with --drop-last true, or use larger pictures"
                    .into(),
            );
        }
        let kind = match residual {
            None => Residual::None,
            Some(residual) if residual.shape() == x.shape() => Residual::Same,
            Some(residual) => match subsampled(&x.shape(), &residual.shape()) {
                Some(kind) => kind,
                None => return refuse(format!("a residual of shape {} does not fit", residual.shape())),
            },
        };
        let width = x.shape().last().copied().unwrap_or(1);
        Ok(Sizes { n, c, inner, width, residual: kind, mode, momentum, epsilon, relu, lowest: norm.lowest() })
    }

    /// Weight of this batch in the running statistics.
    fn update(&self) -> f32 {
        if self.mode == Mode::Train { self.momentum } else { 0.0 }
    }

    fn forward(&self, x: &Array, norm: &BatchNorm, moments: Option<&Array>, table: &Array, y: &Array) -> Result<()> {
        let (weight, bias, running) = (norm.weight.array(), norm.bias.array(), norm.running);
        match x.device() {
            Device::Cpu(_) => {
                let channels = {
                    // One flat buffer may hold both parameters, and may not be locked for writing meanwhile.
                    let (weight, bias) = (weight.cpu(), bias.cpu());
                    cpu::channels(self, &x.cpu(), &weight, &bias, &mut running.cpu_mut())
                };
                let residual = norm.residual.map(|residual| residual.array().cpu());
                cpu::forward(self, &x.cpu(), &channels, residual.as_deref(), &mut y.cpu_mut());
                table.cpu_mut().copy_from_slice(bytemuck::cast_slice(&channels));
                Ok(())
            }
            Device::Gpu(gpu) => gpu::forward(&gpu, self, x, norm, moments, table, y),
        }
    }
}

/// Whether a batch norm can add a residual of this shape to a sum of that one.
pub fn residual_fits(sum: &[usize], residual: &[usize]) -> bool {
    sum == residual || subsampled(sum, residual).is_some()
}

/// How a residual of another shape is added to a sum, if it can be.
fn subsampled(sum: &[usize], residual: &[usize]) -> Option<Residual> {
    let (&[n, c, h, w], &[residual_n, residual_c, residual_h, residual_w]) = (sum, residual) else { return None };
    let stride = residual_h.div_ceil(h).max(residual_w.div_ceil(w));
    let fits =
        residual_n == n && residual_c <= c && residual_h.div_ceil(stride) == h && residual_w.div_ceil(stride) == w;
    let first = (c.checked_sub(residual_c)?) / 2;
    fits.then_some(Residual::Subsampled { c: residual_c, h: residual_h, w: residual_w, stride, first })
}

struct BatchNormBackward {
    sizes: Sizes,
    x: Array,
    table: Array,
    y: Array,
}

impl BatchNormBackward {
    fn channels(&self) -> Vec<Channel> {
        bytemuck::cast_slice(&self.table.cpu()).to_vec()
    }

    /// Gives a residual of another shape its gradient.
    fn spread(&self, dz: &Array, dresidual: &Array) -> Result<()> {
        match dz.device() {
            Device::Cpu(_) => {
                cpu::spread(&self.sizes, &dz.cpu(), &mut dresidual.cpu_mut());
                Ok(())
            }
            Device::Gpu(gpu) => gpu::spread(&gpu, &self.sizes, dz, dresidual),
        }
    }
}

impl Backward for BatchNormBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let sizes = &self.sizes;
        let device = dy.device();
        let mut place = |i: usize, shape: &[usize]| match inputs.wants(i) {
            true => inputs.place(i),
            false => Array::empty(&device, crate::shape::Shape::new(shape)?, DType::F32),
        };
        let dx = place(0, &self.x.shape())?;
        let (dweight, dbias) = (place(1, &[sizes.c])?, place(2, &[sizes.c])?);
        // The gradient that reaches the sum. Where it is not dy it gets an array of its own; where the residual has the
        // sum's shape, that array is the residual's gradient.
        let masked = sizes.relu && sizes.residual != Residual::None;
        let dz = if masked { Array::empty(&device, dy.shape(), DType::F32)? } else { dy.clone() };
        match &device {
            Device::Cpu(_) => {
                let mut own = masked.then(|| dz.cpu_mut());
                let channels = self.channels();
                let sums = cpu::reduce(sizes, &dy.cpu(), &self.x.cpu(), &self.y.cpu(), &channels, own.as_deref_mut());
                drop(own);
                cpu::backward(sizes, &dz.cpu(), &self.x.cpu(), &channels, &sums, &mut dx.cpu_mut());
                for (to, [dz, _]) in dbias.cpu_mut().iter_mut().zip(&sums) {
                    *to = *dz;
                }
                for ((to, [_, dz_x]), channel) in dweight.cpu_mut().iter_mut().zip(&sums).zip(channels) {
                    *to = dz_x * channel.inverse;
                }
            }
            Device::Gpu(gpu) => {
                let (x, table, y) = (&self.x, &self.table, &self.y);
                let own = masked.then_some(&dz);
                let gradients = gpu::Gradients { dy, x, table, y, dz: own, dx: &dx, dweight: &dweight, dbias: &dbias };
                gpu::backward(gpu, sizes, &gradients)?;
            }
        }
        if !inputs.has(3) || !inputs.wants(3) {
            return Ok(());
        }
        match sizes.residual {
            Residual::Subsampled { .. } => self.spread(&dz, &inputs.place(3)?),
            _ => inputs.pass(3, &dz),
        }
    }
}

/// A batch norm of the first inputs: x, weight, bias, running statistics and, if there is a fifth, a residual.
fn run(x: &[Tensor], mode: Mode, relu: bool) -> Result<Tensor> {
    // Running statistics change; the case's input must not.
    let running = Tensor::from_f32(&x[3].device(), x[3].shape(), &x[3].to_vec()?)?;
    let (weight, bias, running, residual) = (&x[1], &x[2], running.array(), x.get(4));
    x[0].batch_norm(&BatchNorm { weight, bias, running, mode, momentum: 0.1, epsilon: 1e-3, residual, relu })
}

/// Inputs of a case; the running variances must be positive, and so are the means.
fn inputs<const R: usize>(x: [usize; R], residual: Option<[usize; 4]>) -> Vec<Input> {
    let c = x[1];
    let mut inputs = vec![
        Input::random(x),
        Input::new([c], Fill::AwayFromZero),
        Input::random([c]),
        Input::constant([2, c], Fill::Uniform(0.5, 1.5)),
    ];
    inputs.extend(residual.map(Input::random));
    inputs
}

pub static OP: Op = Op {
    name: "batch_norm",
    formula: "y = act((x − mean) / √(var + ε) · weight + bias + residual)",
    shaders: &[
        "batch_norm",
        "batch_norm_moments",
        "batch_norm_forward",
        "batch_norm_backward",
        "batch_norm_forward_wide",
        "batch_norm_backward_wide",
        "add_up",
        "values_4",
        "values_1",
    ],
    kernels: gpu::ALL,
    gradient: true,
    cases: || {
        let sum = Tolerance::Normalized;
        vec![
            Case::new("train", inputs([3, 4, 5, 2], None), |x| run(x, Mode::Train, false)).tolerance(sum),
            Case::new("frozen_matrix", inputs([7, 5], None), |x| run(x, Mode::Frozen, false)).tolerance(sum),
            Case::new("eval", inputs([3, 4, 5, 2], None), |x| run(x, Mode::Eval, false)).tolerance(sum),
            Case::new("relu", inputs([3, 4, 5, 2], None), |x| run(x, Mode::Train, true))
                .tolerance(sum)
                .without_differences(),
            Case::new("residual", inputs([3, 4, 5, 2], Some([3, 4, 5, 2])), |x| run(x, Mode::Train, false))
                .tolerance(sum),
            Case::new("residual_relu", inputs([3, 4, 5, 2], Some([3, 4, 5, 2])), |x| run(x, Mode::Train, true))
                .tolerance(sum)
                .without_differences(),
            Case::new("option_a", inputs([2, 5, 3, 4], Some([2, 2, 5, 7])), |x| run(x, Mode::Train, false))
                .tolerance(sum),
            Case::new("option_a_relu", inputs([2, 5, 3, 4], Some([2, 2, 5, 7])), |x| run(x, Mode::Eval, true))
                .tolerance(sum)
                .without_differences(),
            Case::new("several_slices", inputs([35, 3, 17, 19], None), |x| run(x, Mode::Train, false))
                .tolerance(sum)
                .without_differences(),
            // On hardware four pixels at once: in one dispatch; in slices; with planes longer than a workgroup.
            Case::new("fours", inputs([7, 5, 4, 3], None), |x| run(x, Mode::Train, false)).tolerance(sum),
            Case::new("fours_residual", inputs([9, 3, 2, 6], Some([9, 3, 2, 6])), |x| run(x, Mode::Train, true))
                .tolerance(sum)
                .without_differences(),
            Case::new("fours_option_a", inputs([6, 7, 2, 2], Some([6, 4, 3, 4])), |x| run(x, Mode::Train, true))
                .tolerance(sum)
                .without_differences(),
            Case::new("slices_of_fours", inputs([67, 3, 24, 22], None), |x| run(x, Mode::Train, true))
                .tolerance(sum)
                .without_differences(),
            Case::new("slices_with_residual", inputs([39, 2, 30, 30], Some([39, 2, 30, 30])), |x| {
                run(x, Mode::Train, true)
            })
            .tolerance(sum)
            .without_differences(),
            Case::new("odd_slices_with_residual", inputs([43, 2, 17, 15], Some([43, 1, 33, 30])), |x| {
                run(x, Mode::Frozen, true)
            })
            .tolerance(sum)
            .without_differences(),
            Case::new("long_planes", inputs([3, 2, 124, 100], None), |x| run(x, Mode::Frozen, true))
                .tolerance(sum)
                .without_differences(),
            Case::new("slices_eval", inputs([39, 2, 30, 30], Some([39, 2, 30, 30])), |x| run(x, Mode::Eval, true))
                .tolerance(sum)
                .without_differences(),
            // Far from 0 in terms of their spread: the mean must not lose the digits of the differences.
            Case::new(
                "offset",
                vec![
                    Input::new([33, 2, 8, 6], Fill::Uniform(9.0, 11.0)),
                    Input::new([2], Fill::AwayFromZero),
                    Input::random([2]),
                    Input::constant([2, 2], Fill::Uniform(0.5, 1.5)),
                ],
                |x| run(x, Mode::Train, false),
            )
            .tolerance(sum)
            .without_differences(),
        ]
    },
    refuses: |device| {
        let zeros = |shape: [usize; 2]| Tensor::from_f32(device, shape, &vec![0.0; shape[0] * shape[1]]);
        run(&[zeros([4, 3])?, zeros([2, 2])?, zeros([2, 2])?, zeros([2, 3])?], Mode::Train, false)
    },
};
