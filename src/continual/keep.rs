//! What a method keeps between batches. It is declared once, in [`Method::keeps`]; checkpoints, the bytes that tables show, the
//! exemplars and the way to other pictures follow.

use super::{Learner, Method};
use crate::error::{Error, Result};
use crate::models::Network;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;

/// Something that a method keeps between batches.
pub trait Keep {
    /// Adds it to a checkpoint, under names that begin with `name`.
    ///
    /// # Errors
    /// If the device was lost.
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()>;

    /// Puts back what [`Keep::save`] added. The learner's network is again as it was then.
    ///
    /// # Errors
    /// If the checkpoint is of another method or network.
    fn load(&mut self, name: &str, learner: &Learner, state: &mut MethodState) -> Result<()>;

    /// Adds the bytes that it takes from task to task, where they count as the method's memory.
    fn count(&self, _learner: &Learner, _held: &mut Held) {}

    /// Between tasks: gives samples and labels other numbers. What belongs to the task before alone, such as an old network, may go.
    ///
    /// # Errors
    /// If the device was lost.
    fn renumber(&mut self, _to: &Renumbering) -> Result<()> {
        Ok(())
    }

    /// The samples of a memory of images, by label.
    fn exemplars(&self) -> Vec<Vec<u32>> {
        Vec::new()
    }
}

/// What a method keeps, by name.
pub type Keeps<'a> = Vec<(&'static str, &'a mut dyn Keep)>;

/// What follows from [`Method::keeps`].
impl dyn Method + '_ {
    /// What a checkpoint must hold so that a run can go on.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn state(&mut self) -> Result<MethodState> {
        let mut state = MethodState::default();
        self.keeps().into_iter().try_for_each(|(name, kept)| kept.save(name, &mut state))?;
        Ok(state)
    }

    /// Puts back what `state` said. The learner's network must be as it was then.
    ///
    /// # Errors
    /// If the state is not this method's.
    pub fn restore(&mut self, learner: &Learner, mut state: MethodState) -> Result<()> {
        self.keeps().into_iter().try_for_each(|(name, kept)| kept.load(name, learner, &mut state))
    }

    /// Between tasks: gives what is kept other numbers, for a learner that goes on with other pictures and outputs.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn renumber(&mut self, to: &Renumbering) -> Result<()> {
        self.keeps().into_iter().try_for_each(|(_, kept)| kept.renumber(to))
    }

    /// Bytes kept from task to task.
    pub fn held(&mut self, learner: &Learner) -> Held {
        let mut held = Held::default();
        self.keeps().iter().for_each(|(_, kept)| kept.count(learner, &mut held));
        held
    }

    /// Exemplars kept, by label.
    pub fn exemplars(&mut self) -> Vec<Vec<u32>> {
        let mut all = Vec::new();
        for (label, samples) in self.keeps().iter().flat_map(|(_, kept)| kept.exemplars().into_iter().enumerate()) {
            all.resize(all.len().max(label + 1), Vec::new());
            all[label].extend(samples);
        }
        all
    }
}

/// Bytes that a method keeps between tasks, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of stored images, and of their labels where a memory keeps them.
    pub exemplars: u64,
    /// Bytes of stored outputs of earlier networks.
    pub logits: u64,
    /// Bytes of importances of parameters and of the values they are held at.
    pub importance: u64,
    /// Bytes of a copy of an earlier network.
    pub old_network: u64,
    /// Bytes of class means.
    pub class_means: u64,
}

/// What a method keeps, for a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct MethodState {
    /// Named lists and numbers.
    pub json: serde_json::Map<String, serde_json::Value>,
    /// Named vectors.
    pub tensors: Vec<(String, Vec<f32>)>,
}

impl MethodState {
    /// Adds a vector.
    pub fn put(&mut self, name: impl Into<String>, values: Vec<f32>) {
        self.tensors.push((name.into(), values));
    }

    /// The vector of this name, if there is one.
    pub fn take(&mut self, name: &str) -> Option<Vec<f32>> {
        let i = self.tensors.iter().position(|(own, _)| own == name)?;
        Some(self.tensors.swap_remove(i).1)
    }

