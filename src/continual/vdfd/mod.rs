//! Data-free distillation: the mean outputs of earlier tasks' classes are held where they were, by their compressed derivatives
//! alone. No image and no old network is kept.
//!
//! DFD (Li et al., "Data-free knowledge distillation for continual learning", Pattern Recognition 144, 2023) holds them by squares;
//! VDFD (Li, Wang, Sun and Xu, "Variational Data-Free Knowledge Distillation for Continual Learning", TPAMI 45(10), 2023) lets a graph
//! convolution over the rows of each earlier head say which movements matter together.
//!
//! - `jacobian`: what is kept, and d = Gᵀ(w − w*) of all tasks at once.
//! - `relation`: Π.

mod jacobian;
mod relation;

pub use jacobian::{Drift, Kept, anchored, compress, filter_jacobian, filters_of, largest_curvature};
pub use relation::{HIDDEN, Relation, WIDTH, normalized_adjacency};

use super::spec::CLASSES_AND_MASKS;
use super::{Batch, Classifier, Held, Keep, Keeps, Learner, Loss, Method, MethodSpec, MethodState, TaskData};
use crate::data::Scenario;
use crate::device::Array;
use crate::error::{Error, Result};
use crate::nn::Output;
use crate::ops::{Mode, quarter_turns};
use crate::rng::{Purpose, Rng};
use crate::settings::{Setting, Values};
use crate::tensor::Tensor;
use crate::training::{Recipe, Schedule, Step};
use serde::{Deserialize, Serialize};
use std::ops::Range;

const REG_WEIGHT: Setting =
    Setting::number("reg_weight", "WEIGHT", "λ of DFD and VDFD: what the regulariser is multiplied with");

const JACOBIAN_SAMPLES: Setting = Setting::whole(
    "jacobian_samples",
    "N",
    "Images of a task that its outputs' derivatives are averaged over; a backward pass per class and batch of them",
)
.between(1, u64::MAX)
.open("all");

const ROTATIONS: Setting = Setting::switch(
    "rotations",
    "Whether each image is learnt in its four quarter turns, as classes of their own: a self-supervised task beside",
)
.usually("false");

const LOG_DET_EPSILON: Setting =
    Setting::number("log_det_epsilon", "EPSILON", "ε of log det(Π + εI)").positive().usually("1e-3");

const EPS_IN_QUADRATIC: Setting = Setting::switch(
    "eps_in_quadratic",
    "Whether ε counts in dᵀ(Π + εI)d too, as the poster has it; the code has it not",
)
.usually("false");

const RELATION_LR: Setting =
    Setting::number("relation_lr", "RATE", "Learning rate of the graph convolution, which falls as --lr does")
        .positive()
        .usually("7e-4");

const RELATION_DECAY: Setting =
    Setting::number("relation_decay", "L", "L2 penalty of the graph convolution").usually("5e-4");

/// What VDFD has and DFD has not.
struct Precision {
    epsilon: f32,
    in_quadratic: bool,
    lr: f32,
    weight_decay: f32,
}

struct Vdfd {
    reg_weight: f32,
    jacobian_samples: Option<usize>,
    /// 4 with rotations: outputs per class.
    turns: usize,
    precision: Option<Precision>,
    /// For the rate of the graph convolution.
    schedule: Schedule,
    batch_size: usize,
    drop_last: bool,
    n_epochs: usize,
    kept: Vec<Kept>,
    /// Of DFD's penalty at the end of a task; Π makes VDFD's another in each step.
    stiffness: Option<f32>,
    /// While a task after the first is learnt.
    holding: Option<Holding>,
    place: Place,
}

/// What holds earlier tasks while another is learnt.
struct Holding {
    drift: Drift,
    /// Absent for DFD.
    relation: Option<Relation>,
    /// λ, where the gradients of the regulariser begin.
    weight: Array,
}

/// Which task is learnt.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Place {
    task: usize,
    labels: Range<usize>,
    per_epoch: usize,
}

#[derive(Serialize, Deserialize)]
struct Card {
    place: Place,
    outputs: Vec<Vec<usize>>,
    /// Of the graph convolution's optimiser; absent between tasks and for DFD.
    n_steps: Option<u32>,
    is_held: bool,
}

