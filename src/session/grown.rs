//! What a session whose network is trained keeps: a bounded number of pictures, some of which judge it.

use super::carried::{Carrying, network_of};
use super::growing::New;
use super::memory::is_grey;
use super::{Class, Estimate, Fitted, Forgotten, Growing, Judged, Known, Picture, Session, Way, estimate, threshold};
use crate::continual::{Learner, Method, MethodState, distances_to_means};
use crate::data::Images;
use crate::error::Result;
use crate::experiment::kept::JUDGES;
use crate::learner::ImageStore;
use crate::learner::frozen::answers;
use crate::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Of a class one new picture in so many is held out.
const HELD_OUT: usize = 5;

/// What there is beside the network and its pictures.
#[derive(Default)]
pub(super) struct Grown {
    /// Every picture that was learned, by digest, with its label: most are not kept.
    pub learned: BTreeMap<u128, u32>,
    /// Those of the kept pictures that judge and are not trained on.
    pub held_out: BTreeSet<u128>,
    /// What the method keeps; its samples are places among the session's exemplars.
    pub state: MethodState,
    /// Of a classifier that goes by means, (classes, D); zeros for a class of which no exemplar is left.
    pub means: Option<Vec<f32>>,
    /// Trainings so far, and their passes.
    pub n_trainings: usize,
    pub n_epochs: usize,
}

/// The pictures that judge after some have come: a fifth of the new ones of each class, one at least where there are two, and no more
/// than a class's share. Those of the smallest digests, so that the order of learning does not matter.
pub(super) fn bounded_held_out(
    session: &Session,
    labels: &BTreeMap<usize, u32>,
    new: &[New],
    new_label: &[Option<u32>],
) -> BTreeSet<u128> {
    let again: BTreeSet<u128> = labels.keys().map(|&place| new[place].0).collect();
    let mut of_class: BTreeMap<u32, Vec<u128>> = BTreeMap::new();
    for digest in session.grown.iter().flat_map(|grown| &grown.held_out).filter(|digest| !again.contains(*digest)) {
        if let Some(label) = session.known.get(digest).and_then(|known| new_label[known.label as usize]) {
            of_class.entry(label).or_default().push(*digest);
        }
    }
    let mut came: BTreeMap<u32, Vec<u128>> = BTreeMap::new();
    labels.iter().for_each(|(&place, &label)| came.entry(label).or_default().push(new[place].0));
    let n_classes = new_label.iter().flatten().chain(labels.values()).max().map_or(1, |&label| label as usize + 1);
    let share = (session.settings.memory / JUDGES / n_classes).max(1);
    for (label, mut digests) in came {
        digests.sort_unstable();
        let held = of_class.entry(label).or_default();
        // The last picture of a class is trained on.
        let n = if digests.len() < 2 { 0 } else { (digests.len() / HELD_OUT).max(1) };
        held.extend(digests.into_iter().take(n.min(share.saturating_sub(held.len()))));
    }
    of_class.into_values().flat_map(|digests| digests.into_iter().take(share)).collect()
}

/// How well each class suits pictures whose outputs are these: (n, classes).
fn scores_of(features: &Tensor, logits: &Tensor, means: Option<&[f32]>, n_classes: usize) -> Result<Vec<f32>> {
    let Some(means) = means else {
        let width = logits.shape()[1];
        return Ok(logits.to_vec()?.chunks_exact(width).flat_map(|row| &row[..n_classes]).copied().collect());
    };
    let d = means.len() / n_classes;
    let distances = distances_to_means(features, &Tensor::from_f32(&features.device(), [n_classes, d], means)?)?;
    let known: Vec<bool> = means.chunks_exact(d).map(|mean| mean.iter().any(|&x| x != 0.0)).collect();
    let score = |(i, distance): (usize, f32)| if known[i % n_classes] { -distance } else { f32::NEG_INFINITY };
    Ok(distances.to_vec()?.into_iter().enumerate().map(score).collect())
}

/// What stands behind the name of a backbone whose weights have been trained, and which a learner has nothing else left of.
const TRAINED_ON: &str = ", trained on";

