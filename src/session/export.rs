//! A learner for other programs.

use super::Session;
use crate::error::{Error, Result};
use crate::models::export::{Export, Head};

impl Session {
    /// The learner for other programs; "none of these" and the nearest pictures stay behind. What is written averages every picture with
    /// its mirror image, or none if no known picture has colour.
    ///
    /// # Errors
    /// [`Error::Usage`] if it knows no class.
    pub fn export(&self) -> Result<Export<'_>> {
        let Some(fitted) = &self.fitted else {
            return Err(Error::usage("this learner knows no class yet: let it learn some pictures first"));
        };
        let means = self.grown.as_ref().and_then(|grown| grown.means.clone());
        let (head, unit_length) = match (&fitted.statistics, means) {
            (Some(statistics), _) => statistics.head()?,
            (None, Some(means)) => {
                (Head::NearestMean { means: out_of_reach(means, self.backbone.network().n_features) }, true)
            }
            (None, None) => (Head::Network, false),
        };
        let (mean, std) = self.backbone.normalization();
        Ok(Export {
            network: self.backbone.network(),
            mean: mean.to_vec(),
            std: std.to_vec(),
            mirrored: fitted.statistics.is_some()
                && self.backbone.subject.flips
                && self.known.values().any(|known| !known.is_grey),
            unit_length,
            quarters: self.backbone.card.quarters,
            head,
            classes: self.classes.iter().map(|class| class.name.clone()).collect(),
        })
    }

    /// Whether some of its pictures are grey and others not, where features of coloured ones alone are averaged with those of their
    /// mirror images: an exported model cannot tell them apart.
    pub fn mixes_colours(&self) -> bool {
        let n_grey = self.known.values().filter(|known| known.is_grey).count();
        self.backbone.subject.flips && self.grown.is_none() && n_grey > 0 && n_grey < self.known.len()
    }
}

/// A class without exemplars has a mean of zeros, which nothing is to be near to.
fn out_of_reach(mut means: Vec<f32>, d: usize) -> Vec<f32> {
    for mean in means.chunks_exact_mut(d).filter(|mean| mean.iter().all(|&x| x == 0.0)) {
        mean.fill(1e6);
    }
    means
}
