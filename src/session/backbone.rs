//! Networks whose features a session goes by.

use super::quarters::{self, Quarters};
use super::torchvision;
use crate::data::pictures::Frame;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::experiment::saved::{CARD, ModelCard, WEIGHTS};
use crate::learner::{BackboneSpec, Subject};
use crate::models::{self, LayerList, ModelSettings, Network};
use crate::nn::LayerInfo;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// What a file says about a backbone beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Card {
    pub name: String,
    pub model: String,
    pub options: models::Options,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<LayerList>,
    /// Channels, height, width.
    pub input: [usize; 3],
    /// The height of which that of `input` is the middle; none where all of a picture is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_height: Option<usize>,
    pub n_outputs: usize,
    /// A pixel byte p enters the network as (p/255 − mean)/std.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    /// Whether features are averaged with those of the mirror image.
    pub flips: bool,
    /// The number of the stage whose map is looked at by quarters; none in a network that is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarters: Option<usize>,
}

impl Card {
    fn settings(&self) -> ModelSettings {
        let layers = self.layers.clone().map(Arc::new);
        ModelSettings { model: self.model.clone(), options: self.options, layers }
    }

    /// Its layers, without building it.
    pub(super) fn table(&self) -> Result<Vec<LayerInfo>> {
        self.settings().table(self.input, self.n_outputs)
    }

    /// An initialised network of this kind.
    pub(super) fn network(&self, device: &Device) -> Result<Network> {
        self.seeded_network(device, 0)
    }

    /// The same, as a seed initialises it.
    pub(super) fn seeded_network(&self, device: &Device, seed: u64) -> Result<Network> {
        self.settings().network(self.input, self.n_outputs, device, seed)
    }
}

/// A network whose features a session goes by, and how pictures enter it.
pub struct Backbone {
    pub(super) card: Card,
    pub(super) subject: Subject,
    pub(super) quarters: Option<Quarters>,
}

impl Backbone {
    /// One of [`BACKBONES`](crate::learner::BACKBONES) by name; the network of a run: its folder, or the `model.safetensors` in it; or
    /// the weights of torchvision's ResNet-18 or ResNet-34, a safetensors file of any other name.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none; those of [`ModelCard::read`] and [`Network::load_safetensors`].
    pub fn open(which: &str, device: &Device) -> Result<Backbone> {
        if let Some(spec) = BackboneSpec::named(which) {
            return Backbone::built_in(spec, device);
        }
        let path = Path::new(which);
        if path.is_file() && !path.with_file_name(CARD).is_file() {
            return torchvision::open(path, device);
        }
        let folder = match path.file_name().is_some_and(|name| name == WEIGHTS) {
            true => path.parent().unwrap_or(Path::new("")),
            false => path,
        };
        if folder.is_dir() || which.contains(['/', '\\']) {
            return Backbone::of_run(folder, device);
        }
        Err(BackboneSpec::unknown(which, "the folder of a run, or a file of torchvision's ResNet-18 or 34"))
    }

    /// A trained network with what a file says about it.
    pub(super) fn of(card: Card, network: Network) -> Result<Backbone> {
        let device = network.parameters.values().device().clone();
        let quarters = card.quarters.map(|stage| Quarters::of(&network, stage)).transpose()?;
        let subject = Subject::new(network, &device, &card.mean, &card.std, card.flips)?;
        Ok(Backbone { card, subject, quarters })
    }

    /// The same of a network that no learner goes by yet.
    pub(super) fn new(card: Card, network: Network) -> Result<Backbone> {
        Backbone::of(Card { quarters: quarters::stage_of(&network), ..card }, network)
    }

    /// Another network of this kind, with the same input pipeline.
    pub(super) fn subject_of(&self, network: Network) -> Result<Subject> {
        let device = network.parameters.values().device().clone();
        Subject::new(network, &device, &self.card.mean, &self.card.std, self.card.flips)
    }

    /// This one after a training.
    pub(super) fn trained(&self, mut subject: Subject) -> Backbone {
        let card = Card { n_outputs: subject.network.n_outputs, quarters: None, ..self.card.clone() };
        subject.flips = card.flips;
        Backbone { subject, card, quarters: None }
    }

    fn built_in(spec: &BackboneSpec, device: &Device) -> Result<Backbone> {
        let card = Card {
            name: spec.name.into(),
            model: spec.model.into(),
            options: spec.options,
            layers: None,
            input: spec.input,
            of_height: None,
            n_outputs: spec.n_outputs,
            mean: spec.mean.to_vec(),
            std: spec.std.to_vec(),
            flips: true,
            quarters: None,
        };
        let network = card.network(device)?;
        network.load_bytes(spec.weights, Path::new(spec.name))?;
        Backbone::new(card, network)
    }

    pub(super) fn of_run(folder: &Path, device: &Device) -> Result<Backbone> {
        let run = ModelCard::read(folder)?;
        if ![1, 3].contains(&run.input[0]) {
            let message = format!("its network takes {} channels, and pictures have 1 or 3", run.input[0]);
            return Err(Error::file(folder, message));
        }
        let card = Card {
            name: format!("{} on {}", run.model, run.dataset),
            model: run.model,
            options: run.options,
            layers: run.layers,
            input: run.input,
            of_height: None,
            n_outputs: run.n_outputs,
            mean: run.mean,
            std: run.std,
            flips: run.input[0] == 3,
            quarters: None,
        };
        let network = card.network(device)?;
        network.load_safetensors(&folder.join(WEIGHTS))?;
        Backbone::new(card, network)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.card.name
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.subject.network
    }

    /// How pictures are fitted to it.
    pub fn frame(&self) -> Frame {
        let shape = self.card.input;
        Frame { shape, of_height: self.card.of_height.unwrap_or(shape[1]) }
    }

    /// Mean and standard deviation that pixels are normalised by: (p/255 − mean)/std of a byte p.
    pub fn normalization(&self) -> (&[f32], &[f32]) {
        (&self.card.mean, &self.card.std)
    }

    /// Whether features are averaged with those of the mirror image.
    pub fn flips(&self) -> bool {
        self.card.flips
    }

    /// Whether both make the same features of every picture.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn is_same(&self, other: &Backbone) -> Result<bool> {
        Ok(self.card == other.card && self.network().to_safetensors()? == other.network().to_safetensors()?)
    }
}
