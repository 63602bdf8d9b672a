//! PLOP (Douillard et al., "PLOP: learning without forgetting for continual semantic segmentation", CVPR 2021): strips of the
//! features of every stage are held at the old network's (local POD), and background pixels get the old network's label where
//! it is sure of it.

use super::before::Before;
use super::mib::START;
use super::pixel_losses::{EntropyHistogram, adaptive_cross_entropy, local_pod, new_as_background, start_new_classes};
use super::spec::MASKS;
use super::{Batch, Keeps, Learner, Loss, Method, MethodSpec, TaskData};
use crate::data::{Draw, Scenario, gather_labels};
use crate::error::{Error, Result};
use crate::nn::Tap;
use crate::ops::Mode;
use crate::settings::Setting;
use crate::tensor::{Tensor, no_grad};
use std::sync::atomic::Ordering::Relaxed;

const POD_WEIGHT: Setting =
    Setting::number("pod_weight", "WEIGHT", "What local POD of the features is multiplied with").usually("0.01");

const LOGITS_WEIGHT: Setting =
    Setting::number("pod_logits_weight", "WEIGHT", "What local POD of the logits is multiplied with").usually("0.0005");

const PSEUDO: Setting =
    Setting::switch("pseudo_labels", "Whether background pixels get the old network's label where it is sure")
        .usually("true");

const THRESHOLD: Setting = Setting::number(
    "threshold",
    "ENTROPY",
    "The least threshold of entropies, of 0 to 1, below which the old network is sure of a pixel",
)
.usually("0.001");

const ADAPTIVE: Setting = Setting::switch(
    "adaptive",
    "Whether an image's cross-entropy is multiplied with the share of its pixels that the old network is sure of",
)
.usually("true");

/// Regions along each side of a map.
const SCALES: &[usize] = &[1, 2, 4];

struct Plop {
    pod_weight: f32,
    logits_weight: f32,
    pseudo: bool,
    adaptive: bool,
    threshold: f32,
    starts: bool,
    old: Before,
    /// The entropy of each old class below which the old network is sure.
    thresholds: Vec<f32>,
}

/// Where local POD compares: what enters the last ReLU of each stage, what leaves the pyramid, and last the logits before they
/// are resized.
pub(super) fn places(learner: &Learner) -> Result<Vec<Tap>> {
    let network = &learner.network;
    let mut names: Vec<String> = network.stages().iter().map(|stage| format!("{}:pre", stage.name)).collect();
    names.extend(network.places().iter().filter(|place| place.name == "aspp").map(|place| place.name.clone()));
    let Some((weight, ..)) =
        network.products().last().and_then(|product| network.parameters.places().nth(product.weight))
    else {
        return Err(Error::op("plop", "bug: a network without a last layer"));
    };
    names.push(weight.name.trim_end_matches(".weight").into());
    names.iter().map(|name| Ok(network.tap(name)?.0)).collect()
}

/// What the distance of features is multiplied with where there are many old classes to each new one: √(seen/new).
pub(super) fn schedule(batch: &Batch) -> f32 {
    let new = batch.n_seen - batch.n_old;
    if new == 0 { 1.0 } else { (batch.n_seen as f32 / new as f32).sqrt() }
}

impl Plop {
    /// The thresholds of this task: the median entropy of each old class over the background of its images, asked of the old
    /// network.
    fn measure(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        let Some(old) = self.old.network() else { return Ok(()) };
        let (images, samples) = (learner.images(), task.samples.concat());
        let mut histogram = EntropyHistogram::new(task.n_old);
        for chunk in samples.chunks(learner.at_once) {
            if task.interrupted.load(Relaxed) {
                return Err(Error::Interrupted);
            }
            let plain = vec![Draw::default(); chunk.len()];
            let labels = learner.targets(&gather_labels(&images, chunk, &plain, &task.label_of_class))?;
            let x = learner.plain_input(chunk)?;
            histogram.add(&no_grad(|| old.forward(&x, Mode::Eval))?.logits, &labels)?;
        }
        self.thresholds = histogram.medians(self.threshold);
        Ok(())
    }

