//! RanPAC: ridge regression on random projections (McDonnell et al., "RanPAC: Random Projections and Pre-trained Models for
//! Continual Learning", NeurIPS 2023).

use super::{Statistics, add_rows};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::linalg::{Cholesky, Eigen, Matrix, symmetric_eigen};
use crate::models::export::Head;
use crate::rng::{Purpose, Rng};
use crate::tensor::Tensor;

/// The penalties λ that are tried, 10⁻⁸ to 10⁸.
pub const LAMBDAS: std::ops::RangeInclusive<i32> = -8..=8;

/// No larger penalty is tried where a smaller one cannot be solved with.
const LARGEST: f64 = 1e8;

/// Rows that are projected at a time.
const CHUNK: usize = 512;

/// h(x) = max(0, φ(x)·W) with W (D, M) normal and fixed; the scores are h·V, where V (M, classes) minimises
/// Σ‖h(x)·V − onehot(y)‖² + λ‖V‖² over everything learned: V = (G + λI)⁻¹Q with G = Σ hᵀh and Q = Σ hᵀ·onehot(y).
pub struct Ranpac {
    d: usize,
    m: usize,
    /// (M, D), on the CPU.
    projection: Tensor,
    /// G, (M, M).
    gram: Vec<f64>,
    /// Qᵀ, (classes, M).
    sums: Vec<f64>,
    counts: Vec<f64>,
    /// λ.
    pub lambda: f64,
    /// Vᵀ, (classes, M).
    weights: Vec<f32>,
}

impl Ranpac {
    /// M: the paper has 10,000 for 768 features.
    pub const PROJECTIONS: usize = 2000;

    /// One that has seen nothing of features of D numbers, with M projections.
    ///
    /// # Errors
    /// If memory is short.
    pub fn new(d: usize, m: usize, seed: u64) -> Result<Ranpac> {
        let mut rng = Rng::keyed(seed, Purpose::Projection, 0);
        let values: Vec<f32> = (0..m * d).map(|_| rng.normal()).collect();
        let projection = Tensor::from_f32(&Device::cpu(), [m, d], &values)?;
        Ok(Ranpac {
            d,
            m,
            projection,
            gram: vec![0.0; m * m],
            sums: Vec::new(),
            counts: Vec::new(),
            lambda: 1.0,
            weights: Vec::new(),
        })
    }

    /// With weights that were fitted before, for [`Statistics::scores`] alone.
    pub fn with_weights(mut self, weights: Vec<f32>) -> Ranpac {
        self.counts = vec![1.0; weights.len() / self.m];
        self.weights = weights;
        self
    }

    /// h of rows of features, (n, M).
    fn projected(&self, features: &[f32]) -> Result<Tensor> {
        let rows = Tensor::from_f32(&Device::cpu(), [features.len() / self.d, self.d], features)?;
        rows.linear(&self.projection, None)?.relu()
    }

    fn add(&mut self, features: &[f32], labels: &[u32], sign: f64) -> Result<()> {
        for (features, labels) in features.chunks(CHUNK * self.d).zip(labels.chunks(CHUNK)) {
            let h = self.projected(features)?.to_vec()?;
            let product = Matrix::new(labels.len(), self.m, h.iter().map(|&x| f64::from(x)).collect())?.gram();
            self.gram.iter_mut().zip(product.values()).for_each(|(sum, x)| *sum += sign * x);
            add_rows(&mut self.sums, &mut self.counts, self.m, &h, labels, sign);
        }
        Ok(())
    }

    /// Vᵀ for a penalty.
    fn solved(&self, lambda: f64) -> Result<Vec<f32>> {
        let gram = with_diagonal(&self.gram, self.m, lambda)?;
        let sums = Matrix::new(self.counts.len(), self.m, self.sums.clone())?;
        let solution = Cholesky::new(&gram)?.solve(&sums.transposed())?.transposed();
        Ok(solution.values().iter().map(|&x| x as f32).collect())
    }

