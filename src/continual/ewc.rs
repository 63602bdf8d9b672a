//! Elastic weight consolidation (Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017), and its
//! online form (Schwarz et al., "Progress & Compress", ICML 2018): parameters are held near the values that earlier tasks
//! ended with, the more so the more those tasks' predictions depend on them.

use super::fisher::{FisherKind, Measured, fisher};
use super::importance::{FISHER_SAMPLES, PENALTY_WEIGHT, Penalty};
use super::outputs::UNSEEN;
use super::spec::CLASSES_AND_MASKS;
use super::{Batch, Keeps, Learner, Loss, Method, MethodSpec, Stored, TaskData};
use crate::error::Result;
use crate::rng::{Purpose, Rng};
use crate::settings::{Setting, Values};

const FISHER: Setting = Setting::choice::<FisherKind>("fisher", "KIND", "Which Fisher information").usually("exact");

const FISHER_DECAY: Setting =
    Setting::number("fisher_decay", "FACTOR", "γ of online EWC: what is kept of earlier tasks' importances")
        .usually("1");

struct Ewc {
    penalty: Penalty,
    fisher: FisherKind,
    fisher_samples: usize,
    /// γ of the online form.
    decay: Option<f32>,
    batch_size: usize,
}

/// Samples of a task that an importance is measured on: `n` at random, with their labels.
pub(super) fn measured_samples(learner: &Learner, task: &TaskData, n: usize) -> (Vec<u32>, Vec<u32>) {
    let mut all: Vec<Stored> = task.labelled().collect();
    Rng::keyed(learner.seed, Purpose::Fisher, (1 << 32) | task.index as u64).shuffle(&mut all);
    all.truncate(n);
    all.into_iter().map(|Stored { sample, label }| (sample, label)).unzip()
}

impl Ewc {
    fn new(settings: &Values) -> Ewc {
        Ewc {
            penalty: Penalty::new(settings.get::<f32>("penalty_weight") / 2.0, None),
            fisher: settings.get("fisher"),
            fisher_samples: settings.get("fisher_samples"),
            decay: settings.find("fisher_decay"),
            batch_size: 1,
        }
    }
}

impl Method for Ewc {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        self.batch_size = self.batch_size.max(batch.images.len());
        self.penalty.added_to(learner.loss_on(batch)?, learner)
    }

    fn adjust_gradients(&mut self, learner: &Learner, _batch: &Batch) -> Result<()> {
        self.penalty.add_gradient(learner)
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        let (samples, labels) = measured_samples(learner, task, self.fisher_samples);
        let on = Measured { samples: &samples, labels: &labels, outputs: learner.active_outputs(task) };
        let new = fisher(learner, &on, self.fisher, self.batch_size, task.index as u64)?.to_vec()?;
        let Some(decay) = self.decay else { return self.penalty.add(learner, &new) };
        let [old, _] = self.penalty.held(learner)?;
        let importance = old.iter().zip(&new).map(|(old, new)| decay * old + new).collect();
        self.penalty.hold(learner, importance, &learner.network.parameters.values().to_vec()?)
    }

    fn stiffness(&self) -> Option<f32> {
        self.penalty.stiffness()
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("penalty", &mut self.penalty), ("batch_size", &mut self.batch_size)]
    }
}

const EXPECT: &str = "Helps where the task is known at test time (task-incremental), and where all tasks share their labels. EWC \
                      alone does not solve class-incremental learning: expect about what fine-tuning reaches there.";

pub(super) const EWC: MethodSpec = MethodSpec {
    name: "ewc",
    summary: "elastic weight consolidation: a penalty for each earlier task, by Fisher information",
    paper: "Kirkpatrick et al., PNAS 2017",
    equations: "L = CE(f(x), y) + λ/2·Σ_t Σ_i F_t,i (θ_i − θ*_t,i)², F = the diagonal of the Fisher information after task t",
    memory: "two numbers per parameter, however many tasks: Σ F_t and Σ F_t θ*_t / Σ F_t",
    expect: EXPECT,
    deviations: &[
        "λ is not portable: toolboxes differ in the ½, in the mean over images or batches, and in the Fisher information",
        "the penalties of all tasks are stored as one, of the same gradient",
        "of images with masks the Fisher information is that of the mean over pixels, sampled",
    ],
    needs_boundaries: true,
    options: &[PENALTY_WEIGHT.usually("100"), FISHER, FISHER_SAMPLES, UNSEEN],
    trade_off: &[("penalty_weight", 1e4)],
    targets: CLASSES_AND_MASKS,
    build: |settings| Box::new(Ewc::new(settings)),
    ..MethodSpec::BASE
};

pub(super) const ONLINE: MethodSpec = MethodSpec {
    name: "ewc-online",
    summary: "elastic weight consolidation with one penalty: importances add up, the latest values count",
    paper: "Schwarz et al., ICML 2018",
    equations: "L = CE(f(x), y) + λ/2·Σ_i F_i (θ_i − θ*_i)²; after a task F ← γF + F_t and θ* ← θ",
    memory: "two numbers per parameter: F and θ*",
    expect: EXPECT,
    deviations: &["γ = 1 by default", "F_t is not normalised to a common size per task"],
    options: &[PENALTY_WEIGHT.usually("100"), FISHER, FISHER_SAMPLES, FISHER_DECAY, UNSEEN],
    build: |settings| Box::new(Ewc::new(settings)),
    ..EWC
};
