//! What a method keeps, carried to a network of other outputs and to pictures of other numbers.

use super::backbone::Card;
use super::growing::Course;
use super::{Backbone, Growing, Session};
use crate::continual::{Learner, Method, Renumbering};
use crate::error::{Error, Result};
use crate::models::Network;
use std::path::Path;
use std::sync::Arc;

pub(super) use crate::continual::Renumbering as Carrying;

/// A network like that of a backbone with so many outputs: those of `rows` (by new label) are the old ones of that number, the others
/// are fresh.
pub(super) fn network_of(backbone: &Backbone, n_outputs: usize, rows: &[Option<usize>], seed: u64) -> Result<Network> {
    let old = backbone.network();
    let card = Card { n_outputs: n_outputs.max(1), ..backbone.card.clone() };
    let network = card.seeded_network(&old.parameters.values().device().clone(), seed)?;
    network.load_features(&old.to_safetensors()?, Path::new(backbone.name()))?;
    let (before, fresh) = (old.parameters.to_host()?, network.parameters.to_host()?);
    let last = before.iter().rev().zip(fresh.iter().rev()).take(2);
    for ((_, old_shape, old_values), (name, shape, values)) in last {
        let (width, old_outputs) = (old_values.len() / old_shape[0], old_shape[0]);
        let mut values = values.clone();
        for (label, row) in rows.iter().enumerate() {
            if let Some(row) = row.filter(|&row| row < old_outputs) {
                values[label * width..(label + 1) * width].copy_from_slice(&old_values[row * width..(row + 1) * width]);
            }
        }
        network.parameters.set(name, shape, &values)?;
    }
    Ok(network)
}

impl Session {
    /// By new label the output that stands for it in the network now; none before the first training, whose outputs are the backbone's.
    pub(super) fn rows_kept(&self, new_label: &[Option<u32>]) -> Vec<Option<usize>> {
        let n = new_label.iter().flatten().map(|&label| label as usize + 1).max().unwrap_or(0);
        let mut rows = vec![None; n];
        if self.grown.is_some() {
            for (old, new) in new_label.iter().enumerate() {
                if let Some(new) = new {
                    rows[*new as usize] = Some(old);
                }
            }
        }
        rows
    }

    /// The method as it stands, under other numbers.
    pub(super) fn carried(&self, course: &Course, to: &Renumbering) -> Result<Box<dyn Method>> {
        let mut method = (course.method.build)(&course.values);
        if let Some(grown) = &self.grown {
            let subject = self.backbone.subject_of(self.backbone.network().snapshot()?)?;
            let learner = Learner::of(subject, Arc::new(self.exemplars.images().clone()));
            method.restore(&learner, grown.state.clone())?;
            method.renumber(to)?;
        }
        Ok(method)
    }

    /// Which method trains it.
    pub(super) fn growing(&self) -> Result<Growing> {
        match self.fitted.as_ref().map(|fitted| fitted.way) {
            Some(super::Way::Growing(kind)) => Ok(kind),
            _ => Err(Error::Training("bug: a learner whose features do not grow".into())),
        }
    }
}
