//! What a trained network is worth: accuracy, calibration, agreement, speed.

use super::results::{Omitted, OtherResult};
use crate::continual::Learner;
use crate::data::Images;
use crate::device::Device;
use crate::distill::{Answer, Companions};
use crate::error::Result;
use crate::experiment::metrics::accuracy;
use crate::models::Network;
use crate::ops::Mode;
use crate::tensor::{Tensor, no_grad};
use std::time::Instant;

/// The logits of all images, (n, classes).
pub fn logits(learner: &Learner, images: &Images) -> Result<Vec<f32>> {
    let samples: Vec<u32> = (0..images.len() as u32).collect();
    let mut all = Vec::new();
    learner.evaluate(images, &samples, |_, output| {
        all.extend(output.logits.to_vec()?);
        Ok(())
    })?;
    Ok(all)
}

/// The logits of whatever answers beside the student, each as [`logits`] has them.
pub fn other_logits(learner: &Learner, companions: &dyn Companions, images: &Images) -> Result<Vec<Vec<f32>>> {
    let mut all = vec![Vec::new(); companions.answers().len()];
    let samples: Vec<u32> = (0..images.len() as u32).collect();
    for chunk in samples.chunks(learner.at_once) {
        if all.is_empty() {
            break;
        }
        let x = learner.plain_input_of(images, chunk)?;
        for (all, logits) in all.iter_mut().zip(companions.answer(&learner.network, &x)?) {
            all.extend(logits.to_vec()?);
        }
    }
    Ok(all)
}

/// An answer on the test images.
pub fn other(answer: Answer, logits: &[f32], n_classes: usize, labels: &[u32]) -> OtherResult {
    let Answer { name, n_parameters, macs } = answer;
    let accuracy = accuracy(labels, &predictions(logits, n_classes));
    let calibration_error = calibration_error(logits, n_classes, labels);
    OtherResult { name, accuracy, calibration_error, n_parameters, macs }
}

/// The largest of each row, the first of equals.
pub fn predictions(logits: &[f32], n_classes: usize) -> Vec<u32> {
    let largest = |row: &[f32]| (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0) as u32;
    logits.chunks_exact(n_classes).map(largest).collect()
}

/// Expected calibration error (Guo et al. 2017): images in 15 equal bins by the probability of the answer, the mean over all
/// images of |accuracy − mean probability| of their bin.
pub fn calibration_error(logits: &[f32], n_classes: usize, labels: &[u32]) -> f64 {
    const BINS: usize = 15;
    let mut bins = [(0.0, 0.0); BINS];
    for ((row, &label), answer) in logits.chunks_exact(n_classes).zip(labels).zip(predictions(logits, n_classes)) {
        let largest = f64::from(row[answer as usize]);
        let total: f64 = row.iter().map(|&z| (f64::from(z) - largest).exp()).sum();
        let confidence = 1.0 / total;
        let bin = &mut bins[((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1];
        bin.0 += f64::from(u8::from(answer == label));
        bin.1 += confidence;
    }
    bins.iter().map(|(correct, confidence)| f64::abs(correct - confidence)).sum::<f64>() / labels.len() as f64
}

/// How a network does on a class it was never shown, as it is and with the bias of that class that does best on the test
/// images, as Hinton et al. (2015) report it.
pub fn omitted(logits: &[f32], n_classes: usize, labels: &[u32], class: u32) -> Omitted {
    const STEP: f32 = 0.1;
    let at = |bias: f32| {
        let mut moved = logits.to_vec();
        moved.iter_mut().skip(class as usize).step_by(n_classes).for_each(|z| *z += bias);
        let answers = predictions(&moved, n_classes);
        let own: Vec<(u32, u32)> =
            labels.iter().copied().zip(answers.iter().copied()).filter(|(y, _)| *y == class).collect();
        let of_class = own.iter().filter(|(y, z)| y == z).count() as f64 / own.len().max(1) as f64;
        (accuracy(labels, &answers), of_class)
    };
    let n_images = labels.iter().filter(|label| **label == class).count();
    let best = (0..200).map(|i| STEP * i as f32).map(|bias| (bias, at(bias)));
    let best = best.reduce(|best, next| if next.1.0 > best.1.0 { next } else { best });
    let (bias, (corrected_accuracy, corrected_accuracy_of_class)) = best.expect("bug: no bias was tried");
    Omitted { class, n_images, accuracy_of_class: at(0.0).1, bias, corrected_accuracy, corrected_accuracy_of_class }
}

/// Milliseconds per image of a forward pass in evaluation, the median of some passes.
pub fn inference_ms(network: &Network, device: &Device, batch: usize) -> Result<f64> {
    let repeat = if batch == 1 { 20 } else { 5 };
    let [c, h, w] = network.input;
    let x = Tensor::from_f32(device, [batch, c, h, w], &vec![0.5; batch * c * h * w])?;
    let mut seconds = Vec::new();
    for i in 0..repeat + 2 {
        let started = Instant::now();
        no_grad(|| network.forward(&x, Mode::Eval))?;
        device.synchronize()?;
        // The first ones build kernels and fill the pool.
        if i >= 2 {
            seconds.push(started.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(1e3 * seconds[repeat / 2] / batch as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_by_hand() {
        // Two answers of probability 0.75, one of them right: |1 − 1.5| / 2.
        let z = 3f32.ln();
        assert!((calibration_error(&[z, 0.0, z, 0.0], 2, &[0, 1]) - 0.25).abs() < 1e-6);
        // Certain and right.
        assert!(calibration_error(&[100.0, 0.0, 0.0, 100.0], 2, &[0, 1]) < 1e-9);
    }

    #[test]
    fn equals_are_answered_by_the_first() {
        assert_eq!(predictions(&[1.0, 1.0, 0.0, 0.0, 2.0, 2.0], 3), [0, 1]);
    }

    #[test]
    fn a_bias_finds_the_class_that_was_left_out() {
        // Class 1 is always 2.05 too low.
        let logits = [1.0, -0.05, 1.0, -0.5, 0.0, -3.0, 0.0, -4.0];
        let found = omitted(&logits, 2, &[1, 1, 0, 0], 1);
        assert_eq!(
            (found.n_images, found.accuracy_of_class, found.corrected_accuracy, found.corrected_accuracy_of_class),
            (2, 0.0, 1.0, 1.0)
        );
        assert!((found.bias - 1.6).abs() < 1e-6, "{found:?}");
    }
}
