//! Floor 3: parameters in one flat buffer, running statistics in another, and layers over them.

mod layer;
mod parameters;
mod statistics;

pub use layer::{Builder, Layer, LayerInfo, Output, forward};
pub use parameters::{Init, Parameter, Parameters};
pub use statistics::Statistics;