impl Vdfd {
    fn new(settings: &Values, precision: Option<Precision>) -> Vdfd {
        // A run with a recipe that makes no sense does not come this far.
        let recipe = Recipe::of(settings).expect("bug: a run whose recipe makes no sense");
        Vdfd {
            reg_weight: settings.get("reg_weight"),
            jacobian_samples: settings.find("jacobian_samples"),
            turns: if settings.get("rotations") { 4 } else { 1 },
            precision,
            schedule: recipe.schedule,
            batch_size: recipe.batch_size,
            drop_last: recipe.drop_last,
            n_epochs: recipe.epochs,
            kept: Vec::new(),
            stiffness: None,
            holding: None,
            place: Place::default(),
        }
    }

    /// Cross-entropy over the task's own outputs, the four turns of a class each for itself.
    fn cross_entropy(&self, learner: &Learner, batch: &Batch) -> Result<Tensor> {
        let turns = self.turns as u32;
        if learner.has_masks() {
            let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
            return learner.cross_entropy(&logits, &batch.images.labels, batch.n_seen);
        }
        let x = if turns == 1 { batch.x.clone() } else { quarter_turns(&batch.x)? };
        let logits = learner.network.forward(&x, Mode::Train)?.logits;
        let own = self.turns * self.place.labels.start..self.turns * self.place.labels.end;
        let logits = learner.masked(&logits, |_, output| own.contains(&output))?;
        let targets: Vec<u32> =
            (0..turns).flat_map(|turn| batch.images.labels.iter().map(move |&label| turns * label + turn)).collect();
        logits.cross_entropy(&Tensor::from_u32(&learner.device, [targets.len()], &targets)?, learner.network.n_outputs)
    }

    /// Σ over tasks of dᵀΠd − log det(Π + εI), or of dᵀd.
    fn regulariser(&self, learner: &Learner, holding: &Holding) -> Result<Tensor> {
        let d = holding.drift.now(learner)?;
        let (Some(relation), Some(precision)) = (&holding.relation, &self.precision) else {
            return d.mul(&d)?.sum();
        };
        let n_classes = holding.drift.n_classes;
        let value = relation.factors()?.variational_bound(&d, precision.epsilon, precision.in_quadratic)?;
        // A class that a task does not have is a row of zeros in Π, and adds log ε to its log-determinant.
        let absent: usize = self.kept.iter().map(|kept| n_classes - kept.outputs.len()).sum();
        match absent {
            0 => Ok(value),
            n => value.add(&Tensor::from_f32(&learner.device, [1], &[n as f32 * precision.epsilon.ln()])?),
        }
    }

    /// With the relation of a checkpoint, by its name and steps, or a new one.
    fn hold(&self, learner: &Learner, saved: Option<(&str, u32, &mut MethodState)>) -> Result<Option<Holding>> {
        if self.kept.is_empty() {
            return Ok(None);
        }
        let drift = Drift::new(learner, &self.kept)?;
        let (n_classes, task) = (drift.n_classes, self.place.task);
        let relation = match (&self.precision, saved) {
            (None, _) => None,
            (Some(own), None) => Some(Relation::new(learner, &self.kept, n_classes, own.weight_decay, task)?),
            (Some(own), Some(saved)) => Some(Relation::load(learner, &self.kept, n_classes, own.weight_decay, saved)?),
        };
        Ok(Some(Holding { drift, relation, weight: Array::from_f32(&learner.device, [1], &[self.reg_weight])? }))
    }

    /// What the learning rate of this step is, as a part of that at the start.
    fn fall(&self, batch: &Batch) -> f32 {
        let epoch = (batch.key >> 32) as usize - self.place.task * self.n_epochs;
        let index = epoch * self.place.per_epoch + (batch.key & u64::from(u32::MAX)) as usize;
        self.schedule.at(Step { index, per_epoch: self.place.per_epoch, n_epochs: self.n_epochs }) / self.schedule.lr
    }
}

