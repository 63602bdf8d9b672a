//! How products are computed, and what that asks of an adapter.

use super::adapters::Adapter;
use crate::error::{Error, Result};
use crate::settings::choices;
use serde::{Deserialize, Serialize};
use std::fmt;

choices! {
    /// How matrix products and convolutions are computed. Weights, activations, gradients, statistics and losses are f32 always.
    ///
    /// The units that [`Mixed`](Precision::Mixed) and [`Split`](Precision::Split) use multiply f16: numbers of 65,520 and more become
    /// infinite there, and what is smaller than 6·10⁻⁸ vanishes. Training scales gradients for that
    /// ([`Parameters::backward`](crate::nn::Parameters::backward)).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Precision {
        #[default]
        /// f32 throughout.
        Full = "full",
        /// Factors rounded to f16, products added up in f32: an error of about 3·10⁻⁴ of the result.
        Mixed = "mixed",
        /// Factors in two parts of f16, three products of which are added up in f32: an error of about 10⁻⁶, for numbers from
        /// 6·10⁻⁵ to 65,504. Smaller ones are off by up to 3·10⁻⁸.
        Split = "split",
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Full => "full",
            Precision::Mixed => "mixed",
            Precision::Split => "split",
        })
    }
}

/// Invocations that hold a small matrix together: what the kernels are written for.
const SUBGROUP: u32 = 32;
/// Rows and columns of a small matrix.
const SIDE: u32 = 16;

impl Adapter {
    /// What the adapter lacks for products of f16, in words; `None` if it has all.
    pub fn lacks_matrices(&self) -> Option<String> {
        use wgpu::CooperativeScalarType::{F16, F32};
        let features = self.raw.features();
        if !features.contains(wgpu::Features::SHADER_F16) {
            return Some("numbers of 16 bits (shader-f16)".into());
        }
        if !features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
            return Some("cooperative matrices".into());
        }
        let fits = |p: &wgpu::CooperativeMatrixProperties| {
            [p.m_size, p.n_size, p.k_size] == [SIDE; 3] && (p.ab_type, p.cr_type) == (F16, F32)
        };
        if !self.raw.cooperative_matrix_properties().iter().any(fits) {
            return Some(format!("cooperative matrices of {SIDE}×{SIDE} from f16 to f32"));
        }
        let subgroups = (self.info.subgroup_min_size, self.info.subgroup_max_size);
        if subgroups != (SUBGROUP, SUBGROUP) {
            let (least, most) = subgroups;
            return Some(format!("subgroups of {SUBGROUP} invocations (it has {least} to {most})"));
        }
        None
    }
}

/// The units for small matrices that products run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrices {
    /// Factors in two parts.
    pub split: bool,
    /// In plain WGSL, for tests.
    pub emulated: bool,
}

impl Matrices {
    /// Those of an adapter for this precision; a software adapter that stands in for hardware emulates them.
    ///
    /// # Errors
    /// If the adapter lacks something.
    pub(super) fn of(adapter: &Adapter, precision: Precision, as_hardware: bool) -> Result<Option<Matrices>> {
        if precision == Precision::Full {
            return Ok(None);
        }
        let split = precision == Precision::Split;
        if adapter.is_software() && as_hardware {
            return Ok(Some(Matrices { split, emulated: true }));
        }
        match adapter.lacks_matrices() {
            None => Ok(Some(Matrices { split, emulated: false })),
            Some(what) => Err(refusal(precision, &adapter.info.name, &format!("lacks {what}"))),
        }
    }
}

/// Why a device cannot compute so.
pub(super) fn refusal(precision: Precision, device: &str, why: &str) -> Error {
    Error::usage(format!(
        "--precision {precision} needs an adapter that multiplies matrices of f16: {device} {why}. `engram devices` \
         says which can; --precision full runs everywhere"
    ))
}
