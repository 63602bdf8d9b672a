//! ILT (Michieli & Zanuttigh, "Incremental learning techniques for semantic segmentation", ICCV workshops 2019): distillation
//! of the outputs of old classes, and of the features that the encoder makes.

use super::before::Before;
use super::pixel_losses::distillation;
use super::spec::MASKS;
use super::{Batch, Keeps, Learner, Loss, Method, MethodSpec, TaskData};
use crate::error::{Error, Result};
use crate::nn::Tap;
use crate::ops::Mode;
use crate::settings::Setting;

const KD_WEIGHT: Setting =
    Setting::number("kd_weight", "WEIGHT", "λ'_D: what the distillation of outputs is multiplied with").usually("100");

const FEATURE_WEIGHT: Setting = Setting::number(
    "feature_weight",
    "WEIGHT",
    "λ''_D: what the squared error of the encoder's features is multiplied with",
)
.usually("100");

struct Ilt {
    kd_weight: f32,
    feature_weight: f32,
    old: Before,
}

/// The end of the encoder: the last stage.
fn encoder(learner: &Learner) -> Result<Tap> {
    let network = &learner.network;
    let Some(stage) = network.stages().last().map(|stage| stage.name.clone()) else {
        return Err(Error::usage(format!(
            "ilt compares what leaves the encoder, and '{}' names no stage",
            network.name
        )));
    };
    Ok(network.tap(&stage)?.0)
}

impl Method for Ilt {
    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.old.begin(learner, task)
    }

    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let taps = [encoder(learner)?];
        let (output, values) = learner.network.forward_with(&batch.x, Mode::Train, &taps)?;
        let ce = learner.cross_entropy(&output.logits, &batch.images.labels, batch.n_seen)?;
        let loss = Loss::single("cross_entropy", ce);
        let Some((said, old_values)) = self.old.ask(batch, &taps)? else { return Ok(loss) };
        let kd = distillation(&output.logits, &said.logits, batch.n_old)?;
        Ok(loss.and("kd", self.kd_weight, kd).and("features", self.feature_weight, values[0].mse(&old_values[0])?))
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("old", &mut self.old)]
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "ilt",
    summary: "distillation of old outputs and of the encoder's features (segmentation)",
    paper: "Michieli & Zanuttigh, ICCVW 2019",
    equations: "L = CE(f(x), y) + λ'·(−1/|Y_old| Σ_c q_old(c)·ln q(c)) + λ''·‖E_old(x) − E(x)‖²",
    memory: "the old network",
    expect: "Near LwF where tasks bring classes: nothing in it knows that old classes are called background.",
    deviations: &[
        "both terms together with weight 100 each, as MiB's code runs it; the paper finds that together they do not help",
        "distillation over all pixels; the paper's is over those of old classes",
        "the squared error is the mean over all numbers of the last stage",
    ],
    targets: MASKS,
    needs_boundaries: true,
    options: &[KD_WEIGHT, FEATURE_WEIGHT],
    trade_off: &[("kd_weight", 1000.0)],
    build: |settings| {
        Box::new(Ilt {
            kd_weight: settings.get("kd_weight"),
            feature_weight: settings.get("feature_weight"),
            old: Before::default(),
        })
    },
    ..MethodSpec::BASE
};
