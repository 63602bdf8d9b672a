//! Distillations with names. Flags win over a preset.

use super::overrides::DistillOverrides;
use crate::error::{Error, Result, did_you_mean};
use crate::optim::Kind;

/// A row of the table of presets.
pub struct DistillPreset {
    /// As on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    settings: fn() -> DistillOverrides,
}

/// Every preset.
pub static ALL: &[DistillPreset] = &[
    DistillPreset {
        name: "kd-mnist",
        summary: "MNIST: cnn on all images teaches an mlp with 1,000 labelled images; 5 pairs, 40 epochs",
        settings: kd_mnist,
    },
    DistillPreset {
        name: "kd-mnist-narrow-40",
        summary: "the same with 32 hidden units, 40 epochs: a small student gains less at first, and loses with --epochs 10",
        settings: || DistillOverrides { student_width: Some(0.125), ..kd_mnist() },
    },
    DistillPreset {
        name: "kd-mnist-narrow-200",
        summary: "the same with 32 hidden units, 200 epochs: what a longer training makes of it",
        settings: || DistillOverrides { student_width: Some(0.125), epochs: Some(200), ..kd_mnist() },
    },
    DistillPreset {
        name: "kd-cifar10-vgg11-slim",
        summary: "CIFAR-10: resnet18 teaches vgg11-slim; 3 pairs, 60 epochs",
        settings: kd_cifar10_vgg11_slim,
    },
    DistillPreset {
        name: "kd-cifar10-vgg11-slim-short",
        summary: "the same at a quarter of the width, 5 epochs",
        settings: || shortened(kd_cifar10_vgg11_slim()),
    },
    DistillPreset {
        name: "lab5-response",
        summary: "CIFAR-10: resnet34 teaches resnet18 by its outputs; 3 pairs, 200 epochs",
        settings: || lab5("hinton"),
    },
    DistillPreset {
        name: "lab5-response-short",
        summary: "the same at a quarter of the width, 5 epochs",
        settings: || shortened(lab5("hinton")),
    },
    DistillPreset {
        name: "lab5-feature",
        summary: "CIFAR-10: resnet34 teaches resnet18 by the features of its second stage; 3 pairs, 200 epochs",
        settings: lab5_feature,
    },
    DistillPreset {
        name: "lab5-feature-short",
        summary: "the same at a quarter of the width, 5 epochs",
        settings: || shortened(lab5_feature()),
    },
];

fn kd_mnist() -> DistillOverrides {
    DistillOverrides {
        dataset: Some("mnist".into()),
        teacher: Some(vec!["cnn".into()]),
        student: Some("mlp".into()),
        limit: Some(1000),
        epochs: Some(40),
        batch_size: Some(50),
        optimizer: Some(Kind::Adam),
        lr: Some(1e-3),
        teacher_epochs: Some(3),
        teacher_batch_size: Some(64),
        seeds: Some(5),
        ..DistillOverrides::default()
    }
}

/// kuangliu's recipe for residual networks on CIFAR.
fn cifar10() -> DistillOverrides {
    DistillOverrides {
        dataset: Some("cifar-10".into()),
        epochs: Some(200),
        batch_size: Some(128),
        optimizer: Some(Kind::Sgd),
        lr: Some(0.1),
        weight_decay: Some(5e-4),
        teacher_epochs: Some(200),
        teacher_batch_size: Some(128),
        seeds: Some(3),
        ..DistillOverrides::default()
    }
}

fn lab5(scheme: &str) -> DistillOverrides {
    DistillOverrides {
        scheme: Some(scheme.into()),
        teacher: Some(vec!["resnet34".into()]),
        student: Some("resnet18".into()),
        ..cifar10()
    }
}

/// At this rate a linear regressor diverges under the scheme's weight of 100, whose source has half the rate and a batch norm
/// behind the regressor.
fn lab5_feature() -> DistillOverrides {
    let weight = Some(vec!["hint=10".into()]);
    DistillOverrides { layers: Some(vec!["stage2".into()]), weight, ..lab5("fitnets") }
}

fn kd_cifar10_vgg11_slim() -> DistillOverrides {
    DistillOverrides {
        teacher: Some(vec!["resnet18".into()]),
        student: Some("vgg11-slim".into()),
        epochs: Some(60),
        // Without batch norm a rate of 0.1 diverges.
        lr: Some(0.01),
        teacher_lr: Some(0.1),
        teacher_epochs: Some(60),
        ..cifar10()
    }
}

fn shortened(full: DistillOverrides) -> DistillOverrides {
    DistillOverrides {
        teacher_width: Some(0.25),
        student_width: Some(0.25),
        epochs: Some(5),
        teacher_epochs: Some(5),
        ..full
    }
}

/// The settings of the preset of this name.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn settings(name: &str) -> Result<DistillOverrides> {
    ALL.iter().find(|preset| preset.name == name).map(|preset| (preset.settings)()).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|preset| preset.name).collect();
        Error::usage(format!("unknown preset '{name}': there are {}{}", known.join(", "), did_you_mean(name, &known)))
    })
}
