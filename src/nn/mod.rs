//! Floor 3: parameters in one flat buffer, running statistics in another, and layers over them.

mod builder;
mod layer;
mod layer_spec;
mod loss;
mod parameters;
mod statistics;

pub use builder::{Builder, LayerInfo};
pub use layer::{Layer, MOMENTUM, Output, OutputKind, Pass, Place, Tap, forward};
pub use layer_spec::{LayerSpec, Start};
pub use loss::{Loss, Term};
pub use parameters::{Init, Parameter, Parameters, backward};
pub use statistics::Statistics;