impl Method for Vdfd {
    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        if learner.has_masks() && self.turns > 1 {
            return Err(Error::usage(
                "--rotations: turned images are classes of their own, which pixels have not; leave it out",
            ));
        }
        let n: usize = task.samples.iter().map(Vec::len).sum();
        // A task smaller than a batch is a batch.
        let per_epoch = if self.drop_last { (n / self.batch_size).max(1) } else { n.div_ceil(self.batch_size) };
        self.place = Place { task: task.index, labels: task.labels.clone(), per_epoch };
        self.holding = self.hold(learner, None)?;
        Ok(())
    }

    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let loss = Loss::single("cross_entropy", self.cross_entropy(learner, batch)?);
        let Some(holding) = &self.holding else { return Ok(loss) };
        // Its gradients are added where those of the loss are known: they end in one number per filter and in the graph convolution.
        let value = self.regulariser(learner, holding)?;
        let gradients = value.backward_with(holding.weight.clone())?;
        if let Some(relation) = &holding.relation {
            relation.parameters.receive(&gradients)?;
        }
        Ok(loss.and("regulariser", self.reg_weight, value.detach()))
    }

    fn adjust_gradients(&mut self, learner: &Learner, batch: &Batch) -> Result<()> {
        let fall = self.fall(batch);
        let Some(holding) = &mut self.holding else { return Ok(()) };
        holding.drift.add_gradient(learner)?;
        // Where all tasks answer with the same outputs, what is held are the outputs of this last layer; with λ = 0 nothing is.
        if self.place.labels.start == 0 && self.reg_weight > 0.0 {
            learner.network.parameters.clear_last_layer_gradients()?;
        }
        match (&mut holding.relation, &self.precision) {
            (Some(relation), Some(own)) => relation.step(own.lr * fall),
            _ => Ok(()),
        }
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        let mut samples = task.samples.concat();
        if let Some(n) = self.jacobian_samples {
            Rng::keyed(learner.seed, Purpose::Fisher, (1 << 32) | task.index as u64).shuffle(&mut samples);
            samples.truncate(n);
        }
        let outputs: Vec<usize> = task.labels.clone().map(|label| self.turns * label).collect();
        let filters = filters_of(learner)?;
        let jacobian = filter_jacobian(learner, &filters, &samples, &outputs)?;
        self.kept.push(anchored(learner, compress(&jacobian, &filters, &outputs)?)?);
        if self.precision.is_none() {
            self.stiffness = Some(2.0 * self.reg_weight * largest_curvature(&self.kept, &filters)? as f32);
        }
        self.holding = None;
        Ok(())
    }

    fn stiffness(&self) -> Option<f32> {
        self.stiffness
    }

    fn outputs_per_class(&self) -> usize {
        self.turns
    }

    fn scores(&self, output: &Output, classifier: &Classifier) -> Result<Tensor> {
        let logits = &output.logits;
        match *classifier {
            Classifier::NETWORK if self.turns == 1 => Ok(logits.clone()),
            Classifier::NETWORK => {
                let (n, width) = logits.shape().rows_cols();
                let classes = width / self.turns;
                let upright = Tensor::from_f32(&logits.device(), [self.turns, 1], &[1.0, 0.0, 0.0, 0.0])?;
                logits.reshape([n * classes, self.turns])?.matmul(&upright)?.reshape([n, classes])
            }
            _ => Err(classifier.unknown()),
        }
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("tasks", self)]
    }
}

impl Keep for Vdfd {
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()> {
        self.kept.iter().enumerate().for_each(|(t, kept)| kept.save(&format!("{name}.{t}"), state));
        let relation = self.holding.as_ref().and_then(|holding| holding.relation.as_ref());
        let n_steps = relation.map(|relation| relation.save(name, state)).transpose()?;
        let outputs = self.kept.iter().map(|kept| kept.outputs.clone()).collect();
        state.put_json(name, &Card { place: self.place.clone(), outputs, n_steps, is_held: self.holding.is_some() });
        Ok(())
    }

    fn load(&mut self, name: &str, learner: &Learner, state: &mut MethodState) -> Result<()> {
        let card: Card = state.take_json(name)?;
        let tasks = card.outputs.into_iter().enumerate();
        self.kept =
            tasks.map(|(t, outputs)| Kept::load(&format!("{name}.{t}"), outputs, state)).collect::<Result<_>>()?;
        self.place = card.place;
        let relation = card.n_steps.map(|n_steps| (name, n_steps, state));
        self.holding = if card.is_held { self.hold(learner, relation)? } else { None };
        Ok(())
    }