impl Session {
    /// Features of pictures as they are, and scores by the method's own classifier.
    pub(super) fn seen_by_network(&self, images: &Images) -> Result<(Vec<f32>, Vec<f32>)> {
        let means = self.grown.as_ref().and_then(|grown| grown.means.as_deref());
        let samples: Vec<u32> = (0..images.len() as u32).collect();
        let (mut features, mut scores) = (Vec::new(), Vec::new());
        self.backbone.subject.evaluate(images, &samples, |_, output| {
            features.extend(output.features.to_vec()?);
            scores.extend(scores_of(&output.features, &output.logits, means, self.classes.len())?);
            Ok(())
        })?;
        Ok((features, scores))
    }

    /// Puts a trained network and what its method keeps in the place of what there was. `digests` are those of the learner's pictures,
    /// `names` those of their files. Where it fails, the session is as it was.
    pub(super) fn take_over(
        &mut self,
        kind: Growing,
        classes: Vec<Class>,
        mut grown: Grown,
        learner: Learner,
        (mut method, digests): (Box<dyn Method>, Vec<u128>),
        names: &BTreeMap<u128, String>,
    ) -> Result<()> {
        let images = learner.images();
        let mut kept: BTreeSet<u32> = method.exemplars().into_iter().flatten().collect();
        kept.extend((0..digests.len() as u32).filter(|&place| grown.held_out.contains(&digests[place as usize])));
        let places: BTreeMap<u32, u32> = kept.iter().copied().zip(0..).collect();
        let (sample, n_outputs) = (|place: u32| places.get(&place).copied(), learner.network.n_outputs);
        grown.means = means_of(&learner, method.as_mut(), classes.len())?;
        method.renumber(&Carrying { sample: &sample, label: &Some, n_outputs })?;
        grown.state = method.state()?;
        let (mut exemplars, mut exemplar_digests) = (ImageStore::new(self.input()), Vec::new());
        for &place in &kept {
            exemplars.push(images.image(place as usize), images.labels[place as usize]);
            exemplar_digests.push(digests[place as usize]);
        }
        let backbone = self.backbone.trained(learner.subject);
        let before = (
            std::mem::replace(&mut self.backbone, backbone),
            std::mem::replace(&mut self.classes, classes),
            std::mem::replace(&mut self.exemplars, exemplars),
            std::mem::replace(&mut self.exemplar_digests, exemplar_digests),
            std::mem::take(&mut self.known),
            self.grown.replace(grown),
            self.fitted.take(),
        );
        if let Err(error) = self.judge_grown(kind, names) {
            (self.backbone, self.classes, self.exemplars, self.exemplar_digests, self.known, self.grown, self.fitted) =
                before;
            return Err(error);
        }
        Ok(())
    }

    /// What the network makes of the pictures that are kept, and how well it does on those that judge.
    fn judge_grown(&mut self, kind: Growing, names: &BTreeMap<u128, String>) -> Result<()> {
        let images = self.exemplars.images();
        let (features, scores) = self.seen_by_network(images)?;
        let (d, n_classes) = (self.backbone.network().n_features, self.classes.len());
        let grown = self.grown.as_ref().expect("bug: it was put there before");
        let judges: Vec<usize> =
            (0..images.len()).filter(|&i| grown.held_out.contains(&self.exemplar_digests[i])).collect();
        let picked = |values: &[f32], width: usize| -> Vec<f32> {
            judges.iter().flat_map(|&i| &values[i * width..(i + 1) * width]).copied().collect()
        };
        let truth: Vec<u32> = judges.iter().map(|&i| images.labels[i]).collect();
        let judged = picked(&scores, n_classes);
        let mut fitted =
            Fitted { way: Way::Growing(kind), statistics: None, temperature: 1.0, threshold: -1.0, estimate: None };
        if n_classes > 1 && !truth.is_empty() {
            let said = answers(&judged, n_classes);
            fitted.estimate = Some(Estimate::of(Judged::HeldOut, n_classes, &truth, &said));
            fitted.temperature = estimate::temperature(&judged, &truth, n_classes);
        }
        fitted.threshold = threshold::threshold(&features, &images.labels, d, Some(&judges[..]))?;
        let channels = images.channels;
        let known = (0..images.len()).zip(&self.exemplar_digests).map(|(i, digest)| {
            let known = Known {
                label: images.labels[i],
                name: names.get(digest).cloned().unwrap_or_default(),
                features: features[i * d..(i + 1) * d].to_vec(),
                is_grey: is_grey(images.image(i), channels),
            };
            (*digest, known)
        });
        self.known = known.collect();
        self.fitted = Some(fitted);
        Ok(())
    }

