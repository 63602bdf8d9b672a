//! From files to pictures that a session takes.

use super::Picture;
use crate::data::labelled::Labelled;
use crate::data::pictures::Frame;
use crate::error::Error;
use rayon::prelude::*;
use std::path::PathBuf;

/// Pictures with their classes, and for the files that could not be read their classes and the reasons.
pub struct ReadPictures {
    /// In the order of the files.
    pub pictures: Vec<(Picture, String)>,
    /// The class that a file was of, and why it cannot be read.
    pub unreadable: Vec<(String, Error)>,
}

/// Reads files, on all threads.
pub fn read_labelled<'a>(files: impl Iterator<Item = &'a Labelled>, frame: Frame) -> ReadPictures {
    let files: Vec<&Labelled> = files.collect();
    let read: Vec<_> = files.par_iter().map(|file| Picture::read(&file.path, frame)).collect();
    let (mut pictures, mut unreadable) = (Vec::new(), Vec::new());
    for (file, picture) in files.into_iter().zip(read) {
        match picture {
            Ok(picture) => pictures.push((picture, file.class.clone())),
            Err(error) => unreadable.push((file.class.clone(), error)),
        }
    }
    ReadPictures { pictures, unreadable }
}

/// The same of files that say nothing of their class: pictures with their paths, and why others cannot be read.
pub fn read_files(files: &[PathBuf], frame: Frame) -> (Vec<(PathBuf, Picture)>, Vec<Error>) {
    let read: Vec<_> = files.par_iter().map(|file| Picture::read(file, frame)).collect();
    let (mut pictures, mut unreadable) = (Vec::new(), Vec::new());
    for (file, picture) in files.iter().zip(read) {
        match picture {
            Ok(picture) => pictures.push((file.clone(), picture)),
            Err(error) => unreadable.push(error),
        }
    }
    (pictures, unreadable)
}
