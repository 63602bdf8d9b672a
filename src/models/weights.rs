//! Files of weights, wherever they are from: names with a prefix, numbers of other sizes, tensors that belong to another network.

use crate::error::{Error, Result};
use crate::shape::Shape;
use safetensors::tensor::{Dtype, SafeTensors};
use std::collections::BTreeSet;
use std::path::Path;

/// Left-over tensors that a message names.
const NAMED: usize = 4;
/// PyTorch's count of the batches that a batch norm has seen, which nothing here goes by.
const COUNTER: &str = "num_batches_tracked";

/// A file of which tensors are read one by one.
pub(super) struct WeightFile<'a> {
    path: &'a Path,
    file: SafeTensors<'a>,
    /// Before every name.
    prefix: String,
    converted: BTreeSet<String>,
    read: BTreeSet<String>,
}

impl<'a> WeightFile<'a> {
    /// A file's tensors. If none of the names is in it as it is, but all are behind one and the same prefix, that is left out.
    pub(super) fn open(
        path: &'a Path,
        bytes: &'a [u8],
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<WeightFile<'a>> {
        let file =
            SafeTensors::deserialize(bytes).map_err(|e| Error::file(path, format!("no safetensors file: {e}")))?;
        let holds = |prefix: &str, name: &str| file.tensor(&format!("{prefix}{name}")).is_ok();
        let prefix_of = |name: &'a str| file.names().into_iter().filter_map(move |own| own.strip_suffix(name));
        let mut prefix = String::new();
        if let Some(first) = names.clone().next()
            && !names.clone().any(|name| holds("", name))
        {
            let prefixes = prefix_of(first).filter(|prefix| prefix.ends_with('.'));
            let common = prefixes.filter(|prefix| names.clone().all(|name| holds(prefix, name))).min();
            prefix = common.unwrap_or_default().to_string();
        }
        Ok(WeightFile { path, file, prefix, converted: BTreeSet::new(), read: BTreeSet::new() })
    }

    /// The numbers of a tensor, as f32.
    pub(super) fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let refuse = |why: String| Err(Error::file(self.path, why));
        let full = format!("{}{name}", self.prefix);
        let Ok(view) = self.file.tensor(&full) else { return refuse(format!("the tensor '{name}' is missing")) };
        if view.shape() != shape {
            let own = Shape::new(shape)?;
            return refuse(format!("'{name}' has shape {:?} in the file and {own} in the model", view.shape()));
        }
        let Some(values) = as_f32(view.dtype(), view.data()) else {
            return refuse(format!(
                "'{name}' holds {:?}, which are no weights: F32, F16, BF16 and F64 are",
                view.dtype()
            ));
        };
        if values.iter().any(|value| !value.is_finite()) {
            return refuse(format!(
                "'{name}' holds numbers that are not finite: the training that made the file diverged"
            ));
        }
        if name.ends_with("running_var") && values.iter().any(|&variance| variance < 0.0) {
            return refuse(format!("'{name}' holds negative variances"));
        }
        if view.dtype() != Dtype::F32 {
            self.converted.insert(format!("{:?}", view.dtype()));
        }
        self.read.insert(full);
        Ok(values)
    }

    /// Refuses a file that has more than what was read and what is called `others`: it is one of another network.
    pub(super) fn nothing_is_left(&self, model: &str, others: &[String]) -> Result<()> {
        let mut left: Vec<&str> = self.file.names();
        let is_other = |name: &str| others.iter().any(|other| name.strip_prefix(&self.prefix) == Some(other));
        left.retain(|name| !self.read.contains(*name) && !name.ends_with(COUNTER) && !is_other(name));
        left.sort_unstable();
        if left.is_empty() {
            return Ok(());
        }
        let more = if left.len() > NAMED { format!(" and {} more", left.len() - NAMED) } else { String::new() };
        let named: Vec<String> = left.iter().take(NAMED).map(|name| format!("'{name}'")).collect();
        let message = format!(
            "holds tensors that {model} does not have, {}{more}: it is a file of another network",
            named.join(", ")
        );
        Err(Error::file(self.path, message))
    }

    /// What was not as it would be in a file of our own.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.prefix.is_empty() {
            notes.push(format!("names without '{}'", self.prefix));
        }
        if !self.converted.is_empty() {
            let from: Vec<&str> = self.converted.iter().map(String::as_str).collect();
            notes.push(format!("numbers converted from {}", from.join(" and ")));
        }
        notes
    }
}

fn as_f32(dtype: Dtype, data: &[u8]) -> Option<Vec<f32>> {
    let halves = || data.chunks_exact(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    match dtype {
        Dtype::F32 => Some(bytemuck::pod_collect_to_vec::<u8, f32>(data)),
        Dtype::F64 => Some(bytemuck::pod_collect_to_vec::<u8, f64>(data).into_iter().map(|x| x as f32).collect()),
        Dtype::BF16 => Some(halves().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect()),
        Dtype::F16 => Some(halves().map(half).collect()),
        _ => None,
    }
}

/// The number of IEEE's binary16: a sign, five bits of exponent, ten of the fraction.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (bits >> 10 & 31, f32::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(i32::from(exponent) - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::half;

    #[test]
    fn halves_by_hand() {
        let numbers = [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65_504.0),
            (0x0400, 2f32.powi(-14)),
            (0x0001, 2f32.powi(-24)),
            (0x3555, 0.333_251_95),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, number) in numbers {
            assert_eq!(half(bits).to_bits(), f32::to_bits(number), "{bits:#x}");
        }
        assert!(half(0x7e00).is_nan());
    }
}
