//! FeCAM: nearest class mean by Mahalanobis distance (Goswami et al., "FeCAM: Exploiting the Heterogeneity of Class Distributions
//! in Exemplar-Free Continual Learning", NeurIPS 2023).

use super::{Statistics, add_rows, check_lengths};
use crate::error::{Error, Result};
use crate::linalg::{Cholesky, Matrix};
use crate::models::export::Head;
use rayon::prelude::*;
use std::sync::Arc;

/// (x − μ)ᵀ·Σ⁻¹·(x − μ) with a mean and a covariance per class, over features brought nearer to a normal distribution by
/// ±√|x| (Tukey). A covariance S is shrunk to S + α₁·v·I + α₂·c·(1 − I), with v the mean of its diagonal and c that of the rest, and
/// divided by its standard deviations. A class with no more pictures than features goes by one covariance of all classes,
/// each around its own mean.
pub struct Fecam {
    d: usize,
    /// α₁ and α₂.
    alpha: [f64; 2],
    /// (classes, D).
    sums: Vec<f64>,
    counts: Vec<f64>,
    /// Σ x·xᵀ, (classes, D, D).
    products: Vec<f64>,
    fitted: Vec<Option<Class>>,
}

/// What a class is compared by.
struct Class {
    mean: Vec<f64>,
    /// Of the shrunk and normalised covariance.
    inverse: Arc<Matrix>,
}

/// A diagonal below this is that of a feature which is the same in all pictures.
const LEAST_VARIANCE: f64 = 1e-12;

/// What is added to a diagonal of ones first, where a matrix cannot be inverted.
const LEAST_MORE: f64 = 1e-9;

fn transformed(features: &[f32]) -> Vec<f32> {
    features.iter().map(|&x| x.signum() * x.abs().sqrt()).collect()
}

impl Fecam {
    /// One that has seen nothing of features of D numbers, with the paper's α = (1, 1).
    pub fn new(d: usize) -> Fecam {
        Fecam { d, alpha: [1.0, 1.0], sums: Vec::new(), counts: Vec::new(), products: Vec::new(), fitted: Vec::new() }
    }

    /// With these α₁ and α₂: larger ones for few pictures.
    pub fn with_alpha(self, alpha: [f64; 2]) -> Fecam {
        Fecam { alpha, ..self }
    }

    fn add(&mut self, features: &[f32], labels: &[u32], sign: f64) {
        let (d, rows) = (self.d, transformed(features));
        add_rows(&mut self.sums, &mut self.counts, d, &rows, labels, sign);
        self.products.resize(self.counts.len() * d * d, 0.0);
        // A class by one thread, in the order of its pictures.
        self.products.par_chunks_exact_mut(d * d).enumerate().for_each(|(class, products)| {
            for (row, _) in rows.chunks_exact(d).zip(labels).filter(|(_, label)| **label as usize == class) {
                for (i, products) in products.chunks_exact_mut(d).enumerate() {
                    let scale = sign * f64::from(row[i]);
                    products.iter_mut().zip(row).for_each(|(sum, &x)| *sum += scale * f64::from(x));
                }
            }
        });
    }

    fn mean(&self, class: usize) -> Vec<f64> {
        let n = self.counts[class];
        self.sums[class * self.d..(class + 1) * self.d].iter().map(|sum| sum / n).collect()
    }

    /// Σ (x − μ)(x − μ)ᵀ of a class.
    fn scatter(&self, class: usize) -> Vec<f64> {
        let (d, n, mean) = (self.d, self.counts[class], self.mean(class));
        let products = &self.products[class * d * d..(class + 1) * d * d];
        products.iter().enumerate().map(|(i, sum)| sum - n * mean[i / d] * mean[i % d]).collect()
    }

    /// The inverse of a covariance, shrunk and normalised.
    fn inverse(&self, mut covariance: Vec<f64>) -> Result<Arc<Matrix>> {
        let d = self.d;
        let diagonal = covariance.iter().step_by(d + 1).sum::<f64>();
        let rest = covariance.iter().sum::<f64>() - diagonal;
        let v = diagonal / d as f64;
        let c = if d > 1 { rest / (d * (d - 1)) as f64 } else { 0.0 };
        for (i, x) in covariance.iter_mut().enumerate() {
            *x += if i / d == i % d { self.alpha[0] * v.max(LEAST_VARIANCE) } else { self.alpha[1] * c };
        }
        let deviation: Vec<f64> = (0..d).map(|i| covariance[i * (d + 1)].sqrt()).collect();
        for (i, x) in covariance.iter_mut().enumerate() {
            *x /= deviation[i / d] * deviation[i % d];
        }
        // With very few pictures it may still be singular, or nearly so.
        let mut more = LEAST_MORE;
        loop {
            match Cholesky::new(&Matrix::new(d, d, covariance.clone())?) {
                Err(_) if more < 1.0 => covariance.iter_mut().step_by(d + 1).for_each(|x| *x += more),
                factor => return Ok(Arc::new(factor?.inverse())),
            }
            more *= 10.0;
        }
    }
}

