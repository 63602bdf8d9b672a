//! iCaRL: Incremental Classifier and Representation Learning (Rebuffi, Kolesnikov, Sperl, Lampert; CVPR 2017).
//!
//! The network learns all outputs by binary cross-entropy; outputs of old classes are held at what the old network said.
//! A bounded set of exemplars, chosen by herding, is trained on with the new classes, and a test image belongs to the class
//! whose exemplars' mean feature is nearest. The five algorithm boxes of the paper are five functions here:
//!
//! | box | function | what it does |
//! |---|---|---|
//! | 1 CLASSIFY | `classify` | nearest mean of exemplars |
//! | 2 INCREMENTALTRAIN | `incremental_train` | what happens to the memory after a task's training |
//! | 3 UPDATEREPRESENTATION | `update_representation` | the loss of one batch |
//! | 4 CONSTRUCTEXEMPLARSET | `construct_exemplar_set` | herding |
//! | 5 REDUCEEXEMPLARSET | `reduce_exemplar_set` | keep the first m |
//!
//! Parts of it are methods of their own, as in the paper's table 1: `hybrid2` does not distil, `hybrid3` neither distils nor
//! goes by means, `lwf-mc` distils but keeps no exemplars. The column "hybrid1" is iCaRL's classifier `network`.

use super::before::Before;
use super::memory::{HERDING, MEMORY, MEMORY_ROUNDING};
use super::old_teacher::{DISTILL, Old, terms, with_terms};
use super::spec::CLASSES_AND_MASKS;
use super::{Activation, Batch, Candidates, Classifier, Exemplars, Held, Herding, Keep, Keeps, Learner, Loss, Method};
use super::{MethodSpec, MethodState, Renumbering, Rounding, TaskData};
use super::{distances_to_means, exemplars_per_class, original_herding};
use crate::data::Scenario;
use crate::error::{Error, Result};
use crate::nn::Output;
use crate::ops::Mode;
use crate::settings::Values;
use crate::shape::Shape;
use crate::tensor::{Tensor, no_grad};

/// Which parts of iCaRL a method has.
#[derive(Clone, Copy, Debug)]
struct Parts {
    distillation: bool,
    exemplars: bool,
    /// The first is the method's own.
    classifiers: &'static [Classifier],
}

const NME: Classifier = Classifier { name: "nme", explanation: "nearest mean of exemplars", by_means: true };
const NCM: Classifier =
    Classifier { name: "ncm", explanation: "nearest mean of all data so far: an upper reference", by_means: true };
const NETWORK: Classifier = Classifier::NETWORK;

const ALL: Parts = Parts { distillation: true, exemplars: true, classifiers: &[NME, NETWORK, NCM] };
const HYBRID2: Parts = Parts { distillation: false, ..ALL };
const HYBRID3: Parts = Parts { classifiers: &[NETWORK, NME, NCM], ..HYBRID2 };
const LWF_MC: Parts = Parts { exemplars: false, classifiers: &[NETWORK], ..ALL };

struct Icarl {
    parts: Parts,
    memory: usize,
    rounding: Rounding,
    herding: Herding,
    candidates: Candidates,
    /// P: samples of each class, in the order herding chose them.
    exemplars: Exemplars,
    old: Before,
    /// μ of the exemplars of each class.
    exemplar_means: Means,
    /// μ of all training data of each class seen so far: only for the reference classifier `ncm`.
    data_means: Option<Tensor>,
    seen: Vec<Vec<u32>>,
}

/// (classes seen, D); none before the first class.
struct Means(Option<Tensor>);

/// They are asked for between the ends of tasks too.
impl Keep for Means {
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()> {
        if let Some(means) = &self.0 {
            state.put(name, means.to_vec()?);
        }
        Ok(())
    }

    fn load(&mut self, name: &str, learner: &Learner, state: &mut MethodState) -> Result<()> {
        let d = learner.network.n_features;
        let means = state.take(name);
        let rows = |means: Vec<f32>| Tensor::from_f32(&learner.device, Shape::new(&[means.len() / d, d])?, &means);
        self.0 = means.map(rows).transpose()?;
        Ok(())
    }

