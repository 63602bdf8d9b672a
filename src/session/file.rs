//! A session in one safetensors file: weights, features and exemplars as tensors, everything else as JSON in the file's metadata,
//! with a checksum over both. `docs/for-products.md` lists what is in it, for readers in other languages.

use super::backbone::Card;
use super::file_grown::{self, GrownCard};
use super::{Backbone, Class, Estimate, Event, Fitted, Known, Session, Settings, Way};
use crate::data::labelled::class_name;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::learner::ImageStore;
use crate::learner::frozen::{FrozenKind, Ranpac, Statistics};
use crate::records::tensors::{Read, Stored, Tensors, description, to_bytes};
use crate::records::{behind_link, write_atomically};
use crate::settings::Choose;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The formats that this version writes, and reads: that of frozen features, which earlier ones read too, and that of a trained network.
const FORMAT: u32 = 1;
const FORMAT_GROWN: u32 = 3;
/// The field of the metadata.
const CARD: &str = "engram.session";
/// Before the names of the backbone's tensors, which are PyTorch's.
const NETWORK: &str = "backbone.";
/// (pictures, D), their labels, the MD5 of their bytes, and 1 where they have no colour.
const FEATURES: &str = "features";
const LABELS: &str = "labels";
const DIGESTS: &str = "digests";
const GREY: &str = "grey";
/// (exemplars, C, H, W), and which pictures they are.
const EXEMPLARS: &str = "exemplars";
const EXEMPLAR_DIGESTS: &str = "exemplar_digests";
/// Vᵀ of RanPAC, (classes, M).
const WEIGHTS: &str = "ranpac.weights";
/// No learner is nearly so large.
const MOST_BYTES: u64 = 8 << 30;
const MOST_OUTPUTS: usize = 1 << 17;
const MOST_SIDE: usize = 1 << 12;

/// What the metadata say.
#[derive(Serialize, Deserialize)]
struct Described {
    format: u32,
    version: String,
    backbone: Card,
    settings: Kept,
    classes: Vec<Class>,
    fitted: Option<Fit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grown: Option<GrownCard>,
    /// The names of the pictures' files.
    pictures: Vec<String>,
    history: Vec<Event>,
}

#[derive(Deserialize)]
struct Version {
    format: u32,
    version: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    method: Option<String>,
    exemplars: usize,
    #[serde(default = "usual_memory")]
    memory: usize,
    #[serde(default = "usual_steps")]
    steps: usize,
    seed: u64,
}

fn usual_memory() -> usize {
    Settings::default().memory
}

fn usual_steps() -> usize {
    Settings::default().steps
}

#[derive(Serialize, Deserialize)]
struct Fit {
    method: String,
    temperature: f64,
    threshold: f32,
    estimate: Option<Estimate>,
}

impl Session {
    /// Writes the file, as a whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written; an earlier file is whole then.
    pub fn save(&self, path: &Path) -> Result<()> {
        // Of a link, the file behind it is the learner.
        write_atomically(&behind_link(path), &self.to_bytes()?)
    }

