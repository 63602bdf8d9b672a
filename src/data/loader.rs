//! Batches of a training set, prepared on a second thread while the model trains on the last one.
//!
//! A batch holds the source bytes of its images and, per image, the crop, mirror and scale to apply; the op `image_batch`
//! does the arithmetic on the device. Order and draws are functions of (seed, epoch, batch) and the thread only moves
//! the work, so batches are the same with or without it.

use super::{Images, NO_LABEL, VOID};
use crate::error::{Error, Result};
pub use crate::ops::Draw;
use crate::rng::{Purpose, Rng};
use crate::settings::choices;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Batches that wait ready while one is in use.
const PREFETCH: usize = 2;

/// Which random changes images get; by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Images are padded by this many zero pixels on each side, then cropped to their size at a random place.
    pub pad: u32,
    /// Every second image, by chance, is mirrored left to right.
    pub flip: bool,
    /// Images are shown at half to twice their size, every factor's logarithm as likely as any other, and cropped at a random
    /// place, or surrounded by zero pixels.
    pub scale: bool,
}

choices! {
    /// The choices of [`Augment`] that have names.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Augmentation {
        #[default]
        /// Plain images: for writing.
        None = "none",
        /// Mirrors.
        Flip = "flip",
        /// Crops after padding by 4 pixels, and mirrors: what the papers do with CIFAR.
        CropFlip = "crop-flip",
        /// The same at half to twice the size, image and mask alike: what papers on segmentation do.
        ScaleCropFlip = "scale-crop-flip",
    }
}

impl Augmentation {
    /// Whether images are mirrored.
    pub fn flips(self) -> bool {
        self != Augmentation::None
    }
}

impl From<Augmentation> for Augment {
    fn from(augmentation: Augmentation) -> Augment {
        let crops = matches!(augmentation, Augmentation::CropFlip | Augmentation::ScaleCropFlip);
        Augment {
            pad: if crops { 4 } else { 0 },
            flip: augmentation.flips(),
            scale: augmentation == Augmentation::ScaleCropFlip,
        }
    }
}

impl Augment {
    /// The changes of one image of `height`×`width` pixels.
    pub fn draw(&self, rng: &mut Rng, [height, width]: [usize; 2]) -> Draw {
        let step = if self.scale { scaled_step(rng) } else { Draw::UNIT };
        // So far the edge of what is shown may move from the edge of the image.
        let margin = |size: usize| size as u32 * step.abs_diff(Draw::UNIT) / (2 * Draw::UNIT as u32);
        let mut offset = |size| {
            let most = self.pad + margin(size);
            if most == 0 { 0 } else { rng.below(2 * most + 1) as i32 - most as i32 }
        };
        let (dy, dx) = (offset(height), offset(width));
        Draw { dy, dx, flip: if self.flip { rng.below(2) } else { 0 }, step }
    }
}

/// The step of a scale between half and twice.
fn scaled_step(rng: &mut Rng) -> i32 {
    let exponent = f64::from(rng.below(2 * Draw::UNIT as u32 + 1)) / f64::from(Draw::UNIT) - 1.0;
    (f64::from(Draw::UNIT) * exponent.exp2()).round() as i32
}

/// B images with what belongs to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// B×C×H×W source bytes.
    pub pixels: Vec<u8>,
    /// Labels in order of arrival, see [`TaskStream`](super::TaskStream): B, or B×H×W of pixels, changed as they are,
    /// [`NO_LABEL`] where nothing is known.
    pub labels: Vec<u32>,
    /// The index of each image in the data set.
    pub samples: Vec<u32>,
    /// What is done to each image.
    pub draws: Vec<Draw>,
}

impl Batch {
    /// The number of images, B.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

/// What to load: some epochs over some images.
///
/// ```
/// use engram::data::{self, Augment, ClassOrder, Loader, Plan, TaskStream};
/// use std::sync::Arc;
/// let dataset = data::spec("glyphs")?.load("unused: it is built in".as_ref())?;
/// // Five tasks of two classes, at most 50 training images each.
/// let stream = TaskStream::split(&dataset, 2, &"natural".parse::<ClassOrder>()?, Some(50))?;
/// let plan = Plan {
///     images: dataset.train.clone(),
///     samples: Arc::new(stream.tasks[0].train.clone()),
///     label_of_class: Arc::new(stream.label_of_class.clone()),
///     batch_size: 16,
///     seed: 1,
///     first_epoch: 0,
///     n_epochs: 2,
///     augment: Augment::default(),
///     drop_last: false,
/// };
/// assert_eq!(plan.batches_per_epoch(), 4);
/// let sizes: Vec<usize> = Loader::new(plan)?.map(|(_epoch, batch)| batch.len()).collect();
/// assert_eq!(sizes, [16, 16, 16, 2, 16, 16, 16, 2]);
/// # Ok::<(), engram::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the images come from.
    pub images: Arc<Images>,
    /// Indices of the images of an epoch; one that is listed twice is used twice.
    pub samples: Arc<Vec<u32>>,
    /// The label of each class, see [`TaskStream::label_of_class`](super::TaskStream).
    pub label_of_class: Arc<Vec<u32>>,
    /// Images per batch, at least 1.
    pub batch_size: usize,
    /// The seed of the run.
    pub seed: u64,
    /// The number of epochs the whole run has behind it, so that no two epochs of a run share their order.
    pub first_epoch: u64,
    /// Epochs to load.
    pub n_epochs: u64,
    /// Random changes.
    pub augment: Augment,
    /// Leaves out the last batch of an epoch if it is smaller than the others, unless it is the only one.
    pub drop_last: bool,
}