    fn count(&self, _learner: &Learner, held: &mut Held) {
        held.class_means += self.0.as_ref().map_or(0, |means| 4 * means.n_elements() as u64);
    }

    fn renumber(&mut self, to: &Renumbering) -> Result<()> {
        let Some(means) = self.0.take() else { return Ok(()) };
        let d = means.shape()[1];
        let rows: Vec<Vec<f32>> = means.to_vec()?.chunks_exact(d).map(<[f32]>::to_vec).collect();
        let rows = to.by_label(&rows, vec![0.0; d]);
        if !rows.is_empty() {
            self.0 = Some(Tensor::from_f32(&means.device(), [rows.len(), d], &rows.concat())?);
        }
        Ok(())
    }
}

impl Icarl {
    fn new(settings: &Values, parts: Parts) -> Icarl {
        Icarl {
            parts,
            memory: settings.find("memory").unwrap_or(0),
            rounding: settings.find("memory_rounding").unwrap_or(Rounding::Ceil),
            herding: settings.find("herding").unwrap_or_default(),
            candidates: settings.get("candidates"),
            exemplars: Exemplars::default(),
            old: Before::with_scheme(settings),
            exemplar_means: Means(None),
            data_means: None,
            seen: Vec::new(),
        }
    }

    /// Box 1, CLASSIFY: y* = argmin_y ‖φ(x) − μ_y‖ over normalised features; here −‖φ(x) − μ_y‖², of which the largest is
    /// taken.
    fn classify(&self, Output { features, logits }: &Output, means: Option<&Tensor>) -> Result<Tensor> {
        let means = means.ok_or_else(|| Error::op("classify", "no class has been learned yet"))?;
        let &[_, d] = &*means.shape() else { return Err(Error::op("classify", "the means are no matrix")) };
        let distances = match self.candidates {
            Candidates::Seen => distances_to_means(features, means)?,
            Candidates::All => {
                let (mut rows, n_outputs) = (means.to_vec()?, logits.shape()[1]);
                rows.resize(n_outputs * d, 0.0);
                let means = Tensor::from_f32(&means.device(), [n_outputs, d], &rows)?;
                distances_to_means(features, &means)?
            }
        };
        distances.scale(-1.0)
    }

    /// Box 2, INCREMENTALTRAIN, after the representation has been updated: m = K/t, reduce the old exemplar sets, construct
    /// those of the new classes.
    fn incremental_train(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        let m = exemplars_per_class(self.memory, task.n_seen, self.rounding);
        self.reduce_exemplar_set(m);
        for samples in &task.samples {
            let chosen = self.construct_exemplar_set(learner, samples, m)?;
            self.exemplars.0.push(chosen);
        }
        Ok(())
    }

    /// Box 3, UPDATEREPRESENTATION: one binary cross-entropy over all outputs. Targets of old outputs are the old network's
    /// probabilities on this very batch, also for exemplars; the other targets are hard. Where the old network teaches by another
    /// scheme, all targets are hard, and the scheme's terms stand beside them.
    fn update_representation(&self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let Some(old) = self.old.teacher() else {
            let logits = rows(&learner.network.forward(&batch.x, Mode::Train)?.logits)?;
            return Ok(Loss::single("bce", logits.bce_with_logits(&logits.mixed_targets(&batch.labels, 0)?)?));
        };
        let (Output { logits, .. }, values) = old.forward(learner, batch)?;
        match old {
            Old::Plain(old) => {
                let said = no_grad(|| rows(&old.forward(&batch.x, Mode::Eval)?.logits))?;
                let targets = said.mixed_targets(&batch.labels, batch.n_old)?;
                Ok(Loss::single("bce", rows(&logits)?.bce_with_logits(&targets)?))
            }
            Old::Teaches(distiller) => {
                let bce = logits.bce_with_logits(&logits.mixed_targets(&batch.labels, 0)?)?;
                let own = |logits: &Tensor| learner.masked(logits, |_, output| output < batch.n_old);
                let terms = terms(distiller, (&logits, &values), batch, own)?;
                Ok(with_terms(Loss::single("bce", bce), 1.0, terms))
            }
        }
    }

