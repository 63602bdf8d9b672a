//! Zhang, Song, Gao, Chen, Bao, Ma: "Be your own teacher: improve the performance of convolutional neural networks via self
//! distillation", ICCV 2019.
//!
//! Behind every stage but the last a small classifier is attached, an exit, that learns from labels and from the deepest
//! classifier. Whoever has no time at test time stops at an exit.

use super::{Answer, Beginning, Build, Companions, Knowledge, SchemeSpec, Settings, TeacherMean, Training};
use super::{combined, seed_along};
use crate::error::{Error, Result};
use crate::models::{LayerList, Network};
use crate::nn::{Builder, LayerSpec, Loss, Output, Parameters, Tap, Term};
use crate::ops::{Conv2d, Mode};
use crate::tensor::{Tensor, no_grad};
use crate::training::Step;

pub const SPEC: SchemeSpec = SchemeSpec {
    name: "byot",
    summary: "a classifier behind each stage, taught by the deepest one: be your own teacher",
    formula: "ce·CE(z_C, y) + Σ_exits [exit·CE(z_i, y) + kd·KL(softmax(z_C/T) ‖ softmax(z_i/T)) + hint·‖F_i − F_C‖²], z_C and F_C \
              without gradient, the norm a mean over the batch",
    knowledge: Knowledge::Response,
    training: Training::SelfTaught,
    paper: "Zhang et al., ICCV 2019",
    deviations: &[
        "weights 0.7, 0.3 and 0.03 and no factor T², as in the authors' later code; the features compared are vectors of the \
         penultimate layer, not maps",
        "an exit is a bottleneck of 1×1, k×k with stride k and 1×1 convolutions as in luanyunteng's code, without a ReLU at its \
         end, because features of some networks here have both signs",
    ],
    weights: &[("ce", 1.0), ("kd", 0.3), ("exit", 0.7), ("hint", 0.03)],
    temperature: 3.0,
    build: Build::Together(|beginning| Ok(Box::new(Exits::new(beginning)?))),
    ..SchemeSpec::BASE
};

struct Exits {
    settings: Settings,
    taps: Vec<Tap>,
    exits: Vec<Network>,
    answers: Vec<Answer>,
}

impl Exits {
    fn new(beginning: &Beginning) -> Result<Exits> {
        let Beginning { device, student, settings, seed } = *beginning;
        let stages = student.stages();
        let Some((last, before @ [_, ..])) = stages.split_last() else {
            let (name, n) = (&student.name, stages.len());
            return Err(Error::usage(format!(
                "'{name}' has {n} stages: 'byot' needs two, for an exit behind the first"
            )));
        };
        let (mut taps, mut exits, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for (i, stage) in before.iter().enumerate() {
            let cut = student.list().cut(&student.name, &stage.name)?;
            let list = exit(stage.shape, last.shape, student.n_features, student.n_outputs);
            let name = format!("exit {} ({})", i + 1, stage.name);
            let exit = Network::from_list(&name, &list, stage.shape, student.n_outputs, device, seed_along(seed, i))?;
            let n_parameters = cut.n_parameters + exit.parameters.n_parameters();
            answers.push(Answer { name, n_parameters, macs: cut.macs + exit.macs });
            taps.push(student.tap(&stage.name)?.0);
            exits.push(exit);
        }
        answers.push(Answer {
            name: "all exits".into(),
            n_parameters: student.parameters.n_parameters()
                + exits.iter().map(|exit| exit.parameters.n_parameters()).sum::<usize>(),
            macs: student.macs + exits.iter().map(|exit| exit.macs).sum::<u64>(),
        });
        Ok(Exits { settings: settings.clone(), taps, exits, answers })
    }

    /// What the network says, and what every exit does.
    fn outputs(&self, student: &Network, x: &Tensor, mode: Mode) -> Result<(Output, Vec<Output>)> {
        let (deepest, tapped) = student.forward_with(x, mode, &self.taps)?;
        let exits = self.exits.iter().zip(&tapped);
        Ok((deepest, exits.map(|(exit, value)| exit.forward(value, mode)).collect::<Result<_>>()?))
    }
}

/// The layers from a stage to an exit whose features are as many as the network's own.
fn exit(stage: [usize; 3], last: [usize; 3], n_features: usize, n_outputs: usize) -> LayerList {
    let mut b = Builder::new(stage);
    let ([_, h, w], [_, last_h, last_w]) = (stage, last);
    if h * w > 1 {
        let (narrow, shrink) = ((n_features / 4).max(1), (h / last_h).min(w / last_w).max(1));
        b.conv("bottleneck1", narrow, 1, Conv2d::new(1, 0), false);
        b.batch_norm("norm1", None, true);
        b.conv("bottleneck2", narrow, shrink, Conv2d::new(shrink, 0), false);
        b.batch_norm("norm2", None, true);
        b.conv("bottleneck3", n_features, 1, Conv2d::new(1, 0), false);
        b.batch_norm("norm3", None, false);
        b.global_avg_pool();
        b.feature();
    } else {
        b.linear("hidden", n_features);
        b.feature();
        b.relu();
    }
    b.linear("exit", n_outputs);
    let mut layers = b.specs;
    if let Some(LayerSpec::Linear { outputs, .. }) = layers.last_mut() {
        *outputs = None;
    }
    LayerList::new(stage, layers)
}

impl Companions for Exits {
    fn loss(&self, student: &Network, x: &Tensor, labels: &Tensor, _step: Step) -> Result<Loss> {
        let (deepest, exits) = self.outputs(student, x, Mode::Train)?;
        let Settings { temperature, .. } = self.settings;
        let [ce, kd, exit_ce, hint] = ["ce", "kd", "exit", "hint"].map(|name| self.settings.weight(name));
        let (logits, features) = (deepest.logits.detach(), deepest.features.detach());
        let classes = student.n_outputs;
        let mut terms = Vec::new();
        if ce != 0.0 {
            terms.push(Term { name: "ce", weight: ce, value: deepest.logits.cross_entropy(labels, classes)? });
        }
        for exit in &exits {
            if exit_ce != 0.0 {
                terms.push(Term { name: "exit", weight: exit_ce, value: exit.logits.cross_entropy(labels, classes)? });
            }
            if kd != 0.0 {
                let weight = kd / (temperature * temperature);
                terms.push(Term { name: "kd", weight, value: exit.logits.kl_div(&logits, temperature)? });
            }
            if hint != 0.0 {
                let weight = hint * student.n_features as f32;
                terms.push(Term { name: "hint", weight, value: exit.features.mse(&features)? });
            }
        }
        Ok(Loss(terms))
    }

    fn along(&self) -> Vec<&Parameters> {
        self.exits.iter().map(|exit| &exit.parameters).collect()
    }

    fn answers(&self) -> Vec<Answer> {
        self.answers.clone()
    }

    fn answer(&self, student: &Network, x: &Tensor) -> Result<Vec<Tensor>> {
        no_grad(|| {
            let (deepest, exits) = self.outputs(student, x, Mode::Eval)?;
            let mut logits: Vec<Tensor> = exits.into_iter().map(|exit| exit.logits).collect();
            let all = [logits.as_slice(), &[deepest.logits]].concat();
            logits.push(combined(&all, TeacherMean::Probabilities, 1.0)?);
            Ok(logits)
        })
    }
}
