//! Folders of pictures with masks as a data set. Three layouts are known:
//!
//! - PASCAL VOC: `JPEGImages`, `SegmentationClass`, and the lists `ImageSets/Segmentation/train.txt` and `val.txt` (the test
//!   images). All images are of one domain.
//! - CamVid as SegNet's authors share it: `train`, `trainannot`, `test`, `testannot`. What stands before the first underscore of a
//!   file's name is its drive, and its domain.
//! - Plain: `images` and `masks` with the same names; sub-folders of both are domains. The lists `train.txt` and `test.txt` say
//!   which images are for testing; without them it is a fifth, those whose names have the smallest MD5.
//!
//! The classes are those of `classes.txt`, a name for each value from 0 on, or of `label_colors.txt`, `R G B NAME` for each class,
//! where masks are in colour; a class called void is none. Without either they are those of PASCAL VOC or CamVid. An image whose
//! mask cannot be used is left out and noted.

use super::files::md5_of_bytes;
use super::folder::{entries, flips, name_of};
use super::mask_png::{Legend, Mask};
use super::pictures::{ImageFormat, Picture, is_picture, middle};
use super::source::channel_statistics;
use super::{Dataset, Images, LeftOut, VOID};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One image in so many is for testing, where no list says which.
const TEST_SHARE: usize = 5;
/// Masks that a note names.
const NAMED: usize = 3;

/// Settings of training that suit pictures with masks.
pub const RECIPE: super::Recipe =
    super::Recipe { memory: "100", epochs: "30", batch_size: "8", joint_epochs: "30", joint_batch_size: "8" };

const VOC: &[&str] = &[
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];
const CAMVID: &[&str] =
    &["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist", "void"];

/// What a folder holds, by the names of its files.
#[derive(Clone, Debug)]
pub struct Found {
    /// In the order of values.
    pub class_names: Vec<String>,
    /// In the order of names.
    pub domains: Vec<String>,
    legend: Legend,
    pairs: Vec<Pair>,
    /// Images that no list names, where there are lists.
    n_unlisted: usize,
}

#[derive(Clone, Debug)]
struct Pair {
    image: PathBuf,
    mask: PathBuf,
    domain: String,
    is_test: bool,
}

/// Looks through a folder without opening pictures.
///
/// # Errors
/// If it has none of the layouts, a list names a picture that is not there, or no file says what the classes are.
pub fn found(dir: &Path) -> Result<Found> {
    let has = |names: &[&str]| names.iter().all(|name| dir.join(name).is_dir());
    let ((pairs, n_unlisted), usual) = match () {
        () if has(&["JPEGImages", "SegmentationClass"]) => ((voc(dir)?, 0), VOC),
        () if has(&["train", "trainannot"]) => ((camvid(dir)?, 0), CAMVID),
        () if has(&["images", "masks"]) => (plain(dir)?, &[][..]),
        () => {
            return Err(Error::file(
                dir,
                "no folder of pictures with masks: it needs images and masks (the same names in both), or the layout of PASCAL VOC \
                 (JPEGImages, SegmentationClass, ImageSets/Segmentation) or of CamVid (train, trainannot, test, testannot)",
            ));
        }
    };
    let (class_names, legend) = classes(dir, usual)?;
    let domains: BTreeSet<&String> = pairs.iter().map(|pair| &pair.domain).collect();
    Ok(Found { class_names, domains: domains.into_iter().cloned().collect(), legend, pairs, n_unlisted })
}

/// Reads all images and masks, on all threads, in the order of domains and names.
///
/// # Errors
/// Those of [`found`]; if no usable image is left to train or to test on.
pub fn read(dir: &Path, format: ImageFormat) -> Result<Dataset> {
    let Found { class_names, domains, legend, mut pairs, n_unlisted } = found(dir)?;
    pairs.sort_by(|a, b| (&a.domain, &a.image).cmp(&(&b.domain, &b.image)));
    let one = |pair: &Pair| read_pair(pair, &legend, format);
    let decoded: Vec<Result<(Vec<u8>, Vec<u8>)>> = pairs.par_iter().map(one).collect();
    let empty = || Images {
        channels: format.channels,
        height: format.height,
        width: format.width,
        pixels: Vec::new(),
        labels: Vec::new(),
        views: Vec::new(),
        masks: Vec::new(),
    };
    let (mut train, mut test, mut unusable) = (empty(), empty(), Vec::new());
    for (pair, decoded) in pairs.iter().zip(decoded) {
        let images = if pair.is_test { &mut test } else { &mut train };
        match decoded {
            Ok((pixels, mask)) => {
                images.pixels.extend(pixels);
                images.masks.extend(mask);
                images.labels.push(domains.iter().position(|domain| *domain == pair.domain).unwrap_or(0) as u32);
            }
            Err(error) => unusable.push(error),
        }
    }
    if train.is_empty() || test.is_empty() {
        let part = if train.is_empty() { "train" } else { "test" };
        let why =
            unusable.first().map_or(String::new(), |first| format!("; {} cannot be used: {first}", unusable.len()));
        return Err(Error::file(dir, format!("there is no image with a mask to {part} on{why}")));
    }
    let (mean, std) = channel_statistics(&train);
    let reasons = [("images whose masks cannot be used", unusable.len()), ("images that no list names", n_unlisted)];
    let left_out = reasons.into_iter().filter(|(_, n)| *n > 0);
    let left_out = left_out.map(|(reason, n)| LeftOut { reason: reason.into(), n }).collect();
    Ok(Dataset {
        name: name_of(dir),
        class_names,
        train: Arc::new(train),
        test: Arc::new(test),
        mean,
        std,
        flips: flips(format),
        notes: note(pairs.len(), &unusable).into_iter().collect(),
        left_out,
        domains,
    })
}