    /// The vector of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn need(&mut self, name: &str) -> Result<Vec<f32>> {
        self.take(name).ok_or_else(|| foreign(format!("it holds no '{name}'")))
    }

    /// The vectors whose names begin with `name` and a point, by what comes behind.
    pub fn take_all(&mut self, name: &str) -> Vec<(String, Vec<f32>)> {
        let is_own = |(own, _): &(String, Vec<f32>)| own.strip_prefix(name).is_some_and(|own| own.starts_with('.'));
        let (own, others) = std::mem::take(&mut self.tensors).into_iter().partition(is_own);
        self.tensors = others;
        own.into_iter().map(|(own, values): (String, _)| (own[name.len() + 1..].to_string(), values)).collect()
    }

    /// Adds lists and numbers.
    ///
    /// # Panics
    /// If they are no JSON, such as a map whose keys are no text.
    pub fn put_json(&mut self, name: &str, value: &impl Serialize) {
        self.json.insert(name.into(), serde_json::to_value(value).expect("bug: what is kept is no JSON"));
    }

    /// The lists and numbers of this name.
    ///
    /// # Errors
    /// If there are none, or others than these.
    pub fn take_json<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let value = self.json.remove(name).ok_or_else(|| foreign(format!("it holds no '{name}'")))?;
        serde_json::from_value(value).map_err(|e| foreign(format!("'{name}': {e}")))
    }

    /// Adds the weights and running statistics of a network.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn put_network(&mut self, name: &str, network: &Network) -> Result<()> {
        self.put(format!("{name}.parameters"), network.parameters.values().to_vec()?);
        if let Some(values) = network.statistics.values() {
            self.put(format!("{name}.statistics"), values.to_vec()?);
        }
        Ok(())
    }

    /// The network of this name, if there is one, like the learner's own.
    ///
    /// # Errors
    /// If it is of another size.
    pub fn take_network(&mut self, name: &str, learner: &Learner) -> Result<Option<Network>> {
        let Some(values) = self.take(&format!("{name}.parameters")) else { return Ok(None) };
        let network = learner.network.snapshot()?;
        network.parameters.values().write(&values)?;
        if let Some(own) = network.statistics.values() {
            own.write(&self.need(&format!("{name}.statistics"))?)?;
        }
        Ok(Some(network))
    }
}

fn foreign(why: String) -> Error {
    Error::usage(format!("the checkpoint is not one of this method: {why}"))
}

/// Other numbers for what a method keeps: where a learner is carried from pictures to pictures, and its classes change.
pub struct Renumbering<'a> {
    /// By sample: its number among the pictures that there are now; what has none is dropped.
    pub sample: &'a dyn Fn(u32) -> Option<u32>,
    /// By label: what it is called now; what has none is dropped. No two become one.
    pub label: &'a dyn Fn(u32) -> Option<u32>,
    /// Outputs of the network now.
    pub n_outputs: usize,
}

impl Renumbering<'_> {
    /// Something of each label, by label, in the new order; labels of which there was nothing get `empty`.
    pub fn by_label<T: Clone>(&self, all: &[T], empty: T) -> Vec<T> {
        let mut moved: Vec<T> = Vec::new();
        for (label, one) in all.iter().enumerate() {
            if let Some(label) = (self.label)(label as u32) {
                moved.resize(moved.len().max(label as usize + 1), empty.clone());
                moved[label as usize] = one.clone();
            }
        }
        moved
    }
}

/// Lists and numbers, which a checkpoint holds as JSON. An implementation says only what differs from [`Keep`]: nothing where they
/// are no memory and speak of no samples and labels.
pub trait Plain: Serialize + DeserializeOwned {
    /// As [`Keep::count`].
    fn count(&self, _learner: &Learner, _held: &mut Held) {}

    /// As [`Keep::renumber`].
    fn renumber(&mut self, _to: &Renumbering) {}

    /// As [`Keep::exemplars`].
    fn exemplars(&self) -> Vec<Vec<u32>> {
        Vec::new()
    }
}

impl<T: Plain> Keep for T {
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()> {
        state.put_json(name, self);
        Ok(())
    }

    fn load(&mut self, name: &str, _learner: &Learner, state: &mut MethodState) -> Result<()> {
        *self = state.take_json(name)?;
        Ok(())
    }

    fn count(&self, learner: &Learner, held: &mut Held) {
        Plain::count(self, learner, held);
    }

    fn renumber(&mut self, to: &Renumbering) -> Result<()> {
        Plain::renumber(self, to);
        Ok(())
    }

    fn exemplars(&self) -> Vec<Vec<u32>> {
        Plain::exemplars(self)
    }
}

impl Plain for usize {}
impl Plain for Range<usize> {}

/// Labels.
impl Plain for BTreeSet<u32> {
    fn renumber(&mut self, to: &Renumbering) {
        *self = self.iter().filter_map(|&label| (to.label)(label)).collect();
    }
}

/// The numbers of samples of each class, by label. Where their images are a method's memory, see [`Exemplars`].
impl Plain for Vec<Vec<u32>> {
    fn renumber(&mut self, to: &Renumbering) {
        let numbers = |samples: Vec<u32>| samples.into_iter().filter_map(to.sample).collect();
        *self = to.by_label(self, Vec::new()).into_iter().map(numbers).collect();
    }
}

/// Samples of each class, by label, whose images are a method's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exemplars(pub Vec<Vec<u32>>);

impl Plain for Exemplars {
    fn count(&self, learner: &Learner, held: &mut Held) {
        held.exemplars += learner.image_bytes() * self.0.iter().map(Vec::len).sum::<usize>() as u64;
    }

    fn renumber(&mut self, to: &Renumbering) {
        Plain::renumber(&mut self.0, to);
    }

    fn exemplars(&self) -> Vec<Vec<u32>> {
        self.0.clone()
    }
}

/// Numbers, to the bit.
impl Keep for Vec<f32> {
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()> {
        state.put(name, self.clone());
        Ok(())
    }

    fn load(&mut self, name: &str, _learner: &Learner, state: &mut MethodState) -> Result<()> {
        *self = state.need(name)?;
        Ok(())
    }
}
