//! A bounded memory of single samples, filled while they stream by and replayed a few at a time.

use super::{Batch, Held, Keep, Learner, MethodState, Plain, Renumbering, TaskData};
use crate::data;
use crate::error::Result;
use crate::rng::{Purpose, Rng};
use crate::settings::{Setting, choices};
use crate::tensor::Tensor;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};

choices! {
    /// Which samples a replay memory keeps.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum MemoryPolicy {
        #[default]
        /// Every sample offered so far with the same chance (Vitter 1985).
        Reservoir = "reservoir",
        /// A reservoir per class; a class that has the most gives way (Chrysakis & Moens, ICML 2020).
        Balanced = "balanced",
        /// GDumb's: a class below its share K/classes is taken in, and the largest class gives one up.
        Greedy = "greedy",
    }
}

/// Of methods that replay.
pub const MEMORY_POLICY: Setting =
    Setting::choice::<MemoryPolicy>("memory_policy", "WHICH", "Which samples are kept").usually("reservoir");

/// Of methods that replay.
pub const REPLAY_BATCH: Setting = Setting::whole("replay_batch", "N", "Images replayed per step").open("--batch-size");

/// A sample in a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its number in the training set.
    pub sample: u32,
    /// Its label, in order of arrival.
    #[serde(deserialize_with = "label")]
    pub label: u32,
}

/// A label from a file: tables are made by the largest one, so it is bounded. No data set has nearly so many classes.
fn label<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<u32, D::Error> {
    let label = u32::deserialize(from)?;
    match label < 1 << 20 {
        true => Ok(label),
        false => Err(D::Error::custom(format!("there is no label {label}"))),
    }
}

/// At most K samples, chosen by a [`MemoryPolicy`]. Stands for the un-augmented images themselves.
///
/// ```
/// use engram::continual::{MemoryPolicy, ReplayMemory, Stored};
/// use engram::rng::{Purpose, Rng};
/// let mut memory = ReplayMemory::new(10, MemoryPolicy::Balanced);
/// let mut rng = Rng::keyed(1, Purpose::Memory, 0);
/// for sample in 0..1000 {
///     memory.offer(Stored { sample, label: u32::from(sample % 10 == 0) }, &mut rng); // one in ten has label 1
/// }
/// assert_eq!(memory.items().iter().filter(|item| item.label == 1).count(), 5);
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplayMemory {
    capacity: usize,
    policy: MemoryPolicy,
    items: Vec<Stored>,
    /// Samples offered so far, by label.
    offered: BTreeMap<u32, u32>,
    /// Labels that have once had the most samples in a full memory ([`MemoryPolicy::Balanced`]).
    full: BTreeSet<u32>,
}

/// What is replayed in a step.
pub struct Replay {
    /// Images, labels, crops and mirrors, as the loader gives them.
    pub images: data::Batch,
    /// Their places in the memory.
    pub slots: Vec<u32>,
}

impl ReplayMemory {
    /// An empty memory for `capacity` samples.
    pub fn new(capacity: usize, policy: MemoryPolicy) -> ReplayMemory {
        let (offered, full) = (BTreeMap::new(), BTreeSet::new());
        ReplayMemory { capacity, policy, items: Vec::new(), offered, full }
    }

    /// What is kept.
    pub fn items(&self) -> &[Stored] {
        &self.items
    }

    /// Takes the sample in, or not, by the memory's policy. Returns the place it was given.
    pub fn offer(&mut self, new: Stored, rng: &mut Rng) -> Option<usize> {
        let n_offered = self.offered.entry(new.label).or_insert(0);
        *n_offered += 1;
        let n_offered = *n_offered;
        if self.capacity == 0 {
            return None;
        }
        let is_full = self.items.len() >= self.capacity;
        let place = match self.policy {
            MemoryPolicy::Greedy => {
                let n_own = self.places(new.label).len();
                match n_own < self.capacity / self.offered.len().min(self.capacity) {
                    false => return None,
                    true if is_full => self.place_of_largest(rng),
                    true => self.items.len(),
                }
            }
            _ if !is_full => self.items.len(),
            MemoryPolicy::Reservoir => {
                let place = rng.below(self.offered.values().sum()) as usize;
                if place >= self.capacity {
                    return None;
                }
                place
            }
            MemoryPolicy::Balanced => {
                let largest = self.largest_labels();
                self.full.extend(&largest);
                match self.full.contains(&new.label) {
                    false => self.place_of_largest(rng),
                    true => {
                        let own = self.places(new.label);
                        let i = rng.below(n_offered) as usize;
                        *own.get(i)?
                    }
                }
            }
        };
        match self.items.get_mut(place) {
            Some(item) => *item = new,
            None => self.items.push(new),
        }
        Some(place)
    }

    fn places(&self, label: u32) -> Vec<usize> {
        (0..self.items.len()).filter(|&i| self.items[i].label == label).collect()
    }

    /// The labels that have the most samples.
    fn largest_labels(&self) -> Vec<u32> {
        let mut counts = BTreeMap::new();
        self.items.iter().for_each(|item| *counts.entry(item.label).or_insert(0) += 1);
        let most = counts.values().copied().max().unwrap_or(0);
        counts.into_iter().filter(|(_, n)| *n == most).map(|(label, _)| label).collect()
    }

    /// A random place among those of a random label that has the most samples.
    fn place_of_largest(&self, rng: &mut Rng) -> usize {
        let labels = self.largest_labels();
        let places = self.places(labels[rng.below(labels.len() as u32) as usize]);
        places[rng.below(places.len() as u32) as usize]
    }

