//! Pictures of any size (PNG, JPEG, WebP, BMP, TIFF, GIF) as images of one size.

use crate::error::{Error, Result};
use image::imageops::FilterType;
use image::{ColorType, DynamicImage, GenericImageView, GrayImage, ImageDecoder, ImageError, ImageReader, Limits};
use image::{Rgb, RgbImage, RgbaImage};
use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, Cursor, Seek};
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

/// The format of the network's input, in grey or in colour. Its text forms are `grey28`, `rgb32` and so on, and `rgb96x128` of 96
/// rows and 128 columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFormat {
    /// 1 or 3.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Default for ImageFormat {
    fn default() -> ImageFormat {
        ImageFormat { channels: 3, height: 32, width: 32 }
    }
}

impl FromStr for ImageFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<ImageFormat> {
        let parse = |prefix: &str, channels| {
            let sides = text.strip_prefix(prefix)?;
            // One text for each format: what is square has one number.
            let (height, width) = sides.split_once('x').filter(|(a, b)| a != b).unwrap_or((sides, sides));
            let [height, width] = [height, width].map(|side| side.parse().ok().filter(|side| (8..=512).contains(side)));
            Some(ImageFormat { channels, height: height?, width: width? })
        };
        parse("grey", 1).or_else(|| parse("rgb", 3)).ok_or_else(|| {
            Error::usage(format!(
                "image format \"{text}\" is neither greyN nor rgbN with N pixels a side, 8 to 512, as in grey28 or rgb32; \
                 rgb96x128 has 96 rows and 128 columns"
            ))
        })
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channels, height, width } = self;
        write!(f, "{}{height}", if *channels == 1 { "grey" } else { "rgb" })?;
        if height == width { Ok(()) } else { write!(f, "x{width}") }
    }
}

impl ImageFormat {
    /// \[C, H, W\].
    pub fn shape(self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }
}

/// The pictures that a network takes, and how much of a picture they show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// Of how many rows the shown height is part: where it is less than all, a border is left out. torchvision scales pictures to 256
    /// and shows the middle 224.
    pub of_height: usize,
}

impl From<[usize; 3]> for Frame {
    fn from(shape: [usize; 3]) -> Frame {
        Frame { shape, of_height: shape[1] }
    }
}

impl Frame {
    /// What is shown of a picture of (width, height): left, top, width, height.
    fn shown(self, from: [usize; 2]) -> [usize; 4] {
        let [_, height, width] = self.shape;
        let [left, top, full_width, full_height] = middle(from, [width, height]);
        let part = |side: usize| ((side * height + self.of_height / 2) / self.of_height).clamp(1, side);
        let (width, height) = (part(full_width), part(full_height));
        [left + (full_width - width) / 2, top + (full_height - height) / 2, width, height]
    }
}

/// Reads a picture: turned upright (EXIF), on white where it is transparent, its middle in the shape of the format, scaled to it.
/// Returns C×H×W bytes. What kind of file it is, is told from its content.
///
/// # Errors
/// If the file cannot be read or decoded.
pub fn read(path: &Path, format: ImageFormat) -> Result<Vec<u8>> {
    Ok(Picture::read(path, format.shape())?.pixels)
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
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(Error::io(path, "read"))?;
    decoded(path, reader, || std::fs::read(path).map(Cow::Owned).map_err(Error::io(path, "read")), f)
}

/// The same of the content of a file, which is called `name` in messages.
///
/// # Errors
/// As [`with_picture`].
pub fn with_bytes<R>(name: &Path, bytes: &[u8], f: impl FnOnce(DynamicImage) -> R) -> Result<R> {
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::file(name, format!("no picture: more than {} MiB", MAX_FILE >> 20)));
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(Error::io(name, "read"))?;
    decoded(name, reader, || Ok(Cow::Borrowed(bytes)), f)
}

