//! What a method works with: the network, and a way to show it images.

use super::Unseen;
use crate::data::{Augment, Batch, Dataset, Draw, Images, gather};
use crate::device::{self, Array, DType, Device};
use crate::error::Result;
use crate::models::Network;
use crate::nn::Output;
use crate::ops::{Mode, Normalization, image_batch};
use crate::rng::Rng;
use crate::tensor::{Tensor, no_grad};
use std::ops::Range;
use std::sync::Arc;

/// Images per forward pass outside training. A multiple of 64, so that chunks of features lie aligned in one buffer.
pub const CHUNK: usize = 256;

/// A network and the training images of a data set.
pub struct Learner {
    /// The network that is being trained.
    pub network: Network,
    /// Where its parameters live.
    pub device: Device,
    images: Arc<Images>,
    normalization: Normalization,
    /// True for natural images: class means average over mirror images too.
    pub flips: bool,
    /// The random changes of training images, which replayed images get too.
    pub augment: Augment,
    /// The seed of the run.
    pub seed: u64,
    /// In task-incremental learning the outputs of each task so far; empty where outputs are not masked by task.
    pub heads: Vec<Range<usize>>,
    /// Whether outputs of classes that have not come yet take part in the cross-entropy.
    pub unseen: Unseen,
}

impl Learner {
    /// A learner on the data set's training images.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn new(network: Network, device: &Device, dataset: &Dataset) -> Result<Learner> {
        let inverse_std: Vec<f32> = dataset.std.iter().map(|std| 1.0 / std).collect();
        let normalization = Normalization {
            mean: Tensor::from_f32(device, [dataset.mean.len()], &dataset.mean)?,
            inverse_std: Tensor::from_f32(device, [inverse_std.len()], &inverse_std)?,
        };
        let images = dataset.train.clone();
        Ok(Learner {
            network,
            device: device.clone(),
            images,
            normalization,
            flips: dataset.flips,
            augment: Augment::default(),
            seed: 1,
            heads: Vec::new(),
            unseen: Unseen::default(),
        })
    }

    /// The training images.
    pub fn images(&self) -> Arc<Images> {
        self.images.clone()
    }

    /// Bytes of one stored image.
    pub fn image_bytes(&self) -> u64 {
        self.images.image_bytes() as u64
    }

    /// Training samples and their labels as the loader would give them, changed by random draws from `rng`.
    pub fn batch(&self, samples: &[u32], labels: &[u32], rng: &mut Rng) -> Batch {
        Batch {
            pixels: gather(&self.images, samples),
            labels: labels.to_vec(),
            samples: samples.to_vec(),
            draws: samples.iter().map(|_| self.augment.draw(rng)).collect(),
        }
    }

    /// Plain training images as the network's input, (n, C, H, W).
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn plain_input(&self, samples: &[u32]) -> Result<Tensor> {
        self.upload(&self.images, &gather(&self.images, samples), &[0, 0, 0].repeat(samples.len()))
    }

    /// The class of a training sample, as the data set numbers it.
    pub fn class_of(&self, sample: u32) -> u32 {
        self.images.labels[sample as usize]
    }

    /// The network's input for a batch of the loader, (N, C, H, W).
    ///
    /// # Errors
    /// If the images are not those of this data set, or the device is out of memory.
    pub fn input(&self, batch: &Batch) -> Result<Tensor> {
        let draws: Vec<u32> = batch.draws.iter().flat_map(|draw| [draw.dy as u32, draw.dx as u32, draw.flip]).collect();
        self.upload(&self.images, &batch.pixels, &draws)
    }

    fn upload(&self, images: &Images, pixels: &[u8], draws: &[u32]) -> Result<Tensor> {
        let pixels = Tensor::constant(Array::from_bytes(&self.device, pixels)?);
        let draws = Tensor::from_u32(&self.device, [draws.len() / 3, 3], draws)?;
        image_batch(&pixels, &draws, &self.normalization, [images.channels, images.height, images.width])
    }

    /// Calls `f` with the outputs of a frozen network for chunks of plain images.
    fn for_chunks(
        &self,
        images: &Images,
        samples: &[u32],
        flip: bool,
        mut f: impl FnMut(usize, Output) -> Result<()>,
    ) -> Result<()> {
        let draw = Draw { flip: u32::from(flip), ..Draw::default() };
        for (i, chunk) in samples.chunks(CHUNK).enumerate() {
            let draws = [draw.dy as u32, draw.dx as u32, draw.flip].repeat(chunk.len());
            let x = self.upload(images, &gather(images, chunk), &draws)?;
            f(i * CHUNK, no_grad(|| self.network.forward(&x, Mode::Eval))?)?;
        }
        Ok(())
    }

    /// Calls `f` with the outputs for chunks of a few hundred images of any set, without recording.
    ///
    /// # Errors
    /// Those of `f`, and whatever the device refuses.
    pub fn evaluate(
        &self,
        images: &Images,
        samples: &[u32],
        mut f: impl FnMut(usize, Output) -> Result<()>,
    ) -> Result<()> {
        self.for_chunks(images, samples, false, &mut f)
    }

    /// φ(x)/‖φ(x)‖ of training samples, (n, D).
    ///
    /// # Errors
    /// If there is no sample, or the device is out of memory.
    pub fn normalized_features(&self, samples: &[u32], flip: bool) -> Result<Tensor> {
        let d = self.network.n_features;
        let all = Array::empty(&self.device, [samples.len(), d], DType::F32)?;
        self.for_chunks(&self.images, samples, flip, |first, output| {
            let features = output.features.l2_normalize()?;
            device::copy(features.array(), &all.slice(first * d, features.shape())?)
        })?;
        Ok(Tensor::constant(all))
    }

    /// The mean of the normalised features of samples, over mirror images too where the data set allows, brought back to
    /// length 1: (D).
    ///
    /// # Errors
    /// As [`Learner::normalized_features`].
    pub fn class_mean(&self, samples: &[u32]) -> Result<Vec<f32>> {
        let mut mean = self.normalized_features(samples, false)?.channel_sum()?;
        if self.flips {
            mean = mean.add(&self.normalized_features(samples, true)?.channel_sum()?)?;
        }
        mean.reshape([1, self.network.n_features])?.l2_normalize()?.to_vec()
    }

    /// One mean per class as the rows of a matrix, (classes, D).
    ///
    /// # Errors
    /// As [`Learner::normalized_features`].
    pub fn class_means(&self, classes: &[Vec<u32>]) -> Result<Tensor> {
        let mut rows = Vec::new();
        for samples in classes {
            rows.extend(self.class_mean(samples)?);
        }
        Tensor::from_f32(&self.device, [classes.len(), self.network.n_features], &rows)
    }
}
