//! A scheme of distillation as the term by which a method holds on to what it knew: the network before the task teaches the one
//! that learns it. Both have one architecture, so that nothing is trained along: regressors and connectors are the identity.

use super::{Batch, Learner};
use crate::distill::{self, Distiller, Layers, SchemeSpec, Seen};
use crate::error::{Error, Result};
use crate::models::Network;
use crate::nn::{Loss, Output, Term};
use crate::ops::Mode;
use crate::settings::{Choice, Kind, Setting, Values};
use crate::tensor::Tensor;

/// Which scheme, of methods that distil.
pub const DISTILL: Setting = Setting::new(
    "distill",
    "SCHEME",
    Kind::Choice(offline),
    "Scheme by which the old network teaches in place of the method's own distillation, with the scheme's usual weights and T",
)
.open("the method's own");

fn offline() -> Vec<Choice> {
    let schemes = distill::ALL.iter().filter(|spec| spec.has_teacher());
    schemes.map(|spec| Choice { name: spec.name, help: spec.summary }).collect()
}

/// The scheme that is set, if one is.
pub(super) fn scheme(settings: &Values) -> Option<&'static SchemeSpec> {
    let name: String = settings.find("distill")?;
    Some(distill::spec(&name).expect("bug: a choice that is no scheme"))
}

/// The terms of a scheme of outputs, of what a network says now and what was said before. Shapes: (N, C), labels (N), u32.
///
/// # Errors
/// If the scheme compares layers: what is kept is outputs.
pub(super) fn by_outputs(
    spec: &'static SchemeSpec,
    learner: &Learner,
    (now, before): (&Tensor, &Tensor),
    labels: &Tensor,
) -> Result<Vec<Term>> {
    let suits = |spec: &SchemeSpec| spec.has_teacher() && spec.layers == Layers::None;
    if !suits(spec) {
        let known: Vec<&str> = distill::ALL.iter().filter(|spec| suits(spec)).map(|spec| spec.name).collect();
        return Err(Error::usage(format!(
            "--distill {}: the memory keeps what the network said, and no network whose layers could be compared: choose one of {}",
            spec.name,
            known.join(", ")
        )));
    }
    let seen = |logits: &Tensor| Seen { logits: logits.clone(), values: Vec::new() };
    let network = learner.network.snapshot()?;
    let distiller = Distiller::of_twins(spec, network, &learner.network, &learner.device)?;
    distiller.terms(&seen(now), &seen(before), labels, 1.0)
}

/// The network before a task.
pub(super) enum Old {
    /// Asked in the method's own way.
    Plain(Box<Network>),
    /// It teaches by a scheme.
    Teaches(Box<Distiller>),
}

impl Old {
    /// By a scheme, or in the method's own way.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is a scheme and it finds nothing in the network that it could compare.
    pub fn of(scheme: Option<&'static SchemeSpec>, old: Network, learner: &Learner) -> Result<Old> {
        let Some(spec) = scheme else { return Ok(Old::Plain(Box::new(old))) };
        if spec.by_label {
            return Err(Error::usage(format!(
                "--distill {}: it sets the labelled class apart, which the old network does not know of new images: choose \
                 another scheme",
                spec.name
            )));
        }
        let because = |error| match error {
            Error::Usage(why) => Error::usage(format!("--distill {}: {why}", spec.name)),
            other => other,
        };
        let distiller = Distiller::of_twins(spec, old, &learner.network, &learner.device).map_err(because)?;
        Ok(Old::Teaches(Box::new(distiller)))
    }

    /// Frozen.
    pub fn network(&self) -> &Network {
        match self {
            Old::Plain(network) => network,
            Old::Teaches(distiller) => distiller.teacher(),
        }
    }

    /// What the learner's network says of a batch, and the values that a scheme compares.
    pub fn forward(&self, learner: &Learner, batch: &Batch) -> Result<(Output, Vec<Tensor>)> {
        let taps = match self {
            Old::Plain(_) => &[],
            Old::Teaches(distiller) => distiller.student_taps(),
        };
        learner.network.forward_with(&batch.x, Mode::Train, taps)
    }
}

/// The terms of a scheme for what [`Old::forward`] gave; `own` leaves of logits those that the old network may be heard on.
pub(super) fn terms(
    distiller: &Distiller,
    (logits, values): (&Tensor, &[Tensor]),
    batch: &Batch,
    own: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Vec<Term>> {
    let said = distiller.ask(&batch.x)?;
    let student = Seen { logits: own(logits)?, values: values.to_vec() };
    let teacher = Seen { logits: own(&said.logits)?, values: said.values };
    distiller.terms(&student, &teacher, &batch.labels, 1.0)
}

/// A loss with more terms, each multiplied by a weight.
pub(super) fn with_terms(loss: Loss, weight: f32, terms: Vec<Term>) -> Loss {
    let weighted = terms.into_iter().map(|term| Term { weight: weight * term.weight, ..term });
    Loss(loss.0.into_iter().chain(weighted).collect())
}
