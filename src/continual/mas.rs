//! Memory aware synapses (Aljundi et al., "Memory Aware Synapses: Learning what (not) to forget", ECCV 2018): a parameter
//! matters as much as the squared length of the outputs changes with it. Labels play no part in that.

use super::ewc::measured_samples;
use super::fisher::{Measured, output_sensitivity};
use super::importance::{FISHER_SAMPLES, PENALTY_WEIGHT, Quadratic};
use super::outputs::UNSEEN;
use super::{Batch, Held, Learner, Loss, Method, MethodSpec, MethodState, TaskData};
use crate::error::Result;
use crate::ops::Mode;

struct Mas {
    penalty_weight: f32,
    fisher_samples: usize,
    /// Absent in the first task.
    quadratic: Option<Quadratic>,
}

impl Method for Mas {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
        let loss = Loss::single("cross_entropy", learner.cross_entropy(&logits, &batch.images.labels, batch.n_seen)?);
        match &self.quadratic {
            Some(quadratic) => Ok(loss.and("penalty", self.penalty_weight, quadratic.value(learner)?)),
            None => Ok(loss),
        }
    }

    fn adjust_gradients(&mut self, learner: &Learner, _batch: &Batch) -> Result<()> {
        match &self.quadratic {
            Some(quadratic) => quadratic.add_gradient(learner, self.penalty_weight),
            None => Ok(()),
        }
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        let (samples, labels) = measured_samples(learner, task, self.fisher_samples);
        let on = Measured { samples: &samples, labels: &labels, outputs: learner.active_outputs(task) };
        let new = output_sensitivity(learner, &on)?.to_vec()?;
        self.quadratic = Some(Quadratic::raised(self.quadratic.take(), learner, &new)?);
        Ok(())
    }

    fn stiffness(&self) -> Option<f32> {
        self.quadratic.as_ref().map(|quadratic| 2.0 * self.penalty_weight * quadratic.largest)
    }

    fn state(&self) -> Result<MethodState> {
        let tensors = self.quadratic.as_ref().map(Quadratic::state).transpose()?.unwrap_or_default();
        Ok(MethodState { tensors, ..MethodState::default() })
    }

    fn restore(&mut self, learner: &Learner, mut state: MethodState) -> Result<()> {
        self.quadratic = Quadratic::restored(learner, &mut state)?;
        Ok(())
    }

    fn held(&self) -> Held {
        Held { importance: self.quadratic.as_ref().map_or(0, Quadratic::bytes), ..Held::default() }
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
        let (penalty_weight, fisher_samples) = (settings.get("penalty_weight"), settings.get("fisher_samples"));
        Box::new(Mas { penalty_weight, fisher_samples, quadratic: None })
    },
    ..MethodSpec::BASE
};
