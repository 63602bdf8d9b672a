//! Optimiser steps over flat parameter vectors. Twins: `shaders/sgd.wgsl`, `shaders/adam.wgsl`.

use super::case::{Case, Input, Op};
use super::gradient_scale::skips;
use super::threads::CHUNK;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use rayon::prelude::*;

const SGD_SOURCE: &str = include_str!("../../shaders/sgd.wgsl");
const ADAM_SOURCE: &str = include_str!("../../shaders/adam.wgsl");
const ALWAYS: &str = include_str!("../../shaders/step_always.wgsl");
const UNLESS_OVERFLOW: &str = include_str!("../../shaders/step_unless_overflow.wgsl");

const fn kernel(
    name: &'static str,
    source: &'static [&'static str],
    bindings: &'static str,
    constants: &'static [(&'static str, f64)],
) -> Kernel {
    Kernel { name, source, entry: "step", bindings, workgroup: Workgroup::Flat, constants }
}
static SGD_KERNEL: Kernel = kernel("sgd", &[PRELUDE, SGD_SOURCE, ALWAYS], "rww", &[]);
static ADAM_KERNEL: Kernel = kernel("adam", &[PRELUDE, ADAM_SOURCE, ALWAYS], "rwww", &[]);
static SGD_SKIPPING: Kernel =
    kernel("sgd.unless_overflow", &[PRELUDE, SGD_SOURCE, UNLESS_OVERFLOW], "rwwr", &[("STATE", 3.0)]);
static ADAM_SKIPPING: Kernel =
    kernel("adam.unless_overflow", &[PRELUDE, ADAM_SOURCE, UNLESS_OVERFLOW], "rwwwr", &[("STATE", 4.0)]);

/// Numbers of one SGD step.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep {
    /// The learning rate.
    pub lr: f32,
    /// Whether the velocity sums up steps, in which the rate of their time is contained, in place of gradients.
    pub velocity_of_steps: bool,
    /// μ, what is kept of the velocity.
    pub momentum: f32,
    /// λ, added to the gradient (L2).
    pub weight_decay: f32,
    /// Weight decay acts on this many leading words.
    pub n_decayed: usize,
}

impl SgdStep {
    /// What the gradient is multiplied with on its way into the velocity, and the velocity on its way into the weights.
    fn rates(self) -> [f32; 2] {
        if self.velocity_of_steps { [self.lr, 1.0] } else { [1.0, self.lr] }
    }
}

/// g ← gradient + weight_decay·w; v ← momentum·v + g; w ← w − lr·v (as in PyTorch), or, with a velocity of steps,
/// v ← momentum·v + lr·g; w ← w − v (as in Caffe and Lasagne). All of one length. Nothing changes if the state of a [`GradientScale`](super::GradientScale) says that the step is to be skipped.
///
/// # Errors
/// If the lengths differ.
pub fn sgd_step(gradient: &Array, w: &Array, velocity: &Array, step: SgdStep, unless: Option<&Array>) -> Result<()> {
    check_lengths("sgd", gradient, &[w, velocity])?;
    w.expect_same_device("sgd", [gradient, velocity].into_iter().chain(unless))?;
    match w.device() {
        Device::Cpu(_) if unless.is_some_and(skips) => Ok(()),
        Device::Cpu(_) => {
            let gradient = gradient.cpu();
            let [into_velocity, into_weights] = step.rates();
            let (mut w, mut velocity) = (w.cpu_mut(), velocity.cpu_mut());
            let pieces = w.par_chunks_mut(CHUNK).zip(velocity.par_chunks_mut(CHUNK)).zip(gradient.par_chunks(CHUNK));
            pieces.enumerate().for_each(|(piece, ((w, v), g))| {
                for (i, ((w, v), g)) in (piece * CHUNK..).zip(w.iter_mut().zip(v).zip(g)) {
                    let decay = if i < step.n_decayed { step.weight_decay } else { 0.0 };
                    *v = step.momentum * *v + into_velocity * (g + decay * *w);
                    *w -= into_weights * *v;
                }
            });
            Ok(())
        }
        Device::Gpu(gpu) => {
            let n = w.n_elements();
            let [into_velocity, into_weights] = step.rates();
            let numbers = [into_velocity, into_weights, step.momentum, step.weight_decay].map(f32::to_bits);
            let params = [n as u32, step.n_decayed as u32, numbers[0], numbers[1], numbers[2], numbers[3]];
            let grid = Grid::Invocations(n.div_ceil(4));
            match unless {
                None => gpu.launch(&SGD_KERNEL, &[gradient, w, velocity], &params, grid),
                Some(state) => gpu.launch(&SGD_SKIPPING, &[gradient, w, velocity, state], &params, grid),
            }
        }
    }
}

