//! Pictures of what a network answers to images with masks, in the folder of a run: `segmented-01.png` after the first task and so on,
//! a column for each image: the image, what is on it, and the answer.

use super::exemplars;
use crate::data::{Images, NO_LABEL, VOID, sheet};
pub use crate::records::folder::segmented as file;

/// Images of a sheet.
const MOST: usize = 8;

/// Test images that are shown: the first of each domain, or where there are few of those, some more of each.
pub fn shown(images: &Images, n_domains: usize) -> Vec<u32> {
    let each = (MOST / n_domains.max(1)).max(1);
    let of = |domain: u32| (0..images.len() as u32).filter(move |&i| images.labels[i as usize] == domain).take(each);
    (0..n_domains as u32).flat_map(of).take(MOST).collect()
}

/// Labels as classes of the data set, void where there is none.
pub fn classes(labels: &[u32], class_of_label: &[u32]) -> Vec<u8> {
    let class = |&label: &u32| class_of_label.get(label as usize).copied().filter(|&class| class != NO_LABEL);
    labels.iter().map(|label| class(label).map_or(VOID, |class| class as u8)).collect()
}

/// The PNG file: `truth` and `answers` are the classes of the pixels of all images.
pub fn sheet(images: &Images, shown: &[u32], truth: &[u8], answers: &[u8]) -> Vec<u8> {
    let (h, w, n) = (images.height, images.width, shown.len());
    let width = n * w;
    let mut pixels = vec![0; 3 * 3 * h * width];
    let plane = 3 * h * width;
    for (i, &sample) in shown.iter().enumerate() {
        let image = images.image(sample as usize);
        for at in 0..h * w {
            let place = |row: usize| (row * h + at / w) * width + i * w + at % w;
            for channel in 0..3 {
                let colour = |class: u8| sheet::class_colour(class)[channel];
                pixels[channel * plane + place(0)] = image[(channel % images.channels) * h * w + at];
                pixels[channel * plane + place(1)] = colour(truth[i * h * w + at]);
                pixels[channel * plane + place(2)] = colour(answers[i * h * w + at]);
            }
        }
    }
    exemplars::png([3, 3 * h, width], &pixels)
}

/// A mask as a PNG file with a palette, whose indices are the classes.
pub fn mask_png(height: usize, width: usize, classes: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette((0..=VOID).flat_map(sheet::class_colour).collect::<Vec<u8>>());
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(classes));
    written.expect("bug: a mask of the wrong size");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_classes_and_masks_come_back() {
        assert_eq!(classes(&[0, 2, 1, NO_LABEL, 7], &[0, 5, 3]), [0, 3, 5, VOID, VOID]);
        let file = mask_png(2, 3, &[0, 1, 2, 3, 4, VOID]);
        let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
        decoder.set_transformations(png::Transformations::IDENTITY);
        let mut data = vec![0; 6];
        decoder.read_info().unwrap().next_frame(&mut data).unwrap();
        assert_eq!(data, [0, 1, 2, 3, 4, VOID]);
    }

    #[test]
    fn a_sheet_shows_some_of_each_domain() {
        let images = Images {
            channels: 3,
            height: 2,
            width: 2,
            pixels: (0..12 * 6).collect(),
            labels: vec![0, 0, 0, 1, 1, 1],
            views: Vec::new(),
            masks: vec![1; 24],
        };
        assert_eq!(shown(&images, 2), [0, 1, 2, 3, 4, 5]);
        assert_eq!(shown(&images, 8), [0, 3]);
        let picture = sheet(&images, &[3], &[0, 1, VOID, 2], &[2; 4]);
        let picture = image::load_from_memory(&picture).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (2, 6));
        assert_eq!(picture.get_pixel(0, 0).0, [36, 40, 44]);
        assert_eq!((picture.get_pixel(1, 2).0, picture.get_pixel(0, 3).0), ([128, 0, 0], [224, 224, 192]));
        assert_eq!(picture.get_pixel(1, 5).0, sheet::class_colour(2));
    }
}
