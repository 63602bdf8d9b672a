//! What may be set about the place where something runs.

use super::Precision;
use crate::settings::{Kind, Setting, Values};

/// The rows of [`PlaceSettings`].
pub const PLACE: &[Setting] = &[
    Setting::new("device", "WHICH", Kind::Text, "auto, cpu, gpu, gpu:INDEX or gpu:NAME").usually("auto").place(),
    Setting::choice::<Precision>(
        "precision",
        "HOW",
        "How products are computed: full (f32), or mixed or split (from f16, where the adapter multiplies matrices of it)",
    )
    .usually("full"),
    Setting::whole("threads", "N", "CPU threads").between(1, MOST_THREADS).open("all").place(),
];

/// More are a mistake, and starting them takes all of a machine.
const MOST_THREADS: u64 = 4096;

/// Where something runs.
#[derive(Clone, Debug)]
pub struct PlaceSettings {
    /// What was asked for: auto, cpu, gpu, gpu:INDEX or gpu:NAME.
    pub device: String,
    /// How products are computed.
    pub precision: Precision,
    /// CPU threads; all if `None`.
    pub threads: Option<usize>,
}

impl PlaceSettings {
    /// Resolved values as what they mean.
    pub fn of(values: &Values) -> PlaceSettings {
        PlaceSettings {
            device: values.get("device"),
            precision: values.get("precision"),
            threads: values.find("threads"),
        }
    }
}
