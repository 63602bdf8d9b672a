//! How well classes are told apart, judged on pictures that take no part in what judges them.

use crate::error::Result;
use crate::learner::frozen::{FrozenKind, Ranpac, Statistics, answers};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// With at most so many pictures each is judged by all others.
pub(super) const MOST_ONE_BY_ONE: usize = 1000;
/// Other classifiers than RanPAC are fitted once for each part that is left out: so many parts, if there are more pictures than
/// [`MOST_PARTS_OF_ONE`].
const PARTS: usize = 10;
const MOST_PARTS_OF_ONE: usize = 200;
/// Of a class one picture in so many is held out where there are many.
const HELD_OUT: usize = 5;

/// How pictures were judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judged {
    /// Each by all others.
    OneByOne,
    /// In ten parts, each by the other nine.
    InParts,
    /// A fifth of each class, at least one picture, by the rest.
    HeldOut,
}

/// How well classes are told apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// How pictures were judged. Those of classes with one picture were not.
    pub judged: Judged,
    /// Pictures judged.
    pub n: usize,
    /// Of them, answered right.
    pub n_right: usize,
    /// By label: pictures judged, and answered right.
    pub per_class: Vec<(usize, usize)>,
    /// What was taken for what, the most frequent first.
    pub confusions: Vec<Confusion>,
}

/// Pictures of one class that were taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// The label of the class.
    pub truth: usize,
    /// The label that was answered.
    pub answer: usize,
    /// How many.
    pub n: usize,
}

impl Estimate {
    /// From answers; labels are below `n_classes`.
    pub fn of(judged: Judged, n_classes: usize, truth: &[u32], answers: &[u32]) -> Estimate {
        let mut per_class = vec![(0, 0); n_classes];
        let mut confused: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        for (&truth, &answer) in truth.iter().zip(answers) {
            let (n, right) = &mut per_class[truth as usize];
            *n += 1;
            match truth == answer {
                true => *right += 1,
                false => *confused.entry((truth, answer)).or_default() += 1,
            }
        }
        let mut confusions: Vec<Confusion> = confused
            .into_iter()
            .map(|((truth, answer), n)| Confusion { truth: truth as usize, answer: answer as usize, n })
            .collect();
        confusions.sort_by_key(|one| std::cmp::Reverse(one.n));
        let n_right = per_class.iter().map(|(_, right)| right).sum();
        Estimate { judged, n: truth.len(), n_right, per_class, confusions }
    }

    /// Whether it can be one of so many classes.
    pub(super) fn fits(&self, n_classes: usize) -> bool {
        let labels = self.confusions.iter().flat_map(|one| [one.truth, one.answer]);
        self.per_class.len() == n_classes
            && self.n_right <= self.n
            && labels.max().is_none_or(|label| label < n_classes)
    }

    /// In 0..=1.
    pub fn accuracy(&self) -> f64 {
        self.n_right as f64 / self.n.max(1) as f64
    }

