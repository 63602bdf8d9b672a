//! Learning without forgetting (Li & Hoiem, ECCV 2016 and TPAMI 2018): on new images the outputs of old classes are held at
//! what the network before the task says of the same images. Nothing is stored but that network.

use super::before::Before;
use super::old_teacher::{DISTILL, Old, terms, with_terms};
use super::outputs::UNSEEN;
use super::spec::CLASSES_AND_MASKS;
use super::{Batch, Keeps, Learner, Loss, Method, MethodSpec, TaskData};
use crate::error::Result;
use crate::nn::Output;
use crate::ops::Mode;
use crate::settings::{Setting, choices};
use crate::tensor::{Tensor, no_grad};
use std::ops::Range;

choices! {
    /// The outputs that the cross-entropy of new images runs over.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum CeOver {
        #[default]
        /// All seen so far.
        Seen = "seen",
        /// Those of the task's own classes.
        New = "new",
    }
}

const KD_WEIGHT: Setting =
    Setting::number("kd_weight", "WEIGHT", "λ of LwF: what the distillation loss is multiplied with").usually("1");

const CE_WEIGHT: Setting =
    Setting::number("ce_weight", "WEIGHT", "What the loss on new labels is multiplied with").usually("1");

const TEMPERATURE: Setting =
    Setting::number("temperature", "T", "T, the temperature of distillation").positive().usually("2");

const CE: Setting =
    Setting::choice::<CeOver>("ce", "WHICH", "Outputs that the cross-entropy of new images runs over").usually("seen");

struct Lwf {
    kd_weight: f32,
    ce_weight: f32,
    temperature: f32,
    ce: CeOver,
    old: Before,
    /// The outputs of this task's own labels.
    new: Range<usize>,
}

impl Lwf {
    fn new_labels_loss(&self, learner: &Learner, batch: &Batch, logits: &Tensor) -> Result<Tensor> {
        let labels = &batch.images.labels;
        match self.ce {
            CeOver::Seen => learner.cross_entropy(logits, labels, batch.n_seen),
            CeOver::New => {
                // In a mask what is not of the task is background, output 0.
                let background = learner.has_masks().then_some(0);
                let logits =
                    learner.masked(logits, |_, output| self.new.contains(&output) || background == Some(output))?;
                learner.cross_entropy(&logits, labels, batch.n_seen)
            }
        }
    }
}

impl Method for Lwf {
    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.new = task.labels.clone();
        self.old.begin(learner, task)
    }

    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let Some(old) = self.old.teacher() else {
            let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
            return Ok(Loss::single("cross_entropy", self.new_labels_loss(learner, batch, &logits)?));
        };
        let (Output { logits, .. }, values) = old.forward(learner, batch)?;
        let new = self.new_labels_loss(learner, batch, &logits)?;
        let mut loss = Loss(Vec::new()).and("cross_entropy", self.ce_weight, new);
        match old {
            Old::Plain(old) => {
                let teacher = no_grad(|| old.forward(&batch.x, Mode::Eval))?.logits;
                for head in learner.old_heads(batch.n_old) {
                    let own = |logits: &Tensor| learner.masked(logits, |_, output| head.contains(&output));
                    let kd = own(&logits)?.kl_div(&own(&teacher)?, self.temperature)?;
                    loss = loss.and("kd", self.kd_weight, kd);
                }
            }
            Old::Teaches(distiller) => {
                let own = |logits: &Tensor| learner.masked(logits, |_, output| output < batch.n_old);
                loss = with_terms(loss, self.kd_weight, terms(distiller, (&logits, &values), batch, own)?);
            }
        }
        Ok(loss)
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("old", &mut self.old), ("new", &mut self.new)]
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "lwf",
    summary: "learning without forgetting: old outputs are held at what the old network says of new images",
    paper: "Li & Hoiem, ECCV 2016",
    equations: "L = CE(f(x), y) + λ·Σ_heads T²·KL(softmax(f_old(x)/T) ‖ softmax(f(x)/T)) over the outputs of old classes",
    memory: "the old network",
    expect: "Good where the task is known at test time and tasks resemble each other; in class-incremental learning a little \
             better than fine-tuning.",
    deviations: &[
        "with the factor T² of Hinton et al., which the paper has not: its λ = 1 at T = 2 is 0.25 here",
        "the frozen old network is evaluated on each (augmented) batch; the paper stores its outputs beforehand",
        "the cross-entropy runs over all classes seen; --ce new takes the task's own classes, as the paper's heads do",
        "no warm-up of new outputs before the whole network is trained",
        "--distill SCHEME puts another scheme in the place of the divergence, weighed by --kd-weight; in task-incremental \
         learning over all old outputs together",
    ],
    needs_boundaries: true,
    options: &[KD_WEIGHT, CE_WEIGHT, TEMPERATURE, CE, DISTILL, UNSEEN],
    trade_off: &[("kd_weight", 16.0)],
    targets: CLASSES_AND_MASKS,
    build: |settings| {
        Box::new(Lwf {
            kd_weight: settings.get("kd_weight"),
            ce_weight: settings.get("ce_weight"),
            temperature: settings.get("temperature"),
            ce: settings.get("ce"),
            old: Before::with_scheme(settings),
            new: 0..0,
        })
    },
    ..MethodSpec::BASE
};
