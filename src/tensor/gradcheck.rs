//! Derivatives by finite differences: the corner of the oracle triangle that knows no calculus.

use super::{Tensor, no_grad};
use crate::device::{Array, Device};
use crate::error::Result;
use crate::rng::{Purpose, Rng};
use crate::shape::Shape;

/// Half the distance of the inner two of the four points.
const STEP: f32 = 0.05;

/// Gradients below this count as this large: differences of f32 numbers do not resolve much smaller ones.
const SMALL: f64 = 1e-3;

/// How far a gradient is from finite differences.
#[derive(Clone, Copy, Debug)]
pub struct GradientError {
    /// Which input.
    pub input: usize,
    /// max |analytic − numeric| / max(|analytic|, |numeric|, 0.001), both maxima over the input's elements.
    pub relative: f64,
}

/// A fixed random cotangent with entries in ±[0.5, 1.5]: a plain sum would hide errors that cancel.
pub fn random_cotangent(shape: Shape) -> Vec<f32> {
    let mut rng = Rng::keyed(0, Purpose::Test, 1 << 40);
    (0..shape.n_elements())
        .map(|_| {
            let size = rng.range(0.5, 1.5);
            if rng.bits() & 1 == 0 { size } else { -size }
        })
        .collect()
}

/// Compares the gradients of `f` with four-point differences of ⟨cotangent, f(inputs)⟩ on the CPU.
/// `wanted` says for which inputs; `inputs` with their shapes are taken as leaves there, as constants elsewhere.
///
/// # Errors
/// If `f` fails.
pub fn check_gradients(
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    wanted: &[bool],
) -> Result<Vec<GradientError>> {
    let device = Device::cpu();
    let leaves: Vec<Tensor> =
        inputs.iter().zip(wanted).map(|(x, &leaf)| if leaf { x.with_gradient() } else { x.clone() }).collect();
    let y = f(&leaves)?;
    let cotangent = random_cotangent(y.shape());
    let gradients = y.backward_with(Array::from_f32(&device, y.shape(), &cotangent)?)?;

    let mut errors = Vec::new();
    for (i, leaf) in leaves.iter().enumerate().filter(|(i, _)| wanted[*i]) {
        let analytic = match gradients.get(leaf) {
            Some(gradient) => gradient.to_vec()?,
            None => vec![0.0; leaf.n_elements()],
        };
        let values = leaf.to_vec()?;
        let objective = |at: usize, delta: f32| -> Result<f64> {
            let mut moved = values.clone();
            moved[at] += delta;
            let mut changed = inputs.to_vec();
            changed[i] = Tensor::from_f32(&device, leaf.shape(), &moved)?;
            let y = no_grad(|| f(&changed))?.to_vec()?;
            Ok(y.iter().zip(&cotangent).map(|(y, c)| f64::from(*y) * f64::from(*c)).sum())
        };
        let (mut worst, mut largest) = (0.0f64, SMALL);
        for (at, &analytic) in analytic.iter().enumerate() {
            let inner = objective(at, STEP)? - objective(at, -STEP)?;
            let outer = objective(at, 2.0 * STEP)? - objective(at, -2.0 * STEP)?;
            let numeric = (8.0 * inner - outer) / (12.0 * f64::from(STEP));
            let analytic = f64::from(analytic);
            largest = largest.max(analytic.abs()).max(numeric.abs());
            let error = (analytic - numeric).abs();
            worst = if error.is_nan() { f64::INFINITY } else { worst.max(error) };
        }
        errors.push(GradientError { input: i, relative: worst / largest });
    }
    Ok(errors)
}