    /// Chooses λ as the authors' code does: the one of [`LAMBDAS`] with the smallest mean squared error on the pictures from
    /// number `n_fit` on, for weights that are fitted to the ones before. What was learned before is not looked at. Returns the scores
    /// of the former, (n − n_fit, classes).
    ///
    /// # Errors
    /// If the features are not finite.
    pub fn choose_lambda(&mut self, features: &[f32], labels: &[u32], n_fit: usize) -> Result<Vec<f32>> {
        let n_classes = labels.iter().map(|&label| label as usize + 1).max().unwrap_or(0);
        let mut trial = Ranpac {
            gram: vec![0.0; self.m * self.m],
            sums: Vec::new(),
            counts: Vec::new(),
            weights: Vec::new(),
            projection: self.projection.clone(),
            ..*self
        };
        trial.add(&features[..n_fit * self.d], &labels[..n_fit], 1.0)?;
        add_rows(&mut trial.sums, &mut trial.counts, self.m, &[], &[n_classes.saturating_sub(1) as u32], 0.0);
        let (mut best, mut kept) = (f64::INFINITY, Vec::new());
        for exponent in LAMBDAS {
            let lambda = 10f64.powi(exponent);
            // Too small a penalty leaves a matrix that cannot be solved with: not a candidate.
            let Ok(weights) = trial.solved(lambda) else { continue };
            trial.weights = weights;
            let scores = trial.scores(&features[n_fit * self.d..])?;
            let error = squared_error(&scores, &labels[n_fit..], n_classes);
            if error < best {
                (best, self.lambda, kept) = (error, lambda, scores);
            }
        }
        match best.is_finite() {
            true => Ok(kept),
            false => Err(Error::Training("the features of these pictures are no finite numbers".into())),
        }
    }

    /// The scores of each picture by weights that were fitted to all others, (n, classes), for the λ whose scores have the smallest
    /// mean squared error, which is kept: leave-one-out in closed form. With K = HHᵀ and A = (K + λI)⁻¹ the residual of picture
    /// i is (A·onehot(y))ᵢ / Aᵢᵢ. Takes n³ operations.
    ///
    /// # Errors
    /// If the features are not finite.
    pub fn leave_one_out(&mut self, features: &[f32], labels: &[u32]) -> Result<Vec<f32>> {
        let n = labels.len();
        let n_classes = labels.iter().map(|&label| label as usize + 1).max().unwrap_or(0);
        let h = self.projected(features)?;
        let kernel = h.matmul_transposed(false, &h, true)?.to_vec()?.into_iter().map(f64::from).collect();
        let Eigen { values, vectors } = symmetric_eigen(&Matrix::new(n, n, kernel)?)?;
        let target = |i: usize, class: usize| f64::from(u8::from(labels[i] as usize == class));
        let rotated = vectors.transposed().times(&Matrix::from_fn(n, n_classes, target))?;
        let least = values.last().copied().unwrap_or(0.0) * n as f64 * f64::EPSILON;
        let (mut best, mut kept) = (f64::INFINITY, Vec::new());
        for exponent in LAMBDAS {
            let lambda = 10f64.powi(exponent);
            // Where λ drowns in the rounding errors of K, nothing can be said.
            if lambda <= least {
                continue;
            }
            let scaled = Matrix::from_fn(n, n, |i, k| vectors.at(i, k) / (values[k].max(0.0) + lambda));
            let alpha = scaled.times(&rotated)?;
            let own = |i: usize| scaled.row(i).iter().zip(vectors.row(i)).map(|(a, b)| a * b).sum::<f64>();
            let scores: Vec<f32> = (0..n)
                .flat_map(|i| {
                    let (own, alpha) = (own(i), &alpha);
                    (0..n_classes).map(move |class| (target(i, class) - alpha.at(i, class) / own) as f32)
                })
                .collect();
            let error = squared_error(&scores, labels, n_classes);
            if error < best {
                (best, self.lambda, kept) = (error, lambda, scores);
            }
        }
        match best.is_finite() {
            true => Ok(kept),
            false => Err(Error::Training("the features of these pictures are no finite numbers".into())),
        }
    }
}