/// Numbers of one Adam step.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// The learning rate.
    pub lr: f32,
    /// β₁, what is kept of the first moment.
    pub beta1: f32,
    /// β₂, what is kept of the second moment.
    pub beta2: f32,
    /// ε, which keeps the quotient finite.
    pub epsilon: f32,
    /// Added to the gradient (L2), not decoupled.
    pub weight_decay: f32,
    /// Weight decay acts on this many leading words.
    pub n_decayed: usize,
    /// 1 for the first step.
    pub t: u32,
}

/// Adam (Kingma & Ba 2015, Algorithm 1), as in PyTorch: g ← gradient + weight_decay·w; m ← β₁m + (1−β₁)g;
/// v ← β₂v + (1−β₂)g²; w ← w − lr·m̂/(√v̂ + ε) with m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ). All of one length. As in
/// [`sgd_step`], a step may be skipped; t counts it all the same.
///
/// # Errors
/// If the lengths differ.
pub fn adam_step(
    gradient: &Array,
    w: &Array,
    m: &Array,
    v: &Array,
    step: AdamStep,
    unless: Option<&Array>,
) -> Result<()> {
    check_lengths("adam", gradient, &[w, m, v])?;
    w.expect_same_device("adam", [gradient, m, v].into_iter().chain(unless))?;
    let correction = |beta: f32| 1.0 - f64::from(beta).powi(step.t as i32);
    // lr·m̂/(√v̂ + ε) = rate·m/(√v·scale + ε)
    let rate = (f64::from(step.lr) / correction(step.beta1)) as f32;
    let scale = (1.0 / correction(step.beta2).sqrt()) as f32;
    match w.device() {
        Device::Cpu(_) if unless.is_some_and(skips) => Ok(()),
        Device::Cpu(_) => {
            let gradient = gradient.cpu();
            let (mut w, mut m, mut v) = (w.cpu_mut(), m.cpu_mut(), v.cpu_mut());
            let state = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
            let pieces = w.par_chunks_mut(CHUNK).zip(state).zip(gradient.par_chunks(CHUNK));
            pieces.enumerate().for_each(|(piece, ((w, (m, v)), g))| {
                for (i, ((w, (m, v)), g)) in (piece * CHUNK..).zip(w.iter_mut().zip(m.iter_mut().zip(v)).zip(g)) {
                    let decay = if i < step.n_decayed { step.weight_decay } else { 0.0 };
                    let g = g + decay * *w;
                    *m = step.beta1 * *m + (1.0 - step.beta1) * g;
                    *v = step.beta2 * *v + (1.0 - step.beta2) * g * g;
                    *w -= rate * *m / (v.sqrt() * scale + step.epsilon);
                }
            });
            Ok(())
        }
        Device::Gpu(gpu) => {
            let n = w.n_elements();
            let numbers = [rate, scale, step.beta1, step.beta2, step.epsilon, step.weight_decay].map(f32::to_bits);
            let mut params = vec![n as u32, step.n_decayed as u32];
            params.extend(numbers);
            let grid = Grid::Invocations(n.div_ceil(4));
            match unless {
                None => gpu.launch(&ADAM_KERNEL, &[gradient, w, m, v], &params, grid),
                Some(state) => gpu.launch(&ADAM_SKIPPING, &[gradient, w, m, v, state], &params, grid),
            }
        }
    }
}

