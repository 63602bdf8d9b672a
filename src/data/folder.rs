//! Folders of pictures as a data set: one sub-folder per class, named like the class, with PNG and JPEG files.
//!
//! Classes are numbered in the order of their names. In each class a fifth of the pictures, at least one, is kept for
//! testing: those whose file names have the smallest MD5. So the split depends on nothing but the names, and is the same on
//! every machine and wherever the folder lies. A picture that cannot be read is left out and noted.

use super::files::md5_of_bytes;
use super::pictures::{self, ImageFormat, is_picture};
use super::source::channel_statistics;
use super::{Dataset, Images, LeftOut};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One picture in so many is for testing.
const TEST_SHARE: usize = 5;

/// Unreadable pictures that a note names.
const NAMED: usize = 3;

/// The sub-folders of `dir` in the order of their names: the classes. Hidden ones do not count.
///
/// Errors: a folder that cannot be read, or has fewer than two sub-folders.
pub fn class_folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let folders: Vec<PathBuf> = entries(dir)?.into_iter().filter(|path| path.is_dir()).collect();
    match folders.as_slice() {
        [] => {
            Err(Error::file(dir, "has no sub-folders; it needs one folder of pictures for each class, named like it"))
        }
        [only] => Err(Error::file(
            dir,
            format!("has one class only, \"{}\"; it needs at least two sub-folders", name_of(only)),
        )),
        _ => Ok(folders),
    }
}

/// Reads a folder of folders of pictures, on all threads. Images are in the order of classes, then of file names.
///
/// Errors: those of [`class_folders`]; a class with fewer than two readable pictures, one to train on and one to test.
pub fn read(dir: &Path, format: ImageFormat) -> Result<Dataset> {
    let folders = class_folders(dir)?;
    let mut files: Vec<(usize, PathBuf)> = Vec::new();
    let mut others: Vec<PathBuf> = entries(dir)?.into_iter().filter(|path| !path.is_dir()).collect();
    for (class, folder) in folders.iter().enumerate() {
        let (pictures, rest): (Vec<_>, Vec<_>) = entries(folder)?.into_iter().partition(|path| is_picture(path));
        files.extend(pictures.into_iter().map(|path| (class, path)));
        others.extend(rest);
    }
    let decoded: Vec<Result<Vec<u8>>> = files.par_iter().map(|(_, path)| pictures::read(path, format)).collect();

    let mut readable: Vec<Vec<(&PathBuf, Vec<u8>)>> = folders.iter().map(|_| Vec::new()).collect();
    let mut unreadable: Vec<(usize, Error)> = Vec::new();
    for ((class, path), picture) in files.iter().zip(decoded) {
        match picture {
            Ok(pixels) => readable[*class].push((path, pixels)),
            Err(error) => unreadable.push((*class, error)),
        }
    }
    let empty = || Images {
        channels: format.channels,
        height: format.height,
        width: format.width,
        pixels: Vec::new(),
        labels: Vec::new(),
        views: Vec::new(),
        masks: Vec::new(),
    };
    let (mut train, mut test) = (empty(), empty());
    for (class, pictures) in readable.iter().enumerate() {
        if pictures.len() < 2 {
            return Err(too_few(&folders[class], class, pictures.len(), &unreadable));
        }
        let mut order: Vec<usize> = (0..pictures.len()).collect();
        order.sort_by_key(|&i| md5_of_bytes(name_of(pictures[i].0).as_bytes()));
        let mut is_test = vec![false; pictures.len()];
        order.iter().take((pictures.len() / TEST_SHARE).max(1)).for_each(|&i| is_test[i] = true);
        for ((_, pixels), is_test) in pictures.iter().zip(is_test) {
            let images = if is_test { &mut test } else { &mut train };
            images.pixels.extend_from_slice(pixels);
            images.labels.push(class as u32);
        }
    }
    let (mean, std) = channel_statistics(&train);
    let mut left_out = left_out(&others);
    let mut notes: Vec<String> = note(files.len(), &unreadable).into_iter().collect();
    if !left_out.is_empty() {
        let counted: Vec<String> = left_out.iter().map(|one| format!("{} {}", one.n, one.reason)).collect();
        notes.push(format!("left out of {}: {}", name_of(dir), counted.join(", ")));
    }
    if !unreadable.is_empty() {
        left_out.insert(0, LeftOut { reason: "that cannot be read as pictures".into(), n: unreadable.len() });
    }
    Ok(Dataset {
        name: name_of(dir),
        class_names: folders.iter().map(|folder| name_of(folder)).collect(),
        train: Arc::new(train),
        test: Arc::new(test),
        mean,
        std,
        flips: flips(format),
        notes,
        left_out,
        domains: Vec::new(),
    })
}

/// Settings of training that suit folders of pictures.
pub const RECIPE: super::Recipe =
    super::Recipe { memory: "500", epochs: "10", batch_size: "32", joint_epochs: "20", joint_batch_size: "32" };

/// Pictures in colour are taken for photographs, whose mirror images keep their class; grey ones may well be writing.
pub fn flips(format: ImageFormat) -> bool {
    format.channels == 3
}

/// The last part of a path; of `.` and the like, the folder's own name.
pub(super) fn name_of(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    name(path).or_else(|| name(&path.canonicalize().ok()?)).unwrap_or_else(|| "pictures".into())
}

/// What a folder holds, hidden entries aside, in the order of names.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "read"))? {
        paths.push(entry.map_err(Error::io(dir, "read"))?.path());
    }
    paths.retain(|path| !name_of(path).starts_with('.'));
    paths.sort_by_key(|path| name_of(path));
    Ok(paths)
}

/// Folders, and files that are no pictures by their names, counted by ending: `3 .txt files`.
pub fn left_out(paths: &[PathBuf]) -> Vec<LeftOut> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for path in paths {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let reason = match ending {
            _ if path.is_dir() => "sub-folders".to_string(),
            Some(ending) => format!(".{ending} files"),
            None => "files without an ending".to_string(),
        };
        *counts.entry(reason).or_default() += 1;
    }
    counts.into_iter().map(|(reason, n)| LeftOut { reason, n }).collect()
}

fn too_few(folder: &Path, class: usize, n: usize, unreadable: &[(usize, Error)]) -> Error {
    let lost: Vec<&Error> = unreadable.iter().filter(|(other, _)| *other == class).map(|(_, error)| error).collect();
    let mut message = match n {
        0 => "has no readable picture".to_string(),
        _ => "has one readable picture only".to_string(),
    };
    message += " (*.png, *.jpg, *.jpeg and others); a class needs at least two, one to train on and one to test";
    if let Some(first) = lost.first() {
        message += &format!(". {} could not be read: {first}", lost.len());
    }
    Error::file(folder, message)
}

fn note(n_files: usize, unreadable: &[(usize, Error)]) -> Option<String> {
    if unreadable.is_empty() {
        return None;
    }
    let named: Vec<String> = unreadable.iter().take(NAMED).map(|(_, error)| format!("\n  {error}")).collect();
    let more =
        if unreadable.len() > NAMED { format!("\n  and {} more", unreadable.len() - NAMED) } else { String::new() };
    Some(format!("{} of {n_files} pictures cannot be read and are left out:{}{more}", unreadable.len(), named.concat()))
}
