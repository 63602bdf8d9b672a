//! What tells one data set from another: so that a run does not go on with other images than it began with.

use super::{Dataset, Images};
use serde::{Deserialize, Serialize};

/// Of a data set in memory: sizes, and checksums of everything that a run sees of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Training images.
    pub n_train: usize,
    /// Test images.
    pub n_test: usize,
    /// Channels, height and width of an image.
    pub size: [usize; 3],
    /// The names of the classes.
    pub class_names: Vec<String>,
    /// CRC-32 of pixels, labels and masks, training images and test images.
    pub sums: [u32; 2],
}

impl Fingerprint {
    /// Of this data set. It reads every pixel, at some gigabytes a second.
    pub fn of(dataset: &Dataset) -> Fingerprint {
        let Images { channels, height, width, .. } = *dataset.train;
        Fingerprint {
            n_train: dataset.train.len(),
            n_test: dataset.test.len(),
            size: [channels, height, width],
            class_names: dataset.class_names.clone(),
            sums: [sum(&dataset.train), sum(&dataset.test)],
        }
    }

    /// What has changed since this one was taken, in words; `None` if nothing has.
    pub fn difference(&self, now: &Fingerprint) -> Option<String> {
        let images = |one: &Fingerprint| format!("{} training and {} test images", one.n_train, one.n_test);
        if (self.n_train, self.n_test) != (now.n_train, now.n_test) {
            return Some(format!("it had {}, and now has {}", images(self), images(now)));
        }
        if self.class_names != now.class_names {
            return Some("its classes are others".into());
        }
        if self.size != now.size {
            return Some("its images have another size".into());
        }
        (self.sums != now.sums).then(|| "some of its images or labels have changed".into())
    }
}

fn sum(images: &Images) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(&images.pixels);
    crc.update(bytemuck::cast_slice(&images.labels));
    crc.update(&images.masks);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn any_change_is_noticed() {
        let images = |n: usize| {
            let pixels = (0..4 * n).map(|i| i as u8).collect();
            let labels = (0..n as u32).map(|i| i % 2).collect();
            Arc::new(Images { channels: 1, height: 2, width: 2, pixels, labels, views: Vec::new(), masks: Vec::new() })
        };
        let dataset = Dataset {
            name: "x".into(),
            class_names: vec!["a".into(), "b".into()],
            train: images(6),
            test: images(2),
            mean: vec![0.0],
            std: vec![1.0],
            flips: false,
            notes: Vec::new(),
            left_out: Vec::new(),
            domains: Vec::new(),
        };
        let before = Fingerprint::of(&dataset);
        assert_eq!(before.difference(&Fingerprint::of(&dataset)), None);
        let changed = |change: &dyn Fn(&mut Images)| {
            let mut images = (*dataset.test).clone();
            change(&mut images);
            Fingerprint::of(&Dataset { test: Arc::new(images), ..dataset.clone() })
        };
        for (now, wanted) in [
            (changed(&|images| images.pixels[3] ^= 1), "have changed"),
            (changed(&|images| images.labels[0] = 1), "have changed"),
            (changed(&|images| images.masks = vec![0; 8]), "have changed"),
            (Fingerprint::of(&Dataset { train: images(5), ..dataset.clone() }), "now has 5 training and 2 test images"),
            (Fingerprint::of(&Dataset { class_names: vec!["a".into(), "c".into()], ..dataset.clone() }), "classes"),
        ] {
            let difference = before.difference(&now).expect("a difference");
            assert!(difference.contains(wanted), "{difference}");
        }
    }
}
