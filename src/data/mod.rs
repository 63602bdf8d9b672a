//! Data sets, task streams and the batch loader. Nothing here knows of a model or a device.
//!
//! Pixels stay the bytes of the file (u8, N×C×H×W) until the op `image_batch` converts a batch on the device. Reading
//! order: this file, [`idx`], [`glyphs`] with its [`strokes`], [`stream`], [`loader`].

pub mod glyphs;
pub mod idx;
pub mod loader;
pub mod stream;
pub mod strokes;

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use loader::{Augment, Batch, Draw, Loader, Plan, gather};
pub use stream::{ClassOrder, NO_LABEL, Task, TaskStream};

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
    /// The class of each image.
    pub labels: Vec<u32>,
}

impl Images {
    /// The number of images.
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
    /// Mean per channel over the training pixels, in units of pixels scaled to 0..1.
    pub mean: Vec<f32>,
    /// Standard deviation per channel, in the same units.
    pub std: Vec<f32>,
    /// Whether a horizontal mirror image keeps its class: true for photographs, false for digits.
    pub flips: bool,
}

impl Dataset {
    /// The number of classes.
    pub fn n_classes(&self) -> usize {
        self.class_names.len()
    }
}

/// A file of a data set.
#[derive(Debug)]
pub struct FileSpec {
    /// The name of the uncompressed file; NAME.gz is accepted as well.
    pub name: &'static str,
    /// The size of the uncompressed original in bytes.
    pub bytes: u64,
    /// MD5 of the .gz file as published, in hexadecimal.
    pub gz_md5: &'static str,
}

/// A row of the table of known data sets.
#[derive(Debug)]
pub struct DatasetSpec {
    /// As on the command line.
    pub name: &'static str,
    /// One line for lists and help texts.
    pub summary: &'static str,
    /// One per class, in order of label.
    pub class_names: &'static [&'static str],
    /// See [`Dataset::mean`].
    pub mean: &'static [f32],
    /// See [`Dataset::std`].
    pub std: &'static [f32],
    /// See [`Dataset::flips`].
    pub flips: bool,
    /// The files that must be there; none for a built-in set.
    pub files: &'static [FileSpec],
    /// Reads the training and the test images from the folder that holds the files.
    read: fn(&DatasetSpec, &Path) -> Result<(Images, Images)>,
}

const DIGITS: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// The four files of MNIST, whose names other IDX data sets share.
const MNIST_FILES: &[FileSpec] = &[
    FileSpec { name: "train-images-idx3-ubyte", bytes: 47_040_016, gz_md5: "f68b3c2dcbeaaa9fbdd348bbdeb94873" },
    FileSpec { name: "train-labels-idx1-ubyte", bytes: 60_008, gz_md5: "d53e105ee54ea40749a09fcbcd1e9432" },
    FileSpec { name: "t10k-images-idx3-ubyte", bytes: 7_840_016, gz_md5: "9fb629c4189551a2d022fa330f9573f3" },
    FileSpec { name: "t10k-labels-idx1-ubyte", bytes: 10_008, gz_md5: "ec29112dd5afa0611ce80d1b7f02629c" },
];

/// Every known data set. A new one is a row here, and a reader if its files are of a new kind.
pub const ALL: &[DatasetSpec] = &[
    DatasetSpec {
        name: "glyphs",
        summary: "built in: ten digits in messy strokes, 28x28 grey, 10,000 training and 2,000 test images",
        class_names: DIGITS,
        mean: &[glyphs::MEAN],
        std: &[glyphs::STD],
        flips: false,
        files: &[],
        read: |_, _| Ok(glyphs::draw()),
    },
    DatasetSpec {
        name: "mnist",
        summary: "handwritten digits, 28x28 grey, 60,000 training and 10,000 test images",
        class_names: DIGITS,
        mean: &[0.1307],
        std: &[0.3081],
        flips: false,
        files: MNIST_FILES,
        read: read_idx,
    },
];

/// The data set called `name`; an unknown name is an [`Error::Usage`] that lists the known ones.
pub fn spec(name: &str) -> Result<&'static DatasetSpec> {
    ALL.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|spec| spec.name).collect();
        Error::usage(format!("unknown data set \"{name}\"; the known ones are {}", known.join(", ")))
    })
}

