//! What the method of a complete run keeps, in `memory.safetensors`: the pictures themselves and what it knows of them, so that a
//! learner goes on from the run without its data set. Some test pictures lie beside them, to judge that learner by.

use super::saved::{self, ModelCard};
use crate::continual::MethodState;
use crate::error::{Error, Result};
use crate::learner::ImageStore;
pub use crate::records::folder::MEMORY_FILE;
use crate::records::sealed;
use crate::records::tensors::{Read, Stored, Tensors, description, to_bytes};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The format of the file.
const FORMAT: u32 = 1;
/// The field of the metadata.
const FIELD: &str = "engram.memory";
/// No memory is nearly so large.
const MOST_BYTES: u64 = 8 << 30;
/// Pictures, (n, C, H, W), their labels and MD5s, and 1 for those that judge.
const PICTURES: &str = "pictures";
const LABELS: &str = "labels";
const DIGESTS: &str = "digests";
const HELD_OUT: &str = "held_out";
/// The MD5 of every picture that was learned, and its label.
const LEARNED: &str = "learned.digests";
const LEARNED_LABELS: &str = "learned.labels";
/// Before the names of what the method keeps.
const STATE: &str = "method.";

/// Pictures that judge are at most this part of the memory.
pub const JUDGES: usize = 4;

/// What a method keeps, with the pictures themselves.
pub struct KeptMemory {
    /// The most pictures that the method keeps.
    pub capacity: usize,
    /// Of the run.
    pub seed: u64,
    /// Tasks, and passes over their data.
    pub n_trainings: usize,
    /// See `n_trainings`.
    pub n_epochs: usize,
    /// Pictures by place: those that the method keeps, then those that judge.
    pub pictures: ImageStore,
    /// The digest of each of them.
    pub digests: Vec<u128>,
    /// Those that judge: they were not trained on.
    pub held_out: BTreeSet<u128>,
    /// Every picture that was learned and those that judge, by digest, with its label.
    pub learned: BTreeMap<u128, u32>,
    /// What the method keeps; its samples are places among the pictures.
    pub state: MethodState,
}

/// What the metadata say.
#[derive(Serialize, Deserialize)]
struct Described {
    format: u32,
    version: String,
    /// CRC-32 of the weights that it belongs to.
    weights: String,
    capacity: u32,
    seed: u64,
    n_trainings: u32,
    n_epochs: u32,
    state: Map<String, Value>,
}

impl KeptMemory {
    /// The content of the file. `weights` is the checksum of the run's weights.
    ///
    /// # Errors
    /// If there is more than a file can hold.
    pub fn to_bytes(&self, weights: String) -> Result<Vec<u8>> {
        let bounded = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let described = Described {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            weights,
            capacity: bounded(self.capacity),
            seed: self.seed,
            n_trainings: bounded(self.n_trainings),
            n_epochs: bounded(self.n_epochs),
            state: self.state.json.clone(),
        };
        let text = serde_json::to_string(&described).expect("bug: a memory is no JSON");
        let images = self.pictures.images();
        let n = images.len();
        let flags = self.digests.iter().map(|digest| u8::from(self.held_out.contains(digest))).collect();
        let labels: Vec<u32> = self.learned.values().copied().collect();
        let shape = [n, images.channels, images.height, images.width];
        let mut tensors = Tensors::from([
            (PICTURES.into(), Stored::u8(&shape, images.pixels.clone())),
            (LABELS.into(), Stored::u32(&images.labels)),
            (DIGESTS.into(), Stored::digests(self.digests.iter())),
            (HELD_OUT.into(), Stored::u8(&[n], flags)),
            (LEARNED.into(), Stored::digests(self.learned.keys())),
            (LEARNED_LABELS.into(), Stored::u32(&labels)),
        ]);
        for (name, values) in &self.state.tensors {
            tensors.insert(format!("{STATE}{name}"), Stored::f32(&[values.len()], values));
        }
        to_bytes(FIELD, text, tensors)
    }

    /// Reads the file of a run with this card; `None` if the run has none.
    ///
    /// # Errors
    /// If it is damaged, of a newer version, or belongs to other weights.
    pub fn read(folder: &Path, card: &ModelCard) -> Result<Option<KeptMemory>> {
        let path = folder.join(MEMORY_FILE);
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let bytes = sealed::read(folder, MEMORY_FILE, MOST_BYTES)?;
        let damaged = |why: &str| {
            Error::file(&path, format!("damaged: {why}; copy the run folder again as a whole, or repeat the run"))
        };
        let text = description(&bytes, FIELD).map_err(|why| damaged(&why))?;
        let version: Value = serde_json::from_str(&text).map_err(|e| damaged(&e.to_string()))?;
        if version["format"].as_u64().is_some_and(|format| format > u64::from(FORMAT)) {
            return Err(Error::file(&path, "written by a newer engram: update this one"));
        }
        let file = Read::of(&bytes, &text, &damaged)?;
        let described: Described = serde_json::from_value(version).map_err(|e| damaged(&e.to_string()))?;
        if card.checksums.get(saved::WEIGHTS) != Some(&described.weights) {
            return Err(damaged("it belongs to other weights than those beside it"));
        }
        let ([c, h, w], n_classes) = (card.input, card.classes.len());
        let (n, n_learned) = (file.len_of(DIGESTS), file.len_of(LEARNED));
        let labels = file.labels(LABELS, n, n_classes)?;
        let mut pictures = ImageStore::new(card.input);
        for (pixels, &label) in file.u8(PICTURES, &[n, c, h, w])?.chunks_exact(c * h * w).zip(&labels) {
            pictures.push(pixels, label);
        }
        let digests = file.digests(DIGESTS, n)?;
        let flags = digests.iter().zip(file.u8(HELD_OUT, &[n])?);
        let held_out = flags.filter(|(_, flag)| **flag > 0).map(|(digest, _)| *digest).collect();
        let of_learned = file.digests(LEARNED, n_learned)?;
        let learned: BTreeMap<u128, u32> =
            of_learned.into_iter().zip(file.labels(LEARNED_LABELS, n_learned, n_classes)?).collect();
        let distinct: BTreeSet<&u128> = digests.iter().collect();
        if distinct.len() != n || !digests.iter().zip(&labels).all(|(digest, label)| learned.get(digest) == Some(label))
        {
            return Err(damaged("the pictures that it keeps and those that were learned contradict each other"));
        }
        Ok(Some(KeptMemory {
            capacity: described.capacity as usize,
            seed: described.seed,
            n_trainings: described.n_trainings as usize,
            n_epochs: described.n_epochs as usize,
            pictures,
            digests,
            held_out,
            learned,
            state: MethodState { json: described.state, tensors: file.all_f32(STATE)? },
        }))
    }
}
