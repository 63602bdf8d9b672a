//! What methods can be told: their hyper-parameters, as flags and as values.

use super::{Herding, MethodSpec, Rounding};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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

/// The outputs that the cross-entropy of new images runs over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CeOver {
    /// All seen so far.
    #[default]
    Seen,
    /// Those of the task's own classes.
    New,
}

/// What the cross-entropy does with outputs of classes that have not come yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Unseen {
    /// They are left out.
    #[default]
    Masked,
    /// They take part, and are pushed down before their classes come: toolboxes in which a head has its full width.
    Compete,
}

/// Whether replayed images share the new images' forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ReplayForward {
    /// One pass and one mean, in which a memory batch of b_m beside b new images weighs b_m/(b + b_m).
    #[default]
    Joint,
    /// Two passes, whose means are added.
    Separate,
}

/// Which samples a replay memory keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MemoryPolicy {
    /// Every sample offered so far with the same chance (Vitter 1985).
    #[default]
    Reservoir,
    /// A reservoir per class; a class that has the most gives way (Chrysakis & Moens, ICML 2020).
    Balanced,
    /// GDumb's: a class below its share K/classes is taken in, and the largest class gives one up.
    Greedy,
}

/// How the loss on new images and that on replayed ones become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Joined {
    /// Their sum.
    #[default]
    Sum,
    /// Their mean, as avalanche-lib's ER-ACE has it.
    Mean,
}

/// When a replay memory takes samples in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryUpdate {
    /// After each step of the first pass over a task's data: what is replayed may be of the running task.
    #[default]
    Step,
    /// All of a task's samples before its first step, as avalanche-lib's ER-ACE does.
    TaskBegin,
    /// All of a task's samples after its last step, as avalanche-lib's Replay does: only earlier tasks are replayed.
    TaskEnd,
}

/// The gradient that SI's path integral goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PathGradient {
    /// Of the cross-entropy alone, as the paper has it.
    #[default]
    Loss,
    /// With the penalty's, as avalanche-lib has it.
    Total,
}

/// Which Fisher information EWC goes by; p is the softmax over the outputs of the task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FisherKind {
    /// Σ_c p_c·(∂ log p_c)², image by image.
    #[default]
    Exact,
    /// (∂ log p_y)² with y drawn from p, image by image.
    Sampled,
    /// The same with the true label.
    Empirical,
    /// The squared gradient of a batch's mean loss, over batches: as avalanche-lib has it, for comparison only.
    Batch,
}

/// When GDumb trains its network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum GdumbEval {
    /// After every task, for a row of the accuracy matrix each.
    #[default]
    Task,
    /// After the last task alone: rows before it are of a network that has learnt nothing.
    Last,
}

/// What becomes of negative importances of SI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Negative {
    /// They stay.
    #[default]
    Keep,
    /// They become 0.
    Clamp,
}

/// Hyper-parameters of methods as flags; what is not given is the method's default (`engram methods show METHOD`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct OptionFlags {
    /// λ of EWC and MAS, c of SI: what the quadratic penalty is multiplied with
    #[arg(long, value_name = "WEIGHT", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty_weight: Option<f32>,
    /// Which Fisher information: exact, sampled, empirical, or batch (for comparison with avalanche-lib)
    #[arg(long, value_name = "KIND", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fisher: Option<FisherKind>,
    /// Images that importances are measured on, at most
    #[arg(long, value_name = "N", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fisher_samples: Option<usize>,
    /// γ of online EWC: what is kept of earlier tasks' importances
    #[arg(long, value_name = "FACTOR", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fisher_decay: Option<f32>,
    /// ξ of SI: keeps its quotient finite
    #[arg(long, value_name = "XI", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damping: Option<f32>,
    /// What becomes of negative importances: keep or clamp
    #[arg(long, value_name = "HOW", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative: Option<Negative>,
    /// Which gradient SI's path integral goes by: loss, or total (with the penalty's, as avalanche-lib has it)
    #[arg(long, value_name = "WHICH", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_gradient: Option<PathGradient>,
    /// Importances of SI above this count as this much; avalanche-lib has 0.001 [default: no limit]
    #[arg(long, value_name = "IMPORTANCE", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance_limit: Option<f32>,
    /// λ of LwF: what the distillation loss is multiplied with
    #[arg(long, value_name = "WEIGHT", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kd_weight: Option<f32>,
    /// What the loss on new labels is multiplied with
    #[arg(long, value_name = "WEIGHT", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_weight: Option<f32>,
    /// T, the temperature of distillation
    #[arg(long, value_name = "T", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Outputs that the cross-entropy of new images runs over: seen or new
    #[arg(long, value_name = "WHICH", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce: Option<CeOver>,
    /// Outputs of classes that have not come yet: masked in the cross-entropy, or compete; where the task is known, only
    /// its own take part
    #[arg(long, value_name = "HOW", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Unseen>,
    /// Images replayed per step [default: --batch-size]
    #[arg(long, value_name = "N", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_batch: Option<usize>,
    /// Whether replayed images share a forward pass with new ones: joint or separate
    #[arg(long, value_name = "HOW", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_forward: Option<ReplayForward>,
    /// Which samples are kept: reservoir, balanced or greedy
    #[arg(long, value_name = "WHICH", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// When samples are taken in: step, task-begin or task-end
    #[arg(long, value_name = "WHEN", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_update: Option<MemoryUpdate>,
    /// How ER-ACE's two losses become one: sum, or mean (as avalanche-lib has it)
    #[arg(long, value_name = "HOW", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined: Option<Joined>,
    /// α of DER and DER++: what the error of stored logits is multiplied with
    #[arg(long, value_name = "WEIGHT", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mse_weight: Option<f32>,
    /// β of DER++: what the cross-entropy of replayed labels is multiplied with
    #[arg(long, value_name = "WEIGHT", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_weight: Option<f32>,
    /// Passes of GDumb over its memory, after every task
    #[arg(long, value_name = "N", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_epochs: Option<usize>,
    /// The largest learning rate of GDumb's passes
    #[arg(long, value_name = "RATE", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_lr: Option<f32>,
    /// When GDumb trains: after every task, or only after the last (rows before it are then of an untrained network)
    #[arg(long, value_name = "WHEN", help_heading = "Options of the method")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gdumb_eval: Option<GdumbEval>,
}

