//! A data set as folders of picture files, one per class: what people with pictures of their own begin with.

use super::{Dataset, Images};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Rng};
use image::{GrayImage, ImageFormat, RgbImage};
use rayon::prelude::*;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Which images are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Training images of each class; all of them if `None`.
    pub per_class: Option<usize>,
    /// The same of test images.
    pub test_per_class: Option<usize>,
    /// Draws them, in each class without regard to the other classes.
    pub seed: u64,
}

/// Writes `dir/train/CLASS/NUMBER.png` and `dir/test/CLASS/NUMBER.png`, where numbers are those of the data set. The folder appears
/// whole or not at all. Returns how many pictures there are in each.
///
/// # Errors
/// [`Error::Usage`] if the folder exists, or an image is neither grey nor in colour; [`Error::Interrupted`]; if it cannot be written.
pub fn write_pictures(dataset: &Dataset, dir: &Path, chosen: Chosen, interrupted: &AtomicBool) -> Result<[usize; 2]> {
    if dir.symlink_metadata().is_ok() {
        return Err(Error::usage(format!("{} exists: name a folder that does not", dir.display())));
    }
    let mut partial = dir.as_os_str().to_owned();
    partial.push(".part");
    let partial = PathBuf::from(partial);
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
    }
    // Refused where one is there: another export may be at work.
    std::fs::create_dir(&partial).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::usage(format!("{} is left from an export that did not end: remove it", partial.display()))
        }
        _ => Error::io(&partial, "create")(e),
    })?;
    let written = write_both(dataset, &partial, chosen, interrupted)
        .and_then(|n| std::fs::rename(&partial, dir).map(|()| n).map_err(Error::io(dir, "create")));
    if written.is_err() {
        // Nothing else can be done about what cannot be removed.
        let _ = std::fs::remove_dir_all(&partial);
    }
    written
}

fn write_both(dataset: &Dataset, dir: &Path, chosen: Chosen, interrupted: &AtomicBool) -> Result<[usize; 2]> {
    let parts = [("train", &dataset.train, chosen.per_class, 0), ("test", &dataset.test, chosen.test_per_class, 1)];
    let mut written = [0; 2];
    for (name, images, most, part) in parts {
        for (class, class_name) in (0u32..).zip(&dataset.class_names) {
            if interrupted.load(Relaxed) {
                return Err(Error::Interrupted);
            }
            let mut own: Vec<usize> = (0..images.len()).filter(|&i| images.labels[i] == class).collect();
            if let Some(most) = most.filter(|&most| most < own.len()) {
                Rng::keyed(chosen.seed, Purpose::Pictures, part << 32 | u64::from(class)).shuffle(&mut own);
                own.truncate(most);
            }
            // A class may be called "T-shirt/top".
            let folder = dir.join(name).join(class_name.replace(['/', '\\'], "-"));
            std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
            own.par_iter().try_for_each(|&i| write(images, i, &folder.join(format!("{i:05}.png"))))?;
            written[part as usize] += own.len();
        }
    }
    Ok(written)
}

fn write(images: &Images, i: usize, path: &Path) -> Result<()> {
    let (width, height, pixels) = (images.width as u32, images.height as u32, images.image(i));
    let plane = images.width * images.height;
    // First into memory: a writer of files that is dropped says nothing of a full disk.
    let mut bytes = Cursor::new(Vec::new());
    let encoded = match images.channels {
        1 => GrayImage::from_raw(width, height, pixels.to_vec())
            .map(|picture| picture.write_to(&mut bytes, ImageFormat::Png)),
        3 => {
            let interleaved = (0..plane).flat_map(|at| [pixels[at], pixels[plane + at], pixels[2 * plane + at]]);
            RgbImage::from_raw(width, height, interleaved.collect())
                .map(|picture| picture.write_to(&mut bytes, ImageFormat::Png))
        }
        n => return Err(Error::usage(format!("images of {n} channels are no pictures"))),
    };
    let encoded = encoded.expect("bug: an image of another size");
    encoded.map_err(|e| Error::file(path, format!("cannot be written: {e}")))?;
    std::fs::write(path, bytes.into_inner()).map_err(Error::io(path, "write"))
}
