//! Answers: the classes of pictures, how sure they are, and why.

use super::threshold::nearest;
use super::{Known, Picture, Session, estimate};
use crate::error::{Error, Result};

/// The answer to one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// All classes, the likeliest first.
    pub ranked: Vec<Ranked>,
    /// False if the picture is less similar to all known ones than 95 % of those are to each other, and nearly as far from them as
    /// pictures of other classes are: it is none of the classes.
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
        if self.known.is_empty() {
            return Err(Error::usage("no picture is kept any more that an answer could be shown by: learn some first"));
        }
        let n_classes = self.classes.len();
        let (features, scores) = match &fitted.statistics {
            Some(statistics) => {
                let features = self.features_of(pictures.iter())?;
                let scores = statistics.scores(&features)?;
                (features, scores)
            }
            None => self.seen_by_network(&self.as_images(pictures.iter()))?,
        };
        let known: Vec<(&u128, &Known)> = self.known.iter().collect();
        let nearest = nearest(&self.rows().0, &features, self.backbone.n_features())?;
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
