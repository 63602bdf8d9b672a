//! Gradients of a scaled loss: undoing the scale, noticing overflow, and choosing the next scale. Twin:
//! `shaders/gradient_scale.wgsl`.
//!
//! f16 ends at 65,504 and at 6·10⁻⁸. A loss that is multiplied by a power of two brings its gradients into that range, and dividing
//! them by it afterwards is exact. Where the scale is too large something overflows on the way, and the gradients are not
//! finite: such a step is skipped and the scale halves (Micikevicius et al. 2018, section 3.2). All of it stays on the device.

use super::case::{Case, Fill, Input, Op};
use super::optimizer_steps::{SgdStep, sgd_step};
use super::threads::CHUNK;
use crate::device::{self, Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tensor::Tensor;
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/gradient_scale.wgsl")];
const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str, workgroup: Workgroup) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup, constants: &[] }
}
static UNSCALE: Kernel = kernel("gradient_scale.unscale", "unscale", "rww", Workgroup::Flat);
static SETTLE: Kernel = kernel("gradient_scale.settle", "settle", "ww", Workgroup::One);

/// The first scale.
const FIRST: f32 = 65_536.0;
const SMALLEST: f32 = 1.0 / 16_777_216.0;
const LARGEST: f32 = 16_777_216.0;
/// Steps in a row without overflow after which the scale doubles.
const GROWTH_INTERVAL: u32 = 2000;

/// Where things are in the state: as the struct in the shader.
const SCALE: usize = 0;
const INVERSE: usize = 1;
const N_GOOD: usize = 2;
const SKIPS: usize = 3;
const N_SKIPPED: usize = 4;
const LENGTH: usize = 5;

/// The scale of a loss, which adapts itself, on the device.
pub struct GradientScale {
    state: Array,
    /// Its bits are not all zero once a gradient was not finite.
    overflowed: Array,
    growth_interval: u32,
}

impl GradientScale {
    /// One that starts at 65,536.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn new(device: &Device) -> Result<GradientScale> {
        Self::growing_after(device, GROWTH_INTERVAL)
    }

    fn growing_after(device: &Device, growth_interval: u32) -> Result<GradientScale> {
        let mut state = [0.0; LENGTH];
        (state[SCALE], state[INVERSE]) = (FIRST, 1.0 / FIRST);
        let overflowed = Array::empty(device, [1], DType::F32)?;
        device::fill(&overflowed, 0.0)?;
        Ok(GradientScale { state: Array::from_f32(device, [LENGTH], &state)?, overflowed, growth_interval })
    }

    /// The scale as the gradient of the loss with respect to itself, where a backward pass starts.
    ///
    /// # Errors
    /// If the shape is not that of a single number.
    pub fn cotangent(&self, shape: Shape) -> Result<Array> {
        self.state.slice(SCALE, shape)
    }

    /// What an optimiser's step looks at, and a checkpoint keeps.
    pub fn state(&self) -> &Array {
        &self.state
    }

    /// The scale of the next backward pass, and how many steps were skipped.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn read(&self) -> Result<(f32, usize)> {
        let state = self.state.to_vec()?;
        Ok((state[SCALE], state[N_SKIPPED] as usize))
    }

    /// gradient ← gradient / scale, exactly; what is not finite becomes 0 and lets the next step be skipped.
    ///
    /// # Errors
    /// If the gradient holds no numbers.
    pub fn unscale(&self, gradient: &Array) -> Result<()> {
        if gradient.dtype() != DType::F32 {
            return Err(Error::op("gradient_scale", "gradients must hold numbers"));
        }
        self.state.expect_same_device("gradient_scale", [gradient])?;
        match gradient.device() {
            Device::Cpu(_) => {
                let inverse = self.state.cpu()[INVERSE];
                let finite: Vec<bool> = gradient
                    .cpu_mut()
                    .par_chunks_mut(CHUNK)
                    .map(|chunk| {
                        let finite = chunk.iter().all(|g| g.is_finite());
                        chunk.iter_mut().for_each(|g| *g = if g.is_finite() { *g * inverse } else { 0.0 });
                        finite
                    })
                    .collect();
                if finite.contains(&false) {
                    self.overflowed.cpu_mut()[0] = f32::from_bits(1);
                }
                Ok(())
            }
            Device::Gpu(gpu) => {
                let n = gradient.n_elements();
                let grid = Grid::Invocations(n.div_ceil(4));
                gpu.launch(&UNSCALE, &[&self.state, gradient, &self.overflowed], &self.params(n), grid)
            }
        }
    }

    /// Decides whether the step that comes next is skipped, and on the scale of the next backward pass.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn settle(&self) -> Result<()> {
        match self.state.device() {
            Device::Cpu(_) => {
                let (mut state, mut overflowed) = (self.state.cpu_mut(), self.overflowed.cpu_mut());
                if overflowed[0].to_bits() != 0 {
                    (overflowed[0], state[SKIPS], state[N_GOOD]) = (0.0, 1.0, 0.0);
                    state[N_SKIPPED] += 1.0;
                    if state[SCALE] > SMALLEST {
                        state[SCALE] *= 0.5;
                        state[INVERSE] *= 2.0;
                    }
                    return Ok(());
                }
                state[SKIPS] = 0.0;
                state[N_GOOD] += 1.0;
                if state[N_GOOD] >= self.growth_interval as f32 {
                    state[N_GOOD] = 0.0;
                    if state[SCALE] < LARGEST {
                        state[SCALE] *= 2.0;
                        state[INVERSE] *= 0.5;
                    }
                }
                Ok(())
            }
            Device::Gpu(gpu) => {
                gpu.launch(&SETTLE, &[&self.state, &self.overflowed], &self.params(1), Grid::Invocations(1))
            }
        }
    }

    fn params(&self, n: usize) -> [u32; 4] {
        [n as u32, self.growth_interval, SMALLEST.to_bits(), LARGEST.to_bits()]
    }
}

