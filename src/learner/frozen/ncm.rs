//! Nearest class mean (SimpleCIL: Zhou et al., "Revisiting class-incremental learning with pre-trained models", 2023).

use super::{Statistics, add_rows, check_lengths};
use crate::error::Result;
use crate::models::export::Head;
use rayon::prelude::*;

/// Cosine similarity to the mean of each class's features. Features are brought to length 1 before they are averaged, as in
/// iCaRL; SimpleCIL averages them as they are.
pub struct Ncm {
    d: usize,
    /// (classes, D).
    sums: Vec<f64>,
    counts: Vec<f64>,
    /// Of length 1, (classes, D).
    means: Vec<f32>,
}

impl Ncm {
    /// One that has seen nothing of features of D numbers.
    pub fn new(d: usize) -> Ncm {
        Ncm { d, sums: Vec::new(), counts: Vec::new(), means: Vec::new() }
    }

    fn add(&mut self, features: &[f32], labels: &[u32], sign: f64) {
        let unit: Vec<f32> = features.chunks_exact(self.d).flat_map(unit).collect();
        add_rows(&mut self.sums, &mut self.counts, self.d, &unit, labels, sign);
    }
}

/// A vector of length 1; zero stays zero.
fn unit(row: &[f32]) -> Vec<f32> {
    let length = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    row.iter().map(|&x| if length > 0.0 { (f64::from(x) / length) as f32 } else { 0.0 }).collect()
}

impl Statistics for Ncm {
    fn learn(&mut self, features: &[f32], labels: &[u32]) -> Result<()> {
        self.add(features, labels, 1.0);
        Ok(())
    }

    fn unlearn(&mut self, features: &[f32], labels: &[u32]) -> Result<()> {
        self.add(features, labels, -1.0);
        Ok(())
    }

    fn fit(&mut self) -> Result<()> {
        check_lengths("ncm", self.counts.len(), &[(&self.sums, self.d)])?;
        let rows = self.sums.chunks_exact(self.d);
        self.means = rows.flat_map(|row| unit(&row.iter().map(|&sum| sum as f32).collect::<Vec<_>>())).collect();
        Ok(())
    }

    fn scores(&self, features: &[f32]) -> Result<Vec<f32>> {
        let score = |row: &[f32]| {
            let x = unit(row);
            let means = self.means.chunks_exact(self.d).zip(&self.counts);
            let cosine = |mean: &[f32]| x.iter().zip(mean).map(|(x, mean)| x * mean).sum::<f32>();
            means.map(|(mean, &n)| if n > 0.0 { cosine(mean) } else { f32::NEG_INFINITY }).collect::<Vec<_>>()
        };
        Ok(features.par_chunks_exact(self.d).flat_map_iter(score).collect())
    }

    fn n_classes(&self) -> usize {
        self.counts.len()
    }

    fn head(&self) -> Result<(Head, bool)> {
        Ok((Head::NearestMean { means: self.means.clone() }, true))
    }

    fn means(&self) -> Option<&[f32]> {
        Some(&self.means)
    }

    fn kept(&self) -> Vec<(&'static str, Vec<f64>)> {
        vec![("sums", self.sums.clone()), ("counts", self.counts.clone())]
    }

    fn put_back(&mut self, name: &str, values: Vec<f64>) {
        match name {
            "sums" => self.sums = values,
            "counts" => self.counts = values,
            _ => {}
        }
    }
}
