//! Means over seeds and what may be concluded from them.

use super::metrics::mean_sd;

/// Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom.
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The factor on a standard error that makes half a 95 % interval of a mean of `n` values; `None` for fewer than two.
pub fn t_95(n: usize) -> Option<f64> {
    let degrees = n.checked_sub(1).filter(|degrees| *degrees > 0)?;
    Some(T_95.get(degrees - 1).copied().unwrap_or_else(|| t_95_of_many(degrees as f64)))
}

/// The quantile by its expansion around that of the normal distribution (Abramowitz & Stegun, 26.7.5): from 31 degrees of
/// freedom on its error is below 1e-5.
fn t_95_of_many(degrees: f64) -> f64 {
    let z: f64 = 1.959_963_985;
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / degrees + second / degrees.powi(2) + third / degrees.powi(3)
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

#[cfg(test)]
mod tests {
    use super::t_95;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        assert_eq!([0, 1].map(t_95), [None, None]);
        let known = [(2, 12.706), (31, 2.042), (32, 2.0395), (41, 2.0211), (61, 2.0003), (121, 1.9799), (1001, 1.9623)];
        for (n, t) in known {
            assert!((t_95(n).unwrap() - t).abs() < 1e-4, "{n}: {:?}", t_95(n));
        }
    }
}
