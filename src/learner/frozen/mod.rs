//! Classifiers that learn from features of a network that does not change: exact statistics of what was seen.
//!
//! They see each picture once and in any order, and what a picture added can be taken away again: no class is forgotten when
//! another comes, and a class that is unlearned leaves nothing behind.
//!
//! Features are rows of D numbers on the host. Sums are kept in f64.

mod fecam;
mod ncm;
mod ranpac;

pub use fecam::Fecam;
pub use ncm::Ncm;
pub use ranpac::{LAMBDAS, Ranpac};

use crate::error::{Error, Result};
use crate::models::export::Head;
use crate::settings::choices;

/// A classifier that goes by statistics of features.
pub trait Statistics: Send {
    /// Adds pictures: n rows of D features and a label for each. A label may be new, and need not be the next one.
    ///
    /// # Errors
    /// If memory is short.
    fn learn(&mut self, features: &[f32], labels: &[u32]) -> Result<()>;

    /// Takes pictures away that were learned before, as if they had not been.
    ///
    /// # Errors
    /// As [`Statistics::learn`].
    fn unlearn(&mut self, features: &[f32], labels: &[u32]) -> Result<()>;

    /// Chooses settings by pictures that are learned next: fitted to the first `n_fit`, judged on the rest. Nothing is learned by that.
    ///
    /// # Errors
    /// If the features are not finite.
    fn choose(&mut self, _features: &[f32], _labels: &[u32], _n_fit: usize) -> Result<()> {
        Ok(())
    }

    /// Works out what [`Statistics::scores`] goes by, from what was learned until now.
    ///
    /// # Errors
    /// If the numbers are no statistics of features, such as one that is not finite.
    fn fit(&mut self) -> Result<()>;

    /// How well each class suits each row of features, the larger the better: (n, classes). −∞ for a class of which nothing is
    /// known.
    ///
    /// # Errors
    /// If nothing was fitted.
    fn scores(&self, features: &[f32]) -> Result<Vec<f32>>;

    /// Labels 0..n that were learned.
    fn n_classes(&self) -> usize;

    /// What [`Statistics::scores`] goes by, where it is dear to compute: n rows, one per class.
    fn weights(&self) -> Option<&[f32]> {
        None
    }

    /// The same as what [`Export`](crate::models::export::Export) writes behind a network, and whether it takes features of length 1.
    ///
    /// # Errors
    /// If nothing was fitted, or nothing is known of a class.
    fn head(&self) -> Result<(Head, bool)>;

    /// The means of classifiers that go by the nearest one: n rows of length 1, one per class.
    fn means(&self) -> Option<&[f32]> {
        None
    }

    /// What was learned, as named vectors: all that [`Statistics::fit`] goes by.
    fn kept(&self) -> Vec<(&'static str, Vec<f64>)>;

    /// Puts back a vector of [`Statistics::kept`].
    fn put_back(&mut self, name: &str, values: Vec<f64>);

    /// Bytes of what is kept.
    fn bytes(&self) -> u64 {
        8 * self.kept().iter().map(|(_, values)| values.len() as u64).sum::<u64>()
    }
}

choices! {
    /// Which of them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum FrozenKind {
        /// Ridge regression on random projections of features: best from some ten pictures a class on.
        Ranpac = "ranpac",
        /// Nearest class mean of features: best with very few pictures.
        Ncm = "ncm",
        /// Nearest class mean by each class's own covariance of features.
        Fecam = "fecam",
    }
}

impl FrozenKind {
    /// One that has seen nothing of features of D numbers. `seed` is that of random projections.
    ///
    /// # Errors
    /// If memory is short.
    pub fn build(self, d: usize, seed: u64) -> Result<Box<dyn Statistics>> {
        Ok(match self {
            FrozenKind::Ranpac => Box::new(Ranpac::new(d, Ranpac::PROJECTIONS, seed)?),
            FrozenKind::Ncm => Box::new(Ncm::new(d)),
            FrozenKind::Fecam => Box::new(Fecam::new(d)),
        })
    }
}

/// The place of the largest score of each row of `n_classes`.
pub fn answers(scores: &[f32], n_classes: usize) -> Vec<u32> {
    let best = |row: &[f32]| (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as u32;
    scores.chunks_exact(n_classes).map(best).collect()
}

/// Refuses vectors that are not those of so many classes: what is put back may come from anywhere.
fn check_lengths(name: &'static str, n_classes: usize, parts: &[(&[f64], usize)]) -> Result<()> {
    match parts.iter().all(|(values, per_class)| values.len() == n_classes * per_class) {
        true => Ok(()),
        false => Err(Error::op(name, format!("what is known of {n_classes} classes has other lengths"))),
    }
}

/// Adds `sign` times each row to the sum of its label, and counts it.
fn add_rows(sums: &mut Vec<f64>, counts: &mut Vec<f64>, width: usize, rows: &[f32], labels: &[u32], sign: f64) {
    let n_classes = labels.iter().map(|&label| label as usize + 1).max().unwrap_or(0).max(counts.len());
    sums.resize(n_classes * width, 0.0);
    counts.resize(n_classes, 0.0);
    for (row, &label) in rows.chunks_exact(width).zip(labels) {
        let label = label as usize;
        counts[label] += sign;
        for (sum, &x) in sums[label * width..(label + 1) * width].iter_mut().zip(row) {
            *sum += sign * f64::from(x);
        }
    }
}
