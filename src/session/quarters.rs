//! Features of where: the means of the quarters of an earlier map, beside the feature vector, which has no places any more.
//!
//! Digits, letters and drawings differ by where their strokes are. Chosen on training pictures that no figure of the documentation is
//! from, with a backbone of photographs: 10 classes of MNIST by 100 pictures each 90.7 -> 96.8 %, of CIFAR-10 67.2 -> 68.6 % (`ranpac`),
//! by 10 pictures each 55.1 -> 55.5 % (`ncm`).

use super::Backbone;
use crate::data::Images;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::nn::Tap;
use rayon::prelude::*;

/// More numbers would make statistics of features dear.
const MOST: usize = 512;

/// Where the map is to be had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quarters {
    tap: Tap,
    /// Channels, height, width.
    shape: [usize; 3],
}

/// The number of the stage before the last, from 1, if its map can be quartered.
pub(super) fn stage_of(network: &Network) -> Option<usize> {
    let stage = network.stages().len().checked_sub(1).filter(|&stage| stage > 0)?;
    Quarters::of(network, stage).ok().map(|_| stage)
}

impl Quarters {
    /// Of a stage of this number.
    pub fn of(network: &Network, stage: usize) -> Result<Quarters> {
        let stages = network.stages();
        let place = stage.checked_sub(1).and_then(|stage| stages.get(stage));
        let fits = |[c, h, w]: [usize; 3]| h > 1 && w > 1 && 4 * c <= MOST;
        match place {
            Some(place) if fits(place.shape) => Ok(Quarters { tap: place.tap(false), shape: place.shape }),
            _ => Err(Error::op(
                "quarters",
                format!("stage {stage} of {} has no map that can be quartered", network.name),
            )),
        }
    }

    /// Numbers of a picture.
    pub fn n(&self) -> usize {
        4 * self.shape[0]
    }

    /// Adds the means of the four quarters of each channel, of a mirror image turned back. Where a side is odd, both halves have its
    /// middle.
    fn add(&self, map: &[f32], flip: bool, sums: &mut [f32]) {
        let [_, h, w] = self.shape;
        let half = |side: usize, which: usize| if which == 0 { 0..side.div_ceil(2) } else { side / 2..side };
        for (plane, sums) in map.chunks_exact(h * w).zip(sums.chunks_exact_mut(4)) {
            for quarter in 0..4 {
                let (rows, columns) = (half(h, quarter / 2), half(w, quarter % 2));
                let n = rows.len() * columns.len();
                let sum: f32 = rows.map(|row| plane[row * w..][columns.clone()].iter().sum::<f32>()).sum();
                sums[if flip { quarter ^ 1 } else { quarter }] += sum / n as f32;
            }
        }
    }
}

/// Brought to length 1; zero stays zero.
fn to_unit(row: &mut [f32]) {
    let length = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

impl Backbone {
    /// Numbers that [`Backbone::features`] makes of a picture.
    pub fn n_features(&self) -> usize {
        self.network().n_features + self.quarters.map_or(0, |quarters| quarters.n())
    }

    /// What statistics go by, n rows: the feature vector and, of networks that have such a map, the quarters of an earlier one, each of
    /// length 1; means with those of the mirror image, if `mirrored`.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn features(&self, images: &Images, samples: &[u32], mirrored: bool) -> Result<Vec<f32>> {
        let Some(quarters) = self.quarters else { return self.subject.features(images, samples, mirrored) };
        let (d, n_own, [c, h, w]) = (self.n_features(), self.network().n_features, quarters.shape);
        let mut rows = vec![0.0; samples.len() * d];
        for &flip in if mirrored { &[false, true][..] } else { &[false] } {
            self.subject.for_chunks_with(images, samples, flip, &[quarters.tap], |first, output, values| {
                let (features, maps) = (output.features.to_vec()?, values[0].to_vec()?);
                let rows = rows[first * d..].par_chunks_exact_mut(d);
                rows.zip(features.par_chunks_exact(n_own)).zip(maps.par_chunks_exact(c * h * w)).for_each(
                    |((row, features), map)| {
                        let (own, others) = row.split_at_mut(n_own);
                        own.iter_mut().zip(features).for_each(|(sum, x)| *sum += x);
                        quarters.add(map, flip, others);
                    },
                );
                Ok(())
            })?;
        }
        rows.par_chunks_exact_mut(d).for_each(|row| {
            let (own, others) = row.split_at_mut(n_own);
            to_unit(own);
            to_unit(others);
        });
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_by_hand() {
        let quarters = Quarters { tap: Tap { layer: 0, before_relu: false }, shape: [1, 2, 3] };
        let mut sums = [0.0; 4];
        // 1 2 3 over 4 5 6: the middle column belongs to both halves.
        quarters.add(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], false, &mut sums);
        assert_eq!(sums, [1.5, 2.5, 4.5, 5.5]);
        // The mirror image adds the same.
        quarters.add(&[3.0, 2.0, 1.0, 6.0, 5.0, 4.0], true, &mut sums);
        assert_eq!(sums, [3.0, 5.0, 9.0, 11.0]);
        to_unit(&mut sums[..0]);
        let mut row = [3.0, 4.0];
        to_unit(&mut row);
        assert_eq!(row, [0.6, 0.8]);
    }
}
