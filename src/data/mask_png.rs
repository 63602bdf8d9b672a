//! Masks in PNG files: a class for each pixel. Of a file with a palette the indices count, not the colours; of one in grey the
//! values; one in colour needs a table of colours.

use super::VOID;
use crate::error::{Error, Result};
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use std::io::Cursor;
use std::path::Path;

/// More pixels are no mask but a mistake or an attack.
const MAX_PIXELS: u64 = 50_000_000;
const MAX_FILE: u64 = 128 << 20;

/// What the values of masks mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Legend {
    /// The class of each value from 0 on, [`VOID`] for values that mean none; 255 means none anyway.
    pub values: Vec<u8>,
    /// The colour of each class, and those that mean no class, as 255; none if masks hold values.
    pub colours: Vec<([u8; 3], u8)>,
}

/// A mask as it lies in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// H×W classes, [`VOID`] where there is none.
    pub classes: Vec<u8>,
}

impl Mask {
    /// Reads a file.
    ///
    /// # Errors
    /// If it is no PNG, has 16 bits, a value or colour that is no class, or no pixel of any class.
    pub fn read(path: &Path, legend: &Legend) -> Result<Mask> {
        let found = path.metadata().map_err(Error::io(path, "read"))?;
        if !found.is_file() || found.len() > MAX_FILE {
            return Err(Error::file(path, "no mask: no regular file of a picture's size"));
        }
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let mask = Mask::decode(path, &bytes, legend)?;
        if mask.classes.iter().all(|&class| class == VOID) {
            return Err(Error::file(path, "every pixel of the mask is void: there is nothing to learn from it"));
        }
        Ok(mask)
    }

    /// The same of the content of a file, which is called `path` in messages; it may be void everywhere.
    ///
    /// # Errors
    /// As [`Mask::read`].
    pub fn decode(path: &Path, bytes: &[u8], legend: &Legend) -> Result<Mask> {
        let refuse = |why: String| Error::file(path, why);
        if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Err(refuse("a mask must be a PNG file: other formats change the values of pixels".into()));
        }
        let damaged = |e: png::DecodingError| refuse(format!("no readable PNG: {e}"));
        let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: 256 << 20 });
        decoder.set_transformations(Transformations::IDENTITY);
        let mut reader = decoder.read_info().map_err(damaged)?;
        let (width, height) = (reader.info().width, reader.info().height);
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(refuse(format!("{width}×{height} is more than a mask may have, {MAX_PIXELS} pixels")));
        }
        let (color, depth) = reader.output_color_type();
        if depth == BitDepth::Sixteen {
            return Err(refuse("the mask has 16 bits a channel; write it with 8, one value for each class".into()));
        }
        let size = reader.output_buffer_size().ok_or_else(|| refuse("too large".into()))?;
        let mut data = vec![0; size];
        let frame = reader.next_frame(&mut data).map_err(damaged)?;
        let (width, height) = (width as usize, height as usize);
        let raw = Raw { data: &data, width, line: frame.line_size, n_bits: depth as usize };
        let classes = match color {
            ColorType::Indexed | ColorType::Grayscale => raw.values().map(|value| legend.class_of(value)).collect(),
            ColorType::Rgb => raw.colours(3, legend),
            ColorType::Rgba => raw.colours(4, legend),
            ColorType::GrayscaleAlpha => Err("the mask has a transparency; write it without".into()),
        };
        Ok(Mask { width, height, classes: classes.map_err(refuse)? })
    }
}

impl Legend {
    fn class_of(&self, value: u8) -> std::result::Result<u8, String> {
        match (value, self.values.get(usize::from(value))) {
            (VOID, _) => Ok(VOID),
            (_, Some(&class)) => Ok(class),
            (_, None) => Err(format!(
                "the mask holds the value {value}, which is no class: 0 to {} are known, and 255 for void. The file of classes may lack one",
                self.values.len() - 1
            )),
        }
    }
}

/// Lines of pixels of so many bits.
struct Raw<'a> {
    data: &'a [u8],
    width: usize,
    line: usize,
    n_bits: usize,
}

