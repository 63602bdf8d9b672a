//! Recipes of the literature by name. A preset is a set of settings between the configuration file and the defaults: flags
//! and files win over it.

use super::config::Overrides;
use crate::continual::{Candidates, Herding, Rounding};
use crate::data::{Augmentation, Normalize};
use crate::error::{Error, Result};
use crate::models::Shortcut;
use crate::optim::{Decay, Kind};

/// A row of the table of presets.
pub struct Preset {
    /// As on the command line.
    pub name: &'static str,
    /// What it repeats, in one line.
    pub summary: &'static str,
    /// Where from.
    pub paper: &'static str,
    /// What differs from the paper and its code, and why.
    pub deviations: &'static [&'static str],
    settings: fn() -> Overrides,
}

/// Every preset.
pub static ALL: &[Preset] = &[Preset {
    name: "icarl-cifar100",
    summary: "iCIFAR-100, ten classes a task: ResNet-32, 70 epochs, SGD at 2.0, 2,000 exemplars",
    paper: "Rebuffi et al., CVPR 2017, and the authors' code",
    deviations: &[
        "the velocity holds gradients, not steps (as PyTorch's): they differ for some steps after the rate drops",
        "running statistics of batch norms are those of the variance; Lasagne averages the inverse deviation",
        "initial values and the order of images come from engram's own generator",
        "herding runs on features of the device in use, in f32, and adds them up in f64",
    ],
    settings: icarl_cifar100,
}];

fn icarl_cifar100() -> Overrides {
    Overrides {
        dataset: Some("cifar-100".into()),
        classes_per_task: Some(10),
        class_order: Some("icarl".into()),
        normalize: Some(Normalize::MeanImage),
        augment: Some(Augmentation::CropFlip),
        model: Some("resnet32".into()),
        shortcut: Some(Shortcut::A),
        last_relu: Some(false),
        bn_epsilon: Some(1e-4),
        memory: Some(2000),
        memory_rounding: Some(Rounding::Ceil),
        herding: Some(Herding::Original),
        candidates: Some(Candidates::All),
        epochs: Some(70),
        batch_size: Some(128),
        drop_last: Some(true),
        optimizer: Some(Kind::Sgd),
        lr: Some(2.0),
        lr_steps: Some(vec![49, 63]),
        lr_decay: Some(0.2),
        momentum: Some(0.9),
        reset_optimizer: Some(false),
        // The code adds 1e-5 · Σ w², whose gradient is 2e-5 · w.
        weight_decay: Some(2e-5),
        decay: Some(Decay::Weights),
        ..Overrides::default()
    }
}

/// The settings of the preset of this name.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn settings(name: &str) -> Result<Overrides> {
    let preset = ALL.iter().find(|preset| preset.name == name);
    preset.map(|preset| (preset.settings)()).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|preset| preset.name).collect();
        Error::usage(format!("unknown preset '{name}': there is {}", known.join(", ")))
    })
}
