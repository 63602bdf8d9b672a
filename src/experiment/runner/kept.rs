//! What is handed on to a learner when a run is complete.

use super::Run;
use crate::continual::Renumbering;
use crate::data::files::digest;
use crate::data::{Images, Scenario, Target};
use crate::error::Result;
use crate::experiment::kept::{JUDGES, KeptMemory};
use crate::learner::ImageStore;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Digests of images.
fn digests(images: &Images, samples: &[u32]) -> Vec<u128> {
    samples.par_iter().map(|&sample| digest(images.image(sample as usize))).collect()
}

impl Run<'_> {
    /// What the method keeps, with the pictures themselves; `None` where a learner could not go on from it: it keeps no pictures, or
    /// they are none that have one class each, known without the task.
    pub(super) fn kept(&mut self) -> Result<Option<KeptMemory>> {
        let (train, kept) = (self.dataset.train.clone(), self.method.exemplars());
        let Some(capacity) = self.config.memory().filter(|_| kept.iter().any(|samples| !samples.is_empty())) else {
            return Ok(None);
        };
        let goes_on = self.dataset.target() == Target::Class
            && self.config.stream.scenario != Scenario::Task
            && train.views.is_empty()
            && [1, 3].contains(&train.channels)
            && self.method.outputs_per_class() == 1;
        if !goes_on {
            return Ok(None);
        }
        let n_classes = self.classes_seen().len();
        let mut learned = self.pictures_learned();
        let mut pictures = ImageStore::new([train.channels, train.height, train.width]);
        let (mut in_order, mut place_of) = (Vec::new(), BTreeMap::new());
        let (mut new_place, mut samples) = (BTreeMap::new(), kept.concat());
        samples.sort_unstable();
        for (&sample, digest) in samples.iter().zip(digests(&train, &samples)) {
            let label = self.label(train.labels[sample as usize]);
            // Of equal pictures one is kept, under the label that it came with last.
            if learned.get(&digest) == Some(&label) {
                let place = *place_of.entry(digest).or_insert_with(|| {
                    in_order.push(digest);
                    pictures.push(train.image(sample as usize), label) as u32
                });
                new_place.insert(sample, place);
            }
        }
        let mut held_out = BTreeSet::new();
        for (digest, sample, label) in self.judges(&learned, (capacity / JUDGES / n_classes).max(1)) {
            in_order.push(digest);
            pictures.push(self.dataset.test.image(sample as usize), label);
            learned.insert(digest, label);
            held_out.insert(digest);
        }
        let state = self.method.state()?;
        let mut method = (self.config.method.build)(&self.config.values);
        method.restore(&self.learner, state)?;
        method.renumber(&Renumbering {
            sample: &|sample| new_place.get(&sample).copied(),
            label: &Some,
            n_outputs: self.learner.network.n_outputs,
        })?;
        Ok(Some(KeptMemory {
            capacity,
            seed: self.config.seed,
            n_trainings: self.phases.len(),
            n_epochs: self.phases.len() * self.config.training.epochs,
            pictures,
            digests: in_order,
            held_out,
            learned,
            state: method.state()?,
        }))
    }

    fn label(&self, class: u32) -> u32 {
        self.stream.label_of_class[class as usize]
    }

    /// Every training picture, with its label.
    fn pictures_learned(&self) -> BTreeMap<u128, u32> {
        let train = &self.dataset.train;
        let samples: Vec<u32> = self.phases.iter().flat_map(|task| &task.train).copied().collect();
        let label = |&sample: &u32| self.label(train.labels[sample as usize]);
        digests(train, &samples).into_iter().zip(samples.iter().map(label)).collect()
    }

    /// Of each class some test pictures that were not learned, those of the smallest digests.
    fn judges(&self, learned: &BTreeMap<u128, u32>, share: usize) -> Vec<(u128, u32, u32)> {
        let test = &self.dataset.test;
        let samples: Vec<u32> = self.stream.tasks.iter().flat_map(|task| &task.test).copied().collect();
        let mut by_digest: BTreeMap<u128, u32> = digests(test, &samples).into_iter().zip(samples).collect();
        by_digest.retain(|digest, _| !learned.contains_key(digest));
        let mut n_of_label: BTreeMap<u32, usize> = BTreeMap::new();
        let judges =
            by_digest.into_iter().map(|(digest, sample)| (digest, sample, self.label(test.labels[sample as usize])));
        judges
            .filter(|(_, _, label)| {
                let n = n_of_label.entry(*label).or_default();
                *n += 1;
                *n <= share
            })
            .collect()
    }
}
