//! Lan, Zhu, Gong: "Knowledge distillation by on-the-fly native ensemble", NeurIPS 2018.
//!
//! Behind a stage the network branches; a gate weighs what the branches say, and their weighted sum teaches each of them. The
//! first branch is the student itself, so that taking the others away leaves it as it was.

use super::losses::{gate, weighted_sum};
use super::{Answer, Beginning, Build, Companions, Knowledge, SchemeSpec, Settings, Training, seed_along};
use crate::error::{Error, Result};
use crate::models::{Cut, Network};
use crate::nn::{Init, Loss, Parameter, Parameters, Statistics, Tap, Term};
use crate::ops::Mode;
use crate::settings::Setting;
use crate::shape::Shape;
use crate::tensor::{Tensor, no_grad};
use crate::training::Step;

const BRANCHES: Setting =
    Setting::whole("branches", "N", "Branches, the student's own among them").between(1, 32).usually("3");

const BRANCH_AFTER: Setting =
    Setting::new("branch_after", "STAGE", crate::settings::Kind::Text, "The last stage that branches share")
        .usually("stage2");

const RAMPUP: Setting = Setting::whole(
    "rampup",
    "EPOCHS",
    "Epochs in which the weight of what the branches learn from all of them rises; 0: it is full from the start",
)
.between(0, u32::MAX as u64)
.open("80 of 300 epochs, in proportion");

pub const SPEC: SchemeSpec = SchemeSpec {
    name: "one",
    summary: "branches behind a shared trunk, taught by their own gated ensemble",
    formula: "Σ_i ce·CE(z_i, y) + gate·CE(z_e, y) + w(epoch)·Σ_i kd·T²·KL(softmax(z_e/T) ‖ softmax(z_i/T)), z_e = Σ g_i·z_i, \
              g = softmax(ReLU(BN(linear(pooled trunk)))), z_e without gradient in KL, w = exp(−5·(1 − min(e, R)/R)²)",
    knowledge: Knowledge::Response,
    training: Training::Online,
    paper: "Lan, Zhu and Gong, NeurIPS 2018",
    deviations: &[
        "the ramp-up takes 80 of 300 epochs in proportion, where the authors' script takes 80 epochs",
        "the authors' code adds 1e-7 to the ensemble's probabilities; the divergence here is computed from logarithms",
        "the student is judged after the last epoch, where the authors take the best epoch on the test images",
        "the resnets here have basic blocks at all depths and parameter-free shortcuts; the authors' have bottlenecks from 44 \
         layers on and projections",
    ],
    weights: &[("ce", 1.0), ("kd", 1.0), ("gate", 1.0)],
    temperature: 3.0,
    options: &[BRANCHES, BRANCH_AFTER, RAMPUP],
    build: Build::Together(|beginning| Ok(Box::new(Branches::new(beginning)?))),
    ..SchemeSpec::BASE
};

/// The other branches, and the gate over all.
struct Branches {
    settings: Settings,
    shared: Tap,
    others: Vec<Network>,
    gate: Parameters,
    gate_statistics: Statistics,
    answers: Vec<Answer>,
}

impl Branches {
    fn new(beginning: &Beginning) -> Result<Branches> {
        let Beginning { device, student, settings, seed } = *beginning;
        let n = settings.own.get::<usize>("branches");
        if n < 2 {
            return Err(Error::usage("--branches 1: a single branch has no others to learn from; give 2 or more"));
        }
        let cut = student.list().cut(&student.name, &settings.own.get::<String>("branch_after"))?;
        let Cut { stage, shape, rest, .. } = &cut;
        let name = format!("{} behind {stage}", student.name);
        let branch = |i| Network::from_list(&name, rest, *shape, student.n_outputs, device, seed_along(seed, i));
        let others = (0..n - 1).map(branch).collect::<Result<Vec<_>>>()?;
        let c = shape[0];
        let init = Init::Uniform(1.0 / (c as f32).sqrt());
        let entry = |name: &str, shape: Shape, init, decay| Parameter { name: name.into(), shape, init, decay };
        let entries = vec![
            entry("gate.weight", [n, c].into(), init, true),
            entry("gate.bias", [n].into(), init, false),
            entry("gate_norm.weight", [n].into(), Init::Constant(1.0), true),
            entry("gate_norm.bias", [n].into(), Init::Constant(0.0), false),
        ];
        let gate = Parameters::new(device, entries, seed_along(seed, n))?;
        Ok(Branches {
            answers: answers(student, &cut, &others, &gate),
            settings: settings.clone(),
            shared: student.tap(stage)?.0,
            others,
            gate,
            gate_statistics: Statistics::new(device, vec![("gate_norm".into(), n)])?,
        })
    }