/// An image and its mask, both cut to the middle and brought to the format; the mask by nearest pixels.
fn read_pair(pair: &Pair, legend: &Legend, format: ImageFormat) -> Result<(Vec<u8>, Vec<u8>)> {
    let mask = Mask::read(&pair.mask, legend)?;
    let (picture, size) = Picture::read_with_size(&pair.image, format.shape())?;
    if size != [mask.width, mask.height] {
        let [width, height] = size;
        let (w, h) = (mask.width, mask.height);
        let message = format!("the mask is {w}×{h}, and its image {} is {width}×{height}", name_of(&pair.image));
        return Err(Error::file(&pair.mask, message));
    }
    let ImageFormat { height: rows, width: columns, .. } = format;
    let [left, top, width, height] = middle(size, [columns, rows]);
    // The centre of each pixel of the result, looked up in the mask.
    let nearest = |i: usize, to: usize, first: usize, n: usize| first + (2 * i + 1) * n / (2 * to);
    let row = |i: usize| nearest(i / columns, rows, top, height);
    let column = |i: usize| nearest(i % columns, columns, left, width);
    let small: Vec<u8> = (0..rows * columns).map(|i| mask.classes[row(i) * mask.width + column(i)]).collect();
    if small.iter().all(|&class| class == VOID) {
        let message = format!("at {columns}×{rows} every pixel of the mask is void: there is nothing to learn from it");
        return Err(Error::file(&pair.mask, message));
    }
    Ok((picture.pixels, small))
}

fn note(n_pairs: usize, unusable: &[Error]) -> Option<String> {
    let named: Vec<String> = unusable.iter().take(NAMED).map(|error| format!("\n  {error}")).collect();
    let more = if unusable.len() > NAMED { format!("\n  and {} more", unusable.len() - NAMED) } else { String::new() };
    let n = unusable.len();
    (n > 0).then(|| {
        format!("{n} of {n_pairs} images have masks that cannot be used and are left out:{}{more}", named.concat())
    })
}

/// What is trained on is not tested on.
fn expect_apart(train: &Path, test: &Path) -> Result<()> {
    let of_train: BTreeSet<String> = lines(train)?.into_iter().collect();
    match lines(test)?.into_iter().find(|stem| of_train.contains(stem)) {
        Some(stem) => Err(Error::file(test, format!("it names {stem}, and so does {}", train.display()))),
        None => Ok(()),
    }
}

fn voc(dir: &Path) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    let list_of = |list: &str| dir.join(format!("ImageSets/Segmentation/{list}.txt"));
    expect_apart(&list_of("train"), &list_of("val"))?;
    for (list, is_test) in [("train", false), ("val", true)] {
        let path = list_of(list);
        for stem in lines(&path)? {
            let image = dir.join("JPEGImages").join(format!("{stem}.jpg"));
            let mask = dir.join("SegmentationClass").join(format!("{stem}.png"));
            if let Some(missing) = [&image, &mask].into_iter().find(|path| !path.is_file()) {
                return Err(Error::file(&path, format!("it names {stem}, and {} is not there", missing.display())));
            }
            pairs.push(Pair { image, mask, domain: "all".into(), is_test });
        }
    }
    Ok(pairs)
}

fn camvid(dir: &Path) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for (part, is_test) in [("train", false), ("test", true)] {
        for image in entries(&dir.join(part))?.into_iter().filter(|path| is_picture(path)) {
            let name = name_of(&image);
            let domain = name.split_once('_').map_or("all", |(domain, _)| domain).to_string();
            let mask = mask_of(&image, &dir.join(format!("{part}annot")))?;
            pairs.push(Pair { image, mask, domain, is_test });
        }
    }
    Ok(pairs)
}

