//! Diagonals that say how much a trained network's outputs depend on each parameter. All in eval mode, image by image unless
//! said otherwise; batch norms and parameters are left as they are, gradients are overwritten.

use super::Learner;
use super::importance::zeros;
use crate::device::Array;
use crate::error::{Error, Result};
use crate::ops::{Mode, add_magnitudes, add_squares};
use crate::rng::{Purpose, Rng};
use crate::settings::choices;
use crate::tensor::Tensor;
use std::ops::Range;

choices! {
    /// Which Fisher information EWC goes by; p is the softmax over the outputs of the task.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum FisherKind {
        #[default]
        /// Σ_c p_c·(∂ log p_c)², image by image.
        Exact = "exact",
        /// (∂ log p_y)² with y drawn from p, image by image.
        Sampled = "sampled",
        /// The same with the true label.
        Empirical = "empirical",
        /// The squared gradient of a batch's mean loss, over batches: as avalanche-lib has it, for comparison only.
        Batch = "batch",
        /// The same times the number of images in the batch, which brings it to the scale of single images: fast, and noisier.
        ScaledBatch = "scaled-batch",
    }
}

/// What an importance is measured on.
pub struct Measured<'a> {
    /// Training samples.
    pub samples: &'a [u32],
    /// Their labels.
    pub labels: &'a [u32],
    /// The outputs that the softmax (or the norm) runs over.
    pub outputs: Range<usize>,
}

/// The diagonal of the Fisher information of p(y|x) = softmax over `outputs`, the mean over the samples, as a flat vector
/// like the parameters (Kirkpatrick et al., PNAS 2017; van de Ven, "On the Computation of the Fisher Information in Continual
/// Learning", 2025, for the kinds). `batch_size` matters to the two kinds of batches only, `key` to [`FisherKind::Sampled`]. Where an
/// image has a class for each pixel, of the mean of log p over its pixels, and [`FisherKind::Sampled`] only.
///
/// # Errors
/// If there is no sample or a label is none of the outputs.
pub fn fisher(learner: &Learner, on: &Measured, kind: FisherKind, batch_size: usize, key: u64) -> Result<Array> {
    let total = zeros(learner)?;
    let mut rng = Rng::keyed(learner.seed, Purpose::Fisher, key);
    if learner.has_masks() {
        add_pixels(learner, &total, on, kind, &mut rng)?;
        return Ok(total);
    }
    let size = if matches!(kind, FisherKind::Batch | FisherKind::ScaledBatch) { batch_size } else { 1 };
    let n_pieces = on.samples.len().div_ceil(size);
    for (samples, labels) in on.samples.chunks(size).zip(on.labels.chunks(size)) {
        let logits = learner.network.forward(&learner.plain_input(samples)?, Mode::Eval)?.logits;
        let own = if kind == FisherKind::ScaledBatch { samples.len() } else { 1 };
        let factor = own as f32 / n_pieces as f32;
        let p = probabilities(&logits.to_vec()?, logits.shape()[1], &on.outputs);
        let add = |y: &[usize], weight: f64| add_squared(learner, &total, &logits, &p, y, weight, factor);
        match kind {
            FisherKind::Exact => {
                for y in on.outputs.clone() {
                    add(&[y], p[0][y].sqrt())?;
                }
            }
            FisherKind::Sampled => {
                let u = f64::from(rng.uniform());
                add(&[drawn(&p[0], &on.outputs, u)], 1.0)?;
            }
            FisherKind::Empirical | FisherKind::Batch | FisherKind::ScaledBatch => {
                let labels: Vec<usize> = labels.iter().map(|&label| label as usize).collect();
                if labels.iter().any(|label| !on.outputs.contains(label)) {
                    return Err(Error::op("fisher", "a label is none of the outputs"));
                }
                add(&labels, 1.0)?;
            }
        }
    }
    Ok(total)
}

