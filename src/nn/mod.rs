//! Floor 3: parameters in one flat buffer, running statistics in another, and layers over them.

mod layer;
mod loss;
mod parameters;
mod statistics;

pub use layer::{Builder, Layer, LayerInfo, Output, Place, Tap, forward, forward_with};
pub use loss::{Loss, Term};
pub use parameters::{Init, Parameter, Parameters, backward};
pub use statistics::Statistics;
