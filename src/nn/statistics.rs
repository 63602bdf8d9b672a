//! The running means and variances of all batch norms of a model, in one flat buffer.

use crate::device::{self, Array, DType, Device};
use crate::error::{Error, Result};

/// Words between starts of slices.
const ALIGNMENT: usize = 64;

/// Running statistics: for each batch norm C means, then C variances.
pub struct Statistics {
    device: Device,
    /// Name of the layer, as PyTorch would have it, and its channels.
    norms: Vec<(String, usize)>,
    /// `None` for a model without batch norm.
    values: Option<Array>,
    slices: Vec<Array>,
}

impl Statistics {
    /// Means 0 and variances 1 for norms of these names and numbers of channels.
    pub fn new(device: &Device, norms: Vec<(String, usize)>) -> Result<Statistics> {
        let mut values = Vec::new();
        for &(_, c) in &norms {
            values.extend(std::iter::repeat_n(0.0, c));
            values.extend(std::iter::repeat_n(1.0, c));
            values.resize(values.len().next_multiple_of(ALIGNMENT), 0.0);
        }
        let values = if norms.is_empty() { None } else { Some(Array::from_f32(device, [values.len()], &values)?) };
        Self::over(device.clone(), norms, values)
    }

    fn over(device: Device, norms: Vec<(String, usize)>, values: Option<Array>) -> Result<Statistics> {
        let mut slices = Vec::new();
        let mut offset = 0;
        if let Some(values) = &values {
            for &(_, c) in &norms {
                slices.push(values.slice(offset, [2, c])?);
                offset = (offset + 2 * c).next_multiple_of(ALIGNMENT);
            }
        }
        Ok(Statistics { device, norms, values, slices })
    }

    /// A copy that goes its own way.
    pub fn snapshot(&self) -> Result<Statistics> {
        let copy = match &self.values {
            None => None,
            Some(values) => {
                let copy = Array::empty(&self.device, values.shape(), DType::F32)?;
                device::copy(values, &copy)?;
                Some(copy)
            }
        };
        Self::over(self.device.clone(), self.norms.clone(), copy)
    }

    /// One array (2, C) per batch norm, in order of declaration.
    pub fn arrays(&self) -> &[Array] {
        &self.slices
    }

    /// All values with padding; `None` for a model without batch norm.
    pub fn values(&self) -> Option<&Array> {
        self.values.as_ref()
    }

    /// Bytes of the flat buffer.
    pub fn bytes(&self) -> u64 {
        self.values.as_ref().map_or(0, |values| 4 * values.n_elements() as u64)
    }

    /// Names and host copies, under PyTorch's names `….running_mean` and `….running_var`.
    pub fn to_host(&self) -> Result<Vec<(String, Vec<f32>)>> {
        let mut host = Vec::new();
        for ((name, c), slice) in self.norms.iter().zip(&self.slices) {
            let values = slice.to_vec()?;
            host.push((format!("{name}.running_mean"), values[..*c].to_vec()));
            host.push((format!("{name}.running_var"), values[*c..].to_vec()));
        }
        Ok(host)
    }

    /// Overwrites the values by `values`, in the order of [`Statistics::to_host`].
    ///
    /// # Errors
    /// If a list has another length.
    pub fn set(&self, values: &[Vec<f32>]) -> Result<()> {
        if values.len() != 2 * self.slices.len() {
            return Err(Error::op("running statistics", "one mean and one variance per batch norm are needed"));
        }
        for (slice, pair) in self.slices.iter().zip(values.chunks_exact(2)) {
            slice.write(&pair.concat())?;
        }
        Ok(())
    }
}
