//! Dark experience replay (Buzzega et al., "Dark Experience for General Continual Learning: a Strong, Simple Baseline",
//! NeurIPS 2020), not to be confused with dynamically expandable representation: a memory keeps, beside each image, what
//! the network said of it when it came, and later networks are held to that. DER++ holds them to the labels too.
//!
//! Three forward passes: the new images, a batch of the memory for the logits, and (DER++) a second, independent one for the
//! labels. Replayed images get new crops and mirrors; the stored logits are those of the changed image of that step,
//! before the step. They stay on the device: rows of a table, written and read by kernels.

use super::memory::MEMORY;
use super::old_teacher::{DISTILL, by_outputs, scheme, with_terms};
use super::outputs::UNSEEN;
use super::replay::{MEMORY_POLICY, REPLAY_BATCH, Replay, ReplayMemory, replayed_loss};
use super::{Batch, Held, Keep, Keeps, Learner, Loss, Method, MethodSpec, MethodState, Renumbering};
use crate::device::{self, Array, DType};
use crate::distill::SchemeSpec;
use crate::error::{Error, Result};
use crate::ops::{Mode, scatter_rows};
use crate::rng::{Purpose, Rng};
use crate::settings::{Setting, Values};
use crate::tensor::Tensor;

const MSE_WEIGHT: Setting =
    Setting::number("mse_weight", "WEIGHT", "α of DER and DER++: what the error of stored logits is multiplied with");

const REPLAY_WEIGHT: Setting = Setting::number(
    "replay_weight",
    "WEIGHT",
    "β of DER++: what the cross-entropy of replayed labels is multiplied with",
)
.usually("1");

/// Of a new table, where the memory may have so many.
const FIRST_ROWS: usize = 256;

struct Der {
    mse_weight: f32,
    /// In place of the squared error.
    scheme: Option<&'static SchemeSpec>,
    /// Of DER++.
    replay_weight: Option<f32>,
    replay_batch: Option<usize>,
    dark: DarkMemory,
    /// Of the running step.
    said: Option<Tensor>,
}

/// A memory that keeps, beside each image, what the network said of it.
struct DarkMemory {
    /// K.
    capacity: usize,
    memory: ReplayMemory,
    /// (n, outputs) with n up to K, and a row at least for each place that is taken: row i belongs to place i of the memory.
    logits: Option<Array>,
}

impl Der {
    fn new(settings: &Values) -> Der {
        let capacity = settings.get("memory");
        let memory = ReplayMemory::new(capacity, settings.get("memory_policy"));
        Der {
            mse_weight: settings.get("mse_weight"),
            scheme: scheme(settings),
            replay_weight: settings.find("replay_weight"),
            replay_batch: settings.find("replay_batch"),
            dark: DarkMemory { capacity, memory, logits: None },
            said: None,
        }
    }
}

impl DarkMemory {
    /// A table with a row for each place of the memory that is taken. It grows by doubling, up to K rows.
    fn table(&mut self, learner: &Learner) -> Result<&Array> {
        let (n, before) = (self.memory.items().len().max(1), self.logits.as_ref().map_or(0, |table| table.shape()[0]));
        if before < n {
            let n_rows = n.max(2 * before).max(FIRST_ROWS).min(self.capacity.max(n));
            let table = Array::empty(&learner.device, [n_rows, learner.network.n_outputs], DType::F32)?;
            device::fill(&table, 0.0)?;
            if let Some(old) = &self.logits {
                device::copy(old, &table.slice(0, old.shape())?)?;
            }
            self.logits = Some(table);
        }
        Ok(self.logits.as_ref().expect("bug: it has just been made"))
    }

    /// The rows of what is replayed.
    fn rows(&mut self, learner: &Learner, replay: &Replay) -> Result<Tensor> {
        let slots = Tensor::from_u32(&learner.device, [replay.slots.len()], &replay.slots)?;
        Tensor::constant(self.table(learner)?.clone()).gather_rows(&slots)
    }

    /// Offers the batch's samples with what was said of them, (N, outputs).
    fn take_in(&mut self, learner: &Learner, batch: &Batch, said: &Tensor) -> Result<()> {
        let slots = self.memory.take_in(learner, batch);
        if slots.iter().all(|&slot| slot == u32::MAX) {
            return Ok(());
        }
        let slots = Tensor::from_u32(&learner.device, [slots.len()], &slots)?;
        scatter_rows(said, &slots, self.table(learner)?)
    }
}

impl Keep for DarkMemory {
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()> {
        self.memory.save(name, state)?;
        let Some(table) = &self.logits else { return Ok(()) };
        let mut values = table.to_vec()?;
        values.truncate(self.memory.items().len() * table.shape()[1]);
        state.put(format!("{name}.logits"), values);
        Ok(())
    }

    fn load(&mut self, name: &str, learner: &Learner, state: &mut MethodState) -> Result<()> {
        self.memory.load(name, learner, state)?;
        self.logits = None;
        if let Some(mut values) = state.take(&format!("{name}.logits")) {
            let table = self.table(learner)?;
            values.resize(table.n_elements(), 0.0);
            table.write(&values)?;
        }
        Ok(())
    }

