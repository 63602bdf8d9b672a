//! Dark experience replay (Buzzega et al., "Dark Experience for General Continual Learning: a Strong, Simple Baseline",
//! NeurIPS 2020), not to be confused with dynamically expandable representation: a memory keeps, beside each image, what
//! the network said of it when it came, and later networks are held to that. DER++ holds them to the labels too.
//!
//! Three forward passes: the new images, a batch of the memory for the logits, and (DER++) a second, independent one for the
//! labels. Replayed images get new crops and mirrors; the stored logits are those of the changed image of that step,
//! before the step. They stay on the device: rows of a table, written and read by kernels.

use super::replay::{Replay, ReplayMemory, replayed_loss};
use super::{Batch, Held, Learner, Loss, Method, MethodSpec, MethodState, Options};
use crate::device::{self, Array, DType};
use crate::error::{Error, Result};
use crate::ops::{Mode, scatter_rows};
use crate::rng::{Purpose, Rng};
use crate::tensor::Tensor;

/// Of a new table, where the memory may have so many.
const FIRST_ROWS: usize = 256;

struct Der {
    options: Options,
    plus_plus: bool,
    memory: ReplayMemory,
    /// (n, outputs) with n up to K, and a row at least for each place that is taken: row i belongs to place i of the memory.
    logits: Option<Array>,
    /// Of the running step.
    said: Option<Tensor>,
}

impl Der {
    fn new(options: Options, plus_plus: bool) -> Der {
        let memory = ReplayMemory::new(options.memory, options.memory_policy);
        Der { options, plus_plus, memory, logits: None, said: None }
    }

    /// A table with a row for each place of the memory that is taken. It grows by doubling, up to K rows.
    fn table(&mut self, learner: &Learner) -> Result<&Array> {
        let (n, before) = (self.memory.items().len().max(1), self.logits.as_ref().map_or(0, |table| table.shape()[0]));
        if before < n {
            let n_rows = n.max(2 * before).max(FIRST_ROWS).min(self.options.memory.max(n));
            let table = Array::empty(&learner.device, [n_rows, learner.network.n_outputs], DType::F32)?;
            device::fill(&table, 0.0)?;
            if let Some(old) = &self.logits {
                device::copy(old, &table.slice(0, old.shape())?)?;
            }
            self.logits = Some(table);
        }
        Ok(self.logits.as_ref().expect("bug: it has just been made"))
    }

    fn stored(&mut self, learner: &Learner, replay: &Replay) -> Result<Tensor> {
        let slots = Tensor::from_u32(&learner.device, [replay.slots.len()], &replay.slots)?;
        Tensor::constant(self.table(learner)?.clone()).gather_rows(&slots)
    }
}

impl Method for Der {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
        self.said = Some(logits.detach());
        let loss = Loss::single("cross_entropy", learner.cross_entropy(&logits, &batch.images.labels, batch.n_seen)?);
        let mut rng = Rng::keyed(learner.seed, Purpose::Replay, batch.key);
        let Some(replay) = self.memory.replay(learner, batch, &self.options, &mut rng) else { return Ok(loss) };
        let targets = self.stored(learner, &replay)?;
        let says = learner.network.forward(&learner.input(&replay.images)?, Mode::Train)?.logits;
        let loss = loss.and("logit_mse", self.options.mse_weight, says.mse(&targets)?);
        if !self.plus_plus {
            return Ok(loss);
        }
        let replay = self.memory.replay(learner, batch, &self.options, &mut rng).expect("bug: it was not empty before");
        Ok(loss.and("replay", self.options.replay_weight, replayed_loss(learner, &replay, batch.n_seen)?))
    }

    fn after_step(&mut self, learner: &Learner, batch: &Batch) -> Result<()> {
        let slots = self.memory.take_in(learner, batch);
        let said = self.said.take().ok_or_else(|| Error::op("der", "bug: a step without a forward pass"))?;
        if slots.iter().all(|&slot| slot == u32::MAX) {
            return Ok(());
        }
        let slots = Tensor::from_u32(&learner.device, [slots.len()], &slots)?;
        scatter_rows(&said, &slots, self.table(learner)?)
    }

    fn state(&self) -> Result<MethodState> {
        let n = self.memory.items().len();
        let logits = self.logits.iter().map(|table| {
            let mut values = table.to_vec()?;
            values.truncate(n * table.shape()[1]);
            Ok(("logits".to_string(), values))
        });
        Ok(MethodState { json: self.memory.to_json(), tensors: logits.collect::<Result<_>>()? })
    }

    fn restore(&mut self, learner: &Learner, mut state: MethodState) -> Result<()> {
        let values = state.take("logits");
        self.memory.restore(state.json)?;
        if let Some(mut values) = values {
            let table = self.table(learner)?;
            values.resize(table.n_elements(), 0.0);
            table.write(&values)?;
        }
        Ok(())
    }

    fn held(&self) -> Held {
        let n_outputs = self.logits.as_ref().map_or(0, |table| table.shape()[1]);
        let logits = 4 * (self.memory.items().len() * n_outputs) as u64;
        Held { logits, ..self.memory.held() }
    }

    fn memory(&self) -> Option<&ReplayMemory> {
        Some(&self.memory)
    }

    fn memory_mut(&mut self) -> Option<&mut ReplayMemory> {
        Some(&mut self.memory)
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
    uses_memory: true,
    options: &["mse_weight", "replay_batch", "memory_policy", "unseen"],
    trade_off: &[("mse_weight", 4.0)],
    tune: |options| options.mse_weight = 0.3,
    build: |options| Box::new(Der::new(options, false)),
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
    uses_memory: true,
    options: &["mse_weight", "replay_weight", "replay_batch", "memory_policy", "unseen"],
    trade_off: &[("mse_weight", 4.0), ("replay_weight", 4.0)],
    tune: |options| (options.mse_weight, options.replay_weight) = (0.5, 1.0),
    build: |options| Box::new(Der::new(options, true)),
    ..MethodSpec::BASE
};
