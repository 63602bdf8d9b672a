//! Picture files as a network's input: of any kind that is read, of any size and colour to C×H×W bytes.

use crate::data::pictures::with_picture;
use crate::error::Result;
use image::imageops::FilterType;
use image::{DynamicImage, Rgba};
use std::path::Path;

/// A picture in the form that a network takes.
#[derive(Debug, PartialEq, Eq)]
pub struct Picture {
    /// C×H×W, 0 is dark.
    pub pixels: Vec<u8>,
    /// What was changed to get there, in words; empty if nothing was.
    pub changes: Vec<String>,
}

impl Picture {
    /// Reads a file and fits it: transparent parts become white, colours become grey by luma (or grey becomes colour), the
    /// shorter side is scaled to the network's size and the middle cut out. `invert` swaps dark and bright at the end.
    ///
    /// # Errors
    /// If the file cannot be read or is no whole picture.
    pub fn read(path: &Path, input: [usize; 3], invert: bool) -> Result<Picture> {
        with_picture(path, |picture| fit(&picture, input, invert))
    }

    /// The mean brightness in 0..=1.
    pub fn brightness(&self) -> f64 {
        self.pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / (255.0 * self.pixels.len() as f64)
    }
}

fn fit(picture: &DynamicImage, [channels, height, width]: [usize; 3], invert: bool) -> Picture {
    let mut changes = Vec::new();
    let color = picture.color();
    if color.bytes_per_pixel() > color.channel_count() {
        changes.push(format!("{} to 8 bits a channel", color.bits_per_pixel() / u16::from(color.channel_count())));
    }
    let mut fitted = DynamicImage::from(picture.to_rgb8());
    if color.has_alpha() {
        let rgba = picture.to_rgba8();
        if rgba.pixels().any(|pixel| pixel[3] < 255) {
            changes.push("transparent parts to white".into());
            fitted = on_white(&rgba).into();
        }
    }
    match (channels, color.has_color()) {
        (1, true) => changes.push("colour to grey".into()),
        (3, false) => changes.push("grey to colour".into()),
        _ => {}
    }
    if channels == 1 {
        fitted = fitted.to_luma8().into();
    }
    let (from, to) = ((fitted.width(), fitted.height()), (width as u32, height as u32));
    if from != to {
        let cut = if u64::from(from.0) * u64::from(to.1) == u64::from(from.1) * u64::from(to.0) {
            ""
        } else {
            ", the middle of it"
        };
        changes.push(format!("{}x{} to {}x{}{cut}", from.0, from.1, to.0, to.1));
        fitted = fitted.resize_to_fill(to.0, to.1, FilterType::CatmullRom);
    }
    if invert {
        fitted.invert();
        changes.push("dark and bright swapped".into());
    }
    let interleaved = fitted.as_bytes();
    let plane = height * width;
    let pixels = (0..channels * plane).map(|i| interleaved[i % plane * channels + i / plane]).collect();
    Picture { pixels, changes }
}

fn on_white(picture: &image::RgbaImage) -> image::RgbImage {
    image::RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let Rgba([r, g, b, a]) = *picture.get_pixel(x, y);
        let blend = |c: u8| ((u32::from(c) * u32::from(a) + 255 * (255 - u32::from(a)) + 127) / 255) as u8;
        image::Rgb([r, g, b].map(blend))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageBuffer, Luma, LumaA, Rgb};

    fn changes(picture: impl Into<DynamicImage>, input: [usize; 3]) -> (Vec<u8>, String) {
        let picture = fit(&picture.into(), input, false);
        assert_eq!(picture.pixels.len(), input.iter().product::<usize>());
        (picture.pixels, picture.changes.join("; "))
    }

    #[test]
    fn a_picture_of_the_right_kind_is_not_touched() {
        let grey = GrayImage::from_fn(4, 3, |x, y| Luma([(16 * x + y) as u8]));
        let bytes = grey.to_vec();
        assert_eq!(changes(grey, [1, 3, 4]), (bytes, String::new()));
        let rgb = image::RgbImage::from_fn(2, 2, |x, y| Rgb([x as u8, y as u8, 9]));
        // Red, green and blue one after the other.
        assert_eq!(changes(rgb, [3, 2, 2]), (vec![0, 1, 0, 1, 0, 0, 1, 1, 9, 9, 9, 9], String::new()));
    }

    #[test]
    fn every_change_is_said() {
        let deep = ImageBuffer::from_pixel(2, 2, Luma([0x8000_u16]));
        assert_eq!(changes(deep, [1, 2, 2]), (vec![128; 4], "16 to 8 bits a channel".into()));
        let glass = ImageBuffer::from_pixel(2, 2, LumaA([0_u8, 0]));
        assert_eq!(changes(glass, [1, 2, 2]), (vec![255; 4], "transparent parts to white".into()));
        let opaque = ImageBuffer::from_pixel(2, 2, LumaA([7_u8, 255]));
        assert_eq!(changes(opaque, [1, 2, 2]), (vec![7; 4], String::new()));
        // Luma of Rec. 709: 0.7152 of green.
        let green = ImageBuffer::from_pixel(2, 2, Rgb([0_u8, 255, 0]));
        assert_eq!(changes(green, [1, 2, 2]), (vec![182; 4], "colour to grey".into()));
        let grey = ImageBuffer::from_pixel(2, 2, Luma([5_u8]));
        assert_eq!(changes(grey, [3, 2, 2]), (vec![5; 12], "grey to colour".into()));
        // Bright in the middle square: the dark ends are cut off.
        let wide = GrayImage::from_fn(60, 20, |x, _| Luma([if (20..40).contains(&x) { 200 } else { 0 }]));
        let (pixels, said) = changes(wide, [1, 10, 10]);
        assert_eq!(said, "60x20 to 10x10, the middle of it");
        assert!(pixels[4 * 10 + 2..4 * 10 + 8].iter().all(|&p| p == 200), "{pixels:?}");
        assert_eq!(changes(GrayImage::new(20, 20), [1, 10, 10]).1, "20x20 to 10x10");
    }

    #[test]
    fn dark_and_bright_can_be_swapped() {
        let picture = fit(&GrayImage::from_pixel(2, 2, Luma([10])).into(), [1, 2, 2], true);
        assert_eq!((picture.pixels.as_slice(), picture.changes.len()), (&[245; 4][..], 1));
        assert!((picture.brightness() - 245.0 / 255.0).abs() < 1e-12);
    }
}
