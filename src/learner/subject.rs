//! A network and its input pipeline.

use crate::data::{Draw, Images, gather};
use crate::device::{Array, Device};
use crate::error::Result;
use crate::models::Network;
use crate::nn::{Output, Tap};
use crate::ops::{Mode, Normalization, image_batch};
use crate::shape::Shape;
use crate::tensor::{Tensor, no_grad};

/// The most images of a forward pass outside training, and the most numbers of all of them: the layers of a network hold many
/// times as many.
const MOST_AT_ONCE: usize = 256;
const MOST_NUMBERS: usize = 1 << 20;

/// A network and what becomes of the bytes of a picture before they enter it: the same in training, evaluation and use.
pub struct Subject {
    /// The network.
    pub network: Network,
    /// Where its parameters live.
    pub device: Device,
    normalization: Normalization,
    /// True for natural images: means of features are taken over mirror images too.
    pub flips: bool,
    /// Images of a forward pass outside training: see [`Subject::trained_by`].
    pub at_once: usize,
}

impl Subject {
    /// A network that sees (p/255 − mean)/std of a pixel byte p; the mean is per channel or per pixel, the deviation per channel.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn new(network: Network, device: &Device, mean: &[f32], std: &[f32], flips: bool) -> Result<Subject> {
        let inverse_std: Vec<f32> = std.iter().map(|std| 1.0 / std).collect();
        let normalization = Normalization {
            mean: Tensor::from_f32(device, [mean.len()], mean)?,
            inverse_std: Tensor::from_f32(device, [inverse_std.len()], &inverse_std)?,
        };
        let at_once = (MOST_NUMBERS / network.input.iter().product::<usize>()).clamp(1, MOST_AT_ONCE);
        Ok(Subject { network, device: device.clone(), normalization, flips, at_once })
    }

    /// The same, for training in batches of so many images: outside of training no more are shown at once, so that whatever is
    /// trained can be evaluated, in the buffers that a step leaves.
    pub fn trained_by(self, batch_size: usize) -> Subject {
        Subject { at_once: batch_size.clamp(1, self.at_once), ..self }
    }

    /// Plain images as the network's input, (n, C, H, W).
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn plain_input_of(&self, images: &Images, samples: &[u32]) -> Result<Tensor> {
        self.changed_input(images, samples, Draw::default())
    }

    /// Images as the network's input, all changed alike.
    fn changed_input(&self, images: &Images, samples: &[u32], draw: Draw) -> Result<Tensor> {
        self.input_of(images, &gather(images, samples), &vec![draw; samples.len()])
    }

    /// Bytes of images of the size of `images`, each changed as its draw says, as the network's input, (n, C, H, W).
    ///
    /// # Errors
    /// If there are not as many bytes, or the device is out of memory.
    pub fn input_of(&self, images: &Images, pixels: &[u8], draws: &[Draw]) -> Result<Tensor> {
        let bits = |draw: &Draw| [draw.dy as u32, draw.dx as u32, draw.flip, draw.step as u32];
        let draws: Vec<u32> = draws.iter().flat_map(bits).collect();
        let pixels = Tensor::constant(Array::from_bytes(&self.device, pixels)?);
        let draws = Tensor::from_u32(&self.device, Shape::new(&[draws.len() / 4, 4])?, &draws)?;
        image_batch(&pixels, &draws, &self.normalization, [images.channels, images.height, images.width])
    }

    /// Calls `f` with the outputs for chunks of a few hundred images of any set, mirrored or not, without recording. Its first
    /// argument is the place of the chunk's first image among `samples`.
    ///
    /// # Errors
    /// Those of `f`, and whatever the device refuses.
    pub fn for_chunks(
        &self,
        images: &Images,
        samples: &[u32],
        flip: bool,
        mut f: impl FnMut(usize, Output) -> Result<()>,
    ) -> Result<()> {
        self.for_chunks_with(images, samples, flip, &[], |first, output, _| f(first, output))
    }

    /// As [`Subject::for_chunks`], with the values at `taps`.
    ///
    /// # Errors
    /// As [`Subject::for_chunks`]; if there is no such layer.
    pub fn for_chunks_with(
        &self,
        images: &Images,
        samples: &[u32],
        flip: bool,
        taps: &[Tap],
        mut f: impl FnMut(usize, Output, Vec<Tensor>) -> Result<()>,
    ) -> Result<()> {
        let draw = Draw { flip: u32::from(flip), ..Draw::default() };
        for (i, chunk) in samples.chunks(self.at_once).enumerate() {
            let x = self.changed_input(images, chunk, draw)?;
            let (output, values) = no_grad(|| self.network.forward_with(&x, Mode::Eval, taps))?;
            f(i * self.at_once, output, values)?;
        }
        Ok(())
    }

    /// The same of images as they are.
    ///
    /// # Errors
    /// As [`Subject::for_chunks`].
    pub fn evaluate(&self, images: &Images, samples: &[u32], f: impl FnMut(usize, Output) -> Result<()>) -> Result<()> {
        self.for_chunks(images, samples, false, f)
    }

    /// φ(x) of images, or if `mirrored` the mean of φ(x) and φ of the mirror image: n rows of D numbers.
    ///
    /// # Errors
    /// As [`Subject::for_chunks`].
    pub fn features(&self, images: &Images, samples: &[u32], mirrored: bool) -> Result<Vec<f32>> {
        let mut features = Vec::with_capacity(samples.len() * self.network.n_features);
        self.evaluate(images, samples, |_, output| {
            features.extend(output.features.to_vec()?);
            Ok(())
        })?;
        if mirrored {
            let d = self.network.n_features;
            self.for_chunks(images, samples, true, |first, output| {
                for (sum, mirrored) in features[first * d..].iter_mut().zip(output.features.to_vec()?) {
                    *sum = (*sum + mirrored) / 2.0;
                }
                Ok(())
            })?;
        }
        Ok(features)
    }
}