    fn count(&self, learner: &Learner, held: &mut Held) {
        Keep::count(&self.memory, learner, held);
        let n_outputs = self.logits.as_ref().map_or(0, |table| table.shape()[1]);
        held.logits += 4 * (self.memory.items().len() * n_outputs) as u64;
    }

    /// Outputs of classes that have come since are held at 0.
    fn renumber(&mut self, to: &Renumbering) -> Result<()> {
        let places = self.memory.moved(to);
        let Some(table) = self.logits.take() else { return Ok(()) };
        let (device, width, values) = (table.device(), table.shape()[1], table.to_vec()?);
        let mut moved = vec![0.0; places.len().max(1) * to.n_outputs];
        for (row, place) in moved.chunks_exact_mut(to.n_outputs).zip(places) {
            for (label, &logit) in values[place * width..(place + 1) * width].iter().enumerate() {
                if let Some(label) = (to.label)(label as u32) {
                    row[label as usize] = logit;
                }
            }
        }
        let new = Array::empty(&device, [moved.len() / to.n_outputs, to.n_outputs], DType::F32)?;
        new.write(&moved)?;
        self.logits = Some(new);
        Ok(())
    }

    fn exemplars(&self) -> Vec<Vec<u32>> {
        Keep::exemplars(&self.memory)
    }
}

impl Method for Der {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
        self.said = Some(logits.detach());
        let loss = Loss::single("cross_entropy", learner.cross_entropy(&logits, &batch.images.labels, batch.n_seen)?);
        let mut rng = Rng::keyed(learner.seed, Purpose::Replay, batch.key);
        let Some(replay) = self.dark.memory.replay(learner, batch, self.replay_batch, &mut rng) else {
            return Ok(loss);
        };
        let targets = self.dark.rows(learner, &replay)?;
        let says = learner.network.forward(&learner.input(&replay.images)?, Mode::Train)?.logits;
        let loss = match self.scheme {
            None => loss.and("logit_mse", self.mse_weight, says.mse(&targets)?),
            Some(spec) => {
                let labels = Tensor::from_u32(&learner.device, [replay.images.len()], &replay.images.labels)?;
                with_terms(loss, self.mse_weight, by_outputs(spec, learner, (&says, &targets), &labels)?)
            }
        };
        let Some(replay_weight) = self.replay_weight else { return Ok(loss) };
        let replay =
            self.dark.memory.replay(learner, batch, self.replay_batch, &mut rng).expect("bug: it was not empty before");
        Ok(loss.and("replay", replay_weight, replayed_loss(learner, &replay, batch.n_seen)?))
    }

    fn after_step(&mut self, learner: &Learner, batch: &Batch) -> Result<()> {
        let said = self.said.take().ok_or_else(|| Error::op("der", "bug: a step without a forward pass"))?;
        self.dark.take_in(learner, batch, &said)
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("memory", &mut self.dark)]
    }
}

const DEVIATIONS: &[&str] = &[
    "samples are taken in during the first pass over a task's data only, so that every image is offered once; the authors' \
     code offers it in every epoch",
    "the cross-entropy runs over the classes seen so far; --unseen compete lets all outputs of the stream take part, as the \
     authors' code does",
];

pub(super) const DER: MethodSpec = MethodSpec {
    name: "der",
    summary: "dark experience replay: a memory of images with the outputs they had when they came",
    paper: "Buzzega et al., NeurIPS 2020",
    equations: "L = CE(f(x), y) + α·mean (f(x_M) − z_M)²",
    memory: "K images with labels and logits",
    expect: "Better than ER with a small memory and many epochs: stored outputs carry more than labels.",
    deviations: DEVIATIONS,
    options: &[MEMORY, MSE_WEIGHT.usually("0.3"), DISTILL, REPLAY_BATCH, MEMORY_POLICY, UNSEEN],
    trade_off: &[("mse_weight", 4.0)],
    build: |settings| Box::new(Der::new(settings)),
    ..MethodSpec::BASE
};

pub(super) const DER_PP: MethodSpec = MethodSpec {
    name: "der++",
    summary: "dark experience replay that goes by the labels of its memory too",
    paper: "Buzzega et al., NeurIPS 2020",
    equations: "L = CE(f(x), y) + α·mean (f(x_M) − z_M)² + β·CE(f(x'_M), y'_M), (x', y') a second, independent draw",
    memory: "K images with labels and logits",
    expect: "The strongest method here at small memories, in every scenario; three forward passes a step.",
    deviations: DEVIATIONS,
    options: &[MEMORY, MSE_WEIGHT.usually("0.5"), DISTILL, REPLAY_WEIGHT, REPLAY_BATCH, MEMORY_POLICY, UNSEEN],
    trade_off: &[("mse_weight", 4.0), ("replay_weight", 4.0)],
    build: |settings| Box::new(Der::new(settings)),
    ..MethodSpec::BASE
};
