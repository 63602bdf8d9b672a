//! Recipes of the literature by name. A preset is a set of settings between the configuration file and the defaults: flags
//! and files win over it.

use super::Overrides;
use crate::continual::{Candidates, Herding, OptionFlags, Rounding, Unseen};
use crate::data::{Augmentation, Normalize, Scenario};
use crate::error::{Error, Result, did_you_mean};
use crate::models::Shortcut;
use crate::optim::{Decay, Kind, Velocity};

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
pub static ALL: &[Preset] = &[
    ICARL_CIFAR100,
    Preset {
        name: "cil-mnist-cnn",
        summary: "Split MNIST, two classes a task, cnn: for finetune, lwf, icarl and joint",
        paper: "the distillation of Li & Hoiem, ECCV 2016, with Hinton et al.'s weights",
        deviations: &["a setting of engram's own: LwF is ½·CE + ½·T²·KL with T = 2"],
        settings: cil_mnist_cnn,
    },
    Preset {
        name: "cil-cifar10-vgg11-slim",
        summary: "Split CIFAR-10, two classes a task, vgg11-slim: for finetune, lwf, icarl and joint",
        paper: "the network of Aljundi et al., CVPR 2019",
        deviations: &["a setting of engram's own: LwF is ½·CE + ½·T²·KL with T = 2"],
        settings: cil_cifar10_vgg11_slim,
    },
    Preset {
        name: "der-cifar10",
        summary: "Split CIFAR-10, two classes a task: ResNet-18, 50 epochs, SGD, buffer 200: for er, der, der++",
        paper: "Buzzega et al., NeurIPS 2020, and the authors' best_args.py",
        deviations: DER_DEVIATIONS,
        settings: der_cifar10,
    },
    Preset {
        name: "der-cifar10-short",
        summary: "the same with a quarter of the channels, one epoch and a buffer of 500",
        paper: "Buzzega et al., NeurIPS 2020, shortened",
        deviations: DER_DEVIATIONS,
        settings: der_cifar10_short,
    },
    Preset {
        name: "til-cifar100-20",
        summary: "Split CIFAR-100, task-incremental, 20 tasks: reduced ResNet-18, one pass: for finetune, ewc, si, mas, lwf, a-gem",
        paper: "Chaudhry et al., ICLR 2019 (A-GEM)",
        deviations: TIL_DEVIATIONS,
        settings: til_cifar100_20,
    },
    Preset {
        name: "til-cifar100-10",
        summary: "the same in 10 tasks, ten passes over each, batches of 32",
        paper: "the network of Chaudhry et al., ICLR 2019",
        deviations: TIL_DEVIATIONS,
        settings: til_cifar100_10,
    },
];

const TIL_DEVIATIONS: &[&str] = &[
    "all tasks count; the paper chooses hyper-parameters on the first three and reports on the other 17",
    "weights of penalties and of distillation are the methods' defaults: engram tune METHOD --preset finds better ones",
    "batch norms are shared by all tasks, each with outputs of its own; images are neither cropped nor mirrored",
    "a reservoir of 1,300 images over all tasks; the paper keeps 13 of each class",
];

const DER_DEVIATIONS: &[&str] = &[
    "the rate is DER's 0.03 for all methods: the authors run ER with 0.1 (--lr 0.1), and DER with weights by buffer: \
     der 0.3; der++ 0.1 and 0.5 for 200, 0.2 and 0.5 for 500, 0.1 and 1 for 5120",
    "the cross-entropy runs over the classes seen so far, and samples are taken in during the first epoch only",
    "weights begin with the deviation √(2/fan-in); the authors' network has PyTorch's default, √(1/(3·fan-in)), which is 2.45 \
     times smaller",
    "initial values, the order of images and draws come from engram's own generator",
];