fn check_lengths(op: &'static str, gradient: &Array, others: &[&Array]) -> Result<()> {
    let n = gradient.n_elements();
    if others.iter().any(|array| array.n_elements() != n) {
        return Err(Error::op(op, format!("{n} gradients, but parameters or state of another length")));
    }
    if others.iter().chain([&gradient]).any(|array| array.dtype() != DType::F32) {
        return Err(Error::op(op, "gradients, parameters and state must hold numbers"));
    }
    Ok(())
}

/// A copy that a step may change.
fn own(x: &Tensor) -> Result<Array> {
    let own = Array::empty(&x.device(), x.shape(), x.array().dtype())?;
    crate::device::copy(x.array(), &own)?;
    Ok(own)
}

fn zeros(x: &Tensor) -> Result<Array> {
    Array::from_f32(&x.device(), x.shape(), &vec![0.0; x.n_elements()])
}

/// Parameters after one step for each further input.
fn run_sgd(x: &[Tensor], momentum: f32, weight_decay: f32, velocity_of_steps: bool) -> Result<Tensor> {
    let (w, velocity) = (own(&x[0])?, zeros(&x[0])?);
    for gradient in &x[1..] {
        let step = SgdStep { lr: 0.1, velocity_of_steps, momentum, weight_decay, n_decayed: w.n_elements() };
        sgd_step(gradient.array(), &w, &velocity, step, None)?;
    }
    Ok(Tensor::constant(w))
}

fn run_adam(x: &[Tensor], weight_decay: f32, n_decayed: usize) -> Result<Tensor> {
    let (w, m, v) = (own(&x[0])?, zeros(&x[0])?, zeros(&x[0])?);
    for (t, gradient) in (1..).zip(&x[1..]) {
        let step = AdamStep { lr: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, n_decayed, t };
        adam_step(gradient.array(), &w, &m, &v, step, None)?;
    }
    Ok(Tensor::constant(w))
}

/// Parameters and three gradients.
fn inputs() -> Vec<Input> {
    (0..4).map(|_| Input { gradient: false, ..Input::random([301]) }).collect()
}

pub static SGD: Op = Op {
    name: "sgd",
    formula: "v = μv + g + λw, w = w − lr·v",
    shaders: &["sgd", "step_always", "step_unless_overflow"],
    kernels: &[&SGD_KERNEL, &SGD_SKIPPING],
    gradient: false,
    cases: || {
        vec![
            Case::new("momentum_decay", inputs(), |x| run_sgd(x, 0.9, 0.01, false)),
            Case::new("velocity_of_steps", inputs(), |x| run_sgd(x, 0.9, 0.01, true)),
            Case::new("plain", inputs(), |x| run_sgd(x, 0.0, 0.0, false)),
        ]
    },
    refuses: |device| {
        let [a, b] = [2, 3].map(|n| Array::from_f32(device, [n], &vec![0.0; n]));
        let (a, b) = (a?, b?);
        let step = SgdStep { lr: 0.1, velocity_of_steps: false, momentum: 0.0, weight_decay: 0.0, n_decayed: 0 };
        sgd_step(&a, &b, &b, step, None).map(|()| Tensor::constant(b))
    },
};

pub static ADAM: Op = Op {
    name: "adam",
    formula: "w = w − lr·m̂/(√v̂ + ε)",
    shaders: &["adam", "step_always", "step_unless_overflow"],
    kernels: &[&ADAM_KERNEL, &ADAM_SKIPPING],
    gradient: false,
    cases: || {
        vec![
            Case::new("decay", inputs(), |x| run_adam(x, 0.01, x[0].n_elements())),
            Case::new("plain", inputs(), |x| run_adam(x, 0.0, 0)),
            Case::new("decayed_prefix", inputs(), |x| run_adam(x, 0.5, 100)),
        ]
    },
    refuses: |device| {
        let [a, b] = [2, 3].map(|n| Array::from_f32(device, [n], &vec![0.0; n]));
        let (a, b) = (a?, b?);
        let (lr, beta1, beta2, epsilon) = (0.1, 0.9, 0.999, 1e-8);
        let step = AdamStep { lr, beta1, beta2, epsilon, weight_decay: 0.0, n_decayed: 0, t: 1 };
        adam_step(&a, &b, &b, &b, step, None).map(|()| Tensor::constant(b))
    },
};
