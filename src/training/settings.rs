//! What may be set about training.

use super::{Fall, Recipe, Schedule, WarmUp};
use crate::error::{Error, Result};
use crate::optim::{Decay, Kind, Velocity};
use crate::settings::{Choose, Kind as ValueKind, Origin, Range, Setting, Values, choices};

choices! {
    /// How the learning rate falls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum FallKind {
        /// It does not.
        Constant = "constant",
        /// It is multiplied by --lr-decay at the start of the epochs of --lr-steps.
        Steps = "steps",
        /// Along a cosine, to 0 at the end of a task.
        Cosine = "cosine",
        /// By the power 0.9 of the part of the steps that is left, to 0 at the end of a task.
        Poly = "poly",
    }
}

const BELOW_ONE: ValueKind = ValueKind::Number(Range::BELOW_ONE);

/// The rows of [`Recipe`].
pub const TRAINING: &[Setting] = &[
    Setting::whole("epochs", "N", "Passes over the data").follows("by data set: see below"),
    Setting::whole("batch_size", "N", "Images per step").follows("by data set: see below"),
    Setting::choice::<Kind>("optimizer", "NAME", "Optimiser").usually("adam"),
    Setting::number("lr", "RATE", "Learning rate at the start").positive().usually("0.001"),
    Setting::choice::<FallKind>("schedule", "HOW", "How the rate falls")
        .follows("steps with --lr-steps, else constant"),
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
    Setting::choice::<Velocity>("velocity", "WHAT", "What the velocity of sgd sums up").usually("gradients").needs(
        "optimizer",
        &["sgd"],
        "adam has no velocity; --optimizer sgd does",
    ),
    Setting::number("weight_decay", "L", "L2 penalty").usually("1e-4"),
    Setting::choice::<Decay>("decay", "WHICH", "What the L2 penalty acts on").usually("weights"),
    Setting::switch("drop_last", "Whether a last batch that is not full is left out").usually("false"),
];

/// The row that only a stream of tasks has.
pub const RESET_OPTIMIZER: Setting =
    Setting::switch("reset_optimizer", "Whether velocity and moments are forgotten between tasks").usually("true");

/// Another row that only a stream of tasks has.
pub const LATER_LR: Setting =
    Setting::number("later_lr", "RATE", "Learning rate of the tasks after the first; it falls as --lr does")
        .positive()
        .open("--lr");

/// Another row that only a stream of tasks has.
pub const HEAD_LR: Setting = Setting::number(
    "head_lr",
    "RATE",
    "Learning rate of the last layer, which then has no L2 penalty; it falls as --lr does",
)
.positive()
.open("--lr, and the penalty");

/// How the rate falls where nothing is said of it.
///
/// # Errors
/// Never, as the rows are these.
pub fn training_recipe(given: &Values, usually: FallKind) -> Result<Values> {
    let rows: Vec<&'static Setting> = TRAINING.iter().collect();
    let (fall, of) = match given.value("lr_steps") {
        Some(_) => (FallKind::Steps, "--lr-steps"),
        None => (usually, "the command"),
    };
    Values::of(&rows, &[("schedule", fall.name())], &Origin::Recipe(of.into()))
}

/// Epochs of the longest training that goes by these settings: a teacher's may be.
fn longest(values: &Values) -> usize {
    let epochs = |name| values.find::<usize>(name);
    epochs("epochs").unwrap_or(1).max(epochs("teacher_epochs").unwrap_or(0))
}

/// Without the drops of the rate that a preset has after the last epoch, so that a run's record holds what it goes by; `usual` has what is
/// not given.
///
/// # Errors
/// Never, as the rows are these.
pub fn within_epochs(given: Values, usual: &Values) -> Result<Values> {
    let Some(at) = given.find::<Vec<usize>>("lr_steps") else { return Ok(given) };
    let origin = given.origin("lr_steps").cloned().unwrap_or(Origin::Default);
    let epochs = longest(&given.clone().or(usual.clone()));
    if origin.is_asked_for() || at.iter().all(|step| *step < epochs) {
        return Ok(given);
    }
    let rows: Vec<&'static Setting> = TRAINING.iter().collect();
    let reached: Vec<String> = at.into_iter().filter(|step| *step < epochs).map(|step| step.to_string()).collect();
    if !reached.is_empty() {
        return Ok(Values::of(&rows, &[("lr_steps", &reached.join(","))], &origin)?.or(given));
    }
    let given = given.without("lr_steps");
    match given.origin("schedule").is_some_and(Origin::is_asked_for) {
        true => Ok(given),
        false => Ok(Values::of(&rows, &[("schedule", FallKind::Constant.name())], &origin)?.or(given)),
    }
}

impl Recipe {
    /// Resolved values as what they mean; what a method ignores is not there, and is of no account.
    ///
    /// # Errors
    /// [`Error::Usage`] if the rate drops at an epoch that does not come, or never comes to its height.
    pub fn of(values: &Values) -> Result<Recipe> {
        let epochs: usize = values.find("epochs").unwrap_or(1);
        let at: Vec<usize> = values.find("lr_steps").unwrap_or_default();
        let asked = |name: &str| values.origin(name).is_some_and(Origin::is_asked_for);
        let last = longest(values);
        if let Some(step) = at.iter().find(|step| asked("lr_steps") && **step >= last) {
            let message = format!("--lr-steps {step} has no effect here: there are {last} epochs, from 0 on");
            return Err(Error::usage(message));
        }
        let fall = match values.find("schedule").unwrap_or(FallKind::Constant) {
            FallKind::Constant => Fall::Constant,
            FallKind::Steps => Fall::Steps { at, factor: values.find("lr_decay").unwrap_or(1.0) },
            FallKind::Cosine => Fall::Cosine,
            FallKind::Poly => Fall::Poly,
        };
        let warm_up = values.find("warm_up").unwrap_or(0.0);
        if asked("warm_up") && warm_up > epochs as f64 {
            let message = format!("--warm-up {warm_up}: with --epochs {epochs} the rate never comes to --lr");
            return Err(Error::usage(message));
        }
        let warm_up = WarmUp::Epochs(warm_up);
        Ok(Recipe {
            epochs,
            batch_size: values.get("batch_size"),
            drop_last: values.get("drop_last"),
            schedule: Schedule { lr: values.find("lr").unwrap_or(1e-3), fall, warm_up },
            optimizer: values.find("optimizer").unwrap_or(Kind::Adam),
            momentum: values.find("momentum").unwrap_or(0.0),
            velocity: values.find("velocity").unwrap_or_default(),
            weight_decay: values.find("weight_decay").unwrap_or(0.0),
            decay: values.find("decay").unwrap_or_default(),
        })
    }
}
