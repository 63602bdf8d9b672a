//! Contact sheets: some training images of every class as one PNG file, one row per class with its name. Of images with masks a row
//! per domain, each image with the classes of its pixels laid over it beside it.

use super::{Images, VOID, lettering};
use crate::error::{Error, Result};
use image::{ImageFormat, Rgb, RgbImage};
use std::path::Path;

/// Pixels between images and around the sheet.
const GAP: u32 = 4;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([20, 20, 20]);

/// Small images are enlarged by a whole factor to about this many pixels a side.
const ABOUT: usize = 64;

/// The longest name that is written out, in characters.
const NAME: usize = 32;

/// How much of an overlay is the class's colour.
const OVERLAY: u32 = 140;

/// The first `per_row` images of every class, which `names` names; of images with masks those of every domain, and `classes` are the
/// names of the classes of pixels.
fn draw(images: &Images, names: &[String], classes: &[String], per_row: usize) -> RgbImage {
    let of_each = if classes.is_empty() { 1 } else { 2 };
    let zoom = (ABOUT / images.height.max(images.width)).max(1) as u32;
    let (width, height) = (images.width as u32 * zoom, images.height as u32 * zoom);
    let names: Vec<String> = names.iter().map(|name| name.chars().take(NAME).collect()).collect();
    let left = 2 * GAP + names.iter().map(|name| lettering::width(name)).max().unwrap_or(0);
    let row_height = height.max(lettering::HEIGHT) + GAP;
    let legend = classes.len() as u32 * (lettering::HEIGHT + GAP);
    let mut sheet = RgbImage::from_pixel(
        left + GAP + (of_each * per_row) as u32 * (width + GAP),
        GAP + names.len() as u32 * row_height + legend,
        PAPER,
    );
    for (row, name) in names.iter().enumerate() {
        let top = GAP + row as u32 * row_height;
        lettering::write(name, |x, y| {
            sheet.put_pixel(GAP + x, top + (row_height - GAP - lettering::HEIGHT) / 2 + y, INK)
        });
        let of_row = (0..images.len()).filter(|&i| images.labels[i] as usize == row);
        for (place, image_idx) in of_row.take(per_row).enumerate() {
            for with_mask in 0..of_each {
                let column = (place * of_each + with_mask) as u32;
                let from = left + GAP + column * (width + GAP);
                for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
                    let (column, row) = ((x / zoom) as usize, (y / zoom) as usize);
                    let mut colour = pixel(images, image_idx, column, row);
                    if with_mask == 1 {
                        colour = over(colour, images.mask(image_idx)[row * images.width + column]);
                    }
                    sheet.put_pixel(from + x, top + y, colour);
                }
            }
        }
    }
    draw_legend(&mut sheet, classes, GAP + names.len() as u32 * row_height);
    sheet
}

/// The colours of the classes, from row `top` on.
fn draw_legend(sheet: &mut RgbImage, names: &[String], top: u32) {
    let side = lettering::HEIGHT;
    for (class, name) in names.iter().enumerate() {
        let top = top + class as u32 * (side + GAP);
        let colour = Rgb(class_colour(class as u8));
        (0..side * side).for_each(|i| sheet.put_pixel(GAP + i % side, top + i / side, colour));
        let from = 3 * GAP + side;
        let width = sheet.width();
        lettering::write(&name.chars().take(NAME).collect::<String>(), |x, y| {
            if from + x < width {
                sheet.put_pixel(from + x, top + y, INK);
            }
        });
    }
}

/// The colour of a class in overlays and masks, that of PASCAL VOC: the bits of its number, spread over red, green and blue from
/// the highest bit down.
pub fn class_colour(class: u8) -> [u8; 3] {
    let mut colour = [0_u8; 3];
    for bit in 0..8 {
        let channel = bit % 3;
        colour[channel] |= (class >> bit & 1) << (7 - bit / 3);
    }
    if class == VOID { [224, 224, 192] } else { colour }
}

/// A pixel with the colour of its class laid over it; the background, class 0, is left as it is.
pub fn over(pixel: Rgb<u8>, class: u8) -> Rgb<u8> {
    let colour = class_colour(class);
    let mixed = |channel: usize| {
        (OVERLAY * u32::from(colour[channel]) + (255 - OVERLAY) * u32::from(pixel[channel]) + 127) / 255
    };
    if class == 0 { pixel } else { Rgb([0, 1, 2].map(|channel| mixed(channel) as u8)) }
}

fn pixel(images: &Images, image_idx: usize, x: usize, y: usize) -> Rgb<u8> {
    let image = images.image(image_idx);
    let value = |channel: usize| image[(channel * images.height + y) * images.width + x];
    if images.channels == 3 { Rgb([value(0), value(1), value(2)]) } else { Rgb([value(0); 3]) }
}

/// Draws the sheet into a PNG file, which appears whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn write(images: &Images, class_names: &[String], per_class: usize, path: &Path) -> Result<()> {
    save(&draw(images, class_names, &[], per_class), path)
}

/// The same of images with masks, a row per domain.
///
/// # Errors
/// If the file cannot be written.
pub fn write_masks(images: &Images, domains: &[String], classes: &[String], per_row: usize, path: &Path) -> Result<()> {
    save(&draw(images, domains, classes, per_row), path)
}

/// Writes a PNG file, which appears whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn save(picture: &RgbImage, path: &Path) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    let partial = Path::new(&partial);
    let save = || -> Result<(), std::io::Error> {
        picture.save_with_format(partial, ImageFormat::Png).map_err(|e| match e {
            image::ImageError::IoError(error) => error,
            other => std::io::Error::other(other),
        })?;
        std::fs::rename(partial, path)
    };
    save().map_err(|e| {
        // The first error is the one to report, whether or not the remains can be removed.
        let _ = std::fs::remove_file(partial);
        Error::io(path, "write")(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_the_colours_of_pascal_voc() {
        let known = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128]];
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(class_colour), known);
        assert_eq!((class_colour(15), class_colour(VOID)), ([192, 128, 128], [224, 224, 192]));
        assert_eq!(over(Rgb([9, 8, 7]), 0), Rgb([9, 8, 7]));
    }
}
