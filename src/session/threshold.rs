//! How near a picture must be to a known one to be of a known class at all.

use crate::device::Device;
use crate::error::Result;
use crate::tensor::Tensor;

/// One known picture in so many is less similar to every other than the rest.
const STRANGE: f64 = 0.05;
/// Pictures from which a threshold can be set.
const LEAST: usize = 20;
/// Pictures that the threshold is set by.
const MOST: usize = 2000;
/// Rows of a product of similarities.
const CHUNK: usize = 256;
/// The part of the angle to another class that is still near.
const NEAR: f32 = 0.5;
/// The angle that is near where there is no other class, in radians.
const ALONE: f32 = 0.1;
/// Cosines of the same vector differ by less.
const ROUNDING: f32 = 1e-5;

/// Calls `f` with the number of each row of `features` and its cosines with all rows of `known`; rows have `d` numbers.
fn for_cosines(known: &[f32], features: &[f32], d: usize, mut f: impl FnMut(usize, &[f32])) -> Result<()> {
    let unit = |rows: &[f32]| Tensor::from_f32(&Device::cpu(), [rows.len() / d, d], rows)?.l2_normalize();
    let (known, n_known) = (unit(known)?, known.len() / d);
    for (chunk, rows) in features.chunks(CHUNK * d).enumerate() {
        let cosines = unit(rows)?.linear(&known, None)?.to_vec()?;
        cosines.chunks_exact(n_known).enumerate().for_each(|(i, row)| f(chunk * CHUNK + i, row));
    }
    Ok(())
}

/// The place of the largest number among those that may be looked at, and it; the first of equal ones.
fn largest(row: &[f32], may: impl Fn(usize) -> bool) -> Option<(usize, f32)> {
    let places = (0..row.len()).filter(|&place| may(place));
    places.reduce(|best, place| if row[place] > row[best] { place } else { best }).map(|best| (best, row[best]))
}

/// The place of the most similar row of `known` for each row of `features`, and the cosine between them.
pub(super) fn nearest(known: &[f32], features: &[f32], d: usize) -> Result<Vec<(usize, f32)>> {
    let mut found = Vec::with_capacity(features.len() / d);
    for_cosines(known, features, d, |_, row| found.push(largest(row, |_| true).unwrap_or((0, -1.0))))?;
    Ok(found)
}

/// The similarity below which a picture is none of the classes; -1 where there are too few pictures to tell.
///
/// As a rule 95 % of known pictures are as similar to the nearest other one (Sun et al., "Out-of-Distribution Detection with Deep
/// Nearest Neighbors", ICML 2022). Pictures that are nearly the same, such as those of one film, would make that a similarity which no
/// other picture has: what is nearer to a known picture than half the angle to another class is never turned away.
///
/// With `judges`, places of pictures that others were learned without: only they are asked, and the others are what they are compared
/// with.
pub(super) fn threshold(features: &[f32], labels: &[u32], d: usize, judges: Option<&[usize]>) -> Result<f32> {
    let all: Vec<usize> = (0..labels.len()).collect();
    let asked = judges.unwrap_or(&all);
    if asked.len() < LEAST {
        return Ok(-1.0);
    }
    let asked: Vec<usize> = asked.iter().copied().step_by(asked.len().div_ceil(MOST)).collect();
    let rows: Vec<f32> = asked.iter().flat_map(|&i| &features[i * d..(i + 1) * d]).copied().collect();
    let mut is_judge = vec![false; labels.len()];
    judges.into_iter().flatten().for_each(|&place| is_judge[place] = true);
    let (mut to_any, mut to_others) = (Vec::new(), Vec::new());
    for_cosines(features, &rows, d, |i, row| {
        let (own, may) = (asked[i], |place: usize| place != asked[i] && !is_judge[place]);
        to_any.extend(largest(row, may).map(|(_, cosine)| cosine));
        to_others.extend(largest(row, |place| may(place) && labels[place] != labels[own]).map(|(_, cosine)| cosine));
    })?;
    let Some(usual) = quantile(to_any, STRANGE) else { return Ok(-1.0) };
    let near = quantile(to_others, 1.0 - STRANGE).map_or(ALONE, |cosine| NEAR * cosine.clamp(-1.0, 1.0).acos());
    Ok(usual.min(near.cos()) - ROUNDING)
}

/// The number below which this part of them lies.
fn quantile(mut numbers: Vec<f32>, part: f64) -> Option<f32> {
    numbers.sort_by(f32::total_cmp);
    numbers.get(((part * numbers.len() as f64) as usize).min(numbers.len().saturating_sub(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A direction of the plane.
    fn at(degrees: f32) -> [f32; 2] {
        let angle = degrees.to_radians();
        [angle.cos(), angle.sin()]
    }

    #[test]
    fn a_film_does_not_make_strangers_of_its_next_pictures() {
        // Ten pictures of each of two classes within a hundredth of a degree; the classes are 40 degrees apart.
        let rows: Vec<[f32; 2]> =
            [0.0, 40.0].into_iter().flat_map(|middle| (0..10).map(move |i| at(middle + 0.001 * i as f32))).collect();
        let labels: Vec<u32> = (0..20).map(|i| i / 10).collect();
        let limit = threshold(&rows.concat(), &labels, 2, None).unwrap();
        assert!(at(15.0)[0] > limit, "{limit}: a few degrees are no other thing");
        assert!(at(25.0)[0] < limit, "{limit}: more than half way to another class is");
        // Of one class alone nothing is known of others.
        let alone = threshold(&rows[..10].concat().repeat(2), &[0; 20], 2, None).unwrap();
        assert!((at(4.0)[0] > alone) && (at(8.0)[0] < alone), "{alone}");
    }

    #[test]
    fn pictures_that_differ_set_the_threshold_themselves() {
        // One class within 30 degrees, in steps of 3; another at 35 to 65.
        let rows: Vec<[f32; 2]> = (0..22).map(|i| at(3.0 * i as f32 + if i > 10 { 2.0 } else { 0.0 })).collect();
        let labels: Vec<u32> = (0..22).map(|i| u32::from(i > 10)).collect();
        let limit = threshold(&rows.concat(), &labels, 2, None).unwrap();
        assert!((limit - at(3.0)[0]).abs() < 1e-4, "{limit}");
        assert_eq!(threshold(&rows[..19].concat(), &labels[..19], 2, None).unwrap(), -1.0, "too few to tell");
    }

    #[test]
    fn judges_are_compared_with_the_others_alone() {
        // In steps of one degree, of five pictures the middle three judge: the nearest other of the middle one is two degrees away.
        let rows: Vec<[f32; 2]> = (0..60).map(|i| at(i as f32)).collect();
        let judges: Vec<usize> = (0..60).filter(|i| (1..4).contains(&(i % 5))).collect();
        let limit = |judges| threshold(&rows.concat(), &[0; 60], 2, judges).unwrap();
        // Nearer than what is near where there is one class alone, so that angle holds in both.
        assert!((limit(Some(&judges[..])) - ALONE.cos()).abs() < 1e-4 && (limit(None) - ALONE.cos()).abs() < 1e-4);
        let wide: Vec<[f32; 2]> = (0..60).map(|i| at(5.8 * i as f32)).collect();
        let limit = |judges| threshold(&wide.concat(), &[0; 60], 2, judges).unwrap();
        assert!((limit(Some(&judges[..])) - at(11.6)[0]).abs() < 1e-4 && (limit(None) - at(5.8)[0]).abs() < 1e-4);
    }
}