impl Statistics for Fecam {
    fn learn(&mut self, features: &[f32], labels: &[u32]) -> Result<()> {
        self.add(features, labels, 1.0);
        Ok(())
    }

    fn unlearn(&mut self, features: &[f32], labels: &[u32]) -> Result<()> {
        self.add(features, labels, -1.0);
        Ok(())
    }

    fn fit(&mut self) -> Result<()> {
        check_lengths("fecam", self.counts.len(), &[(&self.sums, self.d), (&self.products, self.d * self.d)])?;
        let known: Vec<usize> = (0..self.counts.len()).filter(|&class| self.counts[class] > 0.0).collect();
        let few = |class: usize| self.counts[class] as usize <= self.d;
        let shared = match known.iter().any(|&class| few(class)) {
            true => {
                let mut all = vec![0.0; self.d * self.d];
                for &class in &known {
                    all.iter_mut().zip(self.scatter(class)).for_each(|(sum, x)| *sum += x);
                }
                let n: f64 = known.iter().map(|&class| self.counts[class]).sum();
                all.iter_mut().for_each(|sum| *sum /= n);
                Some(self.inverse(all)?)
            }
            false => None,
        };
        let class = |class: usize| -> Result<Option<Class>> {
            if self.counts[class] <= 0.0 {
                return Ok(None);
            }
            let inverse = match &shared {
                Some(shared) if few(class) => shared.clone(),
                _ => {
                    let n = self.counts[class] - 1.0;
                    self.inverse(self.scatter(class).into_iter().map(|sum| sum / n).collect())?
                }
            };
            Ok(Some(Class { mean: self.mean(class), inverse }))
        };
        self.fitted = (0..self.counts.len()).into_par_iter().map(class).collect::<Result<_>>()?;
        Ok(())
    }

    fn scores(&self, features: &[f32]) -> Result<Vec<f32>> {
        if self.fitted.is_empty() {
            return Err(Error::op("fecam", "nothing was fitted"));
        }
        let score = |row: &[f32]| {
            let x = transformed(row);
            let one = |class: &Option<Class>| match class {
                None => f32::NEG_INFINITY,
                Some(Class { mean, inverse }) => {
                    let offset: Vec<f64> = x.iter().zip(mean).map(|(&x, mean)| f64::from(x) - mean).collect();
                    let product = |i: usize| inverse.row(i).iter().zip(&offset).map(|(a, x)| a * x).sum::<f64>();
                    -offset.iter().enumerate().map(|(i, x)| x * product(i)).sum::<f64>() as f32
                }
            };
            self.fitted.iter().map(one).collect::<Vec<_>>()
        };
        Ok(features.par_chunks_exact(self.d).flat_map_iter(score).collect())
    }

    fn head(&self) -> Result<(Head, bool)> {
        let (mut means, mut factors) = (Vec::new(), Vec::new());
        for class in &self.fitted {
            let Some(Class { mean, inverse }) = class else {
                return Err(Error::op(
                    "fecam",
                    "nothing is known of a class, so that no distance to it can be written",
                ));
            };
            means.extend(mean.iter().map(|&x| x as f32));
            factors.extend(Cholesky::new(inverse)?.lower().values().iter().map(|&x| x as f32));
        }
        Ok((Head::Mahalanobis { means, factors }, false))
    }

    fn n_classes(&self) -> usize {
        self.counts.len()
    }

    fn kept(&self) -> Vec<(&'static str, Vec<f64>)> {
        let copies = [("sums", &self.sums), ("counts", &self.counts), ("products", &self.products)];
        copies.map(|(name, values)| (name, values.clone())).into()
    }

    fn put_back(&mut self, name: &str, values: Vec<f64>) {
        match name {
            "sums" => self.sums = values,
            "counts" => self.counts = values,
            "products" => self.products = values,
            _ => {}
        }
    }
}
