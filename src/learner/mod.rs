//! Floor 6: what looks at pictures and remembers them, with or without training.
//!
//! A [`Subject`] is a network with the one way that pictures take into it. An [`ImageStore`] owns the pictures it keeps. The
//! classifiers of [`frozen`] learn from features alone: statistics of what was seen, out of which a picture can be taken again.

mod backbones;
pub mod frozen;
mod store;
mod subject;

pub use backbones::{BACKBONES, BackboneSpec};
pub use store::ImageStore;
pub use subject::Subject;
