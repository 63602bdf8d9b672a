//! Batch normalisation (Ioffe and Szegedy 2015) with the residual sum and the ReLU that follow it, in one pass over the
//! numbers. Twins: `shaders/batch_norm_forward.wgsl`, `batch_norm_backward.wgsl` on `batch_norm.wgsl`.

mod cpu;

use super::case::{Case, Fill, Input, Op, Tolerance};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

const SHARED: &str = include_str!("../../../shaders/batch_norm.wgsl");
const FORWARD_SOURCE: &[&str] = &[PRELUDE, SHARED, include_str!("../../../shaders/batch_norm_forward.wgsl")];
const BACKWARD_SOURCE: &[&str] = &[PRELUDE, SHARED, include_str!("../../../shaders/batch_norm_backward.wgsl")];

const fn forward_kernel(
    name: &'static str,
    entry: &'static str,
    bindings: &'static str,
    constants: &'static [(&'static str, f64)],
) -> Kernel {
    Kernel { name, source: FORWARD_SOURCE, entry, bindings, workgroup: Workgroup::Shared, constants }
}
static STATISTICS: Kernel = forward_kernel("batch_norm.statistics", "statistics", "rw", &[]);
/// By the kind of residual: none, of the result's shape, of another shape.
static FORWARD: [Kernel; 3] = [
    forward_kernel("batch_norm.forward", "forward", "rrrrwrww", &[("RESIDUAL", 0.0)]),
    forward_kernel("batch_norm.forward_residual", "forward", "rrrrwrww", &[("RESIDUAL", 1.0)]),
    forward_kernel("batch_norm.forward_subsampled", "forward", "rrrrwrww", &[("RESIDUAL", 2.0)]),
];

const fn backward_kernel(name: &'static str, entry: &'static str, bindings: &'static str) -> Kernel {
    Kernel { name, source: BACKWARD_SOURCE, entry, bindings, workgroup: Workgroup::Shared, constants: &[] }
}
static REDUCE: Kernel = backward_kernel("batch_norm.reduce", "reduce", "rrrw");
static REDUCE_RESIDUAL: Kernel = backward_kernel("batch_norm.reduce_residual", "reduce_residual", "rrrwrw");
static BACKWARD: Kernel = backward_kernel("batch_norm.backward", "backward", "rrrrwww");
static SPREAD: Kernel = Kernel { workgroup: Workgroup::Flat, ..backward_kernel("batch_norm.spread", "spread", "rw") };

/// Numbers that a slice of the batch has at least, on the GPU.
const SLICE: usize = 4096;
/// Slices at most: each workgroup joins that many partial sums.
const MAX_SLICES: usize = 64;

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
        let sizes = Sizes::new(self, norm)?;
        let device = self.device();
        let y = Array::empty(&device, self.shape(), DType::F32)?;
        let table = Array::empty(&device, [sizes.c, 4], DType::F32)?;
        sizes.forward(self.array(), norm, &table, &y)?;
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
        let refuse = |what: String| Err(Error::op("batch_norm", format!("{what}; the input is {}", x.shape())));
        let (n, c, inner) = x.shape().batch_channels_inner();
        if *weight.shape() != [c] || *bias.shape() != [c] || *running.shape() != [2, c] {
            let (w, b, r) = (weight.shape(), bias.shape(), running.shape());
            return refuse(format!(
                "weight {w}, bias {b} and running statistics {r} are not [{c}], [{c}] and [2, {c}]"
            ));
        }
        if mode != Mode::Eval && n * inner == 1 {
            return refuse("a single number per channel has no variance: use a larger batch".into());
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

    fn forward(&self, x: &Array, norm: &BatchNorm, table: &Array, y: &Array) -> Result<()> {
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
            Device::Gpu(gpu) => {
                let params = self.params();
                let partials = self.partials(x)?;
                if self.mode != Mode::Eval {
                    gpu.launch(&STATISTICS, &[x, &partials], &params, self.grid())?;
                }
                let kind = match self.residual {
                    Residual::None => 0,
                    Residual::Same => 1,
                    Residual::Subsampled { .. } => 2,
                };
                // Without a residual x stands in for the binding and is not read.
                let residual = norm.residual.map_or(x, Tensor::array);
                let bindings = [x, &partials, weight, bias, running, residual, table, y];
                gpu.launch(&FORWARD[kind], &bindings, &params, self.grid())
            }
        }
    }

    /// Images of a slice, and slices.
    fn slices(&self) -> (usize, usize) {
        let n_slices = (self.n * self.inner / SLICE).clamp(1, self.n.min(MAX_SLICES));
        let per_slice = self.n.div_ceil(n_slices);
        (per_slice, self.n.div_ceil(per_slice))
    }

    fn partials(&self, x: &Array) -> Result<Array> {
        Array::empty(&x.device(), [self.slices().1, self.c, 2], DType::F32)
    }

    fn grid(&self) -> Grid {
        Grid::Groups { x: self.c, y: self.slices().1, z: 1 }
    }

    fn params(&self) -> [u32; 16] {
        let (per_slice, n_slices) = self.slices();
        let batch = u32::from(self.mode != Mode::Eval);
        let [n, c, inner, per_slice, n_slices, lanes, width] =
            [self.n, self.c, self.inner, per_slice, n_slices, self.inner.next_power_of_two(), self.width]
                .map(|size| size as u32);
        let residual = match self.residual {
            Residual::Subsampled { c, h, w, stride, first } => [stride, c, h, w, first].map(|size| size as u32),
            _ => [1, c, 1, 1, 0],
        };
        let [stride, residual_c, residual_h, residual_w, first] = residual;
        let [epsilon, momentum, lowest] = [self.epsilon, self.update(), self.lowest].map(f32::to_bits);
        [
            n, c, inner, n_slices, per_slice, lanes, batch, epsilon, momentum, lowest, width, stride, residual_c,
            residual_h, residual_w, first,
        ]
    }
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

/// Where `lowest` stands in the parameter block.
const LOWEST: usize = 9;

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
            Device::Gpu(gpu) => {
                let grid = Grid::Invocations(dresidual.n_elements());
                gpu.launch(&SPREAD, &[dz, dresidual], &self.sizes.params(), grid)
            }
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
                let mut params = sizes.params();
                let partials = sizes.partials(dy)?;
                if masked {
                    let bindings = [dy, &self.x, &self.table, &partials, &self.y, &dz];
                    gpu.launch(&REDUCE_RESIDUAL, &bindings, &params, sizes.grid())?;
                    params[LOWEST] = (-f32::MAX).to_bits();
                } else {
                    gpu.launch(&REDUCE, &[dy, &self.x, &self.table, &partials], &params, sizes.grid())?;
                }
                let bindings = [&dz, &self.x, &self.table, &partials, &dx, &dweight, &dbias];
                gpu.launch(&BACKWARD, &bindings, &params, sizes.grid())?;
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
    shaders: &["batch_norm", "batch_norm_forward", "batch_norm_backward"],
    kernels: &[&STATISTICS, &FORWARD[0], &FORWARD[1], &FORWARD[2], &REDUCE, &REDUCE_RESIDUAL, &BACKWARD, &SPREAD],
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
        ]
    },
    refuses: |device| {
        let zeros = |shape: [usize; 2]| Tensor::from_f32(device, shape, &vec![0.0; shape[0] * shape[1]]);
        run(&[zeros([4, 3])?, zeros([2, 2])?, zeros([2, 2])?, zeros([2, 3])?], Mode::Train, false)
    },
};