/// With the number of images that no list names.
fn plain(dir: &Path) -> Result<(Vec<Pair>, usize)> {
    let (images, masks) = (dir.join("images"), dir.join("masks"));
    let (folders, files): (Vec<_>, Vec<_>) = entries(&images)?.into_iter().partition(|path| path.is_dir());
    let mut found: Vec<(PathBuf, PathBuf, String)> = Vec::new();
    for image in files.into_iter().filter(|path| is_picture(path)) {
        let mask = mask_of(&image, &masks)?;
        found.push((image, mask, "all".into()));
    }
    for folder in folders {
        let domain = name_of(&folder);
        for image in entries(&folder)?.into_iter().filter(|path| is_picture(path)) {
            let mask = mask_of(&image, &masks.join(&domain))?;
            found.push((image, mask, domain.clone()));
        }
    }
    let (train, test) = (dir.join("train.txt"), dir.join("test.txt"));
    if train.is_file() || test.is_file() {
        expect_apart(&train, &test)?;
        let (train, test) = (lines(&train)?, lines(&test)?);
        let part = |stem: &String| [&train, &test].map(|list| list.contains(stem));
        let stems: BTreeSet<String> = found.iter().map(|(image, ..)| stem(image)).collect();
        for (path, list) in [(dir.join("train.txt"), &train), (dir.join("test.txt"), &test)] {
            if let Some(missing) = list.iter().find(|name| !stems.contains(*name)) {
                let why = format!(
                    "it names {missing}, and images has no picture {missing}: a line is a file's name without its ending"
                );
                return Err(Error::file(path, why));
            }
        }
        let n = found.len();
        let listed = found.into_iter().filter_map(|(image, mask, domain)| {
            let [is_train, is_test] = part(&stem(&image));
            (is_train || is_test).then_some(Pair { image, mask, domain, is_test })
        });
        let listed: Vec<Pair> = listed.collect();
        let n_unlisted = n - listed.len();
        return Ok((listed, n_unlisted));
    }
    let mut pairs = Vec::new();
    let domains: BTreeSet<String> = found.iter().map(|(_, _, domain)| domain.clone()).collect();
    for domain in domains {
        let mut own: Vec<_> = found.iter().filter(|(_, _, of)| *of == domain).cloned().collect();
        own.sort_by_key(|(image, _, _)| md5_of_bytes(name_of(image).as_bytes()));
        let n_test = (own.len() / TEST_SHARE).max(1);
        let pair = |(i, (image, mask, domain))| Pair { image, mask, domain, is_test: i < n_test };
        pairs.extend(own.into_iter().enumerate().map(pair));
    }
    Ok((pairs, 0))
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// `masks/a.png` of `images/a.jpg`; `a_L.png` where CamVid's authors name it so.
fn mask_of(image: &Path, masks: &Path) -> Result<PathBuf> {
    let stem = stem(image);
    let candidates = [masks.join(format!("{stem}.png")), masks.join(format!("{stem}_L.png"))];
    let found = candidates.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| Error::file(image, format!("it has no mask: {} is not there", candidates[0].display())))
}

/// The lines of a text file that are not empty.
fn lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    Ok(text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect())
}

/// The names of the classes, and what values and colours mean.
fn classes(dir: &Path, usual: &[&str]) -> Result<(Vec<String>, Legend)> {
    let (names, colours) = (dir.join("classes.txt"), dir.join("label_colors.txt"));
    let mut legend = Legend { values: Vec::new(), colours: Vec::new() };
    let all: Vec<(Option<[u8; 3]>, String)> = match () {
        () if colours.is_file() => {
            lines(&colours)?.iter().map(|line| colour(&colours, line)).collect::<Result<Vec<_>>>()?
        }
        () if names.is_file() => lines(&names)?.into_iter().map(|name| (None, name)).collect(),
        () => usual.iter().map(|name| (None, name.to_string())).collect(),
    };
    let mut class_names = Vec::new();
    for (colour, name) in all {
        let is_void = name.eq_ignore_ascii_case("void");
        let class = if is_void { VOID } else { class_names.len().min(usize::from(VOID)) as u8 };
        legend.values.push(class);
        legend.colours.extend(colour.map(|colour| (colour, class)));
        if !is_void {
            class_names.push(name);
        }
    }
    if !(2..=usize::from(VOID)).contains(&class_names.len()) {
        let n = class_names.len();
        return Err(Error::file(
            names,
            format!(
                "there are {n} classes, and 2 to 255 are needed: a name on a line for each value of the masks, from 0 on"
            ),
        ));
    }
    Ok((class_names, legend))
}

/// `64 128 64 Animal`.
fn colour(path: &Path, line: &str) -> Result<(Option<[u8; 3]>, String)> {
    let parts: Vec<&str> = line.split_whitespace().collect();
    let values: Option<Vec<u8>> = parts.iter().take(3).map(|part| part.parse::<u8>().ok()).collect();
    match (values.as_deref(), parts.get(3..)) {
        (Some(&[r, g, b]), Some(name)) if !name.is_empty() => Ok((Some([r, g, b]), name.join(" "))),
        _ => Err(Error::file(path, format!("'{line}' is no line R G B NAME, such as 64 128 64 Animal"))),
    }
}
