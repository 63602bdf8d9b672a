//! Methods that learn classes from features that do not change: `ncm` (SimpleCIL), `ranpac` and `fecam`. The statistics are in
//! [`learner::frozen`](crate::learner::frozen), where the papers are named too.
//!
//! Features come from a backbone, or from the network as the first task leaves it; of every later task each picture is seen once,
//! and nothing is trained. The sums that are kept hold nothing back of earlier classes, so nothing is forgotten.

use super::{Batch, Classifier, Held, Keep, Keeps, Learner, Loss, Method, MethodSpec, MethodState, Stored, TaskData};
use crate::data::Scenario;
use crate::error::{Error, Result};
use crate::learner::BackboneSpec;
use crate::learner::frozen::{FrozenKind, Ranpac, Statistics};
use crate::nn::Output;
use crate::rng::{Purpose, Rng};
use crate::settings::{Kind, Setting, Values};
use crate::tensor::Tensor;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

/// Of all methods here.
const BACKBONE: Setting = Setting::new(
    "backbone",
    "NAME|FILE",
    Kind::Text,
    "Weights that features come from, and that are not trained: natural32, or a file for this --model",
)
.open("the first task trains the network");

const PROJECTIONS: Setting =
    Setting::whole("projections", "M", "Random projections of the features").between(1, 1 << 15).usually("2000");

const NCM_BY: Classifier = Classifier { name: "ncm", explanation: "nearest class mean", by_means: true };
const RANPAC_BY: Classifier = Classifier { name: "ranpac", explanation: "ridge regression", by_means: false };
const FECAM_BY: Classifier = Classifier { name: "fecam", explanation: "Mahalanobis distance", by_means: false };

/// One part in so many of a task's pictures is held out to choose a penalty.
const HELD_OUT: usize = 5;

struct Frozen {
    kind: FrozenKind,
    classifiers: &'static [Classifier],
    backbone: Option<String>,
    projections: usize,
    /// From the first task's end on.
    statistics: Option<Box<dyn Statistics>>,
    means: Option<Tensor>,
}

impl Frozen {
    fn new(settings: &Values, kind: FrozenKind, classifiers: &'static [Classifier]) -> Box<Frozen> {
        let (backbone, projections) = (settings.find("backbone"), settings.find("projections").unwrap_or(1));
        Box::new(Frozen { kind, classifiers, backbone, projections, statistics: None, means: None })
    }

    /// Statistics of nothing.
    fn empty(&self, learner: &Learner) -> Result<Box<dyn Statistics>> {
        let d = learner.network.n_features;
        match self.kind {
            FrozenKind::Ranpac => Ok(Box::new(Ranpac::new(d, self.projections, learner.seed)?)),
            kind => kind.build(d, learner.seed),
        }
    }

    /// Puts the weights of the backbone into the network; its last layer is of other classes, and stays as it is.
    fn load_backbone(&self, learner: &Learner, name: &str) -> Result<()> {
        let network = &learner.network;
        let path = Path::new(name);
        match BackboneSpec::named(name) {
            Some(spec)
                if spec.model == network.name && spec.input == network.input && spec.options == network.options =>
            {
                network.load_features(spec.weights, path)
            }
            Some(spec) => {
                let [c, h, w] = spec.input;
                Err(Error::usage(format!(
                    "the backbone {name} is a {} for pictures of {c}×{h}×{w}: use --model {}",
                    spec.model, spec.model
                )))
            }
            None if !path.is_file() => Err(BackboneSpec::unknown(name, "a safetensors file")),
            None => network.load_features(&std::fs::read(path).map_err(Error::io(path, "read"))?, path),
        }
    }

    /// The statistics with what a task adds.
    fn with_task(&mut self, learner: &Learner, task: &TaskData) -> Result<Box<dyn Statistics>> {
        let labelled = task.labelled().map(|Stored { sample, label }| (sample, label));
        let (mut samples, mut labels): (Vec<u32>, Vec<u32>) = labelled.unzip();
        let mut order: Vec<usize> = (0..samples.len()).collect();
        Rng::keyed(learner.seed, Purpose::Projection, 1 + task.index as u64).shuffle(&mut order);
        samples = order.iter().map(|&i| samples[i]).collect();
        labels = order.iter().map(|&i| labels[i]).collect();
        let features = learner.features(&learner.images(), &samples, learner.flips)?;
        let mut statistics = match self.statistics.take() {
            Some(statistics) => statistics,
            None => self.empty(learner)?,
        };
        statistics.choose(&features, &labels, samples.len() - samples.len() / HELD_OUT)?;
        statistics.learn(&features, &labels)?;
        statistics.fit()?;
        Ok(statistics)
    }

    fn fitted(&self) -> Result<&dyn Statistics> {
        self.statistics.as_deref().ok_or_else(|| Error::op("classify", "no class has been learned yet"))
    }

    fn know_means(&mut self, learner: &Learner) -> Result<()> {
        let means = self.statistics.as_ref().and_then(|statistics| statistics.means());
        let d = learner.network.n_features;
        self.means = means.map(|means| Tensor::from_f32(&learner.device, [means.len() / d, d], means)).transpose()?;
        Ok(())
    }
}