/// True if a step is to be skipped, on the CPU.
pub fn skips(state: &Array) -> bool {
    state.cpu()[SKIPS] != 0.0
}

/// Weights after one step for each further input, scale and counts behind the last gradient; the scale doubles after two steps.
fn run(x: &[Tensor], wants_state: bool) -> Result<Tensor> {
    let device = x[0].device();
    let scale = GradientScale::growing_after(&device, 2)?;
    let own = |from: &Array| -> Result<Array> {
        let own = Array::empty(&device, from.shape(), DType::F32)?;
        device::copy(from, &own)?;
        Ok(own)
    };
    let (w, velocity) = (own(x[0].array())?, Array::empty(&device, x[0].shape(), DType::F32)?);
    device::fill(&velocity, 0.0)?;
    for gradient in &x[1..] {
        let gradient = own(gradient.array())?;
        scale.unscale(&gradient)?;
        scale.settle()?;
        let step = SgdStep { lr: 1.0, velocity_of_steps: false, momentum: 0.5, weight_decay: 0.0, n_decayed: 0 };
        sgd_step(&gradient, &w, &velocity, step, Some(scale.state()))?;
    }
    Ok(Tensor::constant(if wants_state { own(scale.state())? } else { w }))
}

fn inputs() -> Vec<Input> {
    let weights = Input { gradient: false, ..Input::random([301]) };
    const GOOD: &[f32] = &[1e5, -65_536.0, 0.0, 3e-3, 7e8];
    let gradient = |values| Input::constant([301], Fill::Values(values));
    vec![
        weights,
        gradient(GOOD),
        gradient(&[1.0, f32::INFINITY, 2.0]),
        gradient(GOOD),
        gradient(&[1.0, 2.0, f32::NAN, 5.0]),
        gradient(&[f32::NEG_INFINITY]),
        gradient(GOOD),
        gradient(GOOD),
        gradient(GOOD),
    ]
}

pub static OP: Op = Op {
    name: "gradient_scale",
    formula: "g = g / scale; skip and halve on overflow",
    shaders: &["gradient_scale"],
    kernels: &[&UNSCALE, &SETTLE],
    gradient: false,
    cases: || vec![Case::new("steps", inputs(), |x| run(x, false)), Case::new("scales", inputs(), |x| run(x, true))],
    refuses: |device| {
        let labels = Tensor::from_u32(device, [2], &[0, 1])?;
        GradientScale::new(device)?.unscale(labels.array()).map(|()| labels)
    },
};
