//! Floor 3: parameters in one flat buffer, and layers over them.

mod layer;
mod parameters;

pub use layer::{Builder, Layer, Output};
pub use parameters::{Parameter, Parameters};