    /// Box 4, CONSTRUCTEXEMPLARSET: the m samples whose running mean stays closest to the class mean, in order of choice.
    fn construct_exemplar_set(&self, learner: &Learner, samples: &[u32], m: usize) -> Result<Vec<u32>> {
        let features = learner.normalized_features(samples, false)?;
        let m = m.min(samples.len());
        let picks = match self.herding {
            Herding::Paper => features.herding(m)?.to_u32()?,
            Herding::Original => original_herding(&features.to_vec()?, features.shape()[1], m),
        };
        Ok(picks.into_iter().map(|pick| samples[pick as usize]).collect())
    }

    /// Box 5, REDUCEEXEMPLARSET: the first m of each class, which herding chose to be kept longest.
    fn reduce_exemplar_set(&mut self, m: usize) {
        for exemplars in &mut self.exemplars.0 {
            exemplars.truncate(m);
        }
    }
}

impl Method for Icarl {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        self.update_representation(learner, batch)
    }

    fn training_set(&self, task: &TaskData) -> Vec<u32> {
        task.samples.iter().chain(&self.exemplars.0).flatten().copied().collect()
    }

    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        if self.parts.distillation { self.old.begin(learner, task) } else { Ok(()) }
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        if !self.parts.exemplars {
            return Ok(());
        }
        self.incremental_train(learner, task)?;
        self.exemplar_means = Means(Some(learner.class_means(&self.exemplars.0)?));
        self.seen.extend_from_slice(&task.samples);
        self.data_means = Some(learner.class_means(&self.seen)?);
        Ok(())
    }

    fn classifiers(&self) -> &'static [Classifier] {
        self.parts.classifiers
    }

    fn scores(&self, output: &Output, classifier: &Classifier) -> Result<Tensor> {
        match *classifier {
            NME | NCM => self.classify(output, self.class_means(classifier)),
            NETWORK => Ok(output.logits.clone()),
            _ => Err(classifier.unknown()),
        }
    }

    fn class_means(&self, classifier: &Classifier) -> Option<&Tensor> {
        match *classifier {
            NME => self.exemplar_means.0.as_ref(),
            NCM => self.data_means.as_ref(),
            _ => None,
        }
    }

    fn activation(&self) -> Activation {
        Activation::Sigmoid
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![
            ("exemplars", &mut self.exemplars),
            ("exemplar_means", &mut self.exemplar_means),
            ("old", &mut self.old),
            ("seen", &mut self.seen),
        ]
    }
}

/// A row of outputs for each image, or for each pixel.
fn rows(logits: &Tensor) -> Result<Tensor> {
    if logits.shape().len() == 4 { logits.to_pixels() } else { Ok(logits.clone()) }
}

/// What differs from the paper, each in the methods that it is true of.
const OLD_NETWORK: &str = "the frozen old network is evaluated on each (augmented) batch, where the paper stores its outputs \
                           beforehand: without augmentation these are the same numbers";
const SHARES: &str = "m = ⌈K/t⌉ by default, so that the memory may exceed K by less than one exemplar per class \
                      (--memory-rounding floor keeps it below)";
pub(super) const LOSS: &str = "the loss is the mean, not the sum, over batch and outputs, and runs over all outputs: those of classes not \
                    seen yet have target 0";
const MIRRORS: &str = "for natural images class means average over mirror images too";
const HERDING_OF_THE_CODE: &str = "--herding original chooses exemplars as the authors' code does: by the largest product with a running \
                       sum of deviations, where a sample may win again and is then passed over";
