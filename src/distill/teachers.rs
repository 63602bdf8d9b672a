//! How teachers are asked, and what several of them say together.

use crate::error::{Error, Result};
use crate::ops::Mode;
use crate::settings::choices;
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};

choices! {
    /// What batch norms of a teacher go by. The teacher itself never changes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum TeacherMode {
        #[default]
        /// Their running statistics.
        Eval = "eval",
        /// Mean and variance of the batch; the running ones stay.
        BatchStatistics = "batch-statistics",
    }
}

impl From<TeacherMode> for Mode {
    fn from(mode: TeacherMode) -> Mode {
        match mode {
            TeacherMode::Eval => Mode::Eval,
            TeacherMode::BatchStatistics => Mode::Frozen,
        }
    }
}

choices! {
    /// What is averaged over several teachers.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum TeacherMean {
        #[default]
        /// softmax(z/T).
        Probabilities = "probabilities",
        /// z.
        Logits = "logits",
    }
}

/// Added to mean probabilities, so that one that underflowed has a logarithm.
const TINY: f32 = 1e-37;

/// Logits z whose softmax(z/T) is the mean of that of all teachers, or the mean of their logits. One teacher's own stay as
/// they are.
///
/// # Errors
/// If there is no teacher, or their shapes differ.
pub fn combined(teachers: &[Tensor], mean: TeacherMean, temperature: f32) -> Result<Tensor> {
    let [first, rest @ ..] = teachers else { return Err(Error::op("combined", "there is no teacher")) };
    if rest.is_empty() {
        return Ok(first.clone());
    }
    let of = |logits: &Tensor| match mean {
        TeacherMean::Logits => Ok(logits.clone()),
        TeacherMean::Probabilities => logits.softmax(temperature),
    };
    let mut sum = of(first)?;
    for logits in rest {
        sum = sum.add(&of(logits)?)?;
    }
    let sum = sum.scale(1.0 / teachers.len() as f32)?;
    if mean == TeacherMean::Logits {
        return Ok(sum);
    }
    let n_classes = sum.shape().rows_cols().1;
    let tiny = Tensor::from_f32(&sum.device(), [n_classes], &vec![TINY; n_classes])?;
    sum.bias_add(&tiny)?.log()?.scale(temperature)
}
