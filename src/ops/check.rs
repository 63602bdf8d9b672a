//! One device against another: what `engram check` and the tests ask of every case of the op table.

use super::case::{Case, Tolerance};
use crate::device::{Array, DType, Device, Precision};
use crate::error::Result;
use crate::tensor::{Tensor, random_cotangent};

/// How far a result on a device is from the CPU's.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// `y`, or `d` and the number of the input.
    pub what: String,
    /// max |difference|.
    pub max_error: f64,
    /// The tolerance where the difference takes up most of it.
    pub tolerance: f64,
    /// max of difference / tolerance: passes if ≤ 1.
    pub worst: f64,
}

impl Comparison {
    /// True if every number is within its tolerance.
    pub fn passes(&self) -> bool {
        self.worst <= 1.0
    }
}

/// Runs a case on the CPU and on `device`, forward and backward, and compares every number.
///
/// # Errors
/// If the op fails on either.
pub fn compare(case: &Case, device: &Device) -> Result<Vec<Comparison>> {
    let cpu = Device::cpu();
    let inputs = case.tensors(&cpu)?;
    let wanted: Vec<bool> = case.inputs.iter().map(|input| input.gradient).collect();
    let expected = run_with_gradients(case.run, &cpu, &inputs, &wanted, false)?;
    let got = run_with_gradients(case.run, device, &inputs, &wanted, false)?;
    let magnitudes = match case.tolerance {
        Tolerance::Sum(_) | Tolerance::Product(_) => {
            run_with_gradients(case.run, &cpu, &absolute(&inputs)?, &wanted, true)?
        }
        _ => expected.clone(),
    };
    let largest_input = largest(&inputs)?;
    let mut comparisons = Vec::new();
    for (i, (expected, got)) in expected.iter().zip(&got).enumerate() {
        let what = if i == 0 { "y".into() } else { format!("d{}", i - 1) };
        let finite = magnitudes[i].iter().map(|&x| f64::from(x).abs()).filter(|x| x.is_finite());
        let largest = finite.fold(0.0, f64::max);
        let relative = match (case.tolerance, device.precision()) {
            (Tolerance::Product(_) | Tolerance::NormalizedProduct, Precision::Mixed) => 1e-3,
            (Tolerance::Product(_) | Tolerance::NormalizedProduct, Precision::Split) => 1e-5,
            _ => 0.0,
        };
        let tolerance = |at: usize| {
            let magnitude = f64::from(magnitudes[i][at]);
            case.tolerance.of(f64::from(expected[at]), magnitude, largest, largest_input, relative)
        };
        comparisons.push(compare_numbers(what, expected, got, tolerance));
    }
    Ok(comparisons)
}

fn compare_numbers(what: String, expected: &[f32], got: &[f32], tolerance: impl Fn(usize) -> f64) -> Comparison {
    let mut result = Comparison { what, max_error: 0.0, tolerance: tolerance(0), worst: 0.0 };
    for (at, (&expected, &got)) in expected.iter().zip(got).enumerate() {
        // Overflow agrees as infinity, and not-a-number with not-a-number.
        if expected.to_bits() == got.to_bits() || expected == got || (expected.is_nan() && got.is_nan()) {
            continue;
        }
        let error = (f64::from(expected) - f64::from(got)).abs();
        let worst = error / tolerance(at);
        // Stated so that a NaN counts as the worst of all.
        if !(worst <= result.worst) {
            (result.worst, result.tolerance) = (worst, tolerance(at));
        }
        if !(error <= result.max_error) {
            result.max_error = error;
        }
    }
    if expected.len() != got.len() {
        result.worst = f64::NAN;
    }
    result
}

/// The exponential of more than this is infinite, of less than minus this 0: no error grows with what lies beyond.
const EXPONENT: f64 = 104.0;

impl Tolerance {
    /// The allowed difference of an element, whose op on absolute values is `magnitude`, `largest` at most; `relative` is what
    /// coarser products may add.
    fn of(self, expected: f64, magnitude: f64, largest: f64, largest_input: f64, relative: f64) -> f64 {
        match self {
            Tolerance::Exact => f64::MIN_POSITIVE,
            Tolerance::Elementwise => 1e-6 + 1e-5 * expected.abs(),
            Tolerance::Exponential | Tolerance::Normalized | Tolerance::NormalizedProduct => {
                let ulp =
                    if let Tolerance::Exponential = self { 8.0 + 4.0 * largest_input.min(EXPONENT) } else { 64.0 };
                1e-6 + (ulp * f64::from(f32::EPSILON) + relative) * largest
            }
            Tolerance::Sum(k) | Tolerance::Product(k) => {
                let rounding = 4.0 * f64::from(f32::EPSILON) / 2.0 * (k as f64).sqrt();
                (rounding + relative) * magnitude.abs() + 1e-6
            }
        }
    }
}

/// Runs `f` on copies of `inputs` on `device`, and its gradients for a fixed random cotangent (its absolute values if
/// `absolute`): the result first, then one list per wanted input. Integers come back as their values.
///
/// # Errors
/// If `f` fails.
pub fn run_with_gradients(
    f: fn(&[Tensor]) -> Result<Tensor>,
    device: &Device,
    inputs: &[Tensor],
    wanted: &[bool],
    absolute: bool,
) -> Result<Vec<Vec<f32>>> {
    let mut leaves = Vec::new();
    for (input, &leaf) in inputs.iter().zip(wanted) {
        let moved = match input.array().dtype() {
            DType::U32 => Tensor::from_u32(device, input.shape(), &input.to_u32()?)?,
            DType::F32 => Tensor::from_f32(device, input.shape(), &input.to_vec()?)?,
        };
        leaves.push(if leaf { moved.with_gradient() } else { moved });
    }
    let y = f(&leaves)?;
    if y.array().dtype() == DType::U32 {
        return Ok(vec![y.to_u32()?.into_iter().map(|i| i as f32).collect()]);
    }
    let mut results = vec![y.to_vec()?];
    if y.wants_gradient() {
        let mut cotangent = random_cotangent(y.shape());
        if absolute {
            cotangent.iter_mut().for_each(|c| *c = c.abs());
        }
        let gradients = y.backward_with(Array::from_f32(device, y.shape(), &cotangent)?)?;
        for (leaf, _) in leaves.iter().zip(wanted).filter(|(_, leaf)| **leaf) {
            results.push(match gradients.get(leaf) {
                Some(gradient) => gradient.to_vec()?,
                None => vec![0.0; leaf.n_elements()],
            });
        }
    }
    Ok(results)
}

fn absolute(inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let mut absolute = Vec::new();
    for input in inputs {
        absolute.push(match input.array().dtype() {
            DType::U32 => input.clone(),
            DType::F32 => {
                let values: Vec<f32> = input.to_vec()?.into_iter().map(f32::abs).collect();
                Tensor::from_f32(&input.device(), input.shape(), &values)?
            }
        });
    }
    Ok(absolute)
}

fn largest(inputs: &[Tensor]) -> Result<f64> {
    let mut largest = 0.0f64;
    for input in inputs.iter().filter(|input| input.array().dtype() == DType::F32) {
        largest = input.to_vec()?.into_iter().map(|x| f64::from(x).abs()).fold(largest, f64::max);
    }
    Ok(largest)
}