/// What both have in common; `content` gives all bytes.
fn decoded<'a, R>(
    path: &Path,
    mut reader: ImageReader<impl BufRead + Seek>,
    content: impl FnOnce() -> Result<Cow<'a, [u8]>>,
    f: impl FnOnce(DynamicImage) -> R,
) -> Result<R> {
    let refuse = |why: String| Error::file(path, why);
    let undecodable = |e: ImageError| match e {
        ImageError::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Error::io(path, "read")(e),
        ImageError::Unsupported(_) => refuse(format!("no picture of a known kind: {KINDS} are read")),
        e => refuse(format!("no readable picture ({KINDS}): {e}")),
    };
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let is_jpeg = reader.format() == Some(image::ImageFormat::Jpeg);
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    let n_pixels = u64::from(width) * u64::from(height);
    if n_pixels > MAX_PIXELS {
        return Err(refuse(format!("{width}×{height} is more than a picture may have, {MAX_PIXELS} pixels")));
    }
    if decoder.total_bytes() > MAX_BYTES {
        let [needed, most] = [decoder.total_bytes(), MAX_BYTES].map(|n| n >> 20);
        return Err(refuse(format!("decoded it takes {needed} MiB, and a picture may take {most}")));
    }
    let _one_at_a_time =
        (decoder.total_bytes() > LARGE).then(|| LARGE_ONES.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let orientation = decoder.orientation().map_err(undecodable)?;
    let mut picture = match is_jpeg {
        true => whole_jpeg(path, &content()?, decoder.color_type())?,
        false => DynamicImage::from_decoder(decoder).map_err(undecodable)?,
    };
    picture.apply_orientation(orientation);
    Ok(f(picture))
}

const KINDS: &str = "PNG or JPEG, WebP, BMP, TIFF, GIF";

/// A JPEG file that has an end, and of which nothing before it is seen to be missing: the usual decoder makes grey of what is.
fn whole_jpeg(path: &Path, bytes: &[u8], color: ColorType) -> Result<DynamicImage> {
    let broken = |why: String| Error::file(path, format!("no readable picture: the JPEG file is not whole: {why}"));
    // Phones put short films behind the picture.
    if !bytes.windows(2).rev().any(|pair| pair == [0xff, 0xd9]) {
        return Err(broken("its end is missing".into()));
    }
    let space = if color == ColorType::L8 { ColorSpace::Luma } else { ColorSpace::RGB };
    let side = MAX_SIDE as usize;
    let options = DecoderOptions::default().set_strict_mode(true).set_max_width(side).set_max_height(side);
    let options = options.jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(|e| broken(format!("{e:?}")))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| broken("it has no size".into()))?;
    let (width, height) = (width as u32, height as u32);
    let picture = match space {
        ColorSpace::Luma => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
    };
    picture.ok_or_else(|| broken("its size is another one".into()))
}

/// A picture in the form that a network takes, with what was changed to get there.
#[derive(Debug, PartialEq, Eq)]
pub struct Picture {
    /// C×H×W, 0 is dark.
    pub pixels: Vec<u8>,
    /// In words; empty if nothing was changed.
    pub changes: Vec<String>,
}

impl Picture {
    /// Reads a file and fits it to a frame, or to (channels, height, width) as [`read`] does for a folder of pictures.
    ///
    /// # Errors
    /// If the file cannot be read or is no whole picture.
    pub fn read(path: &Path, frame: impl Into<Frame>) -> Result<Picture> {
        with_picture(path, |picture| fit(picture, frame.into()))
    }

    /// The same with the width and height that the picture had.
    pub(super) fn read_with_size(path: &Path, input: [usize; 3]) -> Result<(Picture, [usize; 2])> {
        with_picture(path, |picture| {
            let size = [picture.width() as usize, picture.height() as usize];
            (fit(picture, input.into()), size)
        })
    }

    /// The same of the content of a file, which is called `name` in messages.
    ///
    /// # Errors
    /// If it is no whole picture.
    pub fn decode(name: &Path, bytes: &[u8], frame: impl Into<Frame>) -> Result<Picture> {
        with_bytes(name, bytes, |picture| fit(picture, frame.into()))
    }

    /// The same with dark and bright swapped.
    pub fn inverted(mut self) -> Picture {
        self.pixels.iter_mut().for_each(|pixel| *pixel = 255 - *pixel);
        self.changes.push("dark and bright swapped".into());
        self
    }

    /// The mean brightness in 0..=1.
    pub fn brightness(&self) -> f64 {
        self.pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / (255.0 * self.pixels.len() as f64)
    }
}