/// What a method is built from: every hyper-parameter that any method has. Those named as a field of [`OptionFlags`] are
/// explained there.
#[allow(missing_docs)]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// K, the exemplars kept over all classes.
    pub memory: usize,
    /// What becomes of K / classes when it does not divide.
    pub rounding: Rounding,
    /// How exemplars are chosen.
    pub herding: Herding,
    /// What classifiers choose among.
    pub candidates: Candidates,
    pub penalty_weight: f32,
    pub fisher: FisherKind,
    pub fisher_samples: usize,
    pub fisher_decay: f32,
    pub damping: f32,
    pub negative: Negative,
    pub path_gradient: PathGradient,
    /// None if `None`.
    pub importance_limit: Option<f32>,
    pub kd_weight: f32,
    pub ce_weight: f32,
    pub temperature: f32,
    pub ce: CeOver,
    pub unseen: Unseen,
    /// As many as new images if `None`.
    pub replay_batch: Option<usize>,
    pub replay_forward: ReplayForward,
    pub memory_policy: MemoryPolicy,
    pub memory_update: MemoryUpdate,
    pub joined: Joined,
    pub mse_weight: f32,
    pub replay_weight: f32,
    pub memory_epochs: usize,
    pub memory_lr: f32,
    pub gdumb_eval: GdumbEval,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            memory: 500,
            rounding: Rounding::Ceil,
            herding: Herding::Paper,
            candidates: Candidates::Seen,
            penalty_weight: 1.0,
            fisher: FisherKind::Exact,
            fisher_samples: 1000,
            fisher_decay: 1.0,
            damping: 0.1,
            negative: Negative::Keep,
            path_gradient: PathGradient::Loss,
            importance_limit: None,
            kd_weight: 1.0,
            ce_weight: 1.0,
            temperature: 2.0,
            ce: CeOver::Seen,
            unseen: Unseen::Masked,
            replay_batch: None,
            replay_forward: ReplayForward::Joint,
            memory_policy: MemoryPolicy::Reservoir,
            memory_update: MemoryUpdate::Step,
            joined: Joined::Sum,
            mse_weight: 0.5,
            replay_weight: 0.5,
            memory_epochs: 33,
            memory_lr: 0.01,
            gdumb_eval: GdumbEval::Task,
        }
    }
}

impl Options {
    /// The defaults of a method.
    pub fn of(method: &MethodSpec) -> Options {
        let mut options = Options::default();
        (method.tune)(&mut options);
        options
    }

    /// The same with these flags.
    pub fn with(&self, flags: &OptionFlags) -> Options {
        let mut own = fields(self);
        own.extend(fields(flags));
        serde_json::from_value(Value::Object(own)).expect("bug: a flag and its option are of different types")
    }
}

impl OptionFlags {
    /// These flags, and where they are silent those of `other`.
    pub fn or(self, other: OptionFlags) -> OptionFlags {
        let mut all = fields(&other);
        all.extend(fields(&self));
        serde_json::from_value(Value::Object(all)).expect("bug: flags that are none")
    }

    /// Those of these flags that a method has.
    pub fn only(&self, method: &MethodSpec) -> OptionFlags {
        let mut own = fields(self);
        own.retain(|name, _| method.options.contains(&name.as_str()));
        serde_json::from_value(Value::Object(own)).expect("bug: flags that are none")
    }

    /// Every flag that a method has, with its default where none is given.
    ///
    /// # Errors
    /// [`Error::Usage`] if a flag is one that the method does not have, or a number makes no sense.
    pub fn resolve(self, method: &MethodSpec) -> Result<OptionFlags> {
        let given = fields(&self);
        if let Some(name) = given.keys().find(|name| !method.options.contains(&name.as_str())) {
            let own: Vec<String> = method.options.iter().map(|name| flag(name)).collect();
            let own = if own.is_empty() { "no options of its own".to_string() } else { own.join(", ") };
            return Err(Error::usage(format!("{} has no {}: it has {own}", method.name, flag(name))));
        }
        for (name, value) in &given {
            const POSITIVE: [&str; 7] = [
                "temperature",
                "damping",
                "importance_limit",
                "fisher_samples",
                "replay_batch",
                "memory_epochs",
                "memory_lr",
            ];
            let positive = POSITIVE.contains(&name.as_str());
            // JSON has null for a number that is not finite.
            let number = if value.is_null() { Some(f64::NAN) } else { value.as_f64() };
            let Some(number) = number.map(|number| number as f32) else { continue };
            if number.is_nan() || number < 0.0 || (positive && number == 0.0) {
                let range = if positive { "a positive number" } else { "0 or a positive number" };
                return Err(Error::usage(format!("{} {number}: it must be {range}", flag(name))));
            }
        }
        let mut all = fields(&Options::of(method));
        all.retain(|name, value| method.options.contains(&name.as_str()) && !value.is_null());
        all.extend(given);
        Ok(serde_json::from_value(Value::Object(all)).expect("bug: a default that is no flag"))
    }
}

/// `replay_batch` as `--replay-batch`.
pub fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// What is set, by name.
pub fn fields(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => unreachable!("bug: options are no JSON object"),
    }
}
