//! The layers of a network with the shapes between them, which other programs must be told.

use super::super::Network;
use crate::nn::{Builder, LayerSpec};

/// What leaves a layer for one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Value {
    /// Channels, height, width; a vector is (D, 1, 1).
    pub shape: [usize; 3],
    /// Whether it is an image of channels, and no vector.
    pub is_map: bool,
}

/// How the value of a slot is added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Add {
    /// It has the same shape.
    Same,
    /// Every `stride`-th pixel of it, between so many channels of zeros.
    Subsampled { stride: usize, before: usize, after: usize },
}

/// A layer with what arrives and leaves.
pub(super) struct Step {
    pub spec: LayerSpec,
    pub arrives: Value,
    pub leaves: Value,
    /// Of a batch norm: which slot is added, and how.
    pub add: Option<(usize, Add)>,
}

/// The layers of a network, marks for people left in.
pub(super) fn steps(network: &Network) -> Vec<Step> {
    let mut builder = Builder::new(network.input);
    let mut value = Value { shape: network.input, is_map: true };
    let mut slots: Vec<Value> = Vec::new();
    let list = &network.list().layers;
    let mut steps = Vec::new();
    for (i, spec) in list.iter().enumerate() {
        let mut spec = spec.clone();
        if let LayerSpec::Linear { outputs, .. } = &mut spec
            && i + 1 == list.len()
        {
            *outputs = Some(network.n_outputs);
        }
        builder.push(spec.clone());
        let arrives = value;
        value.shape = builder.shape;
        let mut add = None;
        match spec {
            LayerSpec::GlobalAvgPool {} | LayerSpec::Linear { .. } | LayerSpec::Feature {} => value.is_map = false,
            LayerSpec::Keep { slot } => {
                slots.resize(slots.len().max(slot + 1), value);
                slots[slot] = value;
            }
            LayerSpec::Resume { slot } => value = slots[slot],
            LayerSpec::BatchNorm { add: Some(slot), .. } => add = Some((slot, how(slots[slot], value))),
            _ => {}
        }
        steps.push(Step { spec, arrives, leaves: value, add });
    }
    debug_assert!(builder.refusal.is_none(), "bug: a network of layers that do not fit");
    steps
}

/// As `ops::residual_fits` has it.
fn how(kept: Value, sum: Value) -> Add {
    if kept == sum {
        return Add::Same;
    }
    let ([kept_c, kept_h, kept_w], [c, h, w]) = (kept.shape, sum.shape);
    let before = (c - kept_c) / 2;
    Add::Subsampled { stride: kept_h.div_ceil(h).max(kept_w.div_ceil(w)), before, after: c - kept_c - before }
}
