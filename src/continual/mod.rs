//! Floor 7: continual-learning methods. One file per method, one row in [`ALL`].
//!
//! The trainer (`training`) owns the loop, the runner (`experiment`) the counters and the evaluation; a method says what is
//! learned from a batch, what it keeps, and how it classifies. It is handed one task at a time and never sees a later one.

mod adam_nscl;
mod agem;
mod before;
mod classifier;
mod cumulative;
mod der;
mod er;
mod ewc;
mod finetune;
mod fisher;
mod fixed_representation;
mod frozen;
pub mod gd;
mod gdumb;
mod gem;
mod icarl;
mod ilt;
mod importance;
mod keep;
mod learner;
mod lwf;
mod mas;
mod mega;
mod memory;
mod mib;
mod old_teacher;
mod outputs;
mod owm;
pub mod pixel_losses;
mod plop;
mod projected;
mod rcil;
mod replay;
mod si;
mod spec;
pub mod vdfd;

pub use crate::nn::{Loss, Term};
pub use adam_nscl::{Averaging, null_space_projector};
pub use classifier::Classifier;
pub use er::{Joined, MemoryUpdate, ReplayForward};
pub use fisher::{FisherKind, Measured, fisher, output_sensitivity};
pub use gdumb::GdumbEval;
pub use gem::gem_multipliers;
pub use keep::{Exemplars, Held, Keep, Keeps, MethodState, Plain, Renumbering};
pub use learner::Learner;
pub use lwf::CeOver;
pub use mega::mega_weights;
pub use memory::{HERDING, Herding, MEMORY, MEMORY_ROUNDING, Rounding, exemplars_per_class, original_herding};
pub use old_teacher::DISTILL;
pub use outputs::{Candidates, UNSEEN, Unseen};
pub use owm::owm_projector;
pub use projected::{InputMoments, unfold};
pub use rcil::fold_branches;
pub use replay::{MEMORY_POLICY, MemoryPolicy, REPLAY_BATCH, Replay, ReplayMemory, Stored};
pub use si::{Negative, PathGradient};
pub use spec::{ANY, CLASSES, CLASSES_AND_MASKS, MASKS, MethodSpec, all, register, spec};

use crate::data;
use crate::error::Result;
use crate::nn::Output;
use crate::tensor::Tensor;
use crate::training::Step;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::atomic::AtomicBool;

/// Every method.
pub static ALL: &[MethodSpec] = &[
    icarl::ICARL,
    icarl::HYBRID2_SPEC,
    icarl::HYBRID3_SPEC,
    icarl::LWF_MC_SPEC,
    fixed_representation::SPEC,
    frozen::NCM,
    frozen::RANPAC,
    frozen::FECAM,
    er::ER,
    er::ER_ACE,
    der::DER,
    der::DER_PP,
    gdumb::SPEC,
    gd::SPEC,
    agem::SPEC,
    gem::SPEC,
    mega::SPEC,
    lwf::SPEC,
    ewc::EWC,
    ewc::ONLINE,
    si::SPEC,
    mas::SPEC,
    vdfd::SPEC,
    vdfd::DFD,
    adam_nscl::SPEC,
    owm::SPEC,
    mib::SPEC,
    plop::SPEC,
    ilt::SPEC,
    rcil::SPEC,
    finetune::FINETUNE,
    cumulative::SPEC,
    finetune::JOINT,
];

/// The data of one task: samples are indices into the training images.
pub struct TaskData<'a> {
    /// Counted from 0.
    pub index: usize,
    /// Samples of each new class, in order of label; of images with masks all of them in one list.
    pub samples: Vec<Vec<u32>>,
    /// Classes seen before this task; new labels are n_old..n_seen. In a blurry stream, where any class may have come before,
    /// all of them from the start.
    pub n_old: usize,
    /// Classes seen with this task.
    pub n_seen: usize,
    /// The label of each class of the data set in this task, [`NO_LABEL`](crate::data::NO_LABEL) where there is none. In class-incremental
    /// segmentation classes of other tasks are background.
    pub label_of_class: Vec<u32>,
    /// The task's own labels.
    pub labels: Range<usize>,
    /// True if the run ends with it.
    pub is_last: bool,
    /// Set when somebody wants the run to end: what takes long looks at it.
    pub interrupted: &'a AtomicBool,
}

impl TaskData<'_> {
    /// Every sample with its label, class by class; of images with a class each.
    pub fn labelled(&self) -> impl Iterator<Item = Stored> {
        let classes = self.labels.clone().zip(&self.samples);
        classes.flat_map(|(label, samples)| samples.iter().map(move |&sample| Stored { sample, label: label as u32 }))
    }
}

/// What `observe` learns from.
pub struct Batch {
    /// (N, C, H, W).
    pub x: Tensor,
    /// (N), u32, in order of arrival; of pixels (N, H, W), [`NO_LABEL`](crate::data::NO_LABEL) where nothing is known.
    pub labels: Tensor,
    /// What `x` was made of: samples, labels, crops and mirrors.
    pub images: data::Batch,
    /// epoch · 2³² + batch, counted over the whole run: keys what a method draws.
    pub key: u64,
    /// True in the first pass over a task's data.
    pub first_pass: bool,
    /// Classes seen before this task, as in [`TaskData`].
    pub n_old: usize,
    /// Classes seen with this task: labels are below it.
    pub n_seen: usize,
}

