//! What the op table holds: cases, inputs, tolerances.

use crate::device::{Device, Kernel};
use crate::error::Result;
use crate::rng::{Purpose, Rng};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A row of the op table.
pub struct Op {
    /// As in messages and file names.
    pub name: &'static str,
    /// The formula, on one line.
    pub formula: &'static str,
    /// Files in `shaders/` besides the prelude.
    pub shaders: &'static [&'static str],
    /// Every kernel the op may launch.
    pub kernels: &'static [&'static Kernel],
    /// True if the op has a derivative.
    pub gradient: bool,
    /// Ways to call it, for tests and checks.
    pub cases: fn() -> Vec<Case>,
    /// A call with wrong input: must be an error that names the op.
    pub refuses: fn(&Device) -> Result<Tensor>,
}

/// One way to call an op. Golden numbers are found under the case's name; they bring inputs of their own shape.
pub struct Case {
    /// Unique within its op.
    pub name: &'static str,
    /// In the order of `run`.
    pub inputs: Vec<Input>,
    /// The call.
    pub run: fn(&[Tensor]) -> Result<Tensor>,
    /// How far two devices may be apart.
    pub tolerance: Tolerance,
    /// False where finite differences mean nothing: at kinks, or with numbers of very different size.
    pub differences: bool,
}

/// A random input that is the same on every device.
pub struct Input {
    /// One to four axes.
    pub shape: Shape,
    /// The numbers.
    pub fill: Fill,
    /// True if its gradient is checked.
    pub gradient: bool,
}

/// How an input is filled.
pub enum Fill {
    /// Uniform in [low, high).
    Uniform(f32, f32),
    /// Either sign, at least 0.3 away from zero: a kink there is out of reach of finite differences.
    AwayFromZero,
    /// Multiples of 0.25 in random order: no two are close.
    Distinct,
    /// Indices below a bound.
    Indices(u32),
    /// These numbers, repeated as needed.
    Values(&'static [f32]),
    /// These integers, repeated as needed.
    Integers(&'static [u32]),
    /// Random 32-bit words: four packed bytes each.
    Words,
}

/// What every elementwise op is tried on, besides random numbers.
pub const EDGES: &[f32] = &[0.0, -0.0, 1e-30, -1e-30, 1.0, -1.0, 20.0, -20.0, 88.0, -88.0, 100.0, -100.0, 1e4, -1e4];

/// How far two devices may be apart.
#[derive(Clone, Copy, Debug)]
pub enum Tolerance {
    /// The same integers.
    Exact,
    /// 1e-6 + 1e-5·|x|.
    Elementwise,
    /// `exp`, `log` and what is built on them: 1e-6 + (8 + 4·max|input|) ulp of the largest number.
    Exponential,
    /// Sums of this many products: 4·2⁻²⁴·√K·Σ|a·b| + 1e-6, where Σ|a·b| is the op on absolute values.
    Sum(usize),
    /// The same for ops whose products are computed as the device's [`Precision`](crate::device::Precision) says: besides,
    /// 10⁻³·Σ|a·b| if it is mixed, 10⁻⁵·Σ|a·b| if it is split.
    Product(usize),
    /// Differences to a mean, over a standard deviation: both carry the rounding of a sum over the batch, which every result
    /// inherits. 1e-6 + 64 ulp of the largest number.
    Normalized,
    /// The same for products, as in [`Tolerance::Product`]: besides, 10⁻³ or 10⁻⁵ of the largest number.
    NormalizedProduct,
}

impl Input {
    /// An input whose gradient is checked.
    pub fn new(shape: impl Into<Shape>, fill: Fill) -> Input {
        Input { shape: shape.into(), fill, gradient: true }
    }

    /// An input without a gradient: targets, labels, indices.
    pub fn constant(shape: impl Into<Shape>, fill: Fill) -> Input {
        Input { gradient: false, ..Input::new(shape, fill) }
    }

    /// Uniform in ±1.
    pub fn random(shape: impl Into<Shape>) -> Input {
        Input::new(shape, Fill::Uniform(-1.0, 1.0))
    }

    fn tensor(&self, device: &Device, at: usize) -> Result<Tensor> {
        let mut rng = Rng::keyed(1, Purpose::Test, at as u64);
        let n = self.shape.n_elements();
        let numbers: Vec<f32> = match &self.fill {
            Fill::Uniform(low, high) => (0..n).map(|_| rng.range(*low, *high)).collect(),
            Fill::AwayFromZero => (0..n)
                .map(|_| {
                    let size = rng.range(0.3, 1.5);
                    if rng.bits() & 1 == 0 { size } else { -size }
                })
                .collect(),
            Fill::Distinct => {
                let mut order: Vec<u32> = (0..n as u32).collect();
                rng.shuffle(&mut order);
                order.iter().map(|&i| 0.25 * (i as f32 - n as f32 / 2.0)).collect()
            }
            Fill::Values(values) => values.iter().cycle().take(n).copied().collect(),
            Fill::Indices(bound) => {
                let indices: Vec<u32> = (0..n).map(|_| rng.below(*bound)).collect();
                return Tensor::from_u32(device, self.shape, &indices);
            }
            Fill::Integers(values) => {
                let values: Vec<u32> = values.iter().cycle().take(n).copied().collect();
                return Tensor::from_u32(device, self.shape, &values);
            }
            Fill::Words => {
                let words: Vec<u32> = (0..n).map(|_| rng.bits()).collect();
                return Tensor::from_u32(device, self.shape, &words);
            }
        };
        Tensor::from_f32(device, self.shape, &numbers)
    }
}

impl Case {
    /// A case of tolerance [`Tolerance::Elementwise`] that finite differences are tried on.
    pub fn new(name: &'static str, inputs: Vec<Input>, run: fn(&[Tensor]) -> Result<Tensor>) -> Case {
        Case { name, inputs, run, tolerance: Tolerance::Elementwise, differences: true }
    }

    /// With another tolerance.
    pub fn tolerance(self, tolerance: Tolerance) -> Case {
        Case { tolerance, ..self }
    }

    /// Leaves out finite differences.
    pub fn without_differences(self) -> Case {
        Case { differences: false, ..self }
    }

    /// The case's inputs on a device.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn tensors(&self, device: &Device) -> Result<Vec<Tensor>> {
        self.inputs.iter().enumerate().map(|(i, input)| input.tensor(device, i)).collect()
    }
}
