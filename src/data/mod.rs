//! Data sets, task streams and the batch loader. Nothing here knows of a model or a device.
//!
//! Pixels stay the bytes of the file (u8, N×C×H×W) until the op `image_batch` converts a batch on the device. Reading
//! order: this file, the table in [`known`] with the readers [`idx`] and [`cifar`] and the drawn [`glyphs`],
//! [`shapes`] and [`shape_city`] with their [`strokes`], the [`folder`] of [`pictures`], the choice among them in [`source`], then
//! [`stream`], the scenarios ([`Split`]) with their [`View`]s, and [`loader`]. What an image is labelled with is a class, or a class
//! for each of its pixels ([`Target`]). [`Dataset::held_out`] makes a validation split;
//! [`labelled`] finds pictures for a learner that goes on. Beside the way from file to batch lie [`files`] (sizes and checksums), [`fetch`] (downloads), [`verify`],
//! and contact sheets ([`sheet`], [`lettering`]).

mod as_pictures;
pub mod cifar;
pub mod fetch;
pub mod files;
mod fingerprint;
pub mod folder;
pub mod glyphs;
mod held_out;
pub mod idx;
pub mod known;
pub mod labelled;
pub mod lettering;
pub mod loader;
pub mod mask_folder;
pub mod mask_png;
mod mask_stream;
pub mod pictures;
mod recognise;
mod scenario;
mod settings;
pub mod shape_city;
pub mod shapes;
pub mod sheet;
pub mod source;
pub mod stream;
pub mod strokes;
pub mod verify;
mod views;

use crate::settings::choices;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

pub use as_pictures::{Chosen, write_pictures};
pub use fingerprint::Fingerprint;
pub use known::{ALL, DatasetSpec, Presence, Recipe, export, export_files, spec};
pub use loader::{Augment, Augmentation, Batch, Draw, Loader, Plan, gather, gather_labels};
pub use mask_stream::{Membership, Steps};
pub use pictures::ImageFormat;
pub use scenario::{Scenario, Split};
pub use settings::{DATA, DataSettings, STREAM, StreamSettings, Targets, data_recipe, stream_recipe, stream_rows};
pub use source::{LoadOptions, Normalize, Source};
pub use stream::{ClassOrder, NO_LABEL, Task, TaskStream};
pub use views::View;

/// Labelled images of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// C: 1 is grey, 3 is red, green, blue.
    pub channels: usize,
    /// H, in pixels.
    pub height: usize,
    /// W, in pixels.
    pub width: usize,
    /// N×C×H×W bytes, 0 is dark.
    pub pixels: Vec<u8>,
    /// The class of each sample: of each image, as often as there are views. Of images with masks the domain.
    pub labels: Vec<u32>,
    /// Ways in which the N images are seen; none is the images as they are.
    pub views: Vec<View>,
    /// N×H×W classes of pixels, [`VOID`] where nothing is known; empty where an image has one class.
    pub masks: Vec<u8>,
}

/// The class of a pixel that belongs to none: the contour of an object, or what nobody has labelled.
pub const VOID: u8 = 255;

/// What is said about an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// One class.
    #[default]
    Class,
    /// A class for each pixel: semantic segmentation.
    Mask,
}

impl Target {
    /// In words, for a message.
    pub fn described(self) -> &'static str {
        match self {
            Target::Class => "one class for each image",
            Target::Mask => "a class for each pixel (masks)",
        }
    }
}

impl Images {
    /// The number of samples: N, or as many for each view.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The bytes of one image, C×H×W.
    pub fn image_bytes(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The C×H×W bytes of image `image_idx`, which must be below [`len`](Images::len).
    pub fn image(&self, image_idx: usize) -> &[u8] {
        let n = self.image_bytes();
        &self.pixels[image_idx * n..(image_idx + 1) * n]
    }

    /// The H×W classes of the pixels of image `image_idx`; empty where images have no masks.
    pub fn mask(&self, image_idx: usize) -> &[u8] {
        match self.masks.is_empty() {
            true => &[],
            false => {
                let n = self.height * self.width;
                &self.masks[image_idx * n..(image_idx + 1) * n]
            }
        }
    }

    /// The bytes of a sample, which must be below [`len`](Images::len), through its view.
    pub fn sample(&self, sample: u32) -> Cow<'_, [u8]> {
        if self.views.is_empty() {
            return Cow::Borrowed(self.image(sample as usize));
        }
        let n_images = self.labels.len() / self.views.len();
        let (view, image) = (sample as usize / n_images, sample as usize % n_images);
        match &self.views[view] {
            View::Plain => Cow::Borrowed(self.image(image)),
            view => Cow::Owned(view.apply(self.image(image), self.height, self.width)),
        }
    }

    /// The same images seen in these ways.
    pub fn seen_through(&self, views: Vec<View>) -> Images {
        Images {
            labels: self.labels.repeat(views.len()),
            views,
            pixels: self.pixels.clone(),
            masks: self.masks.clone(),
            ..*self
        }
    }
}

/// A data set in memory. A network sees `x = (p / 255 − mean) / std` for a pixel byte p.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// As in the table of data sets.
    pub name: String,
    /// One name per class; a label indexes it.
    pub class_names: Vec<String>,
    /// What is learned from.
    pub train: Arc<Images>,
    /// What accuracies are measured on.
    pub test: Arc<Images>,
    /// Mean over the training pixels, in units of pixels scaled to 0..1: one number per channel, or C×H×W of them, the
    /// mean image.
    pub mean: Vec<f32>,
    /// Standard deviation per channel, in the same units.
    pub std: Vec<f32>,
    /// Whether a horizontal mirror image keeps its class: true for photographs, false for digits.
    pub flips: bool,
    /// What whoever starts a run should know about the data, such as files that were left out.
    pub notes: Vec<String>,
    /// Files of a folder that are not among the images, by reason.
    pub left_out: Vec<LeftOut>,
    /// Where images with masks are from, by name: rendering styles, drives, cities. None where an image has one class.
    pub domains: Vec<String>,
}

/// Why so many files or folders of a folder of pictures are not among the images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// In words.
    pub reason: String,
    /// How many.
    pub n: usize,
}

choices! {
    /// Which of two kinds of labels to use.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Labels {
        #[default]
        /// The classes themselves.
        Fine = "fine",
        /// The groups of classes that some data sets have.
        Coarse = "coarse",
    }
}

impl Dataset {
    /// The number of classes.
    pub fn n_classes(&self) -> usize {
        self.class_names.len()
    }

    /// What is said about an image.
    pub fn target(&self) -> Target {
        if self.domains.is_empty() { Target::Class } else { Target::Mask }
    }
}