    /// Takes pictures and classes out of the memory, and the outputs of classes of which nothing is left. The weights stay: what
    /// they learned from those pictures cannot be taken out.
    pub(super) fn forget_grown(&mut self, is_forgotten: impl Fn(u128, u32) -> bool) -> Result<Forgotten> {
        let kind = self.growing()?;
        let before = self.grown.as_ref().expect("bug: a network that was not trained");
        let mut learned = before.learned.clone();
        learned.retain(|digest, label| !is_forgotten(*digest, *label));
        let n_pictures = before.learned.len() - learned.len();
        let mut n = vec![0; self.classes.len()];
        learned.values().for_each(|&label| n[label as usize] += 1);
        let left: Vec<usize> = (0..n.len()).filter(|&label| n[label] > 0).collect();
        let n_gone = n.len() - left.len();
        let new_label: Vec<Option<u32>> =
            (0..n.len()).map(|label| left.iter().position(|&own| own == label).map(|label| label as u32)).collect();
        let classes: Vec<Class> =
            left.iter().map(|&label| Class { name: self.classes[label].name.clone(), n: n[label] }).collect();
        if classes.is_empty() {
            (self.classes, self.exemplars) = (classes, ImageStore::new(self.input()));
            self.exemplar_digests.clear();
            self.known.clear();
            (self.grown, self.fitted) = (None, None);
            // Its weights are no longer those that go by the name.
            let name = &mut self.backbone.card.name;
            if !name.ends_with(TRAINED_ON) {
                name.push_str(TRAINED_ON);
            }
            return Ok(Forgotten { n_pictures, n_classes: n_gone });
        }
        let course = self.course_of(kind)?;
        let network = network_of(&self.backbone, classes.len(), &self.rows_kept(&new_label), self.settings.seed)?;
        let (mut images, mut digests, mut new_place) = (ImageStore::new(self.input()), Vec::new(), Vec::new());
        for (place, digest) in self.exemplar_digests.iter().enumerate() {
            new_place.push(learned.get(digest).map(|&label| {
                digests.push(*digest);
                let label = new_label[label as usize].expect("bug: a picture of no class");
                images.push(self.exemplars.images().image(place), label) as u32
            }));
        }
        let carrying = Carrying {
            sample: &|place| new_place.get(place as usize).copied().flatten(),
            label: &|label| new_label.get(label as usize).copied().flatten(),
            n_outputs: classes.len(),
        };
        let method = self.carried(&course, &carrying)?;
        let mut learner = Learner::of(self.backbone.subject_of(network)?, Arc::new(images.images().clone()));
        learner.flips &= self.known.values().any(|known| !known.is_grey);
        learned.values_mut().for_each(|label| *label = new_label[*label as usize].expect("bug: a label of no class"));
        let held_out = before.held_out.iter().filter(|digest| learned.contains_key(digest)).copied().collect();
        let (n_trainings, n_epochs) = (before.n_trainings, before.n_epochs);
        let grown = Grown { learned, held_out, n_trainings, n_epochs, ..Grown::default() };
        let names = self.known.iter().map(|(digest, known)| (*digest, known.name.clone())).collect();
        self.take_over(kind, classes, grown, learner, (method, digests), &names)?;
        Ok(Forgotten { n_pictures, n_classes: n_gone })
    }

    /// Pictures that are all of one size, as a set of images.
    pub(super) fn as_images<'a>(&self, pictures: impl Iterator<Item = &'a Picture>) -> Images {
        let [channels, height, width] = self.input();
        let pixels: Vec<u8> = pictures.flat_map(|picture| &picture.pixels).copied().collect();
        let n = pixels.len() / (channels * height * width);
        Images { channels, height, width, pixels, labels: vec![0; n], views: Vec::new(), masks: Vec::new() }
    }
}

/// The means that the method's own classifier goes by, of the exemplars that there are.
fn means_of(learner: &Learner, method: &mut dyn Method, n_classes: usize) -> Result<Option<Vec<f32>>> {
    if !method.classifiers()[0].by_means {
        return Ok(None);
    }
    let (d, mut means) = (learner.network.n_features, Vec::new());
    let mut exemplars = method.exemplars();
    exemplars.resize(n_classes, Vec::new());
    for samples in &exemplars {
        match samples.is_empty() {
            true => means.resize(means.len() + d, 0.0),
            false => means.extend(learner.class_mean(samples)?),
        }
    }
    Ok(Some(means))
}
