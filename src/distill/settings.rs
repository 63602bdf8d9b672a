//! What may be set about a scheme.

use super::losses::Weights;
use super::{SchemeSpec, Settings, TeacherMean, TeacherMode};
use crate::error::{Error, Result};
use crate::settings::{Kind, Setting, Values};

/// The rows of [`Settings`].
pub const SCHEME: &[Setting] = &[
    Setting::number("temperature", "T", "T, what logits are divided by").positive().open("the scheme's"),
    Setting::new(
        "weight",
        "NAME=W",
        Kind::List(&Kind::Text),
        "Weights of terms of the loss, such as ce=0.1,kd=0.9; names are in `engram distill show NAME`",
    )
    .open("the scheme's"),
    Setting::new("alpha_on_ce", "A", ANY, "ce=A, kd=1-A"),
    Setting::new("alpha_on_kd", "A", ANY, "kd=A, ce=1-A"),
    Setting::new("lambda_on_ce", "L", ANY, "kd=1, ce=L"),
    Setting::new(
        "layers",
        "PAIRS",
        Kind::List(&Kind::Text),
        "Layers to compare, as STUDENT=TEACHER or one name for both, such as stage2; NAME:pre is before the ReLU",
    )
    .open("the scheme's"),
    Setting::choice::<TeacherMode>("teacher_mode", "MODE", "What the teacher's batch norms go by").open("the scheme's"),
    Setting::choice::<TeacherMean>("teacher_mean", "WHAT", "What is averaged over several teachers")
        .usually("probabilities"),
];

/// What a weight may be is said where it becomes one.
const ANY: Kind = Kind::Number(crate::settings::Range::ANY);

/// Two weights by one number.
type ByOne = fn(f32) -> Weights;

/// At most one of these is set.
const NAMED: [(&str, ByOne); 3] = [
    ("alpha_on_ce", Weights::alpha_on_ce),
    ("alpha_on_kd", Weights::alpha_on_kd),
    ("lambda_on_ce", Weights::kd_plus_lambda_ce),
];

impl Settings {
    /// Resolved values as what they mean.
    ///
    /// # Errors
    /// [`Error::Usage`] if a weight or T makes no sense.
    pub fn of(spec: &SchemeSpec, values: &Values) -> Result<Settings> {
        let mut settings = spec.settings();
        settings.temperature = values.find("temperature").unwrap_or(settings.temperature);
        settings.teacher_mode = values.find("teacher_mode").unwrap_or(settings.teacher_mode);
        settings.teacher_mean = values.find("teacher_mean").unwrap_or(settings.teacher_mean);
        settings.own = values.only(&spec.options.iter().collect::<Vec<_>>());
        let named: Vec<(&str, Weights)> =
            NAMED.iter().filter_map(|(name, of)| Some((*name, of(values.find(name)?)))).collect();
        if let [(a, _), (b, _), ..] = named[..] {
            let (a, b) = (crate::settings::flag(a), crate::settings::flag(b));
            return Err(Error::usage(format!("{a} and {b} both set the weights of ce and kd: give one of them")));
        }
        for (_, Weights { ce, kd }) in named {
            settings.set_weight("ce", ce)?;
            settings.set_weight("kd", kd)?;
        }
        for text in values.find::<Vec<String>>("weight").unwrap_or_default() {
            let pair = text.split_once('=').and_then(|(name, weight)| Some((name, weight.parse::<f32>().ok()?)));
            let Some((name, weight)) = pair else {
                return Err(Error::usage(format!("--weight {text}: a term and a number, such as kd=0.9")));
            };
            settings.set_weight(name.trim(), weight)?;
        }
        for text in values.find::<Vec<String>>("layers").unwrap_or_default() {
            let (student, teacher) = text.split_once('=').unwrap_or((&text, &text));
            settings.layers.push((student.trim().into(), teacher.trim().into()));
        }
        settings.check(spec.name)?;
        Ok(settings)
    }

    /// The weight of every term, as `--weight` takes them.
    pub fn weights_text(&self) -> String {
        self.weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect::<Vec<_>>().join(",")
    }
}
