//! What the file of a session has where the network is trained.

use super::Session;
use super::grown::Grown;
use crate::continual::MethodState;
use crate::error::Result;
use crate::records::tensors::{Read, Stored, Tensors};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Every picture that was learned, (n, 16), and its label.
const LEARNED: &str = "learned.digests";
const LEARNED_LABELS: &str = "learned.labels";
/// 1 for an exemplar that judges, 0 for one that is trained on.
const HELD_OUT: &str = "exemplars.held_out";
/// (classes, D), of a method that classifies by means.
const MEANS: &str = "class_means";
/// Before the names of what the method keeps.
const STATE: &str = "method.";

/// What the metadata say.
#[derive(Serialize, Deserialize)]
pub(super) struct GrownCard {
    n_trainings: usize,
    n_epochs: usize,
    n_learned: usize,
    has_means: bool,
    /// What the method keeps, as in the checkpoint of a run.
    state: Map<String, Value>,
}

impl GrownCard {
    pub fn of(grown: &Grown) -> GrownCard {
        GrownCard {
            n_trainings: grown.n_trainings,
            n_epochs: grown.n_epochs,
            n_learned: grown.learned.len(),
            has_means: grown.means.is_some(),
            state: grown.state.json.clone(),
        }
    }
}

/// In files of format 2 the memory of DER++ has no name.
fn named(state: MethodState) -> MethodState {
    if !state.json.contains_key("capacity") {
        return state;
    }
    let tensors = state.tensors.into_iter().map(|(name, values)| (format!("memory.{name}"), values)).collect();
    MethodState { json: Map::from_iter([("memory".into(), Value::Object(state.json))]), tensors }
}

/// Adds its tensors.
pub(super) fn add(grown: &Grown, n_classes: usize, exemplars: &[u128], tensors: &mut Tensors) {
    tensors.insert(LEARNED.into(), Stored::digests(grown.learned.keys()));
    let labels: Vec<u32> = grown.learned.values().copied().collect();
    tensors.insert(LEARNED_LABELS.into(), Stored::u32(&labels));
    let held_out: Vec<u8> = exemplars.iter().map(|digest| u8::from(grown.held_out.contains(digest))).collect();
    tensors.insert(HELD_OUT.into(), Stored::u8(&[held_out.len()], held_out));
    if let Some(means) = &grown.means {
        tensors.insert(MEANS.into(), Stored::f32(&[n_classes, means.len() / n_classes], means));
    }
    for (name, values) in &grown.state.tensors {
        tensors.insert(format!("{STATE}{name}"), Stored::f32(&[values.len()], values));
    }
}

impl Read<'_> {
    /// What there is beside the network and its pictures, whose classes and exemplars are known.
    pub(super) fn grown(&self, card: GrownCard, session: &Session) -> Result<Grown> {
        let (damaged, n, n_classes) = (self.damaged, card.n_learned, session.classes.len());
        let labels = self.labels(LEARNED_LABELS, n, n_classes)?;
        let learned: BTreeMap<u128, u32> = self.digests(LEARNED, n)?.into_iter().zip(labels).collect();
        let exemplars = &session.exemplar_digests;
        let flags = self.u8(HELD_OUT, &[exemplars.len()])?;
        let held_out: BTreeSet<u128> =
            exemplars.iter().zip(flags).filter(|(_, flag)| **flag > 0).map(|(digest, _)| *digest).collect();
        let of_class = |digest: &u128| learned.get(digest) == session.known.get(digest).map(|known| &known.label);
        if learned.len() != n || !exemplars.iter().all(of_class) || session.known.len() != exemplars.len() {
            return Err(damaged("the pictures that it keeps and those that it learned contradict each other"));
        }
        if session.backbone.network().n_outputs != n_classes.max(1) {
            return Err(damaged("its outputs and classes contradict each other"));
        }
        let d = session.backbone.network().n_features;
        let means = if card.has_means { Some(self.f32(MEANS, &[n_classes, d])?) } else { None };
        let state = named(MethodState { json: card.state, tensors: self.all_f32(STATE)? });
        let (n_trainings, n_epochs) = (card.n_trainings, card.n_epochs);
        Ok(Grown { learned, held_out, state, means, n_trainings, n_epochs })
    }
}
