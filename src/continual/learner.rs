//! What a method works with: the network, and a way to show it images.

use super::Unseen;
use crate::data::{Augment, Batch, Dataset, Images, gather};
use crate::device::{Array, DType, Device};
use crate::error::{Error, Result};
use crate::learner::Subject;
use crate::models::Network;
use crate::ops::scatter_rows;
use crate::rng::Rng;
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

/// A network with its input pipeline, and the training images of a data set.
pub struct Learner {
    /// The network that is being trained, and what its input goes through.
    pub subject: Subject,
    images: Arc<Images>,
    /// The random changes of training images, which replayed images get too.
    pub augment: Augment,
    /// The seed of the run.
    pub seed: u64,
    /// In task-incremental learning the outputs of each task so far; empty where outputs are not masked by task.
    pub heads: Vec<Range<usize>>,
    /// Whether outputs of classes that have not come yet take part in the cross-entropy.
    pub unseen: Unseen,
}

impl Deref for Learner {
    type Target = Subject;

    fn deref(&self) -> &Subject {
        &self.subject
    }
}

impl DerefMut for Learner {
    fn deref_mut(&mut self) -> &mut Subject {
        &mut self.subject
    }
}

impl Learner {
    /// A learner on the data set's training images.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn new(network: Network, device: &Device, dataset: &Dataset) -> Result<Learner> {
        let subject = Subject::new(network, device, &dataset.mean, &dataset.std, dataset.flips)?;
        Ok(Learner::of(subject, dataset.train.clone()))
    }

    /// A learner on these images.
    pub fn of(subject: Subject, images: Arc<Images>) -> Learner {
        let (heads, unseen) = (Vec::new(), Unseen::default());
        Learner { subject, images, augment: Augment::default(), seed: 1, heads, unseen }
    }

    /// The same, for training in batches of so many images: see [`Subject::trained_by`].
    pub fn trained_by(self, batch_size: usize) -> Learner {
        Learner { subject: self.subject.trained_by(batch_size), ..self }
    }

    /// The training images.
    pub fn images(&self) -> Arc<Images> {
        self.images.clone()
    }

    /// Bytes of one stored image.
    pub fn image_bytes(&self) -> u64 {
        self.images.image_bytes() as u64
    }

    /// Whether images have a class for each pixel.
    pub fn has_masks(&self) -> bool {
        !self.images.masks.is_empty()
    }

    /// Bytes of what is said about an image: a label, or a mask.
    pub fn label_bytes(&self) -> u64 {
        if self.has_masks() { (self.images.height * self.images.width) as u64 } else { 4 }
    }

    /// Training samples and their labels as the loader would give them, changed by random draws from `rng`.
    pub fn batch(&self, samples: &[u32], labels: &[u32], rng: &mut Rng) -> Batch {
        let size = [self.images.height, self.images.width];
        Batch {
            pixels: gather(&self.images, samples),
            labels: labels.to_vec(),
            samples: samples.to_vec(),
            draws: samples.iter().map(|_| self.augment.draw(rng, size)).collect(),
        }
    }

    /// Plain training images as the network's input, (n, C, H, W).
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn plain_input(&self, samples: &[u32]) -> Result<Tensor> {
        self.check(samples)?;
        self.plain_input_of(&self.images, samples)
    }

    /// Samples may have been read from a file.
    fn check(&self, samples: &[u32]) -> Result<()> {
        match samples.iter().find(|&&sample| sample as usize >= self.images.len()) {
            Some(sample) => Err(Error::usage(format!("there is no training image {sample}"))),
            None => Ok(()),
        }
    }

    /// The class of a training sample, as the data set numbers it.
    pub fn class_of(&self, sample: u32) -> u32 {
        self.images.labels[sample as usize]
    }

    /// Labels on the device: (N), or of pixels (N, H, W).
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn targets(&self, labels: &[u32]) -> Result<Tensor> {
        let (height, width) = (self.images.height, self.images.width);
        match self.has_masks() {
            false => Tensor::from_u32(&self.device, [labels.len()], labels),
            true => Tensor::from_u32(&self.device, [labels.len() / (height * width), height, width], labels),
        }
    }

    /// The network's input for a batch of the loader, (N, C, H, W).
    ///
    /// # Errors
    /// If the images are not those of this data set, or the device is out of memory.
    pub fn input(&self, batch: &Batch) -> Result<Tensor> {
        self.input_of(&self.images, &batch.pixels, &batch.draws)
    }

    /// φ(x)/‖φ(x)‖ of training samples, (n, D).
    ///
    /// # Errors
    /// If there is no sample, or the device is out of memory.
    pub fn normalized_features(&self, samples: &[u32], flip: bool) -> Result<Tensor> {
        self.check(samples)?;
        let d = self.network.n_features;
        let all = Array::empty(&self.device, Shape::new(&[samples.len(), d])?, DType::F32)?;
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
            match samples.is_empty() {
                true => rows.resize(rows.len() + self.network.n_features, 0.0),
                false => rows.extend(self.class_mean(samples)?),
            }
        }
        Tensor::from_f32(&self.device, [classes.len(), self.network.n_features], &rows)
    }
}