    /// The content of the file.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let text = serde_json::to_string(&self.described()).expect("bug: a session is no JSON");
        to_bytes(CARD, text, self.tensors()?)
    }

    fn described(&self) -> Described {
        let Settings { method, exemplars, memory, steps, seed } = self.settings;
        let fit = |fitted: &Fitted| Fit {
            method: fitted.way.name().into(),
            temperature: fitted.temperature,
            threshold: fitted.threshold,
            estimate: fitted.estimate.clone(),
        };
        Described {
            format: if self.grown.is_some() { FORMAT_GROWN } else { FORMAT },
            version: env!("CARGO_PKG_VERSION").into(),
            backbone: self.backbone.card.clone(),
            settings: Kept { method: method.map(|method| method.name().into()), exemplars, memory, steps, seed },
            classes: self.classes.clone(),
            fitted: self.fitted.as_ref().map(fit),
            grown: self.grown.as_ref().map(GrownCard::of),
            pictures: self.known.values().map(|known| known.name.clone()).collect(),
            history: self.history.clone(),
        }
    }

    fn tensors(&self) -> Result<Tensors> {
        let network = self.backbone.network();
        let mut tensors = Tensors::new();
        for (name, shape, values) in network.parameters.to_host()? {
            tensors.insert(format!("{NETWORK}{name}"), Stored::f32(&shape, &values));
        }
        for (name, values) in network.statistics.to_host()? {
            tensors.insert(format!("{NETWORK}{name}"), Stored::f32(&[values.len()], &values));
        }
        let (features, labels) = self.rows();
        let n = labels.len();
        tensors.insert(FEATURES.into(), Stored::f32(&[n, self.backbone.n_features()], &features));
        tensors.insert(LABELS.into(), Stored::u32(&labels));
        tensors.insert(DIGESTS.into(), Stored::digests(self.known.keys()));
        let grey = self.known.values().map(|known| u8::from(known.is_grey)).collect();
        tensors.insert(GREY.into(), Stored::u8(&[n], grey));
        let [c, h, w] = self.input();
        let n = self.exemplars.len();
        tensors.insert(EXEMPLARS.into(), Stored::u8(&[n, c, h, w], self.exemplars.images().pixels.clone()));
        tensors.insert(EXEMPLAR_DIGESTS.into(), Stored::digests(self.exemplar_digests.iter()));
        if let Some(grown) = &self.grown {
            file_grown::add(grown, self.classes.len(), &self.exemplar_digests, &mut tensors);
        }
        let statistics = self.fitted.as_ref().and_then(|fitted| fitted.statistics.as_ref());
        if let Some(weights) = statistics.and_then(|statistics| statistics.weights()) {
            let width = weights.len() / self.classes.len();
            tensors.insert(WEIGHTS.into(), Stored::f32(&[self.classes.len(), width], weights));
        }
        Ok(tensors)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none; another if it is damaged, or from a newer engram.
    pub fn load(path: &Path, device: &Device) -> Result<Session> {
        let found = path.metadata().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                let message = "there is no such file: `engram learn FILE --from DIR` makes one";
                Error::usage(format!("{}: {message}", path.display()))
            }
            _ => Error::io(path, "read")(e),
        })?;
        if !found.is_file() || found.len() > MOST_BYTES {
            return Err(Error::file(path, format!("no regular file of at most {} GiB", MOST_BYTES >> 30)));
        }
        Session::of_bytes(&std::fs::read(path).map_err(Error::io(path, "read"))?, path, device)
    }

    /// The same from the bytes of a file, which messages call `path`.
    ///
    /// # Errors
    /// As [`Session::load`].
    pub fn of_bytes(bytes: &[u8], path: &Path, device: &Device) -> Result<Session> {
        let foreign = |why: String| Error::file(path, format!("no learner of engram: {why}"));
        let text = &description(bytes, CARD).map_err(foreign)?;
        // Before anything else, whose meaning depends on it.
        let version: Version = serde_json::from_str(text).map_err(|e| foreign(e.to_string()))?;
        if version.format > FORMAT_GROWN {
            let (ours, theirs) = (
                env!("CARGO_PKG_VERSION"),
                version.version.chars().filter(|c| !c.is_control()).take(20).collect::<String>(),
            );
            let message =
                format!("written by a newer engram ({theirs}, format {}); this is {ours}: update it", version.format);
            return Err(Error::file(path, message));
        }
        let damaged = |why: &str| {
            Error::file(
                path,
                format!("damaged: {why}; copy it again from where it is whole, or learn again into a new file"),
            )
        };
        let read = Read::of(bytes, text, &damaged)?;
        let described: Described = serde_json::from_str(text).map_err(|e| damaged(&e.to_string()))?;
        read.session(described, device)
    }
}