impl Raw<'_> {
    fn values(&self) -> impl Iterator<Item = u8> {
        let Raw { width, n_bits, .. } = *self;
        let mask = (u16::MAX >> (16 - n_bits)) as u8;
        self.data.chunks_exact(self.line).flat_map(move |line| {
            (0..width).map(move |x| {
                let bit = x * n_bits;
                (line[bit / 8] >> (8 - n_bits - bit % 8)) & mask
            })
        })
    }

    /// Pixels of so many bytes, the first three of which are a colour.
    fn colours(&self, n_bytes: usize, legend: &Legend) -> std::result::Result<Vec<u8>, String> {
        if legend.colours.is_empty() {
            return Err(
                "the mask is in colour, and nothing says which colour is which class: put a label_colors.txt into \
                        the folder, a line R G B NAME for each class, or write masks with a palette"
                    .into(),
            );
        }
        let mut last = legend.colours[0];
        let mut classes = Vec::with_capacity(self.data.len() / n_bytes);
        for line in self.data.chunks_exact(self.line) {
            for pixel in line.chunks_exact(n_bytes).take(self.width) {
                let colour = [pixel[0], pixel[1], pixel[2]];
                if last.0 != colour {
                    let known = legend.colours.iter().find(|(known, _)| *known == colour);
                    last = *known.ok_or_else(|| {
                        let [r, g, b] = colour;
                        format!(
                            "the mask has the colour {r} {g} {b}, which is none of the classes' in label_colors.txt"
                        )
                    })?;
                }
                classes.push(last.1);
            }
        }
        Ok(classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legend(n_classes: usize, colours: &[([u8; 3], u8)]) -> Legend {
        // Void is the second value.
        let values = [0, VOID].into_iter().chain(1..n_classes as u8).collect();
        Legend { values, colours: colours.to_vec() }
    }

    fn png(color: ColorType, depth: BitDepth, [width, height]: [u32; 2], data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            // Colours that are far from their indices, as in PASCAL VOC.
            encoder.set_palette((0..16 * 3).map(|i| (i * 83) as u8).collect::<Vec<u8>>());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    fn decode(bytes: &[u8], legend: &Legend) -> std::result::Result<Vec<u8>, String> {
        Mask::decode(Path::new("m.png"), bytes, legend).map(|mask| mask.classes).map_err(|e| e.to_string())
    }

    #[test]
    fn indices_of_a_palette_are_classes_at_every_depth() {
        let known = legend(5, &[]);
        let full = png(ColorType::Indexed, BitDepth::Eight, [3, 2], &[0, 1, 2, 3, 4, 5]);
        assert_eq!(decode(&full, &known).unwrap(), [0, VOID, 1, 2, 3, 4]);
        let half = png(ColorType::Indexed, BitDepth::Four, [3, 2], &[0x01, 0x20, 0x34, 0x50]);
        assert_eq!(decode(&half, &known).unwrap(), [0, VOID, 1, 2, 3, 4]);
        let two = png(ColorType::Indexed, BitDepth::Two, [5, 1], &[0b0001_1011, 0b0100_0000]);
        assert_eq!(decode(&two, &known).unwrap(), [0, VOID, 1, 2, VOID]);
        let one = png(ColorType::Indexed, BitDepth::One, [9, 1], &[0b0101_0011, 0b1000_0000]);
        assert_eq!(decode(&one, &known).unwrap(), [0, VOID, 0, VOID, 0, 0, VOID, VOID, VOID]);
        let grey = png(ColorType::Grayscale, BitDepth::Eight, [2, 1], &[4, 255]);
        assert_eq!(decode(&grey, &known).unwrap(), [3, VOID]);
    }

    #[test]
    fn colours_are_looked_up() {
        let colours = [([0, 0, 0], 0), ([128, 0, 0], 1), ([9, 9, 9], VOID)];
        let data = [128, 0, 0, 0, 0, 0, 9, 9, 9];
        let file = png(ColorType::Rgb, BitDepth::Eight, [3, 1], &data);
        assert_eq!(decode(&file, &legend(2, &colours)).unwrap(), [1, 0, VOID]);
        assert!(decode(&file, &legend(2, &colours[..2])).unwrap_err().contains("the colour 9 9 9"));
        assert!(decode(&file, &legend(2, &[])).unwrap_err().contains("label_colors.txt"));
    }

    #[test]
    fn what_is_no_mask_is_refused_in_words() {
        let known = legend(5, &[]);
        let beyond = png(ColorType::Indexed, BitDepth::Eight, [1, 1], &[7]);
        assert!(decode(&beyond, &known).unwrap_err().contains("the value 7, which is no class: 0 to 5 are known"));
        let deep = png(ColorType::Grayscale, BitDepth::Sixteen, [1, 1], &[0, 1]);
        assert!(decode(&deep, &known).unwrap_err().contains("16 bits"));
        assert!(decode(b"\xff\xd8\xff\xe0JFIF", &known).unwrap_err().contains("must be a PNG file"));
        let whole = png(ColorType::Grayscale, BitDepth::Eight, [8, 8], &[1; 64]);
        for cut in 8..whole.len() - 12 {
            assert!(decode(&whole[..cut], &known).is_err(), "cut at {cut}");
        }
    }
}