impl Method for Frozen {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        learner.loss_on(batch)
    }

    fn training_set(&self, task: &TaskData) -> Vec<u32> {
        match task.index == 0 && self.backbone.is_none() {
            true => task.samples.concat(),
            false => Vec::new(),
        }
    }

    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        match &self.backbone {
            Some(name) if task.index == 0 => self.load_backbone(learner, name),
            _ => Ok(()),
        }
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        if task.interrupted.load(Relaxed) {
            return Err(Error::Interrupted);
        }
        self.statistics = Some(self.with_task(learner, task)?);
        self.know_means(learner)
    }

    fn classifiers(&self) -> &'static [Classifier] {
        self.classifiers
    }

    fn scores(&self, output: &Output, classifier: &Classifier) -> Result<Tensor> {
        if !self.classifiers.contains(classifier) {
            return Err(classifier.unknown());
        }
        let scores = self.fitted()?.scores(&output.features.to_vec()?)?;
        let n = output.features.shape()[0];
        Tensor::from_f32(&output.features.device(), [n, scores.len() / n], &scores)
    }

    fn can_answer(&self, _: &Classifier) -> bool {
        self.statistics.is_some()
    }

    fn class_means(&self, _: &Classifier) -> Option<&Tensor> {
        self.means.as_ref()
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("statistics", self)]
    }
}

/// The statistics; an f64 as two f32 of its bits.
impl Keep for Frozen {
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()> {
        for (own, values) in self.statistics.iter().flat_map(|statistics| statistics.kept()) {
            state.put(format!("{name}.{own}"), bytemuck::pod_collect_to_vec(&values));
        }
        Ok(())
    }

    fn load(&mut self, name: &str, learner: &Learner, state: &mut MethodState) -> Result<()> {
        let kept = state.take_all(name);
        if kept.is_empty() {
            return Ok(());
        }
        let mut statistics = self.empty(learner)?;
        kept.into_iter().for_each(|(own, values)| statistics.put_back(&own, bytemuck::pod_collect_to_vec(&values)));
        statistics.fit()?;
        self.statistics = Some(statistics);
        self.know_means(learner)
    }

    fn count(&self, _learner: &Learner, held: &mut Held) {
        held.class_means += self.statistics.as_ref().map_or(0, |statistics| statistics.bytes());
    }
}

const MIRRORS: &str =
    "for natural images the features of training pictures are averaged with those of the mirror image";
const SMALL: &str = "without --backbone the features are those of a small network that the first task has trained, where the paper takes \
                     a large pre-trained one; its first session, which adapts that network, is not done";

const BASE: MethodSpec = MethodSpec {
    memory: "statistics of features, as if they were class means",
    scenarios: &[Scenario::Class, Scenario::Task],
    needs_boundaries: true,
    options: &[BACKBONE],
    // A class of which nothing was learned has no statistics, and so no score.
    ignores: &["candidates"],
    ..MethodSpec::BASE
};

pub(super) const NCM: MethodSpec = MethodSpec {
    name: "ncm",
    summary: "nearest class mean on frozen features",
    paper: "Zhou et al., arXiv 2303.07338 (SimpleCIL)",
    equations: "y* = argmax_y cos(φ(x), μ_y), μ_y the mean of φ(x)/‖φ(x)‖ of all pictures of class y",
    expect: "Learns a class from very few pictures and forgets nothing. As good as its features.",
    deviations: &[
        "features are brought to length 1 before they are averaged, as in iCaRL; SimpleCIL averages them as they are",
        MIRRORS,
        SMALL,
    ],
    build: |settings| Frozen::new(settings, FrozenKind::Ncm, &[NCM_BY]),
    ..BASE
};

pub(super) const RANPAC: MethodSpec = MethodSpec {
    name: "ranpac",
    summary: "ridge regression on random projections of frozen features",
    paper: "McDonnell et al., NeurIPS 2023",
    equations: "h = max(0, φ(x)·W), W normal and fixed; G = Σ hᵀh, Q = Σ hᵀ·onehot(y); y* = argmax h·(G + λI)⁻¹Q",
    expect: "The best of those that do not train, from some ten pictures a class on: exact, whatever the order of classes.",
    deviations: &[
        "M is 2,000 by default, for networks of some 64 features; the paper has 10,000 for 768",
        MIRRORS,
        SMALL,
    ],
    options: &[BACKBONE, PROJECTIONS],
    build: |settings| Frozen::new(settings, FrozenKind::Ranpac, &[RANPAC_BY]),
    ..BASE
};

pub(super) const FECAM: MethodSpec = MethodSpec {
    name: "fecam",
    summary: "nearest class mean by a covariance per class, on frozen features",
    paper: "Goswami et al., NeurIPS 2023",
    equations: "y* = argmin_y (x − μ_y)ᵀ·Σ_y⁻¹·(x − μ_y), x = ±√|φ(x)|, Σ_y the covariance of class y, shrunk and normalised",
    expect: "Better than means where classes have many pictures and features of different spread.",
    deviations: &[
        "features below 0 become −√|x|; the paper transforms features that are not negative",
        "a class with no more pictures than features goes by one covariance of all classes",
        MIRRORS,
        SMALL,
    ],
    build: |settings| Frozen::new(settings, FrozenKind::Fecam, &[FECAM_BY]),
    ..BASE
};
