//! What may be set about training.

use super::{Course, Decay, Kind, Schedule};
use crate::error::{Error, Result};
use crate::settings::{Choose, Kind as ValueKind, Origin, Range, Setting, Values};
use serde::Serialize;

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fall {
    /// It does not.
    Constant,
    /// It is multiplied by a factor at the start of some epochs.
    Steps,
    /// Along a cosine, to 0 at the end.
    Cosine,
}

impl Choose for Fall {
    const NAMED: &'static [(Self, &'static str, &'static str)] = &[
        (Fall::Constant, "constant", "It does not"),
        (Fall::Steps, "steps", "It is multiplied by --lr-decay at the start of the epochs of --lr-steps"),
        (Fall::Cosine, "cosine", "Along a cosine, to 0 at the end of a task"),
    ];
}

const BELOW_ONE: ValueKind = ValueKind::Number(Range::BELOW_ONE);

/// The rows of [`TrainingSettings`].
pub const TRAINING: &[Setting] = &[
    Setting::whole("epochs", "N", "Passes over the data").follows("by data set: see below"),
    Setting::whole("batch_size", "N", "Images per step").follows("by data set: see below"),
    Setting::choice::<Kind>("optimizer", "NAME", "Optimiser").usually("adam"),
    Setting::number("lr", "RATE", "Learning rate at the start").positive().usually("0.001"),
    Setting::choice::<Fall>("schedule", "HOW", "How the rate falls").follows("steps with --lr-steps, else constant"),
    Setting::new(
        "lr_steps",
        "EPOCHS",
        ValueKind::List(&ValueKind::Whole { least: 0, most: u64::MAX }),
        "Epochs at whose start the rate drops, such as 4,6",
    )
    .open("none")
    .needs("schedule", &["steps"], "the rate drops at steps with --schedule steps only"),
    Setting::number("lr_decay", "FACTOR", "What the rate is multiplied with then").positive().usually("0.2").needs(
        "lr_steps",
        &[],
        "the rate never drops: --lr-steps says at which epochs it does",
    ),
    Setting::number("warm_up", "EPOCHS", "Epochs in which the rate rises from 0 to --lr").usually("0"),
    Setting::new("momentum", "M", BELOW_ONE, "Momentum of sgd").usually("0.9").needs(
        "optimizer",
        &["sgd"],
        "adam has moments of its own; --optimizer sgd goes by it",
    ),
    Setting::number("weight_decay", "L", "L2 penalty").usually("1e-4"),
    Setting::choice::<Decay>("decay", "WHICH", "What the L2 penalty acts on").usually("weights"),
    Setting::switch("drop_last", "Whether a last batch that is not full is left out").usually("false"),
];

/// The row that only a stream of tasks has.
pub const RESET_OPTIMIZER: Setting =
    Setting::switch("reset_optimizer", "Whether velocity and moments are forgotten between tasks").usually("true");

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingSettings {
    /// Passes over the data.
    pub epochs: usize,
    /// Images per step.
    pub batch_size: usize,
    /// Which optimiser.
    pub optimizer: Kind,
    /// The learning rate at the start.
    pub lr: f32,
    /// How it falls.
    pub fall: Fall,
    /// Epochs, from 0, at whose start the rate drops.
    pub lr_steps: Vec<usize>,
    /// What the rate is multiplied with then.
    pub lr_decay: f32,
    /// Epochs in which it rises.
    pub warm_up: f32,
    /// Of SGD, in 0..1.
    pub momentum: f32,
    /// λ of the L2 penalty, whose gradient is λ·w.
    pub weight_decay: f32,
    /// What the penalty acts on.
    pub decay: Decay,
    /// Whether a last batch that is not full is left out.
    pub drop_last: bool,
}

/// How the rate falls where nothing is said of it.
///
/// # Errors
/// Never, as the rows are these.
pub fn training_recipe(given: &Values, usually: Fall) -> Result<Values> {
    let rows: Vec<&'static Setting> = TRAINING.iter().collect();
    let (fall, of) = match given.value("lr_steps") {
        Some(_) => (Fall::Steps, "--lr-steps"),
        None => (usually, "the command"),
    };
    Values::of(&rows, &[("schedule", fall.name())], &Origin::Recipe(of.into()))
}

impl TrainingSettings {
    /// Resolved values as what they mean; what a method ignores is not there, and is of no account.
    ///
    /// # Errors
    /// [`Error::Usage`] if the rate drops at an epoch that does not come.
    pub fn of(values: &Values) -> Result<TrainingSettings> {
        let training = TrainingSettings {
            epochs: values.find("epochs").unwrap_or(1),
            batch_size: values.get("batch_size"),
            optimizer: values.find("optimizer").unwrap_or(Kind::Adam),
            lr: values.find("lr").unwrap_or(1e-3),
            fall: values.find("schedule").unwrap_or(Fall::Constant),
            lr_steps: values.find("lr_steps").unwrap_or_default(),
            lr_decay: values.find("lr_decay").unwrap_or(1.0),
            warm_up: values.find("warm_up").unwrap_or(0.0),
            momentum: values.find("momentum").unwrap_or(0.0),
            weight_decay: values.find("weight_decay").unwrap_or(0.0),
            decay: values.find("decay").unwrap_or_default(),
            drop_last: values.get("drop_last"),
        };
        let asked = values.origin("lr_steps").is_some_and(Origin::is_asked_for);
        if let Some(step) = training.lr_steps.iter().find(|step| asked && **step >= training.epochs) {
            let n = training.epochs;
            return Err(Error::usage(format!("--lr-steps {step} has no effect here: there are {n} epochs, from 0 on")));
        }
        Ok(training)
    }

    /// The learning rate by epoch.
    pub fn schedule(&self) -> Schedule {
        Schedule { lr: self.lr, steps: self.lr_steps.clone(), decay: self.lr_decay }
    }

    /// The learning rate by progress.
    pub fn course(&self) -> Course {
        if self.fall == Fall::Cosine { Course::Cosine } else { Course::Constant }
    }
}
