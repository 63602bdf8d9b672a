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
mod gdumb;
mod gem;
mod icarl;
mod ilt;
mod importance;
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
pub use icarl::Icarl;
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
pub use spec::{ALL, ANY, CLASSES, CLASSES_AND_MASKS, MASKS, MethodSpec, all, register, spec};

use crate::data;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::nn::Output;
use crate::tensor::Tensor;
use crate::training::Step;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::atomic::AtomicBool;

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

/// Other numbers for what a method keeps: where a learner is carried from pictures to pictures, and its classes change.
pub struct Renumbering<'a> {
    /// By sample: its number among the pictures that there are now; what has none is dropped.
    pub sample: &'a dyn Fn(u32) -> Option<u32>,
    /// By label: what it is called now; what has none is dropped. No two become one.
    pub label: &'a dyn Fn(u32) -> Option<u32>,
    /// Outputs of the network now.
    pub n_outputs: usize,
}

impl Renumbering<'_> {
    /// Something of each label, by label, in the new order; labels of which there was nothing get `empty`.
    fn by_label<T: Clone>(&self, all: &[T], empty: T) -> Vec<T> {
        let mut moved: Vec<T> = Vec::new();
        for (label, one) in all.iter().enumerate() {
            if let Some(label) = (self.label)(label as u32) {
                moved.resize(moved.len().max(label as usize + 1), empty.clone());
                moved[label as usize] = one.clone();
            }
        }
        moved
    }
}

/// Bytes that a method keeps between tasks, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of stored images, and of their labels where a memory keeps them.
    pub exemplars: u64,
    /// Bytes of stored outputs of earlier networks.
    pub logits: u64,
    /// Bytes of importances of parameters and of the values they are held at.
    pub importance: u64,
    /// Bytes of a copy of an earlier network.
    pub old_network: u64,
    /// Bytes of class means.
    pub class_means: u64,
}

/// What a method keeps, for a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct MethodState {
    /// Lists and numbers.
    pub json: serde_json::Value,
    /// Named vectors.
    pub tensors: Vec<(String, Vec<f32>)>,
}

impl MethodState {
    /// The vector of this name, if there is one.
    pub fn take(&mut self, name: &str) -> Option<Vec<f32>> {
        let i = self.tensors.iter().position(|(own, _)| own == name)?;
        Some(self.tensors.swap_remove(i).1)
    }

    /// The lists and numbers as what they were.
    ///
    /// # Errors
    /// If they are of another method.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.json).map_err(|e| Error::usage(format!("the checkpoint is not one of this method: {e}")))
    }

    /// Adds the weights and running statistics of a network, whose vectors' names begin with `name`.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn keep_network(&mut self, name: &str, network: &Network) -> Result<()> {
        self.tensors.push((format!("{name}.parameters"), network.parameters.values().to_vec()?));
        if let Some(values) = network.statistics.values() {
            self.tensors.push((format!("{name}.statistics"), values.to_vec()?));
        }
        Ok(())
    }

    /// The network of this name, if there is one, like the learner's own.
    ///
    /// # Errors
    /// If it is of another size.
    pub fn take_network(&mut self, name: &str, learner: &Learner) -> Result<Option<Network>> {
        let Some(values) = self.take(&format!("{name}.parameters")) else { return Ok(None) };
        let network = learner.network.snapshot()?;
        network.parameters.values().write(&values)?;
        if let (Some(own), Some(values)) = (network.statistics.values(), self.take(&format!("{name}.statistics"))) {
            own.write(&values)?;
        }
        Ok(Some(network))
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

    /// After the last batch of a task. One that takes long may end with [`Error::Interrupted`] if the method is then still as it
    /// was before: it is called again when the run goes on.
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

    /// How well each class suits each row of a batch, the larger the better: (N, classes), at least the first `n_seen`; of pixels
    /// (N, classes, H, W).
    ///
    /// # Errors
    /// If `classifier` is none of [`Method::classifiers`].
    fn scores(&self, output: &Output, _n_seen: usize, classifier: &Classifier) -> Result<Tensor> {
        match *classifier {
            Classifier::NETWORK => Ok(output.logits.clone()),
            _ => Err(classifier.unknown()),
        }
    }

    /// The label of each row of a batch, among the first `n_seen`: (N), u32; of pixels (N, H, W).
    ///
    /// # Errors
    /// As [`Method::scores`].
    fn predict(&self, output: &Output, n_seen: usize, classifier: &Classifier) -> Result<Tensor> {
        self.scores(output, n_seen, classifier)?.argmax_rows(n_seen)
    }

    /// The class means that a nearest-mean classifier goes by, (classes learnt, D) in order of label; `None` for others, and
    /// before the first class was learnt.
    fn class_means(&self, _classifier: &Classifier) -> Option<&Tensor> {
        None
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

    /// The replay memory of a method that has one: what [`state`](Method::state), [`restore`](Method::restore),
    /// [`held`](Method::held) and [`exemplars`](Method::exemplars) go by unless the method has more to say.
    fn memory(&self) -> Option<&ReplayMemory> {
        None
    }

    /// The same, to be filled again by `restore`.
    fn memory_mut(&mut self) -> Option<&mut ReplayMemory> {
        None
    }

    /// What a checkpoint must hold so that a run can go on; everything that a method keeps between batches and cannot work
    /// out again. Means that the end of a task computes are not needed.
    ///
    /// # Errors
    /// If the device was lost.
    fn state(&self) -> Result<MethodState> {
        let json = self.memory().map_or(serde_json::Value::Null, ReplayMemory::to_json);
        Ok(MethodState { json, tensors: Vec::new() })
    }

    /// Puts back what [`Method::state`] said.
    ///
    /// # Errors
    /// If the state is not this method's.
    fn restore(&mut self, _learner: &Learner, state: MethodState) -> Result<()> {
        self.memory_mut().map_or(Ok(()), |memory| memory.restore(state.json))
    }

    /// Between tasks: gives what is kept other numbers, for a learner that goes on with other pictures and outputs. What belongs to the
    /// task before alone, such as an old network, may go. By default that of [`Method::memory`].
    ///
    /// # Errors
    /// If the device was lost.
    fn renumber(&mut self, to: &Renumbering) -> Result<()> {
        if let Some(memory) = self.memory_mut() {
            memory.renumber(to);
        }
        Ok(())
    }

    /// What is kept from task to task.
    fn held(&self) -> Held {
        self.memory().map_or_else(Held::default, ReplayMemory::held)
    }

    /// Exemplars kept, by label.
    fn exemplars(&self) -> Vec<Vec<u32>> {
        self.memory().map_or_else(Vec::new, ReplayMemory::by_label)
    }
}
