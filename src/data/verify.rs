//! Whether a data set on disk is what was published: file by file, then image by image.

use super::files::{FileState, thousands};
use super::{Dataset, DatasetSpec, Images, Presence};
use crate::error::Result;
use std::path::Path;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A file, or "training images" and the like.
    pub subject: String,
    /// Whether it is as it should be.
    pub right: bool,
    /// What was found.
    pub detail: String,
}

/// Looks at the files of a data set and at what they hold.
///
/// # Errors
/// If a file cannot be read. A wrong one is a finding, not an error.
pub fn verify(spec: &DatasetSpec, data_dir: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let dir = match spec.presence(data_dir) {
        Presence::BuiltIn => data_dir.to_path_buf(),
        Presence::Present(dir) => dir,
        // The first folder is the one to put the files into.
        Presence::Missing { searched, .. } => searched
            .into_iter()
            .find(|dir| spec.files.iter().any(|file| file.find(dir).is_some()))
            .unwrap_or_else(|| data_dir.join(spec.name)),
    };
    for file in spec.files {
        let missing = dir.join(file.name);
        let (path, right, detail) = match file.check(&dir)? {
            FileState::Right { path, md5 } => (path, true, format!("right (MD5 {md5})")),
            FileState::Unchecked(path) => (path, true, "of the right length; no checksum is known for it".into()),
            FileState::Wrong { path, reason } => (path, false, reason),
            FileState::Missing => (missing, false, "missing".into()),
        };
        findings.push(Finding { subject: path.display().to_string(), right, detail });
    }
    if let Presence::Missing { .. } = spec.presence(data_dir) {
        return Ok(findings);
    }
    match spec.load(data_dir) {
        Ok(dataset) => findings.extend(contents(spec, &dataset)),
        Err(error) => findings.push(Finding { subject: "content".into(), right: false, detail: error.to_string() }),
    }
    Ok(findings)
}

/// Counts of images and of classes. That labels are classes is checked by the readers.
fn contents(spec: &DatasetSpec, dataset: &Dataset) -> [Finding; 2] {
    let look = |subject: &str, images: &Images, expected: usize| {
        let mut counts = vec![0_u64; dataset.n_classes()];
        images.labels.iter().for_each(|&label| counts[label as usize] += 1);
        let (least, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0));
        let range =
            if least == most { thousands(most) } else { format!("{} to {}", thousands(least), thousands(most)) };
        let mut detail = format!(
            "{} of {} classes, {range} of each, {}x{}x{}",
            thousands(images.len() as u64),
            counts.len(),
            images.channels,
            images.height,
            images.width
        );
        if images.len() != expected {
            detail += &format!("; expected {} images", thousands(expected as u64));
        }
        if least == 0 {
            detail += "; a class has none";
        }
        Finding { subject: subject.into(), right: images.len() == expected && least > 0, detail }
    };
    [look("training images", &dataset.train, spec.n_images[0]), look("test images", &dataset.test, spec.n_images[1])]
}
