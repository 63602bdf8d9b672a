//! Floor 6: continual-learning methods. One file per method, one row in [`ALL`].
//!
//! The runner (`experiment`) owns the loop, the counters and the evaluation; a method says what is learned from a batch,
//! what it keeps, and how it classifies. It is handed one task at a time and never sees a later one.

mod finetune;
mod fixed_representation;
mod icarl;
mod learner;
mod memory;

pub use crate::nn::{Loss, Term};
pub use icarl::Icarl;
pub use learner::Learner;
pub use memory::{Herding, Rounding, exemplars_per_class, original_herding};

use crate::error::{Error, Result};
use crate::nn::Output;
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// The data of one task: samples are indices into the training images.
pub struct TaskData {
    /// Counted from 0.
    pub index: usize,
    /// Samples of each new class, in order of label.
    pub samples: Vec<Vec<u32>>,
    /// Classes seen before this task; new labels are n_old..n_seen.
    pub n_old: usize,
    /// Classes seen with this task.
    pub n_seen: usize,
}

/// What `observe` learns from.
pub struct Batch {
    /// (N, C, H, W).
    pub x: Tensor,
    /// (N), u32, in order of arrival.
    pub labels: Tensor,
    /// Classes seen before this task.
    pub n_old: usize,
    /// Classes seen with this task: labels are below it.
    pub n_seen: usize,
}

/// Bytes that a method keeps between tasks, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of stored images.
    pub exemplars: u64,
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
///     paper: "–",
///     uses_memory: false,
///     sees_everything: false,
///     build: |_| Box::new(Finetune),
/// };
/// let config = engram::experiment::Overrides::default().resolve(&SPEC)?; // for `experiment::run`
/// assert_eq!(config.method.name, "mine");
/// # Ok::<(), engram::Error>(())
/// ```
/// `examples/custom_method.rs` is a whole one.
pub trait Method {
    /// The loss of one batch: the paper's algorithm box.
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss>;

    /// What an epoch of this task goes through; by default the task's own samples.
    fn training_set(&self, task: &TaskData) -> Vec<u32> {
        task.samples.concat()
    }

    /// Before the first batch of a task.
    fn begin_task(&mut self, _learner: &Learner, _task: &TaskData) -> Result<()> {
        Ok(())
    }

    /// After the last batch of a task.
    fn end_task(&mut self, _learner: &Learner, _task: &TaskData) -> Result<()> {
        Ok(())
    }

    /// The ways to classify that are evaluated; the first is the method's own.
    fn classifiers(&self) -> &'static [&'static str] {
        &["network"]
    }

    /// The label of each row of a batch, among the first `n_seen`: (N), u32.
    ///
    /// # Errors
    /// If `classifier` is none of [`Method::classifiers`].
    fn predict(&self, output: &Output, n_seen: usize, classifier: &str) -> Result<Tensor> {
        match classifier {
            "network" => output.logits.argmax_rows(n_seen),
            _ => Err(Error::usage(format!("there is no classifier '{classifier}'"))),
        }
    }

    /// The class means that a nearest-mean classifier goes by, (classes seen, D) in order of label; `None` for others.
    fn class_means(&self, _classifier: &str) -> Option<&Tensor> {
        None
    }

    /// True if training leaves all but the last layer as it is in this task.
    fn freezes_representation(&self, _task: &TaskData) -> bool {
        false
    }

    /// What the network's outputs are trained through.
    fn activation(&self) -> Activation {
        Activation::Softmax
    }

    /// What a checkpoint must hold so that a run can go on; everything that a method keeps between batches and cannot work
    /// out again. Means that the end of a task computes are not needed.
    ///
    /// # Errors
    /// If the device was lost.
    fn state(&self) -> Result<MethodState> {
        Ok(MethodState::default())
    }

    /// Puts back what [`Method::state`] said.
    ///
    /// # Errors
    /// If the state is not this method's.
    fn restore(&mut self, _learner: &Learner, _state: MethodState) -> Result<()> {
        Ok(())
    }

    /// What is kept from task to task.
    fn held(&self) -> Held {
        Held::default()
    }

    /// Exemplars kept, by label.
    fn exemplars(&self) -> &[Vec<u32>] {
        &[]
    }
}

/// What a method is built from.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// K, the exemplars kept over all classes.
    pub memory: usize,
    /// What becomes of K / classes when it does not divide.
    pub rounding: Rounding,
    /// How exemplars are chosen.
    pub herding: Herding,
    /// What classifiers choose among.
    pub candidates: Candidates,
}

/// The classes that a classifier chooses among.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Candidates {
    /// Those seen so far.
    #[default]
    Seen,
    /// All of the stream, so that a class that has not come yet can be answered, wrongly.
    All,
}

/// A row of the method table.
#[derive(Debug)]
pub struct MethodSpec {
    /// As on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where it is from; `–` for a baseline.
    pub paper: &'static str,
    /// True if the method keeps exemplars: the option `--memory` is its budget.
    pub uses_memory: bool,
    /// True if the method sees all data at once, as an upper reference.
    pub sees_everything: bool,
    /// A learner that has seen nothing.
    pub build: fn(Options) -> Box<dyn Method>,
}

/// Every method.
pub static ALL: &[MethodSpec] = &[
    icarl::ICARL,
    icarl::HYBRID2_SPEC,
    icarl::HYBRID3_SPEC,
    icarl::LWF_MC_SPEC,
    fixed_representation::SPEC,
    finetune::FINETUNE,
    finetune::JOINT,
];

/// The row of this name.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn spec(name: &str) -> Result<&'static MethodSpec> {
    ALL.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|spec| spec.name).collect();
        Error::usage(format!("unknown method '{name}': there are {}", known.join(", ")))
    })
}