    fn count(&self, _learner: &Learner, held: &mut Held) {
        held.importance += self.kept.iter().map(Kept::bytes).sum::<u64>();
    }
}

const DEVIATIONS: &[&str] = &[
    "derivatives are averaged over the task's images as they are, each counting alike; the authors' code averages batches of \
     randomly cropped and mirrored images, and the last, shorter batch counts as much as others",
    "the best approximation of rank 1 by the exact eigenvectors of NᵀN; the authors' code has a randomised one of the same rank",
    "heads have a bias, which is frozen with them; the authors' have none",
    "old heads stay as they are where the task is known and --head-lr is given, which takes the L2 penalty from them; else it pulls at \
     them",
    "in class-incremental learning every earlier task is held; the authors' code for it holds the last one only, t² times as much",
    "where tasks share their outputs, the last layer stays as the first task left it: its derivatives are not kept, and trained freely it would \
     undo what is held in front of it",
    "with masks an output is the mean logit over images and pixels, and the cross-entropy runs over all classes seen; the authors' code for \
     it is not published",
];

pub(super) const DFD: MethodSpec = MethodSpec {
    name: "dfd",
    summary: "mean outputs of earlier classes are held by their compressed derivatives: no data, no old network",
    paper: "Li et al., Pattern Recognition 2023",
    equations: "L = CE(f(x), y) over the task's own outputs + λ·Σ_i ‖d_i‖², d_i = G_iᵀ(w − w*_i); G_i: after task i, the derivatives of \
                its C mean logits by all weights but the last layer's, in eval mode, averaged over each filter, then of rank 1 per \
                tensor: σ_l u_l v_lᵀ",
    memory: "per task a number per filter, and C + 1 per tensor: for preact-resnet18 and ten classes 13,202 floats (52.8 kB), and C \
             more for G_iᵀw*_i; a copy of the network is 11.2 million (44.7 MB)",
    expect: "Task-incremental: forgets far less than fine-tuning; λ trades what is kept for what is learnt, and must be tuned. In \
             class-incremental learning old and new outputs are never compared in training.",
    deviations: DEVIATIONS,
    scenarios: &[Scenario::Class, Scenario::Task, Scenario::Domain],
    targets: CLASSES_AND_MASKS,
    needs_boundaries: true,
    options: &[REG_WEIGHT.usually("20"), JACOBIAN_SAMPLES, ROTATIONS],
    trade_off: &[("reg_weight", 200.0)],
    build: |settings| Box::new(Vdfd::new(settings, None)),
    ..MethodSpec::BASE
};

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "vdfd",
    summary: "as dfd, and a graph convolution over earlier heads says which movements of outputs matter together",
    paper: "Li et al., TPAMI 2023",
    equations: "L = CE(f(x), y) over the task's own outputs + λ·Σ_i (d_iᵀ Π_i d_i − log det(Π_i + εI)): \
                d_i = G_iᵀ(w − w*_i), how far task i's C mean logits have moved, to first order, by the kept derivatives (see dfd); \
                Π_i = P_i P_iᵀ, the precision of those movements, P_i = rownorm(A·relu(A·X·W₁ + b₁)·W₂ + b₂), X the rows of task i's head \
                brought to length 1, A = D^-½(XXᵀ + I)D^-½: W and b are learnt along, anew in each task; \
                log det keeps Π_i from vanishing: the value is never below −C·log(1 + ε)",
    expect: "As dfd, which is the same with Π = I: the learnt Π lets the penalty grow more slowly than the square, and calls for a \
             λ about three times as large. Which of both is better depends on the stream.",
    options: &[
        REG_WEIGHT.usually("10"),
        JACOBIAN_SAMPLES,
        ROTATIONS,
        LOG_DET_EPSILON,
        EPS_IN_QUADRATIC,
        RELATION_LR,
        RELATION_DECAY,
    ],
    build: |settings| {
        let precision = Precision {
            epsilon: settings.get("log_det_epsilon"),
            in_quadratic: settings.get("eps_in_quadratic"),
            lr: settings.get("relation_lr"),
            weight_decay: settings.get("relation_decay"),
        };
        Box::new(Vdfd::new(settings, Some(precision)))
    },
    ..DFD
};
