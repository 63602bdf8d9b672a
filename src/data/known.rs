//! The table of known data sets, and how one of them is found on disk and read.

use super::files::{FileSpec, Published};
use super::{Dataset, Images, Labels, cifar, glyphs, idx, recognise, shape_city, shapes};
use crate::error::{Error, Result, did_you_mean};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A row of the table of known data sets.
#[derive(Debug)]
pub struct DatasetSpec {
    /// As on the command line.
    pub name: &'static str,
    /// One line for lists and help texts.
    pub summary: &'static str,
    /// How many classes these labels tell apart.
    pub n_classes: usize,
    /// The number of groups that the classes form, 0 if they form none; see [`Labels::Coarse`].
    pub n_coarse: usize,
    /// The domains that images with masks are from; none where an image has one class.
    pub domains: &'static [&'static str],
    /// The number of training and of test images, as published.
    pub n_images: [usize; 2],
    /// See [`Dataset::mean`]: one number per channel.
    pub mean: &'static [f32],
    /// See [`Dataset::std`].
    pub std: &'static [f32],
    /// See [`Dataset::flips`].
    pub flips: bool,
    /// The files that must be there; none for a built-in set.
    pub files: &'static [FileSpec],
    /// The folder that the published archive unpacks to: another place to look for the files.
    pub unpacked: Option<&'static str>,
    /// Where the data set comes from; None for a built-in one.
    pub origin: Option<Origin>,
    /// Settings of training that suit it, by name: for methods that learn task by task, and for those that see all at once.
    pub recipe: Recipe,
    /// Reads (or draws) the data set from the folder that holds the files.
    read: fn(&DatasetSpec, &Path, Labels) -> Result<Content>,
}

/// Settings that suit a data set.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// K, for methods that keep exemplars.
    pub memory: &'static str,
    /// Passes over a task's data.
    pub epochs: &'static str,
    /// Images per step.
    pub batch_size: &'static str,
    /// Passes over all data, where they are seen at once.
    pub joint_epochs: &'static str,
    /// Images per step then.
    pub joint_batch_size: &'static str,
}

impl Recipe {
    /// As settings, by name; those at the end play no part where all data are seen at once.
    pub fn settings(&self, at_once: bool) -> [(&'static str, &'static str); 3] {
        match at_once {
            true => [("epochs", self.joint_epochs), ("batch_size", self.joint_batch_size), ("memory", self.memory)],
            false => [("epochs", self.epochs), ("batch_size", self.batch_size), ("memory", self.memory)],
        }
    }
}

/// Where to get a data set.
#[derive(Debug)]
pub struct Origin {
    /// Addresses of folders, each ending with a slash, in the order to try.
    pub mirrors: &'static [&'static str],
    /// The archive that holds all files; without one each file is there as NAME.gz.
    pub archive: Option<(&'static str, Published)>,
}

/// What a reader returns.
struct Content {
    train: Images,
    test: Images,
    class_names: Vec<String>,
}

