//! Memory aware synapses (Aljundi et al., "Memory Aware Synapses: Learning what (not) to forget", ECCV 2018): a parameter
//! matters as much as the squared length of the outputs changes with it. Labels play no part in that.

use super::ewc::measured_samples;
use super::fisher::{Measured, output_sensitivity};
use super::importance::{FISHER_SAMPLES, PENALTY_WEIGHT, Penalty};
use super::outputs::UNSEEN;
use super::{Batch, Keeps, Learner, Loss, Method, MethodSpec, TaskData};
use crate::error::Result;

struct Mas {
    penalty: Penalty,
    fisher_samples: usize,
}

impl Method for Mas {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        self.penalty.added_to(learner.loss_on(batch)?, learner)
    }

    fn adjust_gradients(&mut self, learner: &Learner, _batch: &Batch) -> Result<()> {
        self.penalty.add_gradient(learner)
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        let (samples, labels) = measured_samples(learner, task, self.fisher_samples);
        let on = Measured { samples: &samples, labels: &labels, outputs: learner.active_outputs(task) };
        self.penalty.raise(learner, &output_sensitivity(learner, &on)?.to_vec()?)
    }

    fn stiffness(&self) -> Option<f32> {
        self.penalty.stiffness()
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("penalty", &mut self.penalty)]
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "mas",
    summary: "memory aware synapses: a penalty by how much the outputs' length depends on each parameter",
    paper: "Aljundi et al., ECCV 2018",
    equations: "L = CE(f(x), y) + λ·Σ_i Ω_i (θ_i − θ*_i)²; after a task Ω ← Ω + mean_x |∂‖f(x)‖²/∂θ|, θ* ← θ",
    memory: "two numbers per parameter: Ω and θ*",
    expect: "As EWC, without labels: it helps where the task is known or labels are shared, and does not solve \
             class-incremental learning.",
    deviations: &[
        "importances are measured on 1,000 images of the task (--fisher-samples), the paper's on all",
        "they add up over tasks, as in the paper; FACIL averages them",
    ],
    needs_boundaries: true,
    options: &[PENALTY_WEIGHT.usually("0.1"), FISHER_SAMPLES, UNSEEN],
    trade_off: &[("penalty_weight", 100.0)],
    build: |settings| {
        let penalty = Penalty::new(settings.get("penalty_weight"), None);
        Box::new(Mas { penalty, fisher_samples: settings.get("fisher_samples") })
    },
    ..MethodSpec::BASE
};