/// A + λI of a matrix of order n.
fn with_diagonal(matrix: &[f64], n: usize, lambda: f64) -> Result<Matrix> {
    let mut values = matrix.to_vec();
    values.iter_mut().step_by(n + 1).for_each(|diagonal| *diagonal += lambda);
    Matrix::new(n, n, values)
}

/// ‖scores − onehot(label)‖² over the classes that are known, the mean over rows.
fn squared_error(scores: &[f32], labels: &[u32], n_classes: usize) -> f64 {
    let rows = scores.chunks_exact(n_classes).zip(labels);
    let of_row = |(row, &label): (&[f32], &u32)| {
        let target = |class| if class == label as usize { 1.0 } else { 0.0 };
        let known = row.iter().enumerate().filter(|(_, score)| **score != f32::NEG_INFINITY);
        known.map(|(class, &score)| (f64::from(score) - target(class)).powi(2)).sum::<f64>()
    };
    rows.map(of_row).sum::<f64>() / labels.len() as f64
}

impl Statistics for Ranpac {
    fn learn(&mut self, features: &[f32], labels: &[u32]) -> Result<()> {
        self.add(features, labels, 1.0)
    }

    fn unlearn(&mut self, features: &[f32], labels: &[u32]) -> Result<()> {
        self.add(features, labels, -1.0)
    }

    fn choose(&mut self, features: &[f32], labels: &[u32], n_fit: usize) -> Result<()> {
        match n_fit < labels.len() {
            true => self.choose_lambda(features, labels, n_fit).map(drop),
            false => Ok(()),
        }
    }

    fn fit(&mut self) -> Result<()> {
        // Pictures that are nearly the same ask for a penalty so small that nothing can be solved with it.
        loop {
            match self.solved(self.lambda) {
                Err(_) if self.lambda < LARGEST => self.lambda *= 10.0,
                weights => {
                    self.weights = weights?;
                    return Ok(());
                }
            }
        }
    }

    fn scores(&self, features: &[f32]) -> Result<Vec<f32>> {
        let n_classes = self.weights.len() / self.m;
        if n_classes == 0 {
            return Err(Error::op("ranpac", "nothing was fitted"));
        }
        let weights = Tensor::from_f32(&Device::cpu(), [n_classes, self.m], &self.weights)?;
        let mut scores = Vec::with_capacity(features.len() / self.d * n_classes);
        for features in features.chunks(CHUNK * self.d) {
            scores.extend(self.projected(features)?.linear(&weights, None)?.to_vec()?);
        }
        let unknown = |i: usize| self.counts[i % n_classes] == 0.0;
        scores.iter_mut().enumerate().filter(|(i, _)| unknown(*i)).for_each(|(_, score)| *score = f32::NEG_INFINITY);
        Ok(scores)
    }

    fn n_classes(&self) -> usize {
        self.counts.len()
    }

    fn head(&self) -> Result<(Head, bool)> {
        let (projection, weight) = (self.projection.to_vec()?, self.weights.clone());
        Ok((Head::Ranpac { projection, weight }, false))
    }

    /// Vᵀ, (classes, M).
    fn weights(&self) -> Option<&[f32]> {
        Some(&self.weights)
    }

    fn kept(&self) -> Vec<(&'static str, Vec<f64>)> {
        let copies = [("gram", &self.gram), ("sums", &self.sums), ("counts", &self.counts)];
        copies.map(|(name, values)| (name, values.clone())).into_iter().chain([("lambda", vec![self.lambda])]).collect()
    }

    fn put_back(&mut self, name: &str, values: Vec<f64>) {
        match name {
            "gram" => self.gram = values,
            "sums" => self.sums = values,
            "counts" => self.counts = values,
            "lambda" => self.lambda = values.first().copied().unwrap_or(self.lambda),
            _ => {}
        }
    }

    fn bytes(&self) -> u64 {
        8 * (self.gram.len() + self.sums.len() + self.counts.len()) as u64 + 4 * (self.m * self.d) as u64
    }
}
