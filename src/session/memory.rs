//! Learning and forgetting.

use super::{Class, Estimate, Fitted, Known, Session, Way, estimate, growing, threshold};
use crate::data::files::digest;
use crate::data::labelled::class_name;
use crate::data::pictures::{self, Frame};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::learner::ImageStore;
use crate::learner::frozen::FrozenKind;
use crate::tensor::Tensor;
use crate::training::{Listener, Silent};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// With fewer pictures a class, on average, class means are better than what is fitted, as a rule.
const FEW: usize = 20;
/// The exception: of so many pictures or more that are judged, one in twenty more is answered right by what is fitted.
const ENOUGH: usize = 20;
const BETTER: f64 = 0.05;

/// A picture in the size that a session's network takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// What it is called: the name of its file.
    pub name: String,
    /// C×H×W bytes, 0 is dark.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// Reads a file for a network that takes (channels, height, width), or for a session: [`Session::frame`].
    ///
    /// # Errors
    /// If the file cannot be read or is no whole picture.
    pub fn read(path: &Path, frame: impl Into<Frame>) -> Result<Picture> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Picture { name, pixels: pictures::Picture::read(path, frame)?.pixels })
    }

    fn digest(&self) -> u128 {
        digest(&self.pixels)
    }
}

impl Session {
    /// Whether this very picture was learned.
    pub fn has_learned(&self, picture: &Picture) -> bool {
        let digest = picture.digest();
        match &self.grown {
            Some(grown) => grown.learned.contains_key(&digest),
            None => self.known.contains_key(&digest),
        }
    }
}

/// What learning came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Of each class that pictures came of, in the order of labels.
    pub classes: Vec<ClassReport>,
}

/// What learning came to, of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassReport {
    /// Of the class.
    pub name: String,
    /// Whether it was not known before.
    pub is_new: bool,
    /// Pictures that were added.
    pub n_added: usize,
    /// Pictures that were known as pictures of this class already.
    pub n_known: usize,
    /// Pictures that were known as pictures of another class, and are moved.
    pub n_moved: usize,
    /// Of the added ones those that are held out, where the network is trained: they judge it.
    pub n_held_out: usize,
    /// Pictures of the class now.
    pub n_now: usize,
}

impl ClassReport {
    /// Of a class to which nothing has come yet.
    pub(super) fn empty(name: &str, is_new: bool) -> ClassReport {
        ClassReport { name: name.into(), is_new, n_added: 0, n_known: 0, n_moved: 0, n_held_out: 0, n_now: 0 }
    }
}

/// What forgetting came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Pictures.
    pub n_pictures: usize,
    /// Classes of which nothing is left.
    pub n_classes: usize,
}

/// What forgetting leaves behind where the network is trained.
pub const NOT_UNLEARNED: &str = "its pictures and outputs are removed from the file, but the network was trained on them, and what its \
                                 weights have learned from them cannot be taken out: where that matters, learn the other classes into a \
                                 new file";

/// Pictures that features are made of between two looks at whether somebody has interrupted.
const AT_ONCE: usize = 256;

/// Whether a picture of C×H×W bytes has no colour.
pub(super) fn is_grey(pixels: &[u8], channels: usize) -> bool {
    let plane = pixels.len() / channels;
    pixels[plane..].iter().enumerate().all(|(i, value)| *value == pixels[i % plane])
}

impl Session {
    /// Learns pictures with the names of their classes. Known classes get more of them, new ones are added. A picture that is
    /// known already is not counted twice; if it comes with another class, it is moved there.
    ///
    /// # Errors
    /// [`Error::Usage`] if a picture is of another size or a name is none; whatever the device refuses. The session is as it was
    /// then.
    pub fn learn(&mut self, pictures: Vec<(Picture, String)>) -> Result<Learned> {
        self.learn_with(pictures, &mut Silent, &AtomicBool::new(false))
    }

    /// The same; where the network is trained, a listener is told how far it is. Somebody may interrupt it.
    ///
    /// # Errors
    /// As [`Session::learn`]; [`Error::Interrupted`]. The session is as it was then.
    pub fn learn_with(
        &mut self,
        pictures: Vec<(Picture, String)>,
        listener: &mut dyn Listener,
        interrupted: &AtomicBool,
    ) -> Result<Learned> {
        let new = self.checked(pictures)?;
        match self.way() {
            Way::Growing(kind) => self.grow(kind, &new, listener, interrupted),
            Way::Frozen(_) => self.learn_frozen(&new, interrupted),
        }
    }