    /// The 95 % interval of the accuracy (Wilson 1927): with few pictures it is wide even where all were right.
    ///
    /// ```
    /// use engram::session::{Estimate, Judged};
    /// let four = Estimate::of(Judged::OneByOne, 2, &[0, 0, 1, 1], &[0, 0, 1, 1]);
    /// let (low, high) = four.interval();
    /// assert!(four.accuracy() == 1.0 && (low - 0.510).abs() < 0.001 && high == 1.0);
    /// ```
    pub fn interval(&self) -> (f64, f64) {
        const Z: f64 = 1.959_963_985;
        if self.n == 0 {
            return (0.0, 1.0);
        }
        let (n, p) = (self.n as f64, self.accuracy());
        let (middle, scale) = (p + Z * Z / (2.0 * n), 1.0 + Z * Z / n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        (((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
    }
}

/// What holding out came to.
pub(super) struct Trial {
    /// Of the kind asked for, with the settings that the held-out pictures chose; it has learned nothing.
    pub statistics: Box<dyn Statistics>,
    /// See [`Fitted`](super::Fitted).
    pub temperature: f64,
    pub estimate: Option<Estimate>,
}

/// Judges a kind of classifier on features (n rows of `d`) and their labels, and chooses its settings by that.
pub(super) fn hold_out(kind: FrozenKind, features: &[f32], labels: &[u32], d: usize, seed: u64) -> Result<Trial> {
    let n_classes = labels.iter().map(|&label| label as usize + 1).max().unwrap_or(0);
    let mut counts = vec![0; n_classes];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    if n_classes < 2 || counts.iter().all(|&n| n < 2) {
        return Ok(Trial { statistics: kind.build(d, seed)?, temperature: 1.0, estimate: None });
    }
    let (statistics, judged, places, scores) = match kind {
        FrozenKind::Ranpac => ranpac(features, labels, d, seed)?,
        _ => in_parts(kind, features, labels, d, seed)?,
    };
    // A picture that is the only one of its class cannot be judged.
    let fair: Vec<usize> = (0..places.len()).filter(|&i| counts[labels[places[i]] as usize] > 1).collect();
    let truth: Vec<u32> = fair.iter().map(|&i| labels[places[i]]).collect();
    let scores: Vec<f32> = fair.iter().flat_map(|&i| &scores[i * n_classes..(i + 1) * n_classes]).copied().collect();
    let estimate = Estimate::of(judged, n_classes, &truth, &answers(&scores, n_classes));
    let temperature = temperature(&scores, &truth, n_classes);
    Ok(Trial { statistics, temperature, estimate: Some(estimate) })
}

/// A classifier, how pictures were judged, which, and their scores.
type Judgement = (Box<dyn Statistics>, Judged, Vec<usize>, Vec<f32>);

fn ranpac(features: &[f32], labels: &[u32], d: usize, seed: u64) -> Result<Judgement> {
    let mut chosen = Ranpac::new(d, Ranpac::PROJECTIONS, seed)?;
    if labels.len() <= MOST_ONE_BY_ONE {
        let scores = chosen.leave_one_out(features, labels)?;
        return Ok((Box::new(chosen), Judged::OneByOne, (0..labels.len()).collect(), scores));
    }
    let held_out = parts(labels, HELD_OUT);
    let (mut fit, mut out): (Vec<usize>, Vec<usize>) = (0..labels.len()).partition(|&i| held_out[i] != 1);
    let n_fit = fit.len();
    fit.append(&mut out);
    let (rows, ordered) = picked(features, labels, d, &fit);
    let scores = chosen.choose_lambda(&rows, &ordered, n_fit)?;
    Ok((Box::new(chosen), Judged::HeldOut, fit.split_off(n_fit), scores))
}

fn in_parts(kind: FrozenKind, features: &[f32], labels: &[u32], d: usize, seed: u64) -> Result<Judgement> {
    let n = labels.len();
    let n_classes = labels.iter().map(|&label| label as usize + 1).max().unwrap_or(0);
    let one_by_one = n <= MOST_PARTS_OF_ONE;
    let part_of: Vec<usize> = if one_by_one { (0..n).collect() } else { parts(labels, PARTS) };
    let mut scores = vec![0.0; n * n_classes];
    for part in 0..if one_by_one { n } else { PARTS } {
        let (out, fit): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| part_of[i] == part);
        let (rows, ordered) = picked(features, labels, d, &fit);
        let mut statistics = kind.build(d, seed)?;
        statistics.learn(&rows, &ordered)?;
        statistics.fit()?;
        let of_part = statistics.scores(&picked(features, labels, d, &out).0)?;
        let width = statistics.n_classes();
        for (&i, row) in out.iter().zip(of_part.chunks_exact(width)) {
            let own = &mut scores[i * n_classes..(i + 1) * n_classes];
            own.fill(f32::NEG_INFINITY);
            own[..width].copy_from_slice(row);
        }
    }
    let judged = if one_by_one { Judged::OneByOne } else { Judged::InParts };
    Ok((kind.build(d, seed)?, judged, (0..n).collect(), scores))
}

/// A part in 0..n for each picture, those of a class spread evenly, from the first picture on.
fn parts(labels: &[u32], n: usize) -> Vec<usize> {
    let mut next: BTreeMap<u32, usize> = BTreeMap::new();
    let part = |label: &u32| {
        let next = next.entry(*label).or_default();
        *next += 1;
        (*next - 1) % n
    };
    labels.iter().map(part).collect()
}

fn picked(features: &[f32], labels: &[u32], d: usize, places: &[usize]) -> (Vec<f32>, Vec<u32>) {
    let rows = places.iter().flat_map(|&i| &features[i * d..(i + 1) * d]).copied().collect();
    (rows, places.iter().map(|&i| labels[i]).collect())
}

/// The T for which softmax(scores / T) says what happened best (Guo et al., "On Calibration of Modern Neural Networks", ICML
/// 2017), searched over log T. The target of the true class is (n + 1)/(n + 2) for n pictures, as in Platt's scaling (1999), and the
/// rest of it is shared by the others: a few pictures that were all answered right are no certainty.
pub(super) fn temperature(scores: &[f32], truth: &[u32], n_classes: usize) -> f64 {
    let n = truth.len() as f64;
    let (sure, rest) = ((n + 1.0) / (n + 2.0), 1.0 / (n + 2.0) / (n_classes as f64 - 1.0).max(1.0));
    let loss = |log_t: f64| {
        let t = log_t.exp();
        let rows = scores.chunks_exact(n_classes).zip(truth);
        let of_row = |(row, &truth): (&[f32], &u32)| {
            let logs = confidences(row, t).into_iter().map(|p| p.max(LEAST).ln()).enumerate();
            logs.map(|(class, log)| if class == truth as usize { sure * log } else { rest * log }).sum::<f64>()
        };
        -rows.map(of_row).sum::<f64>()
    };
    // By golden sections: the loss is convex in 1/T, so there is one minimum.
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (1e-4f64.ln(), 1e4f64.ln());
    for _ in 0..60 {
        let (a, b) = (high - ratio * (high - low), low + ratio * (high - low));
        if loss(a) <= loss(b) { high = b } else { low = a }
    }
    ((low + high) / 2.0).exp()
}

/// A confidence below this counts as this.
const LEAST: f64 = 1e-12;

/// softmax(scores / T) of one picture.
pub(super) fn confidences(scores: &[f32], temperature: f64) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers = scores.iter().map(|&score| (f64::from(score - largest) / temperature).exp());
    let powers: Vec<f64> = powers.map(|p| if p.is_nan() { 0.0 } else { p }).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_finds_the_odds() {
        // Scores differ by 1 and three of four answers are right. With targets of 5/6 and 1/6 the mean of the first class is
        // (3·5/6 + 1/6)/4 = 2/3 = 1/(1 + e^(−1/T)), so T = 1/ln 2.
        let scores = [1.0, 0.0].repeat(4);
        let t = temperature(&scores, &[0, 0, 0, 1], 2);
        assert!((t - 1.0 / 2f64.ln()).abs() < 1e-6, "{t}");
        let p = confidences(&[1.0, 0.0], t);
        assert!((p[0] - 2.0 / 3.0).abs() < 1e-6 && (p[0] + p[1] - 1.0).abs() < 1e-12);
        // A class of which nothing is known is never answered.
        assert_eq!(confidences(&[0.5, f32::NEG_INFINITY], 0.1), [1.0, 0.0]);
    }

    #[test]
    fn every_class_gives_up_a_part() {
        assert_eq!(parts(&[0, 0, 1, 0, 1], 2), [0, 1, 0, 0, 1]);
    }
}
