//! IDX files, the format of MNIST: a big-endian header (two zero bytes, the type 0x08 for bytes, the number of
//! dimensions, one u32 per dimension), then the bytes in row-major order. Gzip is recognised by content, not by name.
//!
//! Nothing in a header is believed before it fits the length of the file, so a damaged or hostile file gives an error
//! that says what was expected and what was found, never a large allocation.

use super::Images;
use crate::error::{Error, Result};
use byteorder::{BigEndian, ReadBytesExt, WriteBytesExt};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

const TYPE_U8: u8 = 0x08;

/// Deflate spends at least two bits on 258 bytes of output, so no file inflates to more than this times its size.
const MAX_INFLATION: u128 = 1032;

/// Reads a file of images and one of labels that belong together.
///
/// Errors: those of [`read_images`] and [`read_labels`], and different numbers of images and labels.
pub fn read_pair(images_path: &Path, labels_path: &Path, n_classes: usize) -> Result<Images> {
    let mut images = read_images(images_path)?;
    let labels = read_labels(labels_path, n_classes)?;
    let n_images = images.pixels.len() / images.image_bytes();
    if labels.len() != n_images {
        return Err(Error::file(
            labels_path,
            format!(
                "holds {} labels but {} holds {n_images} images; the two files do not belong together",
                labels.len(),
                images_path.display()
            ),
        ));
    }
    images.labels = labels;
    Ok(images)
}

/// Reads N×H×W grey images; their `labels` are left empty.
///
/// Errors: a file that cannot be read, a wrong magic number, a zero size, a length other than the header promises,
/// damaged gzip data.
pub fn read_images(path: &Path) -> Result<Images> {
    let (dims, pixels) = read(path, 3, "images")?;
    Ok(Images {
        channels: 1,
        height: dims[1],
        width: dims[2],
        pixels,
        labels: Vec::new(),
        views: Vec::new(),
        masks: Vec::new(),
    })
}

/// Reads N labels, each below `n_classes`.
///
/// Errors: as [`read_images`], and a label that is no class.
pub fn read_labels(path: &Path, n_classes: usize) -> Result<Vec<u32>> {
    let (_, bytes) = read(path, 1, "labels")?;
    if let Some(label_idx) = bytes.iter().position(|&label| usize::from(label) >= n_classes) {
        let label = bytes[label_idx];
        return Err(Error::file(
            path,
            format!(
                "label {label_idx} is {label}, but the {n_classes} classes are 0 to {}",
                n_classes.saturating_sub(1)
            ),
        ));
    }
    Ok(bytes.into_iter().map(u32::from).collect())
}