impl Plan {
    /// The number of batches of one epoch.
    pub fn batches_per_epoch(&self) -> usize {
        let full = self.samples.len() / self.batch_size;
        let keeps_partial = !self.drop_last || full == 0;
        full + usize::from(keeps_partial && !self.samples.len().is_multiple_of(self.batch_size))
    }

    /// The batches with their epochs (counted over the whole run), prepared on the calling thread.
    ///
    /// Errors: those of [`Loader::new`].
    pub fn batches(self) -> Result<impl Iterator<Item = (u64, Batch)> + Send> {
        self.check()?;
        let epochs = self.first_epoch..self.first_epoch + self.n_epochs;
        Ok(epochs.flat_map(move |epoch| {
            // One cheap copy of the plan's pointers per epoch keeps the iterator free of self-reference.
            let plan = self.clone();
            let order = plan.order(epoch);
            (0..plan.batches_per_epoch()).map(move |batch_idx| (epoch, plan.batch(&order, epoch, batch_idx)))
        }))
    }

    fn check(&self) -> Result<()> {
        if self.batch_size == 0 {
            return Err(Error::usage("a batch size of 0 is not possible; choose at least 1"));
        }
        if self.samples.is_empty() {
            return Err(Error::usage("there are no training images to make batches of"));
        }
        if !self.images.masks.is_empty() {
            return match self.samples.iter().find(|&&sample| sample as usize >= self.images.len()) {
                Some(sample) => Err(self.no_image(*sample)),
                None => Ok(()),
            };
        }
        for &sample in self.samples.iter() {
            let class = self.images.labels.get(sample as usize).copied();
            let label = class.and_then(|class| self.label_of_class.get(class as usize)).copied();
            if label.unwrap_or(NO_LABEL) == NO_LABEL {
                return Err(match class {
                    Some(class) => {
                        Error::usage(format!("image {sample} is of class {class}, which is not in the stream"))
                    }
                    None => self.no_image(sample),
                });
            }
        }
        Ok(())
    }

    fn no_image(&self, sample: u32) -> Error {
        Error::usage(format!("there is no image {sample}: the data set has {}", self.images.len()))
    }

    fn order(&self, epoch: u64) -> Vec<u32> {
        let mut order = self.samples.to_vec();
        Rng::keyed(self.seed, Purpose::Shuffle, epoch).shuffle(&mut order);
        order
    }

    fn batch(&self, order: &[u32], epoch: u64, batch_idx: usize) -> Batch {
        let start = batch_idx * self.batch_size;
        let end = (start + self.batch_size).min(order.len());
        let samples = order[start..end].to_vec();
        let mut rng = Rng::keyed(self.seed, Purpose::Augment, (epoch << 32) | batch_idx as u64);
        let size = [self.images.height, self.images.width];
        let draws: Vec<Draw> = samples.iter().map(|_| self.augment.draw(&mut rng, size)).collect();
        Batch {
            pixels: gather(&self.images, &samples),
            labels: gather_labels(&self.images, &samples, &draws, &self.label_of_class),
            draws,
            samples,
        }
    }
}

/// Copies the bytes of the images `samples` into one buffer, B×C×H×W. Indices must be below `images.len()`.
pub fn gather(images: &Images, samples: &[u32]) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(samples.len() * images.image_bytes());
    for &sample in samples {
        pixels.extend_from_slice(&images.sample(sample));
    }
    pixels
}

/// The labels of the images `samples`, B; of images with masks those of their pixels, B×H×W, each mask changed by the draw of
/// its image. [`VOID`] pixels and those from outside have [`NO_LABEL`].
pub fn gather_labels(images: &Images, samples: &[u32], draws: &[Draw], label_of_class: &[u32]) -> Vec<u32> {
    if images.masks.is_empty() {
        return samples.iter().map(|&sample| label_of_class[images.labels[sample as usize] as usize]).collect();
    }
    let mut table = [NO_LABEL; VOID as usize + 1];
    table[..label_of_class.len()].copy_from_slice(label_of_class);
    let (h, w) = (images.height, images.width);
    let mut labels = Vec::with_capacity(samples.len() * h * w);
    for (&sample, draw) in samples.iter().zip(draws) {
        let mask = images.mask(sample as usize);
        for pixel in 0..h * w {
            let source = Draw::nearest(draw.place([pixel / w, pixel % w], [h, w]), [h, w]);
            labels.push(source.map_or(NO_LABEL, |source| table[usize::from(mask[source])]));
        }
    }
    labels
}

/// The batches of a [`Plan`], a few of them prepared ahead on a thread of its own. Dropping it ends the thread.
pub struct Loader {
    // Both are None once the thread has ended.
    batches: Option<Receiver<(u64, Batch)>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts to prepare batches.
    ///
    /// Errors ([`Error::Usage`]): a batch size of 0, no samples, a sample that is no image or whose class has no label.
    pub fn new(plan: Plan) -> Result<Loader> {
        let batches = plan.batches()?;
        let (sender, receiver) = sync_channel(PREFETCH);
        let thread = std::thread::spawn(move || {
            for batch in batches {
                // Nobody listens any more: the loader was dropped before its end.
                if sender.send(batch).is_err() {
                    return;
                }
            }
        });
        Ok(Loader { batches: Some(receiver), thread: Some(thread) })
    }
}

impl Iterator for Loader {
    /// The epoch, counted over the whole run, and a batch of it.
    type Item = (u64, Batch);

    fn next(&mut self) -> Option<(u64, Batch)> {
        let next = self.batches.as_ref()?.recv().ok();
        if next.is_none() {
            self.batches = None;
            // A panic over there must not look like the end of the data.
            if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
                std::panic::resume_unwind(panic);
            }
        }
        next
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Closing the channel first wakes a thread that waits to send.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, concerns batches that nobody wanted.
            let _ = thread.join();
        }
    }
}
