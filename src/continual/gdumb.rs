//! GDumb (Prabhu, Torr & Dokania, "GDumb: A Simple Approach that Questions Our Progress in Continual Learning", ECCV 2020):
//! nothing is learnt from the stream but what to keep. After every task a fresh network is trained on the memory alone.

use super::memory::MEMORY;
use super::outputs::UNSEEN;
use super::replay::{MemoryPolicy, ReplayMemory};
use super::{Batch, Keeps, Learner, Loss, Method, MethodSpec, TaskData};
use crate::data;
use crate::error::{Error, Result};
use crate::ops::Mode;
use crate::optim::{Kind, Optimizer};
use crate::rng::{Purpose, Rng};
use crate::settings::{Setting, choices};
use crate::training::{Fall, Objective, Plan, Schedule, Silent, Step, Trainee, Trainer};

const BATCH_SIZE: usize = 16;

choices! {
    /// When GDumb trains its network.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum GdumbEval {
        #[default]
        /// After every task, for a row of the accuracy matrix each.
        Task = "task",
        /// After the last task alone: rows before it are of a network that has learnt nothing.
        Last = "last",
    }
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

impl Gdumb {
    /// Trains from new weights on the memory alone.
    fn train(&self, learner: &Learner, task: &TaskData) -> Result<()> {
        learner.network.copy_weights_of(&learner.network.fresh(&learner.device, learner.seed)?)?;
        let plan = Plan {
            what: format!("the network on the memory after task {}", task.index + 1),
            n_epochs: self.epochs,
            per_epoch: self.memory.items().len().div_ceil(BATCH_SIZE),
            first_step: 0,
            schedule: Schedule { fall: Fall::Restarts, ..Schedule::constant(self.lr) },
            log: None,
            advice: "Use a smaller --memory-lr; results of the tasks before are kept".into(),
        };
        let optimizer = Optimizer::new(Kind::Sgd, 0.9, 1e-6, &learner.network.parameters)?;
        let first_epoch = task.index * plan.n_epochs;
        let batches = (first_epoch..first_epoch + plan.n_epochs).flat_map(|epoch| self.epoch(learner, epoch));
        let mut objective = OnMemory { learner, optimizer, n_seen: task.n_seen };
        Trainer::new(&learner.device, &mut Silent, task.interrupted).run(&plan, batches, &mut objective)?;
        Ok(())
    }

    /// All of the memory in random order; epochs are counted over the whole run.
    fn epoch<'a>(&'a self, learner: &'a Learner, epoch: usize) -> impl Iterator<Item = data::Batch> + 'a {
        let mut rng = Rng::keyed(learner.seed, Purpose::Replay, (epoch as u64) << 32);
        let mut order = self.memory.draw(self.memory.items().len(), &mut rng);
        std::iter::from_fn(move || {
            let rest = order.split_off(BATCH_SIZE.min(order.len()));
            let chunk = std::mem::replace(&mut order, rest);
            let items = || chunk.iter().map(|&i| self.memory.items()[i as usize]);
            let (samples, labels): (Vec<u32>, Vec<u32>) = items().map(|item| (item.sample, item.label)).unzip();
            (!chunk.is_empty()).then(|| learner.batch(&samples, &labels, &mut rng))
        })
    }
}

/// Cross-entropy on images of the memory.
struct OnMemory<'a> {
    learner: &'a Learner,
    optimizer: Optimizer,
    n_seen: usize,
}

impl Objective for OnMemory<'_> {
    type Batch = data::Batch;

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        vec![Trainee { parameters: &self.learner.network.parameters, optimizer: &mut self.optimizer }]
    }

    fn loss(&mut self, images: data::Batch, _: Step) -> Result<Loss> {
        let logits = self.learner.network.forward(&self.learner.input(&images)?, Mode::Train)?.logits;
        let loss = self.learner.cross_entropy(&logits, &images.labels, self.n_seen)?;
        Ok(Loss::single("cross_entropy", loss))
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

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("memory", &mut self.memory)]
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
        "velocity",
        "weight_decay",
        "decay",
        "reset_optimizer",
        "later_lr",
        "head_lr",
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