    fn checked(&self, pictures: Vec<(Picture, String)>) -> Result<Vec<growing::New>> {
        let n_bytes = self.input().iter().product::<usize>();
        let mut new = Vec::with_capacity(pictures.len());
        for (picture, class) in pictures {
            if picture.pixels.len() != n_bytes {
                let [c, h, w] = self.input();
                let n = picture.pixels.len();
                return Err(Error::usage(format!("{}: {n} bytes are no picture of {c}×{h}×{w}", picture.name)));
            }
            new.push((picture.digest(), picture, class_name(&class)?));
        }
        Ok(new)
    }

    fn learn_frozen(&mut self, new: &[growing::New], interrupted: &AtomicBool) -> Result<Learned> {
        let mut features = Vec::new();
        for chunk in new.chunks(AT_ONCE) {
            if interrupted.load(Relaxed) {
                return Err(Error::Interrupted);
            }
            features.extend(self.features_of(chunk.iter().map(|(_, picture, _)| picture))?);
        }
        let before = (self.classes.clone(), self.known.clone(), self.exemplars.clone(), self.exemplar_digests.clone());
        let learned = self.take_in(new, &features);
        let fitted = self.choose_exemplars(new).and_then(|()| self.fit());
        if let Err(error) = fitted {
            (self.classes, self.known, self.exemplars, self.exemplar_digests) = before;
            self.fit()?;
            return Err(error);
        }
        for class in &learned.classes {
            self.note("learned", &class.name, class.n_added + class.n_moved);
        }
        Ok(learned)
    }

