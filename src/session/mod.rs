//! Floor 8: a learner that is kept. A [`Session`] learns classes of pictures when they come, tells them apart, forgets those it is
//! told to, and lies in one file that needs nothing beside it.
//!
//! As a rule the features of a [`Backbone`] do not change, so nothing is forgotten by learning: what is kept of a picture is its vector of
//! features (and of a few pictures per class the bytes, as [exemplars](Session::exemplars)), and what tells classes apart is
//! computed anew from all of them ([`frozen`](crate::learner::frozen)). The order in which pictures came leaves no trace in that,
//! and neither does a picture that was forgotten: the bits are the same. Which pictures are kept as exemplars may depend on both.
//! By a [`Growing`] method the network itself is trained, on new pictures and on those of a bounded memory; what weights have learned cannot be taken out of them again. A complete run of such
//! a method becomes a session by [`Session::of_run`].
//!
//! ```
//! use engram::Device;
//! use engram::session::{Backbone, Picture, Session, Settings};
//! // Twenty pictures in two colours, in place of files: `Picture::read` takes those.
//! let picture = |i: u8, class: &str| {
//!     let (red, blue) = if class == "fire" { (200 + i, 20) } else { (20, 200 + i) };
//!     let pixels = [vec![red; 1024], vec![i; 1024], vec![blue; 1024]].concat();
//!     Picture { name: format!("{class} {i}"), pixels }
//! };
//! let pictures = |class: &str| (0..10).map(|i| (picture(i, class), class.to_string())).collect::<Vec<_>>();
//! let mut session = Session::new(Backbone::open("natural32", &Device::cpu())?, Settings::default())?;
//! session.learn(pictures("fire"))?;
//! session.learn(pictures("water"))?; // nothing is needed from before
//! let answers = session.classify(&[picture(30, "fire")])?;
//! assert_eq!(session.classes()[answers[0].ranked[0].label].name, "fire");
//! session.forget("fire")?;
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("colours.engram");
//! session.save(&path)?;
//! assert_eq!(Session::load(&path, &Device::cpu())?.classes()[0].name, "water");
//! # Ok::<(), engram::Error>(())
//! ```

mod backbone;
mod carried;
mod classify;
mod estimate;
mod export;
mod file;
mod file_grown;
mod growing;
mod grown;
mod memory;
mod of_run;
mod quarters;
mod reading;
mod threshold;
mod torchvision;
mod way;

pub use backbone::Backbone;
pub use classify::{Answer, Nearest, Ranked};
pub use estimate::{Confusion, Estimate, Judged};
pub use memory::{ClassReport, Forgotten, Learned, NOT_UNLEARNED, Picture};
pub use of_run::goes_on;
pub use reading::{ReadPictures, read_files, read_labelled};
pub use way::{Growing, Way};

use crate::data::labelled::class_name;
use crate::data::pictures::Frame;
use crate::error::{Error, Result, did_you_mean};
use crate::learner::ImageStore;
use crate::learner::frozen::Statistics;
use crate::settings::Choose;
use grown::Grown;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a session learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What tells classes apart; chosen by the number of pictures if `None`.
    pub method: Option<Way>,
    /// Pictures kept of each class, to be shown as reasons; where the network is trained, see `memory`.
    pub exemplars: usize,
    /// Where the network is trained: pictures kept of all classes together, to be trained on again. A quarter as many more may be kept
    /// to judge by.
    pub memory: usize,
    /// Where the network is trained: steps of 32 pictures each time that something is learned, so that ten pictures train as long as a
    /// thousand; more where that would not be two passes over the pictures.
    pub steps: usize,
    /// Of random projections, of fresh outputs, and of the order and the changes of training pictures.
    pub seed: u64,
}

impl Settings {
    /// The most steps: days of training, on any device.
    pub const MOST_STEPS: usize = 1_000_000;

    fn check(&self) -> Result<()> {
        match (1..=Settings::MOST_STEPS).contains(&self.steps) {
            true => Ok(()),
            false => Err(Error::usage(format!("{} steps: from 1 to {} can be made", self.steps, Settings::MOST_STEPS))),
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { method: None, exemplars: 10, memory: 1000, steps: 300, seed: 1 }
    }
}

/// A class that a session knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// What a person calls it.
    pub name: String,
    /// Pictures it was learned from.
    pub n: usize,
}

/// Something that was done to a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `learned`, `forgot`, `renamed` or `merged`.
    pub what: String,
    /// Of which class.
    pub class: String,
    /// How many pictures it was about.
    pub n: usize,
}

/// What is kept of a picture.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    label: u32,
    /// The name of its file.
    name: String,
    /// φ(x), or the mean with its mirror image: D numbers.
    features: Vec<f32>,
    /// Whether it has no colour: then its mirror image is not looked at.
    is_grey: bool,
}