    /// The logits of every branch, the student's first, and the ensemble's.
    fn logits(&self, student: &Network, x: &Tensor, mode: Mode) -> Result<(Vec<Tensor>, Tensor)> {
        let (output, tapped) = student.forward_with(x, mode, &[self.shared])?;
        let mut logits = vec![output.logits];
        for branch in &self.others {
            logits.push(branch.forward(&tapped[0], mode)?.logits);
        }
        let weights = gate(&tapped[0], self.gate.tensors(), &self.gate_statistics.arrays()[0], mode)?;
        let ensemble = weighted_sum(&weights, &logits)?;
        Ok((logits, ensemble))
    }
}

/// Each other branch by itself, and all together with the gate.
fn answers(student: &Network, cut: &Cut, others: &[Network], gate: &Parameters) -> Vec<Answer> {
    let mut answers = Vec::new();
    let whole = |name: &str| Answer {
        name: name.into(),
        n_parameters: student.parameters.n_parameters() + gate.n_parameters(),
        macs: student.macs + ((others.len() + 1) * cut.shape[0]) as u64,
    };
    let mut together = whole("all (ONE-E)");
    for (i, branch) in others.iter().enumerate() {
        let (n_parameters, macs) = (branch.parameters.n_parameters(), branch.macs);
        let name = format!("branch {}", i + 2);
        answers.push(Answer { name, n_parameters: cut.n_parameters + n_parameters, macs: cut.macs + macs });
        together.n_parameters += n_parameters;
        together.macs += macs;
    }
    answers.push(together);
    answers
}

/// 80 of the 300 epochs of the paper.
fn usual_rampup(n_epochs: usize) -> usize {
    (80.0 / 300.0 * n_epochs as f64).round() as usize
}

/// exp(−5·(1 − min(e, R)/R)²): from 0.0067 to 1 over R epochs; 1 if R = 0.
pub fn ramp(epoch: usize, rampup: usize) -> f32 {
    if rampup == 0 {
        return 1.0;
    }
    let rest = 1.0 - epoch.min(rampup) as f64 / rampup as f64;
    (-5.0 * rest * rest).exp() as f32
}

impl Companions for Branches {
    fn loss(&self, student: &Network, x: &Tensor, labels: &Tensor, step: Step) -> Result<Loss> {
        let (logits, ensemble) = self.logits(student, x, Mode::Train)?;
        let rampup = self.settings.own.find("rampup").unwrap_or_else(|| usual_rampup(step.n_epochs));
        let (target, classes) = (ensemble.detach(), student.n_outputs);
        let [ce, kd, gate] = ["ce", "kd", "gate"].map(|name| self.settings.weight(name));
        let kd = kd * ramp(step.epoch(), rampup);
        let mut terms = Vec::new();
        for z in &logits {
            if ce != 0.0 {
                terms.push(Term { name: "ce", weight: ce, value: z.cross_entropy(labels, classes)? });
            }
        }
        if gate != 0.0 {
            terms.push(Term { name: "gate", weight: gate, value: ensemble.cross_entropy(labels, classes)? });
        }
        for z in &logits {
            if kd != 0.0 {
                terms.push(Term { name: "kd", weight: kd, value: z.kl_div(&target, self.settings.temperature)? });
            }
        }
        Ok(Loss(terms))
    }

    fn along(&self) -> Vec<&Parameters> {
        self.others.iter().map(|branch| &branch.parameters).chain([&self.gate]).collect()
    }

    fn answers(&self) -> Vec<Answer> {
        self.answers.clone()
    }

    fn answer(&self, student: &Network, x: &Tensor) -> Result<Vec<Tensor>> {
        no_grad(|| {
            let (mut logits, ensemble) = self.logits(student, x, Mode::Eval)?;
            logits.push(ensemble);
            Ok(logits.split_off(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{ramp, usual_rampup};

    #[test]
    fn the_ramp_has_the_values_of_the_authors() {
        let known =
            [(0, 0.0067), (10, 0.0218), (20, 0.060), (40, 0.287), (60, 0.732), (80, 1.0), (160, 1.0), (299, 1.0)];
        for (epoch, value) in known {
            assert!((ramp(epoch, usual_rampup(300)) - value).abs() < 5e-4, "{epoch}: {}", ramp(epoch, 80));
        }
        assert_eq!([usual_rampup(300), usual_rampup(30), usual_rampup(1)], [80, 8, 0]);
        assert_eq!([ramp(0, 0), ramp(7, 0)], [1.0, 1.0]);
    }
}
