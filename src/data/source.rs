//! What `--dataset` may name: a known data set, or a folder of pictures.

use super::pictures::ImageFormat;
use super::{Augmentation, Dataset, DatasetSpec, Images, Labels, Recipe, Target, Targets, folder, mask_folder, spec};
use crate::error::{Error, Result};
use crate::settings::choices;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A data set by name, before anything of it is read.
#[derive(Clone, Debug)]
pub enum Source {
    /// A row of the table.
    Known(&'static DatasetSpec),
    /// One folder of pictures per class, see [`folder`].
    Folder(PathBuf),
    /// Pictures with masks, see [`mask_folder`].
    Masks(PathBuf),
}

/// How to load a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Where files of known data sets lie.
    pub data_dir: PathBuf,
    /// Which of two kinds of labels.
    pub labels: Labels,
    /// What pictures of a folder become.
    pub format: ImageFormat,
    /// How pixels are scaled.
    pub normalize: Normalize,
}

choices! {
    /// How pixels are scaled before a network sees them.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Normalize {
        #[default]
        /// Minus the mean and divided by the standard deviation of the channel.
        Channel = "channel",
        /// Minus the mean image of all training images, not divided: what iCaRL's authors did on CIFAR-100.
        MeanImage = "mean-image",
        /// Only divided by 255, to 0..1: what toolboxes feed in MNIST's benchmarks.
        Unit = "unit",
    }
}

impl Source {
    /// A name of the table, `folder:DIR` or `masks:DIR`.
    ///
    /// Errors ([`Error::Usage`]): an unknown name; the message lists the known ones.
    pub fn parse(text: &str) -> Result<Source> {
        match (text.strip_prefix("folder:"), text.strip_prefix("masks:")) {
            (Some(""), _) => Err(Error::usage("folder: needs the path of a folder, as in folder:pictures")),
            (_, Some("")) => Err(Error::usage("masks: needs the path of a folder, as in masks:VOC2012")),
            (Some(dir), _) => Ok(Source::Folder(PathBuf::from(dir))),
            (_, Some(dir)) => Ok(Source::Masks(PathBuf::from(dir))),
            _ => spec(text).map(Source::Known),
        }
    }

    /// What is said about an image.
    pub fn target(&self) -> Target {
        match self {
            Source::Known(spec) if spec.domains.is_empty() => Target::Class,
            Source::Folder(_) => Target::Class,
            Source::Known(_) | Source::Masks(_) => Target::Mask,
        }
    }

    /// What is known of its labels.
    ///
    /// # Errors
    /// As [`Source::n_classes`].
    pub fn targets(&self, labels: Labels) -> Result<Targets> {
        let n_domains = match self {
            Source::Known(spec) => spec.domains.len(),
            Source::Folder(_) => 0,
            Source::Masks(dir) => mask_folder::found(dir)?.domains.len(),
        };
        Ok(Targets { target: self.target(), n_classes: self.n_classes(labels)?, n_domains })
    }

    /// The number of classes.
    ///
    /// Errors: coarse labels of a data set without groups; a folder that cannot be read or has fewer than two classes.
    pub fn n_classes(&self, labels: Labels) -> Result<usize> {
        match self {
            Source::Known(spec) => spec.n_classes(labels),
            Source::Folder(dir) => {
                refuse_coarse(labels)?;
                Ok(folder::class_folders(dir)?.len())
            }
            Source::Masks(dir) => {
                refuse_coarse(labels)?;
                Ok(mask_folder::found(dir)?.class_names.len())
            }
        }
    }