impl Read<'_> {
    fn backbone(&self, card: Card, device: &Device) -> Result<Backbone> {
        let [c, h, w] = card.input;
        let finite = |values: &[f32]| values.iter().all(|x| x.is_finite());
        let fits = [1, 3].contains(&c)
            && [h, w].iter().all(|side| (1..=MOST_SIDE).contains(side))
            && card.of_height.is_none_or(|of| (h..=MOST_SIDE).contains(&of))
            && (1..=MOST_OUTPUTS).contains(&card.n_outputs)
            && (card.mean.len() == c || card.mean.len() == c * h * w)
            && card.std.len() == c
            && finite(&card.mean)
            && finite(&card.std)
            && card.std.iter().all(|&std| std > 0.0);
        if !fits {
            return Err((self.damaged)("what it says of its backbone contradicts itself"));
        }
        // Nothing is allocated for what the file merely claims.
        let layers = card.table().map_err(|e| (self.damaged)(&e.to_string()))?;
        let n_claimed = layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.n_parameters as u64));
        let own = self.tensors.iter().filter(|(name, _)| name.starts_with(NETWORK));
        if n_claimed > own.map(|(_, view)| view.data().len() as u64 / 4).sum() {
            return Err((self.damaged)("weights of its backbone are missing"));
        }
        let network = card.network(device)?;
        for (name, shape, _) in network.parameters.to_host()? {
            network.parameters.set(name, &shape, &self.f32(&format!("{NETWORK}{name}"), &shape)?)?;
        }
        let statistics = network.statistics.to_host()?.into_iter();
        let statistics: Result<Vec<Vec<f32>>> =
            statistics.map(|(name, values)| self.f32(&format!("{NETWORK}{name}"), &[values.len()])).collect();
        network.statistics.set(&statistics?)?;
        Backbone::of(card, network).map_err(|e| (self.damaged)(&e.to_string()))
    }

    fn session(&self, described: Described, device: &Device) -> Result<Session> {
        let damaged = self.damaged;
        let way = |name: &String| Way::named(name).ok_or_else(|| damaged("it names a method that there is not"));
        let settings = Settings {
            method: described.settings.method.as_ref().map(way).transpose()?,
            exemplars: described.settings.exemplars,
            memory: described.settings.memory,
            steps: described.settings.steps,
            seed: described.settings.seed,
        };
        let backbone = self.backbone(described.backbone, device)?;
        let mut session = Session::new(backbone, settings).map_err(|e| damaged(&e.to_string()))?;
        let (n, d) = (described.pictures.len(), session.backbone.n_features());
        let features = self.f32(FEATURES, &[n, d])?;
        let labels = self.labels(LABELS, n, described.classes.len())?;
        let digests = self.digests(DIGESTS, n)?;
        let grey = self.u8(GREY, &[n])?;
        let rows = digests.into_iter().zip(labels).zip(described.pictures).zip(features.chunks_exact(d)).zip(grey);
        session.known = rows
            .map(|((((digest, label), name), features), &grey)| {
                (digest, Known { label, name, features: features.to_vec(), is_grey: grey > 0 })
            })
            .collect();
        let named = described.classes.iter().all(|class| class_name(&class.name).is_ok_and(|name| name == class.name));
        session.classes = described.classes;
        self.exemplars(&mut session)?;
        if let Some(card) = described.grown {
            session.grown = Some(self.grown(card, &session)?);
        }
        let before: Vec<usize> = session.classes.iter().map(|class| class.n).collect();
        session.count();
        if session.known.len() != n || !named || session.classes.iter().map(|class| class.n).ne(before) {
            return Err(damaged("its pictures and classes contradict each other"));
        }
        session.history = described.history;
        if let Some(fit) = described.fitted {
            let way = way(&fit.method)?;
            if way.grows() != session.grown.is_some() {
                return Err(damaged("its method and its pictures contradict each other"));
            }
            let statistics = match way {
                Way::Frozen(kind) => Some(self.statistics(&session, kind)?),
                Way::Growing(_) => None,
            };
            let (temperature, threshold) = (fit.temperature, fit.threshold);
            let in_place = |estimate: &Estimate| estimate.fits(session.classes.len());
            let sound = temperature > 0.0 && threshold.is_finite() && fit.estimate.as_ref().is_none_or(in_place);
            if !sound {
                return Err(damaged("what it says of its accuracy contradicts itself"));
            }
            let estimate = fit.estimate;
            session.fitted = Some(Fitted { way, statistics, temperature, threshold, estimate });
        }
        match session.fitted.is_none() == session.classes.is_empty() {
            true => Ok(session),
            false => Err(damaged("its classes were not fitted")),
        }
    }

    fn exemplars(&self, session: &mut Session) -> Result<()> {
        let n = self.len_of(EXEMPLAR_DIGESTS);
        let ([c, h, w], digests) = (session.input(), self.digests(EXEMPLAR_DIGESTS, n)?);
        let pixels = self.u8(EXEMPLARS, &[n, c, h, w])?;
        let mut exemplars = ImageStore::new([c, h, w]);
        for (digest, pixels) in digests.iter().zip(pixels.chunks_exact(c * h * w)) {
            let Some(known) = session.known.get(digest) else {
                return Err((self.damaged)("an exemplar is none of its pictures"));
            };
            exemplars.push(pixels, known.label);
        }
        (session.exemplars, session.exemplar_digests) = (exemplars, digests);
        Ok(())
    }

    /// What tells classes apart: read where it is dear to compute, otherwise computed.
    fn statistics(&self, session: &Session, kind: FrozenKind) -> Result<Box<dyn Statistics>> {
        let (n, d, seed) = (session.classes.len(), session.backbone.n_features(), session.settings.seed);
        if kind == FrozenKind::Ranpac {
            let weights = self.f32(WEIGHTS, &[n, Ranpac::PROJECTIONS])?;
            return Ok(Box::new(Ranpac::new(d, Ranpac::PROJECTIONS, seed)?.with_weights(weights)));
        }
        let (features, labels) = session.rows();
        let mut statistics = kind.build(d, seed)?;
        statistics.learn(&features, &labels)?;
        statistics.fit()?;
        Ok(statistics)
    }
}
