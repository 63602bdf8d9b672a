//! The exemplars that a run keeps, as pictures in its folder: `exemplars/CLASS/01.png` and so on in the order in which
//! herding chose them, and `exemplars/index.json`, which says what they are.

use super::results::RunFolder;
use super::saved::Class;
use crate::data::Images;
use crate::error::Result;
pub use crate::records::folder::EXEMPLARS as FOLDER;
use crate::records::folder::EXEMPLARS_INDEX as INDEX;
use crate::records::{flat_lists, sealed};
use image::ExtendedColorType;
use image::codecs::png::PngEncoder;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Pictures written per class; the first exemplars are those that stay longest.
pub const MAX_PICTURES: usize = 20;

/// The exemplars of a class.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ClassExemplars {
    /// Its number in the data set.
    pub class: u32,
    /// What a person calls it.
    pub name: String,
    /// How many the method keeps.
    pub n_kept: usize,
    /// The first of them, as files below [`FOLDER`], in order of choice.
    pub pictures: Vec<String>,
}

/// Writes the exemplars (samples of `images`, by label); nothing if there are none. Only the `last` ones are waited for until
/// they are on the disk: others are written anew with the next task.
pub fn write(folder: &RunFolder, images: &Images, exemplars: &[Vec<u32>], classes: &[Class], last: bool) -> Result<()> {
    if exemplars.is_empty() || ![1, 3].contains(&images.channels) {
        return Ok(());
    }
    let size = [images.channels, images.height, images.width];
    let (mut files, mut index) = (Vec::new(), Vec::new());
    for (Class { class, name }, samples) in classes.iter().zip(exemplars) {
        let mut pictures = Vec::new();
        for (i, &sample) in samples.iter().take(MAX_PICTURES).enumerate() {
            let file = format!("{}/{:02}.png", class_folder(*class, name), i + 1);
            files.push((file.clone(), png(size, &images.sample(sample))));
            pictures.push(file);
        }
        index.push(ClassExemplars { class: *class, name: name.clone(), n_kept: samples.len(), pictures });
    }
    let index = serde_json::to_string_pretty(&index).expect("bug: an index that is no JSON");
    files.push((INDEX.into(), flat_lists(&index).into_bytes()));
    folder.write_folder(FOLDER, &files, last)
}

/// Reads the index of a run folder; `None` if the run kept no exemplars.
///
/// # Errors
/// If the index cannot be read or understood.
pub fn read(folder: &Path) -> Result<Option<Vec<ClassExemplars>>> {
    if folder.join(FOLDER).symlink_metadata().is_err() {
        return Ok(None);
    }
    sealed::read_json(folder, &format!("{FOLDER}/{INDEX}")).map(Some)
}

/// `7` for the digit 7, `3-cat` for class 3 called cat; never two alike, whatever the names.
fn class_folder(class: u32, name: &str) -> String {
    if *name == class.to_string() {
        return name.into();
    }
    let safe = |c: char| if c.is_alphanumeric() || c == '-' { c } else { '_' };
    format!("{class}-{}", name.chars().take(40).map(safe).collect::<String>())
}

/// A picture of C×H×W bytes, grey or red, green, blue, as a PNG file.
pub fn png([channels, height, width]: [usize; 3], pixels: &[u8]) -> Vec<u8> {
    let plane = height * width;
    let interleaved: Vec<u8> = (0..channels * plane).map(|i| pixels[i % channels * plane + i / channels]).collect();
    let color = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut file = Vec::new();
    image::ImageEncoder::write_image(PngEncoder::new(&mut file), &interleaved, width as u32, height as u32, color)
        .expect("bug: a picture of the wrong size");
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_back_as_they_were() {
        for channels in [1, 3] {
            let pixels: Vec<u8> = (0..channels * 5 * 4).map(|i| (i * 7) as u8).collect();
            let decoded = image::load_from_memory(&png([channels, 5, 4], &pixels)).unwrap();
            assert_eq!((decoded.width(), decoded.height()), (4, 5));
            assert_eq!(usize::from(decoded.color().channel_count()), channels);
            for (x, y, pixel) in decoded.to_rgb8().enumerate_pixels() {
                for c in 0..channels {
                    assert_eq!(pixel[c], pixels[(c * 5 + y as usize) * 4 + x as usize]);
                }
            }
        }
    }

    #[test]
    fn class_names_make_safe_folders() {
        assert_eq!(class_folder(7, "7"), "7");
        assert_eq!(class_folder(3, "maple tree"), "3-maple_tree");
        assert_eq!(class_folder(4, "../a<b&\"c"), "4-___a_b__c");
        assert_eq!(class_folder(5, ""), "5-");
        assert!(class_folder(6, &"é".repeat(300)).len() < 100);
    }
}
