//! Named tensors with a description in one safetensors file: the description is one field of the metadata, and a checksum over it and
//! all tensors is a tensor itself.

use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};

/// The tensor that holds the CRC-32 over the description and all other tensors.
const SUM: &str = "checksum";
/// Bytes of an MD5.
const DIGEST: usize = 16;

/// A tensor as the file has it.
pub struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The tensors of a file, by name.
pub type Tensors = BTreeMap<String, Stored>;

impl Stored {
    /// Of numbers.
    pub fn f32(shape: &[usize], values: &[f32]) -> Stored {
        Stored { dtype: Dtype::F32, shape: shape.to_vec(), bytes: bytemuck::cast_slice(values).to_vec() }
    }

    /// Of bytes.
    pub fn u8(shape: &[usize], bytes: Vec<u8>) -> Stored {
        Stored { dtype: Dtype::U8, shape: shape.to_vec(), bytes }
    }

    /// Of labels.
    pub fn u32(values: &[u32]) -> Stored {
        Stored { dtype: Dtype::U32, shape: vec![values.len()], bytes: bytemuck::cast_slice(values).to_vec() }
    }

    /// MD5s, (n, 16).
    pub fn digests<'a>(digests: impl Iterator<Item = &'a u128>) -> Stored {
        let bytes: Vec<u8> = digests.flat_map(|digest| digest.to_be_bytes()).collect();
        Stored::u8(&[bytes.len() / DIGEST, DIGEST], bytes)
    }
}

/// Over the description, and over name and bytes of every tensor in the order of names.
fn sum<'a>(text: &str, tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    for (name, bytes) in tensors.filter(|(name, _)| *name != SUM) {
        crc.update(format!("/{name}/{}/", bytes.len()).as_bytes());
        crc.update(bytes);
    }
    crc.sum().to_be_bytes()
}

/// The content of the file; `field` is that of the metadata which holds the description. There is one only: of several the order
/// would be another each time.
///
/// # Errors
/// If there is more than a safetensors file can hold.
pub fn to_bytes(field: &str, text: String, mut tensors: Tensors) -> Result<Vec<u8>> {
    let sum = sum(&text, tensors.iter().map(|(name, stored)| (name.as_str(), stored.bytes.as_slice())));
    tensors.insert(SUM.into(), Stored::u8(&[sum.len()], sum.to_vec()));
    let views = tensors.iter().map(|(name, Stored { dtype, shape, bytes })| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (name, view.expect("bug: a tensor's size is not its shape's"))
    });
    safetensors::serialize(views, Some(HashMap::from([(field.to_string(), text)])))
        .map_err(|e| Error::Training(format!("the tensors cannot be serialised: {e}")))
}

/// The description in a file, or why there is none.
pub fn description(bytes: &[u8], field: &str) -> std::result::Result<String, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(field));
    text.cloned().ok_or_else(|| "its metadata do not say so".into())
}

/// The tensors of a file whose checksum is right; a stranger can have computed that, too.
pub struct Read<'a> {
    /// By name.
    pub tensors: BTreeMap<String, TensorView<'a>>,
    /// What is said of a file that is not what it should be, and why.
    pub damaged: &'a dyn Fn(&str) -> Error,
}

impl<'a> Read<'a> {
    /// Of the bytes of a file with this description.
    ///
    /// # Errors
    /// If they are not as they were written.
    pub fn of(bytes: &'a [u8], text: &str, damaged: &'a dyn Fn(&str) -> Error) -> Result<Read<'a>> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e.to_string()))?;
        let tensors: BTreeMap<String, TensorView> = file.tensors().into_iter().collect();
        let own = sum(text, tensors.iter().map(|(name, view)| (name.as_str(), view.data())));
        match tensors.get(SUM).is_some_and(|view| view.data() == own) {
            true => Ok(Read { tensors, damaged }),
            false => Err(damaged("its checksum is another one")),
        }
    }

    fn bytes(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [u8]> {
        match self.tensors.get(name) {
            Some(view) if view.dtype() == dtype && view.shape() == shape => Ok(view.data()),
            Some(view) => Err((self.damaged)(&format!(
                "'{name}' is {:?} {:?}, not {dtype:?} {shape:?}",
                view.dtype(),
                view.shape()
            ))),
            None => Err((self.damaged)(&format!("'{name}' is missing"))),
        }
    }

    /// The length of a tensor's first axis; 0 if there is no such tensor.
    pub fn len_of(&self, name: &str) -> usize {
        self.tensors.get(name).map_or(0, |view| view.shape().first().copied().unwrap_or(0))
    }

    /// Bytes.
    ///
    /// # Errors
    /// If there is no such tensor, or one of another kind or shape.
    pub fn u8(&self, name: &str, shape: &[usize]) -> Result<&'a [u8]> {
        self.bytes(name, Dtype::U8, shape)
    }

    /// Numbers.
    ///
    /// # Errors
    /// As [`Read::u8`]; if they are not finite.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(self.bytes(name, Dtype::F32, shape)?);
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err((self.damaged)(&format!("'{name}' holds numbers that are not finite"))),
        }
    }

    /// Every tensor of numbers whose name begins with `prefix`, under the rest of its name.
    ///
    /// # Errors
    /// As [`Read::f32`].
    pub fn all_f32(&self, prefix: &str) -> Result<Vec<(String, Vec<f32>)>> {
        let own = self.tensors.iter().filter_map(|(name, view)| Some((name, name.strip_prefix(prefix)?, view)));
        own.map(|(name, rest, view)| Ok((rest.to_string(), self.f32(name, view.shape())?))).collect()
    }

    /// `n` labels below `n_classes`.
    ///
    /// # Errors
    /// As [`Read::u8`]; if one is not below it.
    pub fn labels(&self, name: &str, n: usize, n_classes: usize) -> Result<Vec<u32>> {
        let labels: Vec<u32> = bytemuck::pod_collect_to_vec(self.bytes(name, Dtype::U32, &[n])?);
        match labels.iter().all(|&label| (label as usize) < n_classes) {
            true => Ok(labels),
            false => Err((self.damaged)("a picture is of a class that there is not")),
        }
    }

    /// `n` MD5s.
    ///
    /// # Errors
    /// As [`Read::u8`].
    pub fn digests(&self, name: &str, n: usize) -> Result<Vec<u128>> {
        let bytes = self.u8(name, &[n, DIGEST])?;
        let digest = |bytes: &[u8]| u128::from_be_bytes(bytes.try_into().expect("bug: a digest of another length"));
        Ok(bytes.chunks_exact(DIGEST).map(digest).collect())
    }
}