    /// Features of pictures, n rows of D; of coloured ones averaged with those of the mirror image, where the backbone is for that.
    pub(super) fn features_of<'a>(&self, pictures: impl Iterator<Item = &'a Picture>) -> Result<Vec<f32>> {
        let images = self.as_images(pictures);
        let (channels, n) = (images.channels, images.len());
        // Writing has no colours and no mirror images.
        let is_grey = |i: &u32| is_grey(images.image(*i as usize), channels);
        let (grey, coloured): (Vec<u32>, Vec<u32>) = (0..n as u32).partition(is_grey);
        let d = self.backbone.n_features();
        let mut features = vec![0.0; n * d];
        for (places, mirrored) in [(&grey, false), (&coloured, self.backbone.subject.flips)] {
            let rows = self.backbone.features(&images, places, mirrored)?;
            for (&place, row) in places.iter().zip(rows.chunks_exact(d)) {
                features[place as usize * d..][..d].copy_from_slice(row);
            }
        }
        match features.iter().all(|x| x.is_finite()) {
            true => Ok(features),
            false => Err(Error::Training("the backbone makes features that are no finite numbers".into())),
        }
    }

    fn take_in(&mut self, new: &[(u128, Picture, String)], features: &[f32]) -> Learned {
        let (d, channels) = (self.backbone.n_features(), self.input()[0]);
        let mut reports: Vec<ClassReport> = Vec::new();
        for ((digest, picture, class), features) in new.iter().zip(features.chunks_exact(d)) {
            let (label, is_new) = match self.classes.iter().position(|known| known.name == *class) {
                Some(label) => (label, false),
                None => {
                    self.classes.push(Class { name: class.clone(), n: 0 });
                    (self.classes.len() - 1, true)
                }
            };
            let at = reports.iter().position(|report| report.name == *class).unwrap_or_else(|| {
                reports.push(ClassReport::empty(class, is_new));
                reports.len() - 1
            });
            match self.known.get_mut(digest) {
                Some(known) if known.label as usize == label => reports[at].n_known += 1,
                Some(known) => {
                    known.label = label as u32;
                    reports[at].n_moved += 1;
                }
                None => {
                    let (name, features) = (picture.name.clone(), features.to_vec());
                    let is_grey = is_grey(&picture.pixels, channels);
                    self.known.insert(*digest, Known { label: label as u32, name, features, is_grey });
                    reports[at].n_added += 1;
                }
            }
        }
        self.count();
        for report in &mut reports {
            let label = self.classes.iter().position(|class| class.name == report.name);
            report.n_now = label.map_or(0, |label| self.classes[label].n);
        }
        // A class from which every picture was moved away is no class any more.
        self.drop_empty_classes();
        Learned { classes: reports }
    }

    /// Counts the pictures of each class.
    pub(super) fn count(&mut self) {
        self.classes.iter_mut().for_each(|class| class.n = 0);
        match &self.grown {
            Some(grown) => grown.learned.values().for_each(|&label| self.classes[label as usize].n += 1),
            None => self.known.values().for_each(|known| self.classes[known.label as usize].n += 1),
        }
    }

    /// Removes classes without pictures, and what belonged to forgotten pictures. Returns how many classes went.
    fn drop_empty_classes(&mut self) -> usize {
        let new_label: Vec<u32> = self
            .classes
            .iter()
            .scan(0, |next, class| {
                let label = *next;
                *next += u32::from(class.n > 0);
                Some(label)
            })
            .collect();
        self.known.values_mut().for_each(|known| known.label = new_label[known.label as usize]);
        let n_before = self.classes.len();
        self.classes.retain(|class| class.n > 0);
        n_before - self.classes.len()
    }

    /// Of each class the pictures that herding chooses among the exemplars so far and the new pictures.
    fn choose_exemplars(&mut self, new: &[(u128, Picture, String)]) -> Result<()> {
        let mut kept: BTreeSet<u128> = self.exemplar_digests.iter().copied().collect();
        for (digest, picture, _) in new {
            if kept.insert(*digest) {
                self.exemplars.push(&picture.pixels, 0);
                self.exemplar_digests.push(*digest);
            }
        }
        self.bound_exemplars()
    }

    /// Keeps so many exemplars of each class as the settings say, those that herding chooses, and those of known pictures only.
    pub(super) fn bound_exemplars(&mut self) -> Result<()> {
        let d = self.backbone.n_features();
        let mut of_class: Vec<Vec<(u128, usize)>> = vec![Vec::new(); self.classes.len()];
        for (place, digest) in self.exemplar_digests.iter().enumerate() {
            if let Some(known) = self.known.get(digest) {
                of_class[known.label as usize].push((*digest, place));
            }
        }
        let (mut exemplars, mut digests) = (ImageStore::new(self.input()), Vec::new());
        for (label, mut pictures) in of_class.into_iter().enumerate() {
            let m = self.settings.exemplars.min(pictures.len());
            if m == 0 {
                continue;
            }
            // The choice does not depend on the order of learning.
            pictures.sort_unstable();
            let rows: Vec<f32> =
                pictures.iter().flat_map(|(digest, _)| &self.known[digest].features).copied().collect();
            let rows = Tensor::from_f32(&Device::cpu(), [pictures.len(), d], &rows)?.l2_normalize()?;
            for pick in rows.herding(m)?.to_u32()? {
                let (digest, place) = pictures[pick as usize];
                exemplars.push(self.exemplars.images().image(place), label as u32);
                digests.push(digest);
            }
        }
        (self.exemplars, self.exemplar_digests) = (exemplars, digests);
        Ok(())
    }

    /// Forgets a class. Of features that do not change: what is left is what there would be if it had never been learned. Where the
    /// network is trained: see [`NOT_UNLEARNED`].
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such class.
    pub fn forget(&mut self, class: &str) -> Result<Forgotten> {
        let label = self.label_of(class)? as u32;
        let name = self.classes[label as usize].name.clone();
        let forgotten = self.forget_where(|_, own| own == label)?;
        self.note("forgot", &name, forgotten.n_pictures);
        Ok(forgotten)
    }

    /// Forgets a picture, wherever it was learned.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is not known.
    pub fn forget_picture(&mut self, picture: &Picture) -> Result<Forgotten> {
        self.forget_pictures(std::slice::from_ref(picture))
    }

    /// Forgets pictures, wherever they were learned; one may be there twice.
    ///
    /// # Errors
    /// [`Error::Usage`] if one is not known; nothing is forgotten then.
    pub fn forget_pictures(&mut self, pictures: &[Picture]) -> Result<Forgotten> {
        let mut label_of: BTreeMap<u128, u32> = BTreeMap::new();
        for picture in pictures {
            let digest = picture.digest();
            let label = match &self.grown {
                Some(grown) => grown.learned.get(&digest).copied(),
                None => self.known.get(&digest).map(|known| known.label),
            };
            let Some(label) = label else {
                let message = format!("{}: this picture was never learned, or was forgotten before", picture.name);
                return Err(Error::usage(message));
            };
            label_of.insert(digest, label);
        }
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        label_of.values().for_each(|label| *counts.entry(*label).or_default() += 1);
        let counts: Vec<(String, usize)> =
            counts.into_iter().map(|(label, n)| (self.classes[label as usize].name.clone(), n)).collect();
        let forgotten = self.forget_where(|own, _| label_of.contains_key(&own))?;
        counts.iter().for_each(|(class, n)| self.note("forgot", class, *n));
        Ok(forgotten)
    }

    fn forget_where(&mut self, is_forgotten: impl Fn(u128, u32) -> bool) -> Result<Forgotten> {
        if self.grown.is_some() {
            return self.forget_grown(is_forgotten);
        }
        let n = self.known.len();
        self.known.retain(|digest, known| !is_forgotten(*digest, known.label));
        self.count();
        let n_classes = self.drop_empty_classes();
        self.bound_exemplars()?;
        self.fit()?;
        Ok(Forgotten { n_pictures: n - self.known.len(), n_classes })
    }

    /// Makes two classes one, under the name of the second. Returns the number of its pictures.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such class, both are the same, or the network is trained.
    pub fn merge(&mut self, from: &str, into: &str) -> Result<usize> {
        let (from, into) = (self.label_of(from)?, self.label_of(into)?);
        if from == into {
            return Err(Error::usage("a class cannot be merged with itself"));
        }
        if self.grown.is_some() {
            return Err(Error::usage(
                "two outputs of a trained network cannot be made one: forget the class, and learn its pictures under the other name",
            ));
        }
        let name = format!("{} into {}", self.classes[from].name, self.classes[into].name);
        self.known
            .values_mut()
            .filter(|known| known.label as usize == from)
            .for_each(|known| known.label = into as u32);
        self.count();
        let n = self.classes[into].n;
        self.drop_empty_classes();
        self.bound_exemplars()?;
        self.fit()?;
        self.note("merged", &name, n);
        Ok(n)
    }

    /// All features, in the order of digests, and their labels.
    pub(super) fn rows(&self) -> (Vec<f32>, Vec<u32>) {
        let features = self.known.values().flat_map(|known| &known.features).copied().collect();
        (features, self.known.values().map(|known| known.label).collect())
    }

    /// Whether the network is trained, and how: as before, or by the settings. Of themselves features do not change: on training
    /// pictures by 100 of each class training with plain cross-entropy answered 69.1 % of CIFAR-10's and 98.1 % of MNIST's right in a minute and a half, `ranpac`
    /// 69.1 % and 96.6 % in seconds, and it can unlearn.
    fn way(&self) -> Way {
        match &self.fitted {
            Some(fitted) if fitted.way.grows() => fitted.way,
            _ => self.settings.method.unwrap_or(Way::Frozen(FrozenKind::Ncm)),
        }
    }

    /// Statistics of frozen features, by the settings or by the pictures, with how they are judged.
    fn trial(&self, features: &[f32], labels: &[u32]) -> Result<(FrozenKind, estimate::Trial)> {
        let (n, d, seed) = (labels.len(), self.backbone.n_features(), self.settings.seed);
        let judged = |kind| -> Result<(FrozenKind, estimate::Trial)> {
            Ok((kind, estimate::hold_out(kind, features, labels, d, seed)?))
        };
        let means = match self.settings.method {
            Some(Way::Frozen(kind)) => return judged(kind),
            _ if n >= FEW * self.classes.len() => return judged(FrozenKind::Ranpac),
            _ => judged(FrozenKind::Ncm)?,
        };
        // One by one it is cheap.
        if !(ENOUGH..=estimate::MOST_ONE_BY_ONE).contains(&n) {
            return Ok(means);
        }
        let fitted = judged(FrozenKind::Ranpac)?;
        let right = |trial: &estimate::Trial| trial.estimate.as_ref().map_or(0.0, Estimate::accuracy);
        Ok(if right(&fitted.1) >= right(&means.1) + BETTER { fitted } else { means })
    }

    /// Computes what tells classes apart from everything known.
    pub(super) fn fit(&mut self) -> Result<()> {
        if self.classes.is_empty() {
            self.fitted = None;
            return Ok(());
        }
        let d = self.backbone.n_features();
        let (features, labels) = self.rows();
        let (kind, trial) = self.trial(&features, &labels)?;
        let mut statistics = trial.statistics;
        statistics.learn(&features, &labels)?;
        statistics.fit()?;
        let threshold = threshold::threshold(&features, &labels, d, None)?;
        let (temperature, estimate, way) = (trial.temperature, trial.estimate, Way::Frozen(kind));
        self.fitted = Some(Fitted { way, statistics: Some(statistics), temperature, threshold, estimate });
        Ok(())
    }
}