    /// The cross-entropy with the old network's labels in place of the background.
    fn labels_loss(&self, learner: &Learner, batch: &Batch, logits: &Tensor, said: Option<&Tensor>) -> Result<Tensor> {
        let Some(said) = said.filter(|_| self.pseudo && batch.n_merged() > 0) else {
            return learner.cross_entropy(logits, &batch.images.labels, batch.n_seen);
        };
        // Only a checkpoint that was tampered with has others.
        if self.thresholds.len() != batch.n_old {
            return Err(Error::usage(format!(
                "the checkpoint holds {} entropy thresholds for {} old classes: it is not of this run",
                self.thresholds.len(),
                batch.n_old
            )));
        }
        let thresholds = Tensor::from_f32(&learner.device, [batch.n_old], &self.thresholds)?;
        let pseudo = said.pseudo_labels(&batch.labels, &thresholds)?;
        match self.adaptive {
            true => adaptive_cross_entropy(logits, &pseudo, batch.n_seen),
            false => logits.cross_entropy(&pseudo.labels, batch.n_seen),
        }
    }
}

impl Method for Plop {
    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.old.begin(learner, task)?;
        if task.n_old == 0 || task.n_old == task.n_seen {
            return Ok(());
        }
        if self.pseudo {
            self.measure(learner, task)?;
        }
        if self.starts { start_new_classes(&learner.network, task.n_old, task.n_seen) } else { Ok(()) }
    }

    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let taps = places(learner)?;
        let (output, values) = learner.network.forward_with(&batch.x, Mode::Train, &taps)?;
        let Some((said, old_values)) = self.old.ask(batch, &taps)? else {
            return Ok(Loss::single("cross_entropy", self.labels_loss(learner, batch, &output.logits, None)?));
        };
        let ce = self.labels_loss(learner, batch, &output.logits, Some(&said.logits))?;
        let factor = schedule(batch) / taps.len() as f32;
        let mut loss = Loss::single("cross_entropy", ce);
        let (last, features) = values.split_last().expect("bug: no logits");
        for (new, old) in features.iter().zip(&old_values) {
            loss = loss.and("pod", self.pod_weight * factor, local_pod(new, old, SCALES)?);
        }
        let of_old = |logits: &Tensor, n_seen| new_as_background(logits, batch.n_old, n_seen);
        let old_logits = of_old(&old_values[features.len()], batch.n_old)?;
        let pod = local_pod(&of_old(last, batch.n_seen)?, &old_logits, SCALES)?;
        Ok(loss.and("pod_logits", self.logits_weight * factor, pod))
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("old", &mut self.old), ("thresholds", &mut self.thresholds)]
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "plop",
    summary: "strips of all features are held, background gets old labels that are sure (segmentation)",
    paper: "Douillard et al., CVPR 2021",
    equations: "L = ν·CE(f(x), ỹ) + √(seen/new)·(λ_f/L·Σ_l ‖Φ(f_l²) − Φ(f_old,l²)‖ + λ_c/L·‖Φ(c²) − Φ(c_old²)‖), Φ: means over widths \
                and heights of s×s regions, s = 1, 2, 4",
    memory: "the old network",
    expect: "Above MiB where many small tasks bring classes, and the method to beat where tasks bring styles.",
    deviations: &[
        "the entropy is a part of the largest there is, 0 to 1; in the authors' code that is divided by the number of classes and the \
         logarithm twice, so that its bins and least threshold mean other entropies",
        "medians are of the task's images without crops and mirrors",
        "a class that the old network never chose has the least threshold",
        "where tasks bring no classes the labels are taken as they are, as in the authors' runs on domains",
    ],
    targets: MASKS,
    needs_boundaries: true,
    options: &[POD_WEIGHT, LOGITS_WEIGHT, PSEUDO, THRESHOLD, ADAPTIVE, START],
    // The authors' runs on the cities of Cityscapes.
    in_scenario: &[(Scenario::Domain, &[("pod_weight", "1e-4"), ("pod_logits_weight", "1e-4")])],
    trade_off: &[("pod_weight", 0.1)],
    build: |settings| {
        Box::new(Plop {
            pod_weight: settings.get("pod_weight"),
            logits_weight: settings.get("pod_logits_weight"),
            pseudo: settings.get("pseudo_labels"),
            adaptive: settings.get("adaptive"),
            threshold: settings.get("threshold"),
            starts: settings.get("start_as_background"),
            old: Before::default(),
            thresholds: Vec::new(),
        })
    },
    ..MethodSpec::BASE
};