/// What is computed from everything known.
struct Fitted {
    way: Way,
    /// Of features that do not change.
    statistics: Option<Box<dyn Statistics>>,
    /// What scores are divided by before the softmax that makes confidences of them.
    temperature: f64,
    /// A picture less similar than this to every known one is none of the classes; −1 where it cannot be told.
    threshold: f32,
    /// How well classes are told apart; `None` for fewer than two.
    estimate: Option<Estimate>,
}

/// A learner that is kept.
pub struct Session {
    backbone: Backbone,
    settings: Settings,
    /// By label.
    classes: Vec<Class>,
    /// By the MD5 of their bytes in the size that the network takes: the order of learning leaves no trace.
    known: BTreeMap<u128, Known>,
    exemplars: ImageStore,
    /// The digest of each exemplar.
    exemplar_digests: Vec<u128>,
    /// Where the network is trained.
    grown: Option<Grown>,
    fitted: Option<Fitted>,
    history: Vec<Event>,
}

impl Session {
    /// A session that knows nothing.
    ///
    /// # Errors
    /// If there are no steps, or too many.
    pub fn new(backbone: Backbone, settings: Settings) -> Result<Session> {
        settings.check()?;
        let exemplars = ImageStore::new(backbone.network().input);
        Ok(Session {
            backbone,
            settings,
            classes: Vec::new(),
            known: BTreeMap::new(),
            exemplars,
            exemplar_digests: Vec::new(),
            grown: None,
            fitted: None,
            history: Vec::new(),
        })
    }

    /// The classes it knows, by label.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// How it learns.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Changes how it learns; what is known stays.
    ///
    /// # Errors
    /// As [`Session::learn`]; [`Error::Usage`] if what it knows cannot be carried over to another method, as its pictures are not kept.
    pub fn set(&mut self, settings: Settings) -> Result<()> {
        if self.settings == settings {
            return Ok(());
        }
        settings.check()?;
        if let (Some(own), Some(wanted)) = (self.method(), settings.method)
            && own != wanted
            && (own.grows() || wanted.grows())
        {
            return Err(Error::usage(format!(
                "this learner goes by {}, and the pictures that {} would have to learn from are not kept: let it learn them into a new \
                 file",
                own.name(),
                wanted.name()
            )));
        }
        self.settings = settings;
        if self.grown.is_some() {
            return Ok(());
        }
        self.bound_exemplars()?;
        self.fit()
    }

    /// Whose features it goes by.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Channels, height and width of the pictures that its network takes.
    pub fn input(&self) -> [usize; 3] {
        self.backbone.subject.network.input
    }

    /// How pictures are fitted to its network.
    pub fn frame(&self) -> Frame {
        self.backbone.frame()
    }

    /// What tells classes apart now; `None` before the first was learned.
    pub fn method(&self) -> Option<Way> {
        self.fitted.as_ref().map(|fitted| fitted.way)
    }

    /// How well the classes are told apart, judged on pictures that were held out; `None` for fewer than two classes.
    pub fn estimate(&self) -> Option<&Estimate> {
        self.fitted.as_ref()?.estimate.as_ref()
    }

    /// Pictures learned from.
    pub fn n_pictures(&self) -> usize {
        self.classes.iter().map(|class| class.n).sum()
    }

    /// Pictures that are kept as they came, with their labels.
    pub fn exemplars(&self) -> &ImageStore {
        &self.exemplars
    }

    /// What was done to it, the oldest first.
    pub fn history(&self) -> &[Event] {
        &self.history
    }

    /// The label of the class of this name.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none; the message lists those there are.
    pub fn label_of(&self, name: &str) -> Result<usize> {
        self.classes.iter().position(|class| class.name == name.trim()).ok_or_else(|| {
            let known: Vec<&str> = self.classes.iter().map(|class| class.name.as_str()).collect();
            let listed = match known.len() {
                0 => "it knows no class yet".to_string(),
                1..=20 => format!("it knows {}", known.join(", ")),
                n => format!("it knows {n} classes, such as {}", known[..5].join(", ")),
            };
            Error::usage(format!("there is no class '{name}': {listed}{}", did_you_mean(name, &known)))
        })
    }

    /// Gives a class another name.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such class, or the new name is taken or empty.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let (label, to) = (self.label_of(from)?, class_name(to)?);
        if self.classes.iter().any(|class| class.name == to) {
            return Err(Error::usage(format!("there is a class '{to}' already: merge them, if they are the same")));
        }
        let class = &mut self.classes[label];
        self.history.push(Event { what: "renamed".into(), class: format!("{} to {to}", class.name), n: class.n });
        class.name = to;
        Ok(())
    }

    fn note(&mut self, what: &str, class: &str, n: usize) {
        self.history.push(Event { what: what.into(), class: class.into(), n });
    }
}