/// Reads a file of `n_dims` dimensions: their sizes and the data. `what` names the content in messages.
fn read(path: &Path, n_dims: u8, what: &str) -> Result<(Vec<usize>, Vec<u8>)> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let file_bytes = file.metadata().map_err(Error::io(path, "read"))?.len();
    let mut file = BufReader::with_capacity(1 << 16, file);
    let is_gzip = file.fill_buf().map_err(Error::io(path, "read"))?.starts_with(&[0x1f, 0x8b]);
    let mut reader: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::UnexpectedEof if is_gzip => Error::file(path, "the gzip data end too early; fetch the file again"),
        ErrorKind::InvalidInput | ErrorKind::InvalidData if is_gzip => {
            Error::file(path, format!("damaged gzip data ({e}); fetch the file again"))
        }
        _ => Error::io(path, "read")(e),
    };

    // The header.
    let header_bytes = 4 + 4 * u64::from(n_dims);
    let mut header = Vec::new();
    reader.by_ref().take(header_bytes).read_to_end(&mut header).map_err(failed)?;
    let expected = [0, 0, TYPE_U8, n_dims];
    if header.len() >= 4 && header[..4] != expected {
        return Err(Error::file(
            path,
            format!(
                "wrong magic number {:02x?}, expected {expected:02x?}: this is no IDX file of {what}",
                &header[..4]
            ),
        ));
    }
    if (header.len() as u64) < header_bytes {
        let found = header.len();
        return Err(Error::file(
            path,
            format!("truncated: expected an IDX header of {header_bytes} bytes, found {found} bytes in all"),
        ));
    }
    let mut fields = &header[4..];
    let mut dims = Vec::new();
    while let Ok(dim) = fields.read_u32::<BigEndian>() {
        dims.push(dim);
    }
    if dims.contains(&0) {
        return Err(Error::file(path, format!("the header says {} {what}: a size is zero", sizes(&dims))));
    }

    // The length, before anything is allocated by it. u128 holds the product of any three u32.
    let expected = u128::from(header_bytes) + dims.iter().map(|&dim| u128::from(dim)).product::<u128>();
    let wrong_length = |word: &str, found: String| {
        let dims = sizes(&dims);
        Error::file(path, format!("{word}: expected {expected} bytes ({dims} {what} and the header), found {found}"))
    };
    if is_gzip && expected > MAX_INFLATION * u128::from(file_bytes) {
        let found = format!("a gzip file of {file_bytes} bytes, which cannot hold them");
        return Err(wrong_length("truncated", found));
    }
    if !is_gzip && u128::from(file_bytes) != expected {
        let word = if u128::from(file_bytes) < expected { "truncated" } else { "oversized" };
        return Err(wrong_length(word, file_bytes.to_string()));
    }

    // The data, and one byte more to notice a longer file.
    let data_bytes = expected as u64 - header_bytes;
    let mut data = Vec::with_capacity(if is_gzip { 0 } else { data_bytes as usize + 1 });
    reader.take(data_bytes + 1).read_to_end(&mut data).map_err(failed)?;
    match data.len() as u64 {
        n if n < data_bytes => Err(wrong_length("truncated", (header_bytes + n).to_string())),
        n if n > data_bytes => Err(wrong_length("oversized", "more".to_string())),
        _ => Ok((dims.iter().map(|&dim| dim as usize).collect(), data)),
    }
}

/// "60000x28x28".
fn sizes(dims: &[u32]) -> String {
    dims.iter().map(u32::to_string).collect::<Vec<_>>().join("x")
}

/// Writes the pixels of one-channel images as a plain IDX file.
///
/// Errors: more than one channel, for which the format has no place; a file that cannot be written. The file appears
/// whole or not at all.
pub fn write_images(path: &Path, images: &Images) -> Result<()> {
    if images.channels != 1 {
        let n = images.channels;
        return Err(Error::usage(format!("IDX files hold grey images; these have {n} channels")));
    }
    write(path, &[images.len(), images.height, images.width], &images.pixels)
}

/// Writes labels as a plain IDX file, one byte each.
///
/// Errors: a label above 255; a file that cannot be written. The file appears whole or not at all.
pub fn write_labels(path: &Path, labels: &[u32]) -> Result<()> {
    let byte = |&label: &u32| {
        u8::try_from(label).map_err(|_| Error::usage(format!("label {label} does not fit the one byte of an IDX file")))
    };
    let bytes = labels.iter().map(byte).collect::<Result<Vec<u8>>>()?;
    write(path, &[labels.len()], &bytes)
}

/// Writes to a temporary name first, so that a run that reads `path` meanwhile never sees half a file.
fn write(path: &Path, dims: &[usize], data: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let write = || -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(partial)?);
        file.write_all(&[0, 0, TYPE_U8, dims.len() as u8])?;
        for &dim in dims {
            file.write_u32::<BigEndian>(u32::try_from(dim).map_err(std::io::Error::other)?)?;
        }
        file.write_all(data)?;
        file.into_inner()?.sync_all()?;
        std::fs::rename(partial, path)
    };
    write().map_err(|e| {
        // The write's own error is the one to report, whether or not the remains can be removed.
        let _ = std::fs::remove_file(partial);
        Error::io(path, "write")(e)
    })
}