/// The largest rectangle of the shape of `to` in the middle of a picture of `from` (width, height): left, top, width, height.
pub(super) fn middle(from: [usize; 2], to: [usize; 2]) -> [usize; 4] {
    let width = (from[1] * to[0] / to[1]).clamp(1, from[0]);
    let height = (from[0] * to[1] / to[0]).clamp(1, from[1]);
    [(from[0] - width) / 2, (from[1] - height) / 2, width, height]
}

/// The way of every picture to a network, in training and afterwards: the middle of it in the shape of the target, on white
/// where it is transparent, scaled with all its bits and colours, then grey by luma (or colours from grey) in 8 bits.
fn fit(picture: DynamicImage, frame: Frame) -> Picture {
    let [channels, height, width] = frame.shape;
    let mut changes = Vec::new();
    let (color, from, to) = (picture.color(), picture.dimensions(), (width as u32, height as u32));
    if color.bytes_per_pixel() > color.channel_count() {
        changes.push(format!("{} to 8 bits a channel", color.bits_per_pixel() / u16::from(color.channel_count())));
    }
    let [left, top, cut_width, cut_height] = frame.shown([from.0, from.1].map(|n| n as usize)).map(|n| n as u32);
    let mut middle = picture.crop_imm(left, top, cut_width, cut_height);
    if color.has_alpha() {
        let rgba = middle.to_rgba8();
        if rgba.pixels().any(|pixel| pixel[3] < 255) {
            changes.push("transparent parts to white".into());
        }
        middle = on_white(&rgba).into();
    }
    match (channels, color.has_color()) {
        (1, true) => changes.push("colour to grey".into()),
        (3, false) => changes.push("grey to colour".into()),
        _ => {}
    }
    if from != to || (cut_width, cut_height) != from {
        let cut = if (cut_width, cut_height) == from { "" } else { ", the middle of it" };
        changes.push(format!("{}x{} to {}x{}{cut}", from.0, from.1, to.0, to.1));
    }
    // A triangle as wide as a target pixel: no aliasing, and only arithmetic that is the same everywhere.
    let small = middle.resize_exact(to.0, to.1, FilterType::Triangle);
    let pixels = match channels {
        1 => small.into_luma8().into_raw(),
        _ => {
            let interleaved = small.into_rgb8().into_raw();
            (0..3).flat_map(|channel| interleaved.iter().skip(channel).step_by(3).copied()).collect()
        }
    };
    Picture { pixels, changes }
}

fn on_white(rgba: &RgbaImage) -> RgbImage {
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, alpha] = rgba.get_pixel(x, y).0.map(u32::from);
        Rgb([r, g, b].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageBuffer, Luma, LumaA, Rgb};

    fn changes(picture: impl Into<DynamicImage>, input: [usize; 3]) -> (Vec<u8>, String) {
        let picture = fit(picture.into(), input.into());
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

    /// As torchvision: the shorter side to 256, then the middle 224×224. Of a picture whose shorter side is 256 that is a cut alone.
    #[test]
    fn a_border_is_left_out() {
        let frame = Frame { shape: [1, 224, 224], of_height: 256 };
        let wide = GrayImage::from_fn(300, 256, |x, y| Luma([(x ^ y) as u8]));
        let Picture { pixels, changes } = fit(wide.clone().into(), frame);
        assert_eq!(changes, ["300x256 to 224x224, the middle of it"]);
        assert_eq!(pixels, image::imageops::crop_imm(&wide, 38, 16, 224, 224).to_image().into_raw());
        for (from, shown) in [([32, 32], [2, 2, 28, 28]), ([1024, 512], [288, 32, 448, 448]), ([1, 1], [0, 0, 1, 1])] {
            assert_eq!(frame.shown(from), shown);
        }
        assert_eq!(Frame::from([1, 24, 32]).shown([100, 80]), [0, 2, 100, 75]);
    }

    #[test]
    fn dark_and_bright_can_be_swapped() {
        let picture = fit(GrayImage::from_pixel(2, 2, Luma([10])).into(), [1, 2, 2].into()).inverted();
        assert_eq!((picture.pixels.as_slice(), picture.changes.len()), (&[245; 4][..], 1));
        assert!((picture.brightness() - 245.0 / 255.0).abs() < 1e-12);
    }
}
