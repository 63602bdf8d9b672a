//! Answers: the classes of pictures, how sure they are, and why.

use super::{Known, Picture, Session, estimate};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::export::Export;
use crate::settings::Choose;
use crate::tensor::Tensor;

/// One known picture in so many is less similar to every other than the threshold.
const STRANGE: f64 = 0.05;
/// Pictures from which a threshold can be set.
const LEAST: usize = 20;
/// Pictures that the threshold is set by.
const MOST: usize = 2000;
/// Rows of a product of similarities.
const CHUNK: usize = 256;

/// The answer to one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// All classes, the likeliest first.
    pub ranked: Vec<Ranked>,
    /// False if the picture is less similar to all known ones than 95 % of those are to each other: it is none of the classes.
    pub is_known: bool,
    /// The known picture whose features are nearest.
    pub nearest: Nearest,
}

/// A class with a confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The class's place in [`Session::classes`].
    pub label: usize,
    /// In 0..=1, over all classes 1: calibrated on pictures that were held out.
    pub confidence: f64,
}

/// A known picture that is near.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// The name of its file.
    pub name: String,
    /// The label of its class.
    pub label: usize,
    /// Cosine of the angle between the features, −1..=1.
    pub similarity: f32,
    /// Its place in [`Session::exemplars`], if it is kept.
    pub exemplar: Option<usize>,
}

impl Session {
    /// The classes of pictures.
    ///
    /// # Errors
    /// [`Error::Usage`] if no class was learned, or a picture is of another size than [`Session::input`].
    pub fn classify(&self, pictures: &[Picture]) -> Result<Vec<Answer>> {
        let Some(fitted) = &self.fitted else {
            return Err(Error::usage("this learner knows no class yet: let it learn some pictures first"));
        };
        let n_bytes = self.input().iter().product::<usize>();
        if let Some(wrong) = pictures.iter().find(|picture| picture.pixels.len() != n_bytes) {
            let [c, h, w] = self.input();
            return Err(Error::usage(format!("{}: no picture of {c}×{h}×{w} bytes", wrong.name)));
        }
        let features = self.features_of(pictures.iter())?;
        let n_classes = self.classes.len();
        let scores = fitted.statistics.scores(&features)?;
        let known: Vec<(&u128, &Known)> = self.known.iter().collect();
        let nearest = nearest(&self.rows().0, &features, self.backbone.subject.network.n_features, None)?;
        let answer = |(row, (place, similarity)): (&[f32], (usize, f32))| {
            let confidences = estimate::confidences(row, fitted.temperature);
            let mut ranked: Vec<Ranked> =
                confidences.into_iter().enumerate().map(|(label, confidence)| Ranked { label, confidence }).collect();
            // By score: several confidences may round to the same number.
            ranked.sort_by(|a, b| row[b.label].total_cmp(&row[a.label]));
            let (digest, known) = known[place];
            let exemplar = self.exemplar_digests.iter().position(|own| own == digest);
            Answer {
                ranked,
                is_known: similarity >= fitted.threshold,
                nearest: Nearest { name: known.name.clone(), label: known.label as usize, similarity, exemplar },
            }
        };
        Ok(scores.chunks_exact(n_classes).zip(nearest).map(answer).collect())
    }
}

impl Session {
    /// The learner for other programs; "none of these" and the nearest pictures stay behind. What is written averages every picture with
    /// its mirror image, or none if no known picture has colour.
    ///
    /// # Errors
    /// [`Error::Usage`] if it knows no class, or its method cannot be written.
    pub fn export(&self) -> Result<Export<'_>> {
        let Some(fitted) = &self.fitted else {
            return Err(Error::usage("this learner knows no class yet: let it learn some pictures first"));
        };
        let Some((head, unit_length)) = fitted.statistics.head()? else {
            let message = format!(
                "{} cannot be written for other programs: let the learner go by another method, engram learn FILE --from DIR --method \
                 ranpac",
                fitted.kind.name()
            );
            return Err(Error::usage(message));
        };
        let (mean, std) = self.backbone.normalization();
        Ok(Export {
            network: self.backbone.network(),
            mean: mean.to_vec(),
            std: std.to_vec(),
            mirrored: self.backbone.subject.flips && self.known.values().any(|known| !known.is_grey),
            unit_length,
            head,
            classes: self.classes.iter().map(|class| class.name.clone()).collect(),
        })
    }
}

/// The place of the most similar row of `known` for each row of `features`, and the cosine between them; rows have `d` numbers. With
/// `own`, the place of each row itself among the known ones, which is passed over.
fn nearest(known: &[f32], features: &[f32], d: usize, own: Option<&[usize]>) -> Result<Vec<(usize, f32)>> {
    let unit = |rows: &[f32]| Tensor::from_f32(&Device::cpu(), [rows.len() / d, d], rows)?.l2_normalize();
    let (known, n_known) = (unit(known)?, known.len() / d);
    let mut found = Vec::with_capacity(features.len() / d);
    for (chunk, rows) in features.chunks(CHUNK * d).enumerate() {
        let cosines = unit(rows)?.linear(&known, None)?.to_vec()?;
        for (i, row) in cosines.chunks_exact(n_known).enumerate() {
            let own = own.map(|own| own[chunk * CHUNK + i]);
            let others = (0..n_known).filter(|place| Some(*place) != own);
            let best = others.reduce(|best, place| if row[place] > row[best] { place } else { best });
            found.push(best.map_or((0, -1.0), |best| (best, row[best])));
        }
    }
    Ok(found)
}

/// The similarity that 95 % of known pictures have to the nearest other one (Sun et al., "Out-of-Distribution Detection with Deep
/// Nearest Neighbors", ICML 2022); −1 where there are too few to tell.
pub(super) fn threshold(features: &[f32], d: usize) -> Result<f32> {
    let n = features.len() / d;
    if n < LEAST {
        return Ok(-1.0);
    }
    let places: Vec<usize> = (0..n).step_by(n.div_ceil(MOST)).collect();
    let rows: Vec<f32> = places.iter().flat_map(|&i| &features[i * d..(i + 1) * d]).copied().collect();
    let found = nearest(features, &rows, d, Some(&places))?;
    let mut similarities: Vec<f32> = found.into_iter().map(|(_, similarity)| similarity).collect();
    similarities.sort_by(f32::total_cmp);
    Ok(similarities[(STRANGE * similarities.len() as f64) as usize])
}
