//! GDumb (Prabhu, Torr & Dokania, "GDumb: A Simple Approach that Questions Our Progress in Continual Learning", ECCV 2020):
//! nothing is learnt from the stream but what to keep. After every task a fresh network is trained on the memory alone.

use super::memory::MEMORY;
use super::outputs::UNSEEN;
use super::replay::{MemoryPolicy, ReplayMemory};
use super::{Batch, Learner, Loss, Method, MethodSpec, TaskData};
use crate::device;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::ops::Mode;
use crate::optim::{Kind, Optimizer};
use crate::rng::{Purpose, Rng};
use crate::settings::{Choose, Setting};

const BATCH_SIZE: usize = 16;
/// The smallest rate, as a part of the largest.
const SMALLEST: f64 = 0.01;

/// When GDumb trains its network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GdumbEval {
    /// After every task, for a row of the accuracy matrix each.
    #[default]
    Task,
    /// After the last task alone: rows before it are of a network that has learnt nothing.
    Last,
}

impl Choose for GdumbEval {
    const NAMED: &'static [(Self, &'static str, &'static str)] = &[
        (GdumbEval::Task, "task", "After every task, for a row of the accuracy matrix each"),
        (GdumbEval::Last, "last", "After the last task alone: rows before it are of a network that has learnt nothing"),
    ];
}

const MEMORY_EPOCHS: Setting =
    Setting::whole("memory_epochs", "N", "Passes of GDumb over its memory, after every task").usually("33");

const MEMORY_LR: Setting =
    Setting::number("memory_lr", "RATE", "The largest learning rate of GDumb's passes").positive().usually("0.01");

const GDUMB_EVAL: Setting = Setting::choice::<GdumbEval>("gdumb_eval", "WHEN", "When GDumb trains").usually("task");

struct Gdumb {
    epochs: usize,
    lr: f32,
    eval: GdumbEval,
    memory: ReplayMemory,
}

/// The learning rate of an epoch: a tenth of the largest in the first, the largest in the second, then cosines from the
/// largest to the smallest over 1, 2, 4, … epochs (Loshchilov & Hutter, ICLR 2017).
fn rate(epoch: usize, high: f32) -> f32 {
    let high = f64::from(high);
    let low = SMALLEST * high;
    let rate = match epoch {
        0 => 0.1 * high,
        1 => high,
        _ => {
            let cycle = (epoch - 1).ilog2();
            let (start, length) = ((1 << cycle) + 1, 1 << cycle);
            let done = (epoch - start) as f64 / f64::from(length);
            low + 0.5 * (high - low) * (1.0 + (std::f64::consts::PI * done).cos())
        }
    };
    rate as f32
}

impl Gdumb {
    fn train(&self, learner: &Learner, task: &TaskData) -> Result<()> {
        let own = &learner.network;
        let fresh =
            Network::with_options(own.name, &own.options, own.input, own.n_outputs, &learner.device, learner.seed)?;
        device::copy(fresh.parameters.values(), own.parameters.values())?;
        if let (Some(fresh), Some(own)) = (fresh.statistics.values(), own.statistics.values()) {
            device::copy(fresh, own)?;
        }
        let mut optimizer = Optimizer::new(Kind::Sgd, 0.9, 1e-6, &own.parameters)?;
        for epoch in 0..self.epochs {
            let key = ((task.index * self.epochs + epoch) as u64) << 32;
            let mut rng = Rng::keyed(learner.seed, Purpose::Replay, key);
            let order = self.memory.draw(self.memory.items().len(), &mut rng);
            for chunk in order.chunks(BATCH_SIZE) {
                let items: Vec<_> = chunk.iter().map(|&i| self.memory.items()[i as usize]).collect();
                let samples: Vec<u32> = items.iter().map(|item| item.sample).collect();
                let labels: Vec<u32> = items.iter().map(|item| item.label).collect();
                let x = learner.input(&learner.batch(&samples, &labels, &mut rng))?;
                let logits = own.forward(&x, Mode::Train)?.logits;
                let loss = learner.cross_entropy(&logits, &labels, task.n_seen)?;
                own.parameters.backward(&loss)?;
                optimizer.step(&own.parameters, rate(epoch, self.lr))?;
                learner.device.flush()?;
            }
        }
        Ok(())
    }
}

impl Method for Gdumb {
    /// Nothing is learnt from a batch.
    fn observe(&mut self, _learner: &Learner, _batch: &Batch) -> Result<Loss> {
        Ok(Loss(Vec::new()))
    }

    fn after_step(&mut self, learner: &Learner, batch: &Batch) -> Result<()> {
        self.memory.take_in(learner, batch);
        Ok(())
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        if self.memory.items().is_empty() {
            return Err(Error::op("gdumb", "the memory is empty: there is nothing to learn from"));
        }
        match self.eval {
            GdumbEval::Last if !task.is_last => Ok(()),
            _ => self.train(learner, task),
        }
    }

    fn memory(&self) -> Option<&ReplayMemory> {
        Some(&self.memory)
    }

    fn memory_mut(&mut self) -> Option<&mut ReplayMemory> {
        Some(&mut self.memory)
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "gdumb",
    summary: "a class-balanced memory, and after every task a fresh network trained on it alone",
    paper: "Prabhu et al., ECCV 2020",
    equations: "memory: a sample is taken in while its class has fewer than K/classes, in place of one of the largest class; \
                then min CE(f(x_M), y_M) from new weights",
    memory: "K images with labels",
    expect: "A lower reference for every method with a memory: whoever is below it gains nothing from the stream. Its cost is \
             at the end of tasks, and its accuracy that of training on K images.",
    deviations: &[
        "without CutMix, which the paper uses for CIFAR",
        "a network is trained after every task, for a row of the accuracy matrix each; the paper trains one when the stream \
         ends (--gdumb-eval last: rows before it are of an untrained network)",
        "--epochs, --lr and the other settings of training play no part: SGD with momentum 0.9, batches of 16, rates by \
         cosines from --memory-lr to a hundredth of it",
        "the largest rate is 0.01: the paper's 0.05 is for networks with batch norms",
        "33 passes over the memory by default (--memory-epochs), where a cosine of the rates ends; the paper has 256 for CIFAR",
    ],
    options: &[MEMORY, MEMORY_EPOCHS, MEMORY_LR, GDUMB_EVAL, UNSEEN],
    ignores: &[
        "epochs",
        "optimizer",
        "lr",
        "schedule",
        "lr_steps",
        "lr_decay",
        "warm_up",
        "momentum",
        "weight_decay",
        "decay",
        "reset_optimizer",
    ],
    build: |settings| {
        Box::new(Gdumb {
            epochs: settings.get("memory_epochs"),
            lr: settings.get("memory_lr"),
            eval: settings.get("gdumb_eval"),
            memory: ReplayMemory::new(settings.get("memory"), MemoryPolicy::Greedy),
        })
    },
    ..MethodSpec::BASE
};

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn rates_by_hand() {
        // Warm-up, the largest; then cycles of 1, 2 and 4 epochs that begin at the largest.
        let rates = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|epoch| rate(epoch, 0.05));
        let (low, high) = (0.0005f32, 0.05f32);
        let middle = (low + high) / 2.0;
        let quarter = low + 0.5 * (high - low) * (1.0 + 0.5f32.sqrt());
        let expected = [0.1 * high, high, high, high, middle, high, quarter, middle, high + low - quarter, high];
        for (epoch, (rate, expected)) in rates.into_iter().zip(expected).enumerate() {
            assert!((rate - expected).abs() < 1e-7, "epoch {epoch}: {rate} is not {expected}");
        }
    }
}