const ICARL_CIFAR100: Preset = Preset {
    name: "icarl-cifar100",
    summary: "iCIFAR-100, ten classes a task: ResNet-32, 70 epochs, SGD at 2.0, 2,000 exemplars",
    paper: "Rebuffi et al., CVPR 2017, and the authors' code",
    deviations: &[
        "running statistics of batch norms are those of the unbiased variance (n/(n − 1), here at most 1.0001); Lasagne \
         averages the inverse deviation",
        "initial values and the order of images come from engram's own generator",
        "herding runs on features of the device in use, in f32, and adds them up in f64",
    ],
    settings: icarl_cifar100,
};

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
        // With gradients, the jump of the rate from 0.08 to 2.0 at a new task would multiply what was kept by 25.
        velocity: Some(Velocity::Steps),
        reset_optimizer: Some(false),
        // The code adds 1e-5 · Σ w², whose gradient is 2e-5 · w.
        weight_decay: Some(2e-5),
        decay: Some(Decay::Weights),
        ..Overrides::default()
    }
}

/// LwF as α·CE + (1 − α)·T²·KL.
fn halves() -> OptionFlags {
    OptionFlags { ce_weight: Some(0.5), kd_weight: Some(0.5), temperature: Some(2.0), ..OptionFlags::default() }
}

fn cil_mnist_cnn() -> Overrides {
    Overrides {
        dataset: Some("mnist".into()),
        classes_per_task: Some(2),
        model: Some("cnn".into()),
        memory: Some(2000),
        epochs: Some(4),
        batch_size: Some(64),
        optimizer: Some(Kind::Adam),
        lr: Some(1e-3),
        weight_decay: Some(1e-4),
        options: halves(),
        ..Overrides::default()
    }
}

fn cil_cifar10_vgg11_slim() -> Overrides {
    Overrides {
        dataset: Some("cifar-10".into()),
        model: Some("vgg11-slim".into()),
        augment: Some(Augmentation::CropFlip),
        epochs: Some(10),
        ..cil_mnist_cnn()
    }
}

fn der_cifar10() -> Overrides {
    Overrides {
        dataset: Some("cifar-10".into()),
        classes_per_task: Some(2),
        augment: Some(Augmentation::CropFlip),
        model: Some("resnet18".into()),
        memory: Some(200),
        epochs: Some(50),
        batch_size: Some(32),
        optimizer: Some(Kind::Sgd),
        lr: Some(0.03),
        momentum: Some(0.0),
        weight_decay: Some(0.0),
        options: OptionFlags {
            mse_weight: Some(0.1),
            replay_weight: Some(0.5),
            replay_batch: Some(32),
            unseen: Some(Unseen::Compete),
            ..OptionFlags::default()
        },
        ..Overrides::default()
    }
}

fn der_cifar10_short() -> Overrides {
    let full = der_cifar10();
    Overrides {
        width: Some(0.25),
        memory: Some(500),
        epochs: Some(1),
        options: OptionFlags { mse_weight: Some(0.2), ..full.options },
        ..full
    }
}

/// 20 channels in place of 64: the reduced network of Lopez-Paz & Ranzato, 2017.
fn til_cifar100_20() -> Overrides {
    Overrides {
        dataset: Some("cifar-100".into()),
        scenario: Some(Scenario::Task),
        classes_per_task: Some(5),
        augment: Some(Augmentation::None),
        model: Some("resnet18".into()),
        width: Some(0.3125),
        memory: Some(1300),
        epochs: Some(1),
        batch_size: Some(10),
        optimizer: Some(Kind::Sgd),
        lr: Some(0.03),
        momentum: Some(0.0),
        weight_decay: Some(0.0),
        options: OptionFlags { replay_batch: Some(1300), ..OptionFlags::default() },
        ..Overrides::default()
    }
}

fn til_cifar100_10() -> Overrides {
    Overrides {
        classes_per_task: Some(10),
        epochs: Some(10),
        batch_size: Some(32),
        options: OptionFlags { replay_batch: Some(128), ..OptionFlags::default() },
        ..til_cifar100_20()
    }
}

/// The settings of the preset of this name. Options of methods are those of all that the preset is for: take
/// [`OptionFlags::only`] a method's own.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn settings(name: &str) -> Result<Overrides> {
    let preset = ALL.iter().find(|preset| preset.name == name);
    preset.map(|preset| (preset.settings)()).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|preset| preset.name).collect();
        Error::usage(format!("unknown preset '{name}': there are {}{}", known.join(", "), did_you_mean(name, &known)))
    })
}
