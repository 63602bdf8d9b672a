//! Losses made of named, weighted terms.

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A named part of a loss.
pub struct Term {
    /// Shown where the parts of a loss are shown.
    pub name: &'static str,
    /// What the value is multiplied with in the total.
    pub weight: f32,
    /// Shape \[1\].
    pub value: Tensor,
}

impl Term {
    /// weight · value.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn weighted(&self) -> Result<Tensor> {
        if self.weight == 1.0 { Ok(self.value.clone()) } else { self.value.scale(self.weight) }
    }
}

/// Weighted, named terms.
pub struct Loss(pub Vec<Term>);

impl Loss {
    /// A loss of one term of weight 1.
    pub fn single(name: &'static str, value: Tensor) -> Loss {
        Loss(vec![Term { name, weight: 1.0, value }])
    }

    /// A term more.
    pub fn and(mut self, name: &'static str, weight: f32, value: Tensor) -> Loss {
        self.0.push(Term { name, weight, value });
        self
    }

    /// Σ weight · value.
    ///
    /// # Errors
    /// If there is no term, or one is no single number.
    pub fn total(&self) -> Result<Tensor> {
        let mut total: Option<Tensor> = None;
        for term in &self.0 {
            let value = term.weighted()?;
            total = Some(match total {
                Some(total) => total.add(&value)?,
                None => value,
            });
        }
        total.ok_or_else(|| Error::op("loss", "a loss without terms"))
    }
}
