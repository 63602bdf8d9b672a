//! What a method works with: the network, and a way to show it images.

use super::Unseen;
use crate::data::{Augment, Batch, Dataset, Draw, Images, gather};
use crate::device::{Array, DType, Device};
use crate::error::Result;
use crate::models::Network;
use crate::nn::Output;
use crate::ops::{Mode, Normalization, image_batch, scatter_rows};
use crate::rng::Rng;
use crate::tensor::{Tensor, no_grad};
use std::ops::Range;
use std::sync::Arc;

/// The most images of a forward pass outside training.
const MOST_AT_ONCE: usize = 256;

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
    /// Images of a forward pass outside training: see [`Learner::trained_by`].
    pub at_once: usize,
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
            at_once: MOST_AT_ONCE,
        })
    }

    /// The same, for training in batches of so many images: outside of training no more are shown at once, so that whatever is
    /// trained can be evaluated, in the buffers that a step leaves.
    pub fn trained_by(self, batch_size: usize) -> Learner {
        Learner { at_once: batch_size.clamp(1, MOST_AT_ONCE), ..self }
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
        self.plain_input_of(&self.images, samples)
    }

    /// The same of images of any set.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn plain_input_of(&self, images: &Images, samples: &[u32]) -> Result<Tensor> {
        self.changed_input(images, samples, Draw::default())
    }

    /// Images as the network's input, all with the same crop and mirror.
    fn changed_input(&self, images: &Images, samples: &[u32], draw: Draw) -> Result<Tensor> {
        let draws = [draw.dy as u32, draw.dx as u32, draw.flip].repeat(samples.len());
        self.upload(images, &gather(images, samples), &draws)
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
        for (i, chunk) in samples.chunks(self.at_once).enumerate() {
            let x = self.changed_input(images, chunk, draw)?;
            f(i * self.at_once, no_grad(|| self.network.forward(&x, Mode::Eval))?)?;
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
            let rows: Vec<u32> = (first as u32..).take(features.shape()[0]).collect();
            scatter_rows(&features, &Tensor::from_u32(&self.device, [rows.len()], &rows)?, &all)
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
