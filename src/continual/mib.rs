//! MiB (Cermelli et al., "Modeling the background for incremental learning in semantic segmentation", CVPR 2020). In the masks
//! of a task the pixels of all other classes are background, and what is background changes from task to task. So the
//! cross-entropy asks only that a background pixel be background or an old class, distillation only that what was background be
//! background or a new class, and new classes start as parts of the background.

use super::before::Before;
use super::pixel_losses::{distillation, start_new_classes, unbiased_cross_entropy, unbiased_distillation};
use super::spec::MASKS;
use super::{Batch, Keeps, Learner, Loss, Method, MethodSpec, TaskData};
use crate::error::Result;
use crate::ops::Mode;
use crate::settings::Setting;

const KD_WEIGHT: Setting =
    Setting::number("kd_weight", "WEIGHT", "λ: what the distillation from the old network is multiplied with")
        .usually("10");

/// Of methods that know how the background changes.
pub(super) const UNBIASED: Setting = Setting::switch(
    "unbiased",
    "Whether old and new classes count as background where the labels and the old network call them that",
)
.usually("true");

/// Of methods that start new classes as MiB does.
pub(super) const START: Setting =
    Setting::switch("start_as_background", "Whether new classes start as parts of the background").usually("true");

struct Mib {
    kd_weight: f32,
    unbiased: bool,
    starts: bool,
    old: Before,
}

impl Method for Mib {
    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.old.begin(learner, task)?;
        match self.starts && task.n_old > 0 && task.n_old < task.n_seen {
            true => start_new_classes(&learner.network, task.n_old, task.n_seen),
            false => Ok(()),
        }
    }

    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
        let (n_old, n_seen, n_merged) = (batch.n_old, batch.n_seen, batch.n_merged());
        let ce = match self.unbiased && n_merged > 0 {
            true => unbiased_cross_entropy(&logits, &batch.labels, n_merged, n_seen)?,
            false => learner.cross_entropy(&logits, &batch.images.labels, n_seen)?,
        };
        let loss = Loss::single("cross_entropy", ce);
        let Some((said, _)) = self.old.ask(batch, &[])? else { return Ok(loss) };
        let kd = match self.unbiased {
            true => unbiased_distillation(&logits, &said.logits, n_old, n_seen)?,
            false => distillation(&logits, &said.logits, n_old)?,
        };
        Ok(loss.and("kd", self.kd_weight, kd))
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("old", &mut self.old)]
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "mib",
    summary: "cross-entropy and distillation that know what is called background (segmentation)",
    paper: "Cermelli et al., CVPR 2020",
    equations: "L = −ln p̃(y) + λ·(−1/|Y_old| Σ_c q_old(c)·ln q̂(c)), p̃(b) = Σ_{c ∈ Y_old} q(c), q̂(b) = q(b) + Σ_{c ∈ new} q(c)",
    memory: "the old network",
    expect: "Far above fine-tuning where tasks bring classes; where they bring styles it is distillation.",
    deviations: &[
        "the cross-entropy is the mean over pixels with a label; the authors' code divides by all pixels",
        "where tasks bring no classes nothing is merged, and both losses are the plain ones",
    ],
    targets: MASKS,
    needs_boundaries: true,
    options: &[KD_WEIGHT, UNBIASED, START],
    trade_off: &[("kd_weight", 100.0)],
    build: |settings| {
        Box::new(Mib {
            kd_weight: settings.get("kd_weight"),
            unbiased: settings.get("unbiased"),
            starts: settings.get("start_as_background"),
            old: Before::default(),
        })
    },
    ..MethodSpec::BASE
};
