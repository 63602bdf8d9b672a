//! Means over seeds and what may be concluded from them.

use super::metrics::mean_sd;

/// Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom.
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The factor on a standard error that makes half a 95 % interval of a mean of `n` values; `None` for fewer than two.
pub fn t_95(n: usize) -> Option<f64> {
    (n >= 2).then(|| T_95.get(n - 2).copied().unwrap_or(1.96))
}

/// The mean of paired differences a_i − b_i with its 95 % interval by Student's t: (low, mean, high). With the same seeds the
/// runs share their initial weights and the order of their images, which the difference does not see. `None` for fewer than
/// two pairs.
///
/// ```
/// use engram::experiment::statistics::paired_difference;
/// // Differences 1, 2, 3: mean 2, deviation 1, standard error 1/√3, t = 4.303.
/// let (low, mean, high) = paired_difference(&[3.0, 5.0, 7.0], &[2.0, 3.0, 4.0]).unwrap();
/// assert!(mean == 2.0 && (high - 2.0 - 4.303 / 3f64.sqrt()).abs() < 1e-9 && (low + high - 4.0).abs() < 1e-9);
/// ```
pub fn paired_difference(a: &[f64], b: &[f64]) -> Option<(f64, f64, f64)> {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let half = t_95(differences.len())? / (differences.len() as f64).sqrt();
    let (mean, sd) = mean_sd(&differences);
    Some((mean - half * sd, mean, mean + half * sd))
}
