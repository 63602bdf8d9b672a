//! Validation splits: part of the training images in place of the test images.

use super::{Dataset, Images, Target};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Rng};
use std::sync::Arc;

impl Dataset {
    /// The data set for whoever must choose something before the test images are looked at: `fraction` of each class's
    /// training images, rounded, at least one, take the place of the test images; the others are what is left to train on. Which
    /// ones follows from `seed` and the class alone. Of images with masks it is a fraction of each domain. The test images themselves are not in the result. The mean and deviation
    /// that pixels are brought around zero by stay those of all training images.
    ///
    /// ```
    /// let glyphs = engram::data::spec("glyphs")?.load("unused: it is built in".as_ref())?;
    /// let split = glyphs.held_out(0.1, 1)?;
    /// assert_eq!(split.train.len() + split.test.len(), glyphs.train.len());
    /// # Ok::<(), engram::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`] if the fraction is not between 0 and 1, or leaves a class nothing to train on.
    pub fn held_out(&self, fraction: f64, seed: u64) -> Result<Dataset> {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(Error::usage(format!("a validation split of {fraction}: it must lie between 0 and 1")));
        }
        let mut is_held_out = vec![false; self.train.len()];
        let (kind, names) = match self.target() {
            Target::Class => ("class", &self.class_names),
            Target::Mask => ("domain", &self.domains),
        };
        for (class, name) in (0u32..).zip(names) {
            let mut own: Vec<usize> = (0..self.train.len()).filter(|&i| self.train.labels[i] == class).collect();
            let n = ((own.len() as f64 * fraction).round() as usize).max(1);
            if own.is_empty() {
                continue;
            }
            if n >= own.len() {
                return Err(Error::usage(format!(
                    "{kind} {name} of \"{}\" has too few training images ({}) to hold {fraction} of them out",
                    self.name,
                    own.len()
                )));
            }
            Rng::keyed(seed, Purpose::Validation, u64::from(class)).shuffle(&mut own);
            own[..n].iter().for_each(|&i| is_held_out[i] = true);
        }
        let part = |held_out: bool| {
            let own = || (0..self.train.len()).filter(|&i| is_held_out[i] == held_out);
            let pixels = own().flat_map(|i| self.train.image(i)).copied().collect();
            let labels = own().map(|i| self.train.labels[i]).collect();
            let masks = own().flat_map(|i| self.train.mask(i)).copied().collect();
            Arc::new(Images { pixels, labels, masks, views: Vec::new(), ..*self.train })
        };
        Ok(Dataset { train: part(false), test: part(true), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes, 30 images of the first and 5 of the second, one pixel each: its number.
    fn numbers() -> Dataset {
        let images = |n: u8| Images {
            channels: 1,
            height: 1,
            width: 1,
            pixels: (0..n).collect(),
            labels: (0..n).map(|i| u32::from(i % 7 == 6)).collect(),
            views: Vec::new(),
            masks: Vec::new(),
        };
        Dataset {
            name: "numbers".into(),
            class_names: vec!["a".into(), "b".into()],
            train: Arc::new(images(35)),
            test: Arc::new(images(200)),
            mean: vec![0.5],
            std: vec![1.0],
            flips: false,
            notes: Vec::new(),
            left_out: Vec::new(),
            domains: Vec::new(),
        }
    }

    #[test]
    fn a_tenth_of_each_class_is_held_out_and_the_test_images_are_gone() {
        let all = numbers();
        let split = all.held_out(0.1, 1).unwrap();
        let count = |images: &Images, class| images.labels.iter().filter(|&&label| label == class).count();
        // 3 of 30, and at least one of 5.
        assert_eq!([count(&split.test, 0), count(&split.test, 1)], [3, 1]);
        assert_eq!([count(&split.train, 0), count(&split.train, 1)], [27, 4]);
        let mut pixels = [&split.train.pixels[..], &split.test.pixels].concat();
        pixels.sort_unstable();
        assert_eq!(pixels, all.train.pixels, "every training image is in one of the parts, and nothing else is");
        for images in [&split.train, &split.test] {
            assert!(images.pixels.iter().zip(&images.labels).all(|(&i, &label)| label == u32::from(i % 7 == 6)));
        }
        assert_eq!(split.test, all.held_out(0.1, 1).unwrap().test);
        assert_ne!(split.test, all.held_out(0.1, 2).unwrap().test);
    }

    #[test]
    fn impossible_splits_are_refused() {
        for fraction in [0.0, 1.0, -0.1, f64::NAN, 0.95] {
            assert_eq!(numbers().held_out(fraction, 1).unwrap_err().exit_code(), 2, "{fraction}");
        }
    }
}