/// Whether a data set can be loaded from a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Needs no files.
    BuiltIn,
    /// All files lie in this folder.
    Present(PathBuf),
    /// These files are missing from the most complete of the folders that were searched.
    Missing {
        /// Plain names.
        files: Vec<&'static str>,
        /// Folders.
        searched: Vec<PathBuf>,
    },
}

impl DatasetSpec {
    /// Looks for the files in `data_dir/NAME` and in `data_dir` itself, without opening them. The folder of the data
    /// set's own name comes first because several sets share the file names of MNIST.
    pub fn presence(&self, data_dir: &Path) -> Presence {
        if self.files.is_empty() {
            return Presence::BuiltIn;
        }
        let searched = vec![data_dir.join(self.name), data_dir.to_path_buf()];
        let absent = |dir: &PathBuf| -> Vec<&'static str> {
            self.files.iter().filter(|file| find(dir, file.name).is_none()).map(|file| file.name).collect()
        };
        let missing: Vec<Vec<&'static str>> = searched.iter().map(absent).collect();
        let best = if missing[1].len() < missing[0].len() { 1 } else { 0 };
        if missing[best].is_empty() {
            Presence::Present(searched[best].clone())
        } else {
            Presence::Missing { files: missing[best].clone(), searched }
        }
    }

    /// Loads (or draws) the data set.
    ///
    /// Errors: files that are missing (the message says which, where they were looked for and what to do), unreadable
    /// or not what they should be (see [`idx`]), training and test images of different sizes.
    pub fn load(&self, data_dir: &Path) -> Result<Dataset> {
        let dir = match self.presence(data_dir) {
            Presence::BuiltIn => data_dir.to_path_buf(),
            Presence::Present(dir) => dir,
            Presence::Missing { files, searched } => return Err(self.missing(&files, &searched)),
        };
        let (train, test) = (self.read)(self, &dir)?;
        Ok(Dataset {
            name: self.name.to_string(),
            class_names: self.class_names.iter().map(|name| name.to_string()).collect(),
            train: Arc::new(train),
            test: Arc::new(test),
            mean: self.mean.to_vec(),
            std: self.std.to_vec(),
            flips: self.flips,
        })
    }

    fn missing(&self, files: &[&str], searched: &[PathBuf]) -> Error {
        let folders: Vec<String> = searched.iter().map(|dir| dir.display().to_string()).collect();
        Error::file(
            &searched[1],
            format!(
                "data set \"{}\" is not there: missing {} (plain or .gz); searched {}. datasets/README.md says where to \
                 get the files; --data-dir DIR or the variable ENGRAM_DATA_DIR says where they lie; --dataset glyphs \
                 needs no download",
                self.name,
                files.join(", "),
                folders.join(" and ")
            ),
        )
    }
}

/// Reads four IDX files: training images, training labels, test images, test labels.
fn read_idx(spec: &DatasetSpec, dir: &Path) -> Result<(Images, Images)> {
    // A file that vanished since `presence` looked is reported by the reader under its plain name.
    let path = |file_idx: usize| {
        let name = spec.files[file_idx].name;
        find(dir, name).unwrap_or_else(|| dir.join(name))
    };
    let n_classes = spec.class_names.len();
    let train = idx::read_pair(&path(0), &path(1), n_classes)?;
    let test = idx::read_pair(&path(2), &path(3), n_classes)?;
    if (train.height, train.width) != (test.height, test.width) {
        return Err(Error::file(
            path(2),
            format!(
                "test images are {}x{} but the training images are {}x{}; the files belong to different data sets",
                test.height, test.width, train.height, train.width
            ),
        ));
    }
    Ok((train, test))
}

/// The file `name` in `dir`, plain or as .gz.
fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    [dir.join(name), dir.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file())
}

/// Writes a grey data set as four IDX files under MNIST's file names and returns their paths. `dir` is created if need
/// be, files of these names are replaced. Loading them as "mnist" gives the same images and labels.
pub fn export(dataset: &Dataset, dir: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
    let paths: Vec<PathBuf> = MNIST_FILES.iter().map(|file| dir.join(file.name)).collect();
    for (images, pair) in [(&dataset.train, &paths[..2]), (&dataset.test, &paths[2..])] {
        idx::write_images(&pair[0], images)?;
        idx::write_labels(&pair[1], &images.labels)?;
    }
    Ok(paths)
}
