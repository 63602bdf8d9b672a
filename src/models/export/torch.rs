//! A folder for PyTorch: a module as source text, and its numbers as safetensors.

use super::{Export, Head, blocks};
use crate::error::{Error, Result};
use crate::nn::LayerSpec;
use safetensors::tensor::{Dtype, TensorView};

const IMPORTS: &str = r#"from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

"#;

const LOAD: &str = r#"def load(folder=Path(__file__).parent):
    """The model with the numbers of model.safetensors (the network) and head.safetensors (all else)."""
    model = Model()
    network = {"network." + name: value for name, value in load_file(Path(folder) / "model.safetensors").items()}
    model.load_state_dict({**network, **load_file(Path(folder) / "head.safetensors")})
    return model.eval()
"#;

/// `model.py`, `model.safetensors` and `head.safetensors`.
pub(super) fn files(export: &Export) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let network = network_tensors(export)?;
    let head = serialize(head_tensors(export).iter().map(|(name, shape, values)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
        (*name, view.expect("bug: a head whose size is not its shape's"))
    }))?;
    Ok(vec![("model.py", source(export)?.into_bytes()), ("model.safetensors", network), ("head.safetensors", head)])
}

fn serialize<'a>(
    views: impl Iterator<Item = (impl AsRef<str> + Ord + std::fmt::Display, TensorView<'a>)>,
) -> Result<Vec<u8>> {
    safetensors::serialize(views, None).map_err(|e| Error::Training(format!("the weights cannot be serialised: {e}")))
}

/// The network's, with the counter of batches that PyTorch's batch norms have beside their statistics.
fn network_tensors(export: &Export) -> Result<Vec<u8>> {
    let parameters = export.network.parameters.to_host()?;
    let statistics = export.network.statistics.to_host()?;
    let mut all: Vec<(String, Dtype, Vec<usize>, &[u8])> = Vec::new();
    for (name, shape, values) in &parameters {
        all.push((name.to_string(), Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values)));
    }
    for (name, values) in &statistics {
        all.push((name.clone(), Dtype::F32, vec![values.len()], bytemuck::cast_slice(values)));
    }
    for layer in &export.network.list().layers {
        if let LayerSpec::BatchNorm { name, .. } = layer {
            all.push((format!("{name}.num_batches_tracked"), Dtype::I64, vec![], &[0; 8]));
        }
    }
    serialize(all.into_iter().map(|(name, kind, shape, bytes)| {
        (name, TensorView::new(kind, shape, bytes).expect("bug: a parameter whose size is not its shape's"))
    }))
}

/// Buffers of `Model` beside its network.
fn head_tensors<'a>(export: &'a Export) -> Vec<(&'static str, Vec<usize>, &'a [f32])> {
    let mut all = export.head_tensors();
    all.push(("mean", export.mean_shape().to_vec(), &export.mean));
    all.push(("std", vec![export.std.len(), 1, 1], &export.std));
    all
}

/// The content of `model.py`.
fn source(export: &Export) -> Result<String> {
    let ([c, h, w], title, classes) = (export.network.input, export.title(), export.class_names());
    let meaning = match export.head {
        Head::Network => "the network's outputs",
        Head::Linear { .. } => "a linear classifier's outputs",
        Head::NearestMean { .. } => "distances to class means, negative",
        Head::Mahalanobis { .. } => "squared distances to class means by each class's own covariance, negative",
        Head::Ranpac { .. } => "ridge regression on randomly projected features",
    };
    Ok(format!(
        "\"\"\"{title}.\n\n    \
         from model import CLASSES, load\n    \
         model = load()\n    \
         features, logits, scores = model(images)  # float32, N x {c} x {h} x {w}, 0 to 1\n    \
         print([CLASSES[i] for i in scores.argmax(1)])\n\n\
         Scores: {meaning}; the largest is the answer.\n\"\"\"\n\
         {IMPORTS}CLASSES = {classes}\n\n\n{}\n\n{}\n\n{LOAD}",
        blocks::source(export.network, export.quarters)?,
        model_class(export),
    ))
}

/// The class around the network.
fn model_class(export: &Export) -> String {
    let buffers: String = head_tensors(export)
        .iter()
        .map(|(name, shape, _)| {
            let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
            format!("        self.register_buffer(\"{name}\", torch.zeros({}))\n", shape.join(", "))
        })
        .collect();
    let run = match (export.mirrored, export.quarters.is_some()) {
        (false, false) => "        features, logits = self.network(x)\n",
        (true, false) => {
            "        both = zip(self.network(x), self.network(x.flip(3)))  # a picture and its mirror image\n        \
             features, logits = ((a + b) / 2 for a, b in both)\n"
        }
        (false, true) => {
            "        features, logits, stage = self.network(x)\n        \
             quarters = F.adaptive_avg_pool2d(stage, 2)\n"
        }
        (true, true) => {
            "        a, b = self.network(x), self.network(x.flip(3))  # a picture and its mirror image\n        \
             features, logits = (a[0] + b[0]) / 2, (a[1] + b[1]) / 2\n        \
             quarters = F.adaptive_avg_pool2d(a[2], 2) + F.adaptive_avg_pool2d(b[2], 2).flip(3)\n"
        }
    };
    let (x, joined) = match export.quarters {
        None => ("features", ""),
        Some(_) => ("x", "        x = torch.cat([F.normalize(features), F.normalize(quarters.flatten(1))], 1)\n"),
    };
    let x = if export.unit_length { format!("F.normalize({x})") } else { x.to_string() };
    let scores = match export.head {
        Head::Network => format!("logits[:, : {}]", export.classes.len()),
        Head::Linear { .. } => format!("F.linear({x}, self.weight, self.bias)"),
        Head::NearestMean { .. } => {
            format!("-torch.cdist({x}, self.means, compute_mode=\"donot_use_mm_for_euclid_dist\")")
        }
        Head::Mahalanobis { .. } => {
            format!("-(self.offsets({x}) @ self.factors).square().sum((2, 3))")
        }
        Head::Ranpac { .. } => format!("F.linear(F.relu(F.linear({x}, self.projection)), self.weight)"),
    };
    let offsets = match export.head {
        Head::Mahalanobis { .. } => {
            "\n    def offsets(self, features):\n        x = features.sign() * features.abs().sqrt()\n        \
             return (x[:, None] - self.means)[:, :, None]  # N x classes x 1 x D\n"
        }
        _ => "",
    };
    format!(
        "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n        \
         self.network = Network()\n{buffers}{offsets}\n    def forward(self, images):\n        \
         x = (images - self.mean) / self.std\n{run}{joined}        return features, logits, {scores}\n"
    )
}
