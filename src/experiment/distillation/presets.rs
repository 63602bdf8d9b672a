//! Distillations with names. Flags win over a preset.

use super::config::rows;
use crate::error::{Error, Result, did_you_mean};
use crate::settings::{Origin, Values};

/// A row of the table of presets.
pub struct DistillPreset {
    /// As on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Another preset whose settings hold where this one says nothing.
    base: Option<&'static str>,
    settings: &'static [(&'static str, &'static str)],
}

/// Every preset.
pub static ALL: &[DistillPreset] = &[
    DistillPreset {
        name: "kd-mnist",
        summary: "MNIST: cnn on all images teaches an mlp with 1,000 labelled images; 5 pairs, 40 epochs",
        base: None,
        settings: KD_MNIST,
    },
    DistillPreset {
        name: "kd-mnist-narrow-40",
        summary: "the same with 32 hidden units, 40 epochs: a small student gains less at first, and loses with --epochs 10",
        base: Some("kd-mnist"),
        settings: &[("student_width", "0.125")],
    },
    DistillPreset {
        name: "kd-mnist-narrow-200",
        summary: "the same with 32 hidden units, 200 epochs: what a longer training makes of it",
        base: Some("kd-mnist-narrow-40"),
        settings: &[("epochs", "200")],
    },
    DistillPreset {
        name: "kd-cifar10-vgg11-slim",
        summary: "CIFAR-10: resnet18 teaches vgg11-slim; 3 pairs, 60 epochs",
        base: None,
        settings: KD_CIFAR10_VGG11_SLIM,
    },
    DistillPreset {
        name: "kd-cifar10-vgg11-slim-short",
        summary: "the same at a quarter of the width, 5 epochs",
        base: Some("kd-cifar10-vgg11-slim"),
        settings: SHORTENED,
    },
    DistillPreset {
        name: "lab5-response",
        summary: "CIFAR-10: resnet34 teaches resnet18 by its outputs; 3 pairs, 200 epochs",
        base: None,
        settings: LAB5_RESPONSE,
    },
    DistillPreset {
        name: "lab5-response-short",
        summary: "the same at a quarter of the width, 5 epochs",
        base: Some("lab5-response"),
        settings: SHORTENED,
    },
    DistillPreset {
        name: "lab5-feature",
        summary: "CIFAR-10: resnet34 teaches resnet18 by the features of its second stage; 3 pairs, 200 epochs",
        base: Some("lab5-response"),
        settings: LAB5_FEATURE,
    },
    DistillPreset {
        name: "lab5-feature-short",
        summary: "the same at a quarter of the width, 5 epochs",
        base: Some("lab5-feature"),
        settings: SHORTENED,
    },
];

const KD_MNIST: &[(&str, &str)] = &[
    ("dataset", "mnist"),
    ("teacher", "cnn"),
    ("student", "mlp"),
    ("limit", "1000"),
    ("epochs", "40"),
    ("batch_size", "50"),
    ("optimizer", "adam"),
    ("lr", "1e-3"),
    ("teacher_epochs", "3"),
    ("teacher_batch_size", "64"),
    ("seeds", "5"),
];

/// kuangliu's recipe for residual networks on CIFAR.
const LAB5_RESPONSE: &[(&str, &str)] = &[
    ("scheme", "hinton"),
    ("teacher", "resnet34"),
    ("student", "resnet18"),
    ("dataset", "cifar-10"),
    ("epochs", "200"),
    ("batch_size", "128"),
    ("optimizer", "sgd"),
    ("lr", "0.1"),
    ("weight_decay", "5e-4"),
    ("teacher_epochs", "200"),
    ("teacher_batch_size", "128"),
    ("seeds", "3"),
];

/// At this rate a linear regressor diverges under the scheme's weight of 100, whose source has half the rate and a batch norm
/// behind the regressor.
const LAB5_FEATURE: &[(&str, &str)] = &[("scheme", "fitnets"), ("layers", "stage2"), ("weight", "hint=10")];

const KD_CIFAR10_VGG11_SLIM: &[(&str, &str)] = &[
    ("teacher", "resnet18"),
    ("student", "vgg11-slim"),
    ("dataset", "cifar-10"),
    ("epochs", "60"),
    ("batch_size", "128"),
    ("optimizer", "sgd"),
    // Without batch norm a rate of 0.1 diverges.
    ("lr", "0.01"),
    ("weight_decay", "5e-4"),
    ("teacher_lr", "0.1"),
    ("teacher_epochs", "60"),
    ("teacher_batch_size", "128"),
    ("seeds", "3"),
];

const SHORTENED: &[(&str, &str)] =
    &[("teacher_width", "0.25"), ("student_width", "0.25"), ("epochs", "5"), ("teacher_epochs", "5")];

/// The settings of the preset of this name.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn settings(name: &str) -> Result<Values> {
    let Some(preset) = ALL.iter().find(|preset| preset.name == name) else {
        let known: Vec<&str> = ALL.iter().map(|preset| preset.name).collect();
        let message = format!("unknown preset '{name}': there are {}{}", known.join(", "), did_you_mean(name, &known));
        return Err(Error::usage(message));
    };
    let own = Values::of(&rows(), preset.settings, &Origin::Preset(name.into()))?;
    match preset.base {
        Some(base) => Ok(own.or(settings(base)?)),
        None => Ok(own),
    }
}
