//! The binary files of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): records without a header, each of one label byte
//! (CIFAR-10) or two (CIFAR-100: coarse, then fine) and 3,072 pixel bytes: the red, the green and the blue plane of 32×32
//! bytes each, row by row.

use super::Images;
use super::files::thousands;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Rows and columns of an image.
pub const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;

/// What the labels of a record are.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The number of classes that each label byte tells apart.
    pub label_classes: &'a [usize],
    /// Which of the label bytes to use.
    pub label_idx: usize,
}

/// Reads the records of files, one file after the other.
///
/// Errors: a file that cannot be read, that is empty or no whole number of records, a label (used or not) that is no
/// class.
pub fn read(paths: &[PathBuf], record: Record) -> Result<Images> {
    let n_labels = record.label_classes.len();
    let record_bytes = n_labels + PIXELS;
    let mut images = Images {
        channels: 3,
        height: SIDE,
        width: SIDE,
        pixels: Vec::new(),
        labels: Vec::new(),
        views: Vec::new(),
        masks: Vec::new(),
    };
    for path in paths {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        if bytes.is_empty() || !bytes.len().is_multiple_of(record_bytes) {
            let message = format!(
                "holds {} bytes, which is no whole number of records of {} bytes; the file is damaged or of another data \
                 set: fetch it again",
                thousands(bytes.len() as u64),
                thousands(record_bytes as u64)
            );
            return Err(Error::file(path, message));
        }
        images.pixels.reserve(bytes.len());
        for (record_idx, bytes) in bytes.chunks_exact(record_bytes).enumerate() {
            let (labels, pixels) = bytes.split_at(n_labels);
            for (&label, &n_classes) in labels.iter().zip(record.label_classes) {
                if usize::from(label) >= n_classes {
                    let message = format!(
                        "record {record_idx} has the label {label}, but the {n_classes} classes are 0 to {}; the file is \
                         damaged or of another data set",
                        n_classes.saturating_sub(1)
                    );
                    return Err(Error::file(path, message));
                }
            }
            images.labels.push(u32::from(labels[record.label_idx]));
            images.pixels.extend_from_slice(pixels);
        }
    }
    Ok(images)
}

/// Reads the names of classes, one per line; empty lines do not count.
///
/// Errors: a file that cannot be read, or that does not have `n_classes` names.
pub fn read_names(path: &Path, n_classes: usize) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect();
    if names.len() != n_classes {
        let n = names.len();
        return Err(Error::file(path, format!("names {n} classes, expected {n_classes}, one name per line")));
    }
    Ok(names)
}
