//! Pictures of any size (PNG, JPEG, WebP, BMP, TIFF, GIF) as images of one size.

use crate::error::{Error, Result};
use image::imageops::FilterType;
use image::{ColorType, DynamicImage, GrayImage, ImageDecoder, ImageError, ImageReader, Limits, Rgb, RgbImage};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Mutex;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// The longest side, the most pixels and the most memory of a picture; more is no photograph but a mistake or an attack. They
/// hold what a decoder and its copies take below 512 MiB.
const MAX_SIDE: u32 = 30_000;
const MAX_PIXELS: u64 = 50_000_000;
const MAX_BYTES: u64 = 160 << 20;
const MAX_FILE: u64 = 128 << 20;

/// From this size on one picture is decoded at a time.
const LARGE: u64 = 8 << 20;
static LARGE_ONES: Mutex<()> = Mutex::new(());

/// The endings of the names of files that are taken for pictures, in lower case.
pub const EXTENSIONS: [&str; 10] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "tif", "tiff", "gif"];

/// Whether the name of a file says that it is a picture.
pub fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    EXTENSIONS.contains(&extension.as_str()) && path.is_file()
}

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
    with_picture(path, |picture| fit(picture, format))
}

/// Calls `f` with a picture, turned upright; of a moving one with its first frame. Large pictures come one at a time.
///
/// # Errors
/// If the file cannot be read, is no whole picture, or a larger one than any photograph.
pub fn with_picture<R>(path: &Path, f: impl FnOnce(DynamicImage) -> R) -> Result<R> {
    let found = path.metadata().map_err(Error::io(path, "read"))?;
    let refuse = |why: String| Error::file(path, why);
    if !found.is_file() || found.len() > MAX_FILE {
        return Err(refuse(format!("no picture: no regular file of at most {} MiB", MAX_FILE >> 20)));
    }
    let undecodable = |e: ImageError| match e {
        ImageError::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Error::io(path, "read")(e),
        ImageError::Unsupported(_) => refuse(format!("no picture of a known kind: {KINDS} are read")),
        e => refuse(format!("no readable picture ({KINDS}): {e}")),
    };
    let mut reader =
        ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(Error::io(path, "read"))?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let is_jpeg = reader.format() == Some(image::ImageFormat::Jpeg);
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    let n_pixels = u64::from(width) * u64::from(height);
    if n_pixels > MAX_PIXELS || decoder.total_bytes() > MAX_BYTES {
        return Err(refuse(format!("{width}×{height} is more than a picture may have, {MAX_PIXELS} pixels")));
    }
    let _one_at_a_time =
        (decoder.total_bytes() > LARGE).then(|| LARGE_ONES.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let orientation = decoder.orientation().map_err(undecodable)?;
    let mut picture = match is_jpeg {
        true => whole_jpeg(path, decoder.color_type())?,
        false => DynamicImage::from_decoder(decoder).map_err(undecodable)?,
    };
    picture.apply_orientation(orientation);
    Ok(f(picture))
}

const KINDS: &str = "PNG or JPEG, WebP, BMP, TIFF, GIF";

/// A JPEG file of which nothing is missing: the usual decoder makes grey of what is.
fn whole_jpeg(path: &Path, color: ColorType) -> Result<DynamicImage> {
    let broken = |why: String| Error::file(path, format!("no readable picture: the JPEG file is not whole: {why}"));
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0);
    if !bytes[..=end].windows(2).rev().take(64 << 10).any(|pair| pair == [0xff, 0xd9]) {
        return Err(broken("its end is missing".into()));
    }
    let space = if color == ColorType::L8 { ColorSpace::Luma } else { ColorSpace::RGB };
    let side = MAX_SIDE as usize;
    let options = DecoderOptions::default().set_strict_mode(true).set_max_width(side).set_max_height(side);
    let options = options.jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&bytes[..]), options);
    let pixels = decoder.decode().map_err(|e| broken(format!("{e:?}")))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| broken("it has no size".into()))?;
    let (width, height) = (width as u32, height as u32);
    let picture = match space {
        ColorSpace::Luma => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
    };
    picture.ok_or_else(|| broken("its size is another one".into()))
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