/// total += (∂ mean_i log p_{y_i} / ∂θ)²/n for each of n images, y_i drawn from p at pixel i.
fn add_pixels(learner: &Learner, total: &Array, on: &Measured, kind: FisherKind, rng: &mut Rng) -> Result<()> {
    if kind != FisherKind::Sampled {
        return Err(Error::usage("--fisher: of pixels it is sampled; the other kinds suit images with one class each"));
    }
    let parameters = &learner.network.parameters;
    for &sample in on.samples {
        let logits = learner.network.forward(&learner.plain_input(&[sample])?, Mode::Eval)?.logits;
        let (width, plane) = (logits.shape()[1], logits.shape()[2..].iter().product::<usize>());
        let values = logits.to_vec()?;
        let mut cotangent = vec![0.0; values.len()];
        for pixel in 0..plane {
            let row: Vec<f32> = (0..width).map(|c| values[c * plane + pixel]).collect();
            let p = probabilities(&row, width, &on.outputs).swap_remove(0);
            let u = f64::from(rng.uniform());
            let y = drawn(&p, &on.outputs, u);
            for c in on.outputs.clone() {
                cotangent[c * plane + pixel] = ((f64::from(u8::from(c == y)) - p[c]) / plane as f64) as f32;
            }
        }
        parameters.backward_with(&logits, Array::from_f32(&learner.device, logits.shape(), &cotangent)?)?;
        let gradients = parameters.gradients().ok_or_else(|| Error::op("fisher", "the parameters are frozen"))?;
        add_squares(total, gradients, 1.0 / on.samples.len() as f32)?;
    }
    Ok(())
}

/// The output whose interval of the distribution `u` in 0..1 lies in.
fn drawn(p: &[f64], outputs: &Range<usize>, u: f64) -> usize {
    let mut sum = 0.0;
    let below = outputs.clone().take_while(|&y| {
        sum += p[y];
        sum <= u
    });
    outputs.start + below.count().min(outputs.len() - 1)
}

/// softmax over `outputs` of each row, 0 elsewhere.
fn probabilities(logits: &[f32], width: usize, outputs: &Range<usize>) -> Vec<Vec<f64>> {
    let row = |row: &[f32]| {
        let largest = row[outputs.clone()].iter().copied().fold(f32::MIN, f32::max);
        let mut p: Vec<f64> = row.iter().map(|&x| f64::from(x - largest).exp()).collect();
        p.iter_mut().enumerate().filter(|(i, _)| !outputs.contains(i)).for_each(|(_, p)| *p = 0.0);
        let sum: f64 = p.iter().sum();
        p.iter_mut().for_each(|p| *p /= sum);
        p
    };
    logits.chunks_exact(width).map(row).collect()
}

/// total += factor · (weight · ∂ mean_n log p_y / ∂θ)²: the gradient of log p_y with respect to the logits is onehot(y) − p.
fn add_squared(
    learner: &Learner,
    total: &Array,
    logits: &Tensor,
    p: &[Vec<f64>],
    y: &[usize],
    weight: f64,
    factor: f32,
) -> Result<()> {
    let scale = weight / y.len() as f64;
    let rows = p.iter().zip(y);
    let cotangent: Vec<f32> = rows
        .flat_map(|(p, &y)| p.iter().enumerate().map(move |(i, p)| (scale * (f64::from(u8::from(i == y)) - p)) as f32))
        .collect();
    let parameters = &learner.network.parameters;
    parameters.backward_with(logits, Array::from_f32(&learner.device, logits.shape(), &cotangent)?)?;
    let gradients = parameters.gradients().ok_or_else(|| Error::op("fisher", "the parameters are frozen"))?;
    add_squares(total, gradients, factor)
}

/// The mean over samples of |∂‖f(x)‖²/∂θ|, f(x) the `outputs`, as a flat vector like the parameters (Aljundi et al.,
/// "Memory Aware Synapses", ECCV 2018, equations 2–3 with the squared norm of section 4.1).
///
/// # Errors
/// If there is no sample.
pub fn output_sensitivity(learner: &Learner, on: &Measured) -> Result<Array> {
    let total = zeros(learner)?;
    let parameters = &learner.network.parameters;
    for &sample in on.samples {
        let logits = learner.network.forward(&learner.plain_input(&[sample])?, Mode::Eval)?.logits;
        let mut cotangent = logits.to_vec()?;
        for (i, x) in cotangent.iter_mut().enumerate() {
            *x = if on.outputs.contains(&i) { 2.0 * *x } else { 0.0 };
        }
        parameters.backward_with(&logits, Array::from_f32(&learner.device, logits.shape(), &cotangent)?)?;
        let gradients = parameters.gradients().ok_or_else(|| Error::op("mas", "the parameters are frozen"))?;
        add_magnitudes(&total, gradients, 1.0 / on.samples.len() as f32)?;
    }
    Ok(total)
}
