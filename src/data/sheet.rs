//! Contact sheets: some training images of every class as one PNG file, one row per class with its name.

use super::{Images, lettering};
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

/// The first `per_class` images of every class.
pub fn draw(images: &Images, class_names: &[String], per_class: usize) -> RgbImage {
    let zoom = (ABOUT / images.height.max(images.width)).max(1) as u32;
    let (width, height) = (images.width as u32 * zoom, images.height as u32 * zoom);
    let names: Vec<String> = class_names.iter().map(|name| name.chars().take(NAME).collect()).collect();
    let left = 2 * GAP + names.iter().map(|name| lettering::width(name)).max().unwrap_or(0);
    let row_height = height.max(lettering::HEIGHT) + GAP;
    let mut sheet = RgbImage::from_pixel(
        left + GAP + per_class as u32 * (width + GAP),
        GAP + names.len() as u32 * row_height,
        PAPER,
    );
    for (class, name) in names.iter().enumerate() {
        let top = GAP + class as u32 * row_height;
        lettering::write(name, |x, y| {
            sheet.put_pixel(GAP + x, top + (row_height - GAP - lettering::HEIGHT) / 2 + y, INK)
        });
        let of_class = (0..images.len()).filter(|&i| images.labels[i] as usize == class);
        for (column, image_idx) in of_class.take(per_class).enumerate() {
            let from = left + GAP + column as u32 * (width + GAP);
            for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
                sheet.put_pixel(from + x, top + y, pixel(images, image_idx, (x / zoom) as usize, (y / zoom) as usize));
            }
        }
    }
    sheet
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
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    let partial = Path::new(&partial);
    let save = || -> Result<(), std::io::Error> {
        draw(images, class_names, per_class).save_with_format(partial, ImageFormat::Png).map_err(|e| match e {
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