    /// Loads (or draws) the data set.
    ///
    /// Errors: those of [`DatasetSpec::load`] and [`folder::read`].
    pub fn load(&self, options: &LoadOptions) -> Result<Dataset> {
        let mut dataset = match self {
            Source::Known(spec) => spec.load_with(&options.data_dir, options.labels)?,
            Source::Folder(dir) => {
                refuse_coarse(options.labels)?;
                folder::read(dir, options.format)?
            }
            Source::Masks(dir) => {
                refuse_coarse(options.labels)?;
                mask_folder::read(dir, options.format)?
            }
        };
        let n_channels = dataset.train.channels;
        match options.normalize {
            Normalize::Channel => return Ok(dataset),
            Normalize::MeanImage => dataset.mean = mean_image(&dataset.train),
            Normalize::Unit => dataset.mean = vec![0.0; n_channels],
        }
        dataset.std = vec![1.0; n_channels];
        Ok(dataset)
    }

    /// What images of this kind go through in training, unless somebody says otherwise: crops and mirrors where a mirror
    /// image keeps its class.
    pub fn augmentation(&self, format: ImageFormat) -> Augmentation {
        let flips = match self {
            Source::Known(spec) => spec.flips,
            Source::Folder(_) | Source::Masks(_) => folder::flips(format),
        };
        if flips { Augmentation::CropFlip } else { Augmentation::None }
    }

    /// Settings of training that suit it.
    pub fn recipe(&self) -> &Recipe {
        match self {
            Source::Known(spec) => &spec.recipe,
            Source::Folder(_) => &folder::RECIPE,
            Source::Masks(_) => &mask_folder::RECIPE,
        }
    }

    /// Whether both are folders that are there, and not the same one.
    pub fn is_elsewhere(&self, other: &Source) -> bool {
        let folder = |source: &Source| match source {
            Source::Known(_) => None,
            Source::Folder(dir) | Source::Masks(dir) => dir.canonicalize().ok(),
        };
        folder(self).zip(folder(other)).is_some_and(|(own, theirs)| own != theirs)
    }

    /// A name that is fit for a file: that of the table, or `folder-` and the folder's own.
    pub fn file_name(&self) -> String {
        match self {
            Source::Known(spec) => spec.name.to_string(),
            Source::Folder(dir) => format!("folder-{}", folder::name_of(dir)),
            Source::Masks(dir) => format!("masks-{}", folder::name_of(dir)),
        }
    }
}

fn refuse_coarse(labels: Labels) -> Result<()> {
    match labels {
        Labels::Fine => Ok(()),
        Labels::Coarse => Err(Error::usage("a folder of pictures has no coarse labels")),
    }
}

/// The mean of each of the C×H×W pixels over all images, scaled to 0..1. Sums are of integers, so their order is of no
/// account.
pub fn mean_image(images: &Images) -> Vec<f32> {
    let mut sums = vec![0_u64; images.image_bytes()];
    for image in images.pixels.chunks_exact(images.image_bytes()) {
        sums.iter_mut().zip(image).for_each(|(sum, &byte)| *sum += u64::from(byte));
    }
    let scale = 1.0 / (255.0 * images.len().max(1) as f64);
    sums.into_iter().map(|sum| (sum as f64 * scale) as f32).collect()
}

/// Mean and standard deviation of each channel over all images, in units of pixels scaled to 0..1. The deviation of
/// images of one colour counts as one grey level, so that nothing is divided by zero.
pub fn channel_statistics(images: &Images) -> (Vec<f32>, Vec<f32>) {
    let plane = images.height * images.width;
    let (mut sums, mut squares) = (vec![0_u64; images.channels], vec![0_u64; images.channels]);
    for (i, plane) in images.pixels.chunks_exact(plane).enumerate() {
        let channel = i % images.channels;
        sums[channel] += plane.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        squares[channel] += plane.iter().map(|&byte| u64::from(byte) * u64::from(byte)).sum::<u64>();
    }
    let n = (images.len() * plane).max(1) as f64;
    let mean = |sum: u64| sum as f64 / n;
    let std = |(&sum, &square): (&u64, &u64)| (mean(square) - mean(sum) * mean(sum)).max(1.0).sqrt() / 255.0;
    (
        sums.iter().map(|&sum| (mean(sum) / 255.0) as f32).collect(),
        sums.iter().zip(&squares).map(|pair| std(pair) as f32).collect(),
    )
}
