//! Pictures of any size (PNG, JPEG) as images of one size.

use crate::error::{Error, Result};
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, Rgb, RgbImage};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The longest side and the most memory of a picture; more is no photograph but a mistake or an attack.
const MAX_SIDE: u32 = 30_000;
const MAX_BYTES: u64 = 1 << 30;

/// The format of the network's input: square, in grey or in colour. Its text forms are `grey28`, `rgb32` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFormat {
    /// 1 or 3.
    pub channels: usize,
    /// Rows and columns.
    pub side: usize,
}

impl Default for ImageFormat {
    fn default() -> ImageFormat {
        ImageFormat { channels: 3, side: 32 }
    }
}

impl FromStr for ImageFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<ImageFormat> {
        let parse = |prefix: &str, channels| {
            let side = text.strip_prefix(prefix)?.parse().ok()?;
            (8..=512).contains(&side).then_some(ImageFormat { channels, side })
        };
        parse("grey", 1).or_else(|| parse("rgb", 3)).ok_or_else(|| {
            Error::usage(format!(
                "image format \"{text}\" is neither greyN nor rgbN with N pixels a side, 8 to 512, as in grey28 or rgb32"
            ))
        })
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channels, side } = self;
        write!(f, "{}{side}", if *channels == 1 { "grey" } else { "rgb" })
    }
}

/// Reads a picture: turned upright (EXIF), on white where it is transparent, the middle square, scaled to the format.
/// Returns C×H×W bytes. What kind of file it is, is told from its content.
///
/// # Errors
/// If the file cannot be read or decoded.
pub fn read(path: &Path, format: ImageFormat) -> Result<Vec<u8>> {
    let decode = || -> image::ImageResult<DynamicImage> {
        let mut reader = ImageReader::open(path)?.with_guessed_format()?;
        let mut limits = Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
        limits.max_alloc = Some(MAX_BYTES);
        reader.limits(limits);
        let mut decoder = reader.into_decoder()?;
        let orientation = decoder.orientation()?;
        let mut picture = DynamicImage::from_decoder(decoder)?;
        picture.apply_orientation(orientation);
        Ok(picture)
    };
    let picture = decode().map_err(|e| Error::file(path, format!("no readable PNG or JPEG picture: {e}")))?;
    Ok(fit(picture, format))
}

/// The middle square of a picture in the given format, C×H×W.
fn fit(picture: DynamicImage, ImageFormat { channels, side }: ImageFormat) -> Vec<u8> {
    let (width, height) = (picture.width(), picture.height());
    let short = width.min(height);
    let square = picture.crop_imm((width - short) / 2, (height - short) / 2, short, short);
    let square = if square.color().has_alpha() { DynamicImage::ImageRgb8(on_white(&square)) } else { square };
    // A triangle as wide as a target pixel: no aliasing, and only arithmetic that is the same everywhere.
    let small = square.resize_exact(side as u32, side as u32, FilterType::Triangle);
    if channels == 1 {
        return small.into_luma8().into_raw();
    }
    let interleaved = small.into_rgb8().into_raw();
    (0..3).flat_map(|channel| interleaved.iter().skip(channel).step_by(3).copied()).collect()
}

fn on_white(picture: &DynamicImage) -> RgbImage {
    let rgba = picture.to_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, alpha] = rgba.get_pixel(x, y).0.map(u32::from);
        Rgb([r, g, b].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    })
}