const SCHEME: &str = "--distill SCHEME puts another scheme in the place of the old network's probabilities as targets: over old \
                      outputs, beside hard targets for all";
const PIXELS: &str = "with masks each pixel counts as an image; one without a label has target 0 for all new classes, as in MiB's code, \
                      where this loss stands for iCaRL";
const RUNNING: &str = "batch norms average the variance of batches, where the authors' library averages the inverse deviation: in the first \
                       task of a shortened iCIFAR-100 (two seeds) the authors' way answers 1.1 and 0.5 points fewer right by \
                       means of exemplars (five to eleven images of 1,000, within chance), and as many by the network's outputs";
const NO_MEAN: &str = "with --candidates all the means of classes not seen yet are 0, as in the authors' code";

pub(super) const ICARL: MethodSpec = MethodSpec {
    name: "icarl",
    summary: "exemplars by herding, distillation by binary cross-entropy, nearest mean of exemplars",
    paper: "Rebuffi et al., CVPR 2017",
    equations: "L = BCE(f(x), t), t = σ(f_old(x)) for outputs of old classes, onehot(y) for the others; \
                y* = argmin_y ‖φ(x)/‖φ(x)‖ − μ_y‖",
    memory: "K images, the old network, class means",
    expect: "The strongest method here on long class-incremental streams that see their data for many epochs; the nearest \
             mean of exemplars beats the network's own outputs.",
    deviations: &[OLD_NETWORK, SHARES, LOSS, MIRRORS, HERDING_OF_THE_CODE, RUNNING, NO_MEAN, SCHEME],
    scenarios: &[Scenario::Class, Scenario::Task],
    needs_boundaries: true,
    options: &[MEMORY, MEMORY_ROUNDING, HERDING, DISTILL],
    build: |settings| Box::new(Icarl::new(settings, ALL)),
    ..MethodSpec::BASE
};

pub(super) const HYBRID2_SPEC: MethodSpec = MethodSpec {
    name: "hybrid2",
    summary: "iCaRL without distillation: exemplars, nearest mean of exemplars",
    equations: "L = BCE(f(x), onehot(y)); y* = argmin_y ‖φ(x)/‖φ(x)‖ − μ_y‖",
    memory: "K images, class means",
    deviations: &[SHARES, LOSS, MIRRORS, HERDING_OF_THE_CODE, NO_MEAN],
    expect: "Shows what iCaRL's distillation is worth.",
    options: &[MEMORY, MEMORY_ROUNDING, HERDING],
    build: |settings| Box::new(Icarl::new(settings, HYBRID2)),
    ..ICARL
};

pub(super) const HYBRID3_SPEC: MethodSpec = MethodSpec {
    name: "hybrid3",
    summary: "iCaRL without distillation and means: exemplars, the network's outputs",
    equations: "L = BCE(f(x), onehot(y))",
    memory: "K images, and the class means, which are measured but not gone by",
    deviations: &[SHARES, LOSS, HERDING_OF_THE_CODE],
    expect: "Shows what iCaRL's classifier is worth: few exemplars beside many new images bias the outputs.",
    options: &[MEMORY, MEMORY_ROUNDING, HERDING],
    build: |settings| Box::new(Icarl::new(settings, HYBRID3)),
    ..ICARL
};

pub(super) const LWF_MC_SPEC: MethodSpec = MethodSpec {
    name: "lwf-mc",
    summary: "iCaRL's distillation without exemplars, the network's outputs",
    equations: "L = BCE(f(x), t), t = σ(f_old(x)) for outputs of old classes, onehot(y) for the others",
    memory: "the old network",
    deviations: &[OLD_NETWORK, LOSS, SCHEME, PIXELS],
    expect: "Learning without forgetting with iCaRL's loss: better than nothing in class-incremental learning, far from \
             methods with a memory.",
    targets: CLASSES_AND_MASKS,
    options: &[DISTILL],
    build: |settings| Box::new(Icarl::new(settings, LWF_MC)),
    ..ICARL
};