    /// `n` places without repetition, or all if there are fewer, in random order.
    pub fn draw(&self, n: usize, rng: &mut Rng) -> Vec<u32> {
        let mut places: Vec<u32> = (0..self.items.len() as u32).collect();
        let n = n.min(places.len());
        for i in 0..n {
            let j = i + rng.below((places.len() - i) as u32) as usize;
            places.swap(i, j);
        }
        places.truncate(n);
        places
    }

    /// A random batch of the memory, of `n` samples or as many as are new, changed as training images are; `None` if nothing is kept.
    pub fn replay(&self, learner: &Learner, batch: &Batch, n: Option<usize>, rng: &mut Rng) -> Option<Replay> {
        if self.items.is_empty() {
            return None;
        }
        let slots = self.draw(n.unwrap_or(batch.images.len()), rng);
        let of = |f: fn(&Stored) -> u32| -> Vec<u32> { slots.iter().map(|&i| f(&self.items[i as usize])).collect() };
        let images = learner.batch(&of(|item| item.sample), &of(|item| item.label), rng);
        Some(Replay { images, slots })
    }

    /// Offers the batch's samples in order, in the first pass over a task's data only. For each the place it has at the end,
    /// `u32::MAX` for none.
    pub fn take_in(&mut self, learner: &Learner, batch: &Batch) -> Vec<u32> {
        let images = &batch.images;
        let mut slots = vec![u32::MAX; images.len()];
        if !batch.first_pass {
            return slots;
        }
        let mut rng = Rng::keyed(learner.seed, Purpose::Memory, batch.key);
        for (i, (&sample, &label)) in images.samples.iter().zip(&images.labels).enumerate() {
            if let Some(slot) = self.offer(Stored { sample, label }, &mut rng) {
                // A later one may have taken the place of an earlier one.
                slots.iter_mut().filter(|other| **other == slot as u32).for_each(|other| *other = u32::MAX);
                slots[i] = slot as u32;
            }
        }
        slots
    }

    /// Offers all samples of a task in random order.
    pub(super) fn take_in_task(&mut self, learner: &Learner, task: &TaskData) {
        let mut rng = Rng::keyed(learner.seed, Purpose::Memory, task.index as u64);
        let mut all: Vec<Stored> = task.labelled().collect();
        rng.shuffle(&mut all);
        all.into_iter().for_each(|item| {
            self.offer(item, &mut rng);
        });
    }

    /// Gives samples and labels other numbers, and keeps no more than there is room for now. Returns the places that what is left had
    /// before.
    pub fn moved(&mut self, to: &Renumbering) -> Vec<usize> {
        let kept = self.items.iter().enumerate().filter_map(|(place, item)| Some((place, item.moved(to)?)));
        let (mut places, items): (Vec<usize>, Vec<Stored>) = kept.unzip();
        self.offered = self.offered.iter().filter_map(|(&label, &n)| Some(((to.label)(label)?, n))).collect();
        self.full = self.full.iter().filter_map(|&label| (to.label)(label)).collect();
        self.items = items;
        while self.items.len() > self.capacity {
            let largest = self.largest_labels();
            let last = self.items.iter().rposition(|item| largest.contains(&item.label));
            let last = last.expect("bug: a label that no sample has");
            self.items.remove(last);
            places.remove(last);
        }
        places
    }
}

impl Keep for ReplayMemory {
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()> {
        state.put_json(name, self);
        Ok(())
    }

    /// How many are kept, and which, is a setting: what there is room for from now on.
    fn load(&mut self, name: &str, _learner: &Learner, state: &mut MethodState) -> Result<()> {
        let (capacity, policy) = (self.capacity, self.policy);
        *self = ReplayMemory { capacity, policy, ..state.take_json(name)? };
        Ok(())
    }

    fn count(&self, learner: &Learner, held: &mut Held) {
        Plain::count(&self.items, learner, held);
    }

    fn renumber(&mut self, to: &Renumbering) -> Result<()> {
        self.moved(to);
        Ok(())
    }

    fn exemplars(&self) -> Vec<Vec<u32>> {
        Plain::exemplars(&self.items)
    }
}

impl Stored {
    fn moved(self, to: &Renumbering) -> Option<Stored> {
        Some(Stored { sample: (to.sample)(self.sample)?, label: (to.label)(self.label)? })
    }
}

/// Images and four-byte labels.
impl Plain for Vec<Stored> {
    fn count(&self, learner: &Learner, held: &mut Held) {
        held.exemplars += self.len() as u64 * (learner.image_bytes() + 4);
    }

    fn renumber(&mut self, to: &Renumbering) {
        *self = self.iter().filter_map(|item| item.moved(to)).collect();
    }

    fn exemplars(&self) -> Vec<Vec<u32>> {
        let n = self.iter().map(|item| item.label as usize + 1).max().unwrap_or(0);
        let mut samples = vec![Vec::new(); n];
        self.iter().for_each(|item| samples[item.label as usize].push(item.sample));
        samples
    }
}

/// Two batches as one.
pub(super) fn joined(a: &data::Batch, b: &data::Batch) -> data::Batch {
    data::Batch {
        pixels: [&a.pixels[..], &b.pixels].concat(),
        labels: [&a.labels[..], &b.labels].concat(),
        samples: [&a.samples[..], &b.samples].concat(),
        draws: [&a.draws[..], &b.draws].concat(),
    }
}

/// The cross-entropy of a replayed batch in a forward pass of its own.
pub(super) fn replayed_loss(learner: &Learner, replay: &Replay, n_seen: usize) -> Result<Tensor> {
    let x = learner.input(&replay.images)?;
    let logits = learner.network.forward(&x, crate::ops::Mode::Train)?.logits;
    learner.cross_entropy(&logits, &replay.images.labels, n_seen)
}