impl Batch {
    /// Images of the loader as a learner sees them in a step of a task. `epoch` is counted over the whole run.
    ///
    /// # Errors
    /// If the images are not those of the learner, or the device is out of memory.
    pub fn of(learner: &Learner, images: data::Batch, task: &TaskData, epoch: usize, step: Step) -> Result<Batch> {
        Ok(Batch {
            x: learner.input(&images)?,
            labels: learner.targets(&images.labels)?,
            n_old: task.n_old,
            n_seen: task.n_seen,
            key: ((epoch as u64) << 32) | step.batch() as u64,
            first_pass: step.epoch() == 0,
            images,
        })
    }
}

/// What turns a network's outputs into probabilities: the function that its loss trains them through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Over the classes seen; they sum to 1.
    Softmax,
    /// Each output for itself.
    Sigmoid,
}

/// ‖φ(x)/‖φ(x)‖ − μ_y‖², what nearest-mean classifiers go by: features (N, D), means (classes, D) → (N, classes).
pub fn distances_to_means(features: &Tensor, means: &Tensor) -> Result<Tensor> {
    features.l2_normalize()?.squared_distances(means)
}

/// A continual-learning method. Only [`observe`](Method::observe) is required:
///
/// ```
/// use engram::Result;
/// use engram::continual::{Batch, Learner, Loss, Method, MethodSpec};
/// use engram::ops::Mode;
///
/// struct Finetune;
/// impl Method for Finetune {
///     fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
///         let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
///         Ok(Loss::single("cross_entropy", logits.cross_entropy(&batch.labels, batch.n_seen)?))
///     }
/// }
/// static SPEC: MethodSpec = MethodSpec {
///     name: "mine",
///     summary: "nothing against forgetting",
///     build: |_| Box::new(Finetune),
///     ..MethodSpec::BASE
/// };
/// let config = engram::experiment::Config::of(&SPEC, &[("epochs", "1")])?; // for `experiment::run`
/// assert_eq!(config.method.name, "mine");
/// # Ok::<(), engram::Error>(())
/// ```
/// `examples/custom_method.rs` is a whole one.
pub trait Method {
    /// The loss of one batch: the paper's algorithm box. A loss without terms skips the step.
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss>;

    /// What an epoch of this task goes through; by default the task's own samples.
    fn training_set(&self, task: &TaskData) -> Vec<u32> {
        task.samples.concat()
    }

    /// Before the first batch of a task.
    fn begin_task(&mut self, _learner: &Learner, _task: &TaskData) -> Result<()> {
        Ok(())
    }

    /// After the last batch of a task. One that takes long may end with [`Interrupted`](crate::Error::Interrupted) if the method is
    /// then still as it was before: it is called again when the run goes on.
    fn end_task(&mut self, _learner: &Learner, _task: &TaskData) -> Result<()> {
        Ok(())
    }

    /// After the gradients of the loss are known and before the optimiser's step: where penalties and projections act, on the
    /// flat gradient vector.
    fn adjust_gradients(&mut self, _learner: &Learner, _batch: &Batch) -> Result<()> {
        Ok(())
    }

    /// After the optimiser's step: where a replay memory takes samples in.
    fn after_step(&mut self, _learner: &Learner, _batch: &Batch) -> Result<()> {
        Ok(())
    }

    /// The largest second derivative of a method's quadratic penalty: times the learning rate it must stay below 2 for plain
    /// SGD to be stable.
    fn stiffness(&self) -> Option<f32> {
        None
    }

    /// The ways to classify that are evaluated. The first is the method's own: what it is judged by.
    fn classifiers(&self) -> &'static [Classifier] {
        &[Classifier::NETWORK]
    }

    /// How well each class suits each row of a batch, the larger the better: (N, classes), at least those seen; of pixels (N, classes, H, W).
    ///
    /// # Errors
    /// If `classifier` is none of [`Method::classifiers`].
    fn scores(&self, output: &Output, classifier: &Classifier) -> Result<Tensor> {
        match *classifier {
            Classifier::NETWORK => Ok(output.logits.clone()),
            _ => Err(classifier.unknown()),
        }
    }

    /// The class means that a nearest-mean classifier goes by, (classes learnt, D) in order of label; `None` for others, and
    /// before the first class was learnt.
    fn class_means(&self, _classifier: &Classifier) -> Option<&Tensor> {
        None
    }

    /// True if a classifier knows a class that it could answer.
    fn can_answer(&self, classifier: &Classifier) -> bool {
        !classifier.by_means || self.class_means(classifier).is_some()
    }

    /// Outputs of the network for each class; more than one where [`Method::scores`] makes one score of several.
    fn outputs_per_class(&self) -> usize {
        1
    }

    /// True if training leaves all but the last layer as it is in this task.
    fn freezes_representation(&self, _task: &TaskData) -> bool {
        false
    }

    /// What the network's outputs are trained through.
    fn activation(&self) -> Activation {
        Activation::Softmax
    }

    /// What is kept between batches and cannot be worked out again, each under a name: checkpoints, the bytes that tables show, the
    /// exemplars and the way to other pictures follow from it. Means that the end of a task computes are not needed.
    fn keeps(&mut self) -> Keeps<'_> {
        Vec::new()
    }
}