const DIGITS: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// Zalando's names of its ten classes.
const CLOTHES: &[&str] =
    &["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// A file of MNIST's kind, published as .gz.
const fn idx_file(
    name: &'static str,
    bytes: u64,
    md5: Option<&'static str>,
    gz_bytes: u64,
    gz_md5: &'static str,
) -> FileSpec {
    FileSpec { name, bytes, md5, gz: Some(Published { bytes: gz_bytes, md5: gz_md5 }) }
}

/// A file of an archive.
const fn packed(name: &'static str, bytes: u64, md5: Option<&'static str>) -> FileSpec {
    FileSpec { name, bytes, md5, gz: None }
}

/// The four files of MNIST, whose names other IDX data sets share.
#[rustfmt::skip]
const MNIST_FILES: &[FileSpec] = &[
    idx_file("train-images-idx3-ubyte", 47_040_016, Some("6bbc9ace898e44ae57da46a324031adb"), 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    idx_file("train-labels-idx1-ubyte", 60_008, Some("a25bea736e30d166cdddb491f175f624"), 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
    idx_file("t10k-images-idx3-ubyte", 7_840_016, Some("2646ac647ad5339dbf082846283269ea"), 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
    idx_file("t10k-labels-idx1-ubyte", 10_008, Some("27ae3e4e09519cfbb04c329615203637"), 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
];

#[rustfmt::skip]
const FASHION_FILES: &[FileSpec] = &[
    idx_file("train-images-idx3-ubyte", 47_040_016, None, 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    idx_file("train-labels-idx1-ubyte", 60_008, None, 29_515, "25c81989df183df01b3e8a0aad5dffbe"),
    idx_file("t10k-images-idx3-ubyte", 7_840_016, None, 4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
    idx_file("t10k-labels-idx1-ubyte", 10_008, None, 5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
];

const CIFAR_10_FILES: &[FileSpec] = &[
    packed("data_batch_1.bin", 30_730_000, None),
    packed("data_batch_2.bin", 30_730_000, None),
    packed("data_batch_3.bin", 30_730_000, None),
    packed("data_batch_4.bin", 30_730_000, None),
    packed("data_batch_5.bin", 30_730_000, None),
    packed("test_batch.bin", 30_730_000, None),
    packed("batches.meta.txt", 61, None),
];

const CIFAR_100_FILES: &[FileSpec] = &[
    packed("train.bin", 153_700_000, Some("6172c7755cfe09b2fe270c85cebc1b15")),
    packed("test.bin", 30_740_000, Some("4499cfba6c016c1be1438163640a0898")),
    packed("fine_label_names.txt", 725, None),
    packed("coarse_label_names.txt", 328, None),
];

const TORONTO: &[&str] = &["https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"];

/// Every known data set. A new one is a row here, and a reader if its files are of a new kind.
pub const ALL: &[DatasetSpec] = &[
    DatasetSpec {
        name: "glyphs",
        summary: "built in: ten digits in messy strokes, 28x28 grey, 10,000 training and 2,000 test images",
        n_classes: 10,
        n_coarse: 0,
        domains: &[],
        n_images: [glyphs::N_TRAIN, glyphs::N_TEST],
        mean: &[glyphs::MEAN],
        std: &[glyphs::STD],
        flips: false,
        files: &[],
        unpacked: None,
        origin: None,
        recipe: Recipe { memory: "500", epochs: "4", batch_size: "32", joint_epochs: "5", joint_batch_size: "64" },
        read: |_, _, _| {
            let (train, test) = glyphs::draw();
            Ok(Content { train, test, class_names: owned(DIGITS) })
        },
    },
    DatasetSpec {
        name: "shapes",
        summary: "built in: twenty things in four groups, 32x32 RGB, 10,000 training and 2,000 test images",
        n_classes: shapes::CLASSES.len(),
        n_coarse: shapes::GROUPS.len(),
        domains: &[],
        n_images: [shapes::N_TRAIN, shapes::N_TEST],
        mean: &shapes::MEAN,
        std: &shapes::STD,
        flips: true,
        files: &[],
        unpacked: None,
        origin: None,
        recipe: Recipe { memory: "1000", epochs: "6", batch_size: "32", joint_epochs: "8", joint_batch_size: "64" },
        read: |_, _, labels| {
            let (mut train, mut test) = shapes::draw();
            if labels == Labels::Coarse {
                [&mut train, &mut test]
                    .into_iter()
                    .flat_map(|part| &mut part.labels)
                    .for_each(|l| *l = shapes::group(*l));
            }
            let names: &[&str] = if labels == Labels::Coarse { &shapes::GROUPS } else { &shapes::CLASSES };
            Ok(Content { train, test, class_names: owned(names) })
        },
    },
    DatasetSpec {
        name: "shape-city",
        summary: "built in, with masks: scenes of five kinds of things in eight styles, 64x64 RGB, 3,200 training and 800 test images",
        n_classes: shape_city::CLASSES.len(),
        n_coarse: 0,
        domains: &shape_city::DOMAINS,
        n_images: [
            shape_city::DOMAINS.len() * shape_city::TRAIN_PER_DOMAIN,
            shape_city::DOMAINS.len() * shape_city::TEST_PER_DOMAIN,
        ],
        mean: &shape_city::MEAN,
        std: &shape_city::STD,
        flips: true,
        files: &[],
        unpacked: None,
        origin: None,
        recipe: Recipe { memory: "100", epochs: "8", batch_size: "16", joint_epochs: "8", joint_batch_size: "16" },
        read: |_, _, _| {
            let (train, test) = shape_city::draw();
            Ok(Content { train, test, class_names: owned(&shape_city::CLASSES) })
        },
    },
    DatasetSpec {
        name: "mnist",
        summary: "handwritten digits, 28x28 grey, 60,000 training and 10,000 test images",
        n_classes: 10,
        n_coarse: 0,
        domains: &[],
        n_images: [60_000, 10_000],
        mean: &[0.1307],
        std: &[0.3081],
        flips: false,
        files: MNIST_FILES,
        unpacked: None,
        origin: Some(Origin {
            mirrors: &[
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ],
            archive: None,
        }),
        recipe: Recipe { memory: "2000", epochs: "4", batch_size: "64", joint_epochs: "3", joint_batch_size: "64" },
        read: |spec, dir, _| read_idx(spec, dir, DIGITS),
    },
    DatasetSpec {
        name: "fashion-mnist",
        summary: "articles of clothing, 28x28 grey, 60,000 training and 10,000 test images",
        n_classes: 10,
        n_coarse: 0,
        domains: &[],
        n_images: [60_000, 10_000],
        mean: &[0.2860],
        std: &[0.3530],
        // A mirrored boot is a boot, but the shop shows all of them facing the same way.
        flips: false,
        files: FASHION_FILES,
        unpacked: None,
        origin: Some(Origin {
            mirrors: &[
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
                "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            ],
            archive: None,
        }),
        recipe: Recipe { memory: "2000", epochs: "4", batch_size: "64", joint_epochs: "5", joint_batch_size: "64" },
        read: |spec, dir, _| read_idx(spec, dir, CLOTHES),
    },
    DatasetSpec {
        name: "cifar-10",
        summary: "photographs of ten kinds of things, 32x32 RGB, 50,000 training and 10,000 test images",
        n_classes: 10,
        n_coarse: 0,
        domains: &[],
        n_images: [50_000, 10_000],
        mean: &[0.4914, 0.4822, 0.4465],
        std: &[0.2470, 0.2435, 0.2616],
        flips: true,
        files: CIFAR_10_FILES,
        unpacked: Some("cifar-10-batches-bin"),
        origin: Some(Origin {
            mirrors: TORONTO,
            archive: Some((
                "cifar-10-binary.tar.gz",
                Published { bytes: 170_052_171, md5: "c32a1d4ab5d03f1284b67883e8d87530" },
            )),
        }),
        recipe: Recipe { memory: "2000", epochs: "10", batch_size: "64", joint_epochs: "10", joint_batch_size: "64" },
        read: |spec, dir, _| {
            let path = |file: &FileSpec| dir.join(file.name);
            let batches: Vec<PathBuf> = spec.files[..5].iter().map(path).collect();
            let record = cifar::Record { label_classes: &[spec.n_classes], label_idx: 0 };
            Ok(Content {
                train: cifar::read(&batches, record)?,
                test: cifar::read(&[path(&spec.files[5])], record)?,
                class_names: cifar::read_names(&path(&spec.files[6]), spec.n_classes)?,
            })
        },
    },
    DatasetSpec {
        name: "cifar-100",
        summary: "photographs of a hundred kinds of things in 20 groups, 32x32 RGB, 50,000 training and 10,000 test images",
        n_classes: 100,
        n_coarse: 20,
        domains: &[],
        n_images: [50_000, 10_000],
        mean: &[0.5071, 0.4865, 0.4409],
        std: &[0.2673, 0.2564, 0.2762],
        flips: true,
        files: CIFAR_100_FILES,
        unpacked: Some("cifar-100-binary"),
        origin: Some(Origin {
            mirrors: TORONTO,
            archive: Some((
                "cifar-100-binary.tar.gz",
                Published { bytes: 168_513_733, md5: "03b5dce01913d631647c71ecec9e9cb8" },
            )),
        }),
        recipe: Recipe { memory: "2000", epochs: "10", batch_size: "64", joint_epochs: "10", joint_batch_size: "64" },
        read: |spec, dir, labels| {
            let path = |file_idx: usize| dir.join(spec.files[file_idx].name);
            let (label_idx, names) = match labels {
                Labels::Coarse => (0, path(3)),
                Labels::Fine => (1, path(2)),
            };
            let record = cifar::Record { label_classes: &[spec.n_coarse, spec.n_classes], label_idx };
            Ok(Content {
                train: cifar::read(&[path(0)], record)?,
                test: cifar::read(&[path(1)], record)?,
                class_names: cifar::read_names(&names, record.label_classes[label_idx])?,
            })
        },
    },
];

/// The data set called `name`; an unknown name is an [`Error::Usage`] that lists the known ones.
pub fn spec(name: &str) -> Result<&'static DatasetSpec> {
    ALL.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|spec| spec.name).collect();
        let (near, known) = (did_you_mean(name, &known), known.join(", "));
        Error::usage(format!(
            "unknown data set \"{name}\"; the known ones are {known}, and folder:DIR for pictures{near}"
        ))
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
        /// By name.
        files: Vec<&'static str>,
        /// The folders.
        searched: Vec<PathBuf>,
    },
}

impl DatasetSpec {
    /// The number of classes by these labels.
    ///
    /// Errors ([`Error::Usage`]): coarse labels of a data set without groups.
    pub fn n_classes(&self, labels: Labels) -> Result<usize> {
        match labels {
            Labels::Fine => Ok(self.n_classes),
            Labels::Coarse if self.n_coarse > 0 => Ok(self.n_coarse),
            Labels::Coarse => {
                let grouped = ALL.iter().filter(|spec| spec.n_coarse > 0).map(|spec| spec.name);
                let grouped = grouped.collect::<Vec<_>>().join(" and ");
                Err(Error::usage(format!("\"{}\" has no coarse labels, only {grouped} has", self.name)))
            }
        }
    }

    /// Looks for the files in `data_dir/NAME`, in the folder that the archive unpacks to and in `data_dir` itself,
    /// without opening them. The folder of the data set's own name comes first because several sets share the file names
    /// of MNIST.
    pub fn presence(&self, data_dir: &Path) -> Presence {
        if self.files.is_empty() {
            return Presence::BuiltIn;
        }
        let mut searched = vec![data_dir.join(self.name)];
        searched.extend(self.unpacked.map(|folder| data_dir.join(folder)));
        searched.push(data_dir.to_path_buf());
        let absent = |dir: &PathBuf| -> Vec<&'static str> {
            self.files.iter().filter(|file| file.find(dir).is_none()).map(|file| file.name).collect()
        };
        let missing: Vec<Vec<&'static str>> = searched.iter().map(absent).collect();
        // The first of the most complete ones.
        let best = (0..searched.len()).min_by_key(|&i| missing[i].len()).unwrap_or(0);
        if missing[best].is_empty() {
            Presence::Present(searched[best].clone())
        } else {
            Presence::Missing { files: missing[best].clone(), searched }
        }
    }

    /// Loads (or draws) the data set with its finest labels; [`Source::load`](super::Source::load) has more choices.
    ///
    /// Errors: files that are missing (the message says which, where they were looked for and what to do), unreadable
    /// or not what they should be (see [`idx`] and [`cifar`]), training and test images of different sizes.
    pub fn load(&self, data_dir: &Path) -> Result<Dataset> {
        self.load_with(data_dir, Labels::Fine)
    }

    /// [`load`](DatasetSpec::load) with a choice of labels.
    pub fn load_with(&self, data_dir: &Path, labels: Labels) -> Result<Dataset> {
        let n_classes = self.n_classes(labels)?;
        let dir = match self.presence(data_dir) {
            Presence::BuiltIn => data_dir.to_path_buf(),
            Presence::Present(dir) => dir,
            Presence::Missing { files, searched } => return Err(self.missing(&files, &searched)),
        };
        let others = ALL.iter().filter(|other| other.name != self.name).map(|other| (other.name, other.files));
        recognise::check(self.name, self.files, others, &dir)?;
        let Content { train, test, class_names } = (self.read)(self, &dir, labels)?;
        debug_assert_eq!(class_names.len(), n_classes);
        let (found, published) = ([train.len(), test.len()], self.n_images);
        let note = (found != published).then(|| {
            format!(
                "{} holds {} training and {} test images, and \"{}\" is published with {} and {}: this is another data set under its name",
                dir.display(),
                found[0],
                found[1],
                self.name,
                published[0],
                published[1]
            )
        });
        Ok(Dataset {
            name: self.name.to_string(),
            class_names,
            train: Arc::new(train),
            test: Arc::new(test),
            mean: self.mean.to_vec(),
            std: self.std.to_vec(),
            flips: self.flips,
            notes: note.into_iter().collect(),
            left_out: Vec::new(),
            domains: owned(self.domains),
        })
    }

    fn missing(&self, files: &[&str], searched: &[PathBuf]) -> Error {
        let folders: Vec<String> = searched.iter().map(|dir| dir.display().to_string()).collect();
        let or_gz = if self.files.iter().any(|file| file.gz.is_some()) { " (plain or .gz)" } else { "" };
        Error::file(
            &searched[searched.len() - 1],
            format!(
                "data set \"{name}\" is not there: missing {}{or_gz}; searched {}. `engram datasets fetch {name}` downloads \
                 it, datasets/README.md says where to get the files by hand; --data-dir DIR or the variable \
                 ENGRAM_DATA_DIR says where they lie; --dataset glyphs needs no download",
                files.join(", "),
                folders.join(" and "),
                name = self.name,
            ),
        )
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// Reads four IDX files: training images, training labels, test images, test labels.
fn read_idx(spec: &DatasetSpec, dir: &Path, class_names: &[&str]) -> Result<Content> {
    // A file that vanished since `presence` looked is reported by the reader under its plain name.
    let path = |file_idx: usize| {
        let file = &spec.files[file_idx];
        file.find(dir).unwrap_or_else(|| dir.join(file.name))
    };
    let train = idx::read_pair(&path(0), &path(1), spec.n_classes)?;
    let test = idx::read_pair(&path(2), &path(3), spec.n_classes)?;
    if (train.height, train.width) != (test.height, test.width) {
        return Err(Error::file(
            path(2),
            format!(
                "test images are {}x{} but the training images are {}x{}; the files belong to different data sets",
                test.height, test.width, train.height, train.width
            ),
        ));
    }
    Ok(Content { train, test, class_names: owned(class_names) })
}

/// The files that [`export`] writes.
pub fn export_files(dir: &Path) -> Vec<PathBuf> {
    MNIST_FILES.iter().map(|file| dir.join(file.name)).collect()
}

/// Writes a grey data set as four IDX files under MNIST's file names and returns their paths. `dir` is created if need
/// be, files of these names are replaced. Loading them as "mnist" gives the same images and labels.
///
/// Errors: images in colour, for which the format has no place; a folder or file that cannot be written.
pub fn export(dataset: &Dataset, dir: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
    let paths = export_files(dir);
    for (images, pair) in [(&dataset.train, &paths[..2]), (&dataset.test, &paths[2..])] {
        idx::write_images(&pair[0], images)?;
        idx::write_labels(&pair[1], &images.labels)?;
    }
    Ok(paths)
}
