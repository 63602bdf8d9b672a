//! Recipes of the literature by name. A preset is a set of settings between the configuration file and the defaults: flags
//! and files win over it.

use super::every_row;
use crate::error::{Result, by_name};
use crate::settings::{Origin, Setting, Values};

/// A row of a table of presets.
pub struct Preset {
    /// As on the command line.
    pub name: &'static str,
    /// What it repeats, in one line.
    pub summary: &'static str,
    /// Where from.
    pub paper: &'static str,
    /// What differs from the paper and its code, and why.
    pub deviations: &'static [&'static str],
    /// Another preset whose settings hold where this one says nothing.
    pub base: Option<&'static str>,
    /// Names and values.
    pub settings: &'static [(&'static str, &'static str)],
}

impl Preset {
    /// Its settings and those of the presets that it stands on, which are of the same table.
    pub(super) fn values(&self, table: &[Preset], rows: &[&'static Setting]) -> Result<Values> {
        let own = Values::of(rows, self.settings, &Origin::Preset(self.name.into()))?;
        match self.base {
            Some(base) => Ok(own.or(by_name("preset", base, table, |preset| preset.name)?.values(table, rows)?)),
            None => Ok(own),
        }
    }
}

/// Every preset of runs.
pub static ALL: &[Preset] = &[
    ICARL_CIFAR100,
    Preset {
        name: "cil-mnist-cnn",
        summary: "Split MNIST, two classes a task, cnn: for finetune, lwf, icarl and joint",
        paper: "the distillation of Li & Hoiem, ECCV 2016, with Hinton et al.'s weights",
        deviations: &["a setting of engram's own: LwF is ½·CE + ½·T²·KL with T = 2"],
        base: None,
        settings: CIL_MNIST_CNN,
    },
    Preset {
        name: "cil-cifar10-vgg11-slim",
        summary: "Split CIFAR-10, two classes a task, vgg11-slim: for finetune, lwf, icarl and joint",
        paper: "the network of Aljundi et al., CVPR 2019",
        deviations: &["a setting of engram's own: LwF is ½·CE + ½·T²·KL with T = 2"],
        base: Some("cil-mnist-cnn"),
        settings: CIL_CIFAR10_VGG11_SLIM,
    },
    Preset {
        name: "der-cifar10",
        summary: "Split CIFAR-10, two classes a task: ResNet-18, 50 epochs, SGD, buffer 200: for er, der, der++",
        paper: "Buzzega et al., NeurIPS 2020, and the authors' best_args.py",
        deviations: DER_DEVIATIONS,
        base: None,
        settings: DER_CIFAR10,
    },
    Preset {
        name: "der-cifar10-short",
        summary: "the same with a quarter of the channels, one epoch and a buffer of 500",
        paper: "Buzzega et al., NeurIPS 2020, shortened",
        deviations: DER_DEVIATIONS,
        base: Some("der-cifar10"),
        settings: DER_CIFAR10_SHORT,
    },
    Preset {
        name: "til-cifar100-20",
        summary: "Split CIFAR-100, task-incremental, 20 tasks: reduced ResNet-18, one pass: for finetune, ewc, si, mas, lwf, a-gem",
        paper: "Chaudhry et al., ICLR 2019 (A-GEM)",
        deviations: TIL_DEVIATIONS,
        base: None,
        settings: TIL_CIFAR100_20,
    },
    Preset {
        name: "til-cifar100-10",
        summary: "the same in 10 tasks, ten passes over each, batches of 32",
        paper: "the network of Chaudhry et al., ICLR 2019",
        deviations: TIL_DEVIATIONS,
        base: Some("til-cifar100-20"),
        settings: TIL_CIFAR100_10,
    },
    Preset {
        name: "vdfd-cifar100-10",
        summary: "Split CIFAR-100, task-incremental, 10 tasks: PreAct-ResNet-18, Adam, 80 epochs: for vdfd, dfd, adam-nscl, ewc, \
                  lwf and others",
        paper: "Li et al., TPAMI 2023, and the authors' code",
        deviations: VDFD_DEVIATIONS,
        base: None,
        settings: VDFD_CIFAR100_10,
    },
    Preset {
        name: "vdfd-cifar100-10-short",
        summary: "its first five tasks with 20 channels and 10 epochs, in batches of 64",
        paper: "Li et al., TPAMI 2023, shortened",
        deviations: VDFD_DEVIATIONS,
        base: Some("vdfd-cifar100-10"),
        settings: VDFD_SHORT,
    },
    Preset {
        name: "vdfd-cifar100-20",
        summary: "the same in 20 tasks, with half the weight on the regulariser",
        paper: "Li et al., TPAMI 2023, and the authors' code",
        deviations: VDFD_DEVIATIONS,
        base: Some("vdfd-cifar100-10"),
        settings: VDFD_CIFAR100_20,
    },
    Preset {
        name: "vdfd-cifar100-20-short",
        summary: "its first five tasks with 20 channels and 10 epochs, in batches of 64",
        paper: "Li et al., TPAMI 2023, shortened",
        deviations: VDFD_DEVIATIONS,
        base: Some("vdfd-cifar100-20"),
        settings: VDFD_SHORT,
    },
];

const VDFD_DEVIATIONS: &[&str] = &[
    "rates, penalties and λ are VDFD's; engram reproduce vdfd-cifar100-10 has those of dfd and adam-nscl beside it",
    "hyper-parameters with rotations are not published: those without are taken",
    "weights begin with the deviation √(2/fan-in); the authors' network has PyTorch's default, √(1/(3·fan-in))",
    "initial values, the order of images and draws come from engram's own generator",
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
    "samples are taken in during the first epoch only",
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
         averages the inverse deviation: in the first task of a shortened run (two seeds) that answers 1.1 and 0.5 points fewer \
         right by means of exemplars (within chance), and as many by the network's outputs",
        "initial values and the order of images come from engram's own generator",
        "herding runs on features of the device in use, in f32, and adds them up in f64",
    ],
    base: None,
    settings: ICARL_CIFAR100_SETTINGS,
};

const ICARL_CIFAR100_SETTINGS: &[(&str, &str)] = &[
    ("dataset", "cifar-100"),
    ("classes_per_task", "10"),
    ("class_order", "icarl"),
    ("normalize", "mean-image"),
    ("augment", "crop-flip"),
    ("model", "resnet32"),
    ("shortcut", "a"),
    ("last_relu", "false"),
    ("bn_epsilon", "1e-4"),
    ("memory", "2000"),
    ("memory_rounding", "ceil"),
    ("herding", "original"),
    ("candidates", "all"),
    ("epochs", "70"),
    ("batch_size", "128"),
    ("drop_last", "true"),
    ("optimizer", "sgd"),
    ("lr", "2"),
    ("lr_steps", "49,63"),
    ("lr_decay", "0.2"),
    ("momentum", "0.9"),
    // With gradients, the jump of the rate from 0.08 to 2.0 at a new task would multiply what was kept by 25.
    ("velocity", "steps"),
    ("reset_optimizer", "false"),
    // The code adds 1e-5 · Σ w², whose gradient is 2e-5 · w.
    ("weight_decay", "2e-5"),
    ("decay", "weights"),
];

const CIL_MNIST_CNN: &[(&str, &str)] = &[
    ("dataset", "mnist"),
    ("classes_per_task", "2"),
    ("model", "cnn"),
    ("memory", "2000"),
    ("epochs", "4"),
    ("batch_size", "64"),
    ("optimizer", "adam"),
    ("lr", "1e-3"),
    ("weight_decay", "1e-4"),
    // LwF as α·CE + (1 − α)·T²·KL.
    ("ce_weight", "0.5"),
    ("kd_weight", "0.5"),
    ("temperature", "2"),
];

const CIL_CIFAR10_VGG11_SLIM: &[(&str, &str)] =
    &[("dataset", "cifar-10"), ("model", "vgg11-slim"), ("augment", "crop-flip"), ("epochs", "10")];

const DER_CIFAR10: &[(&str, &str)] = &[
    ("dataset", "cifar-10"),
    ("classes_per_task", "2"),
    ("augment", "crop-flip"),
    ("model", "resnet18"),
    ("memory", "200"),
    ("epochs", "50"),
    ("batch_size", "32"),
    ("optimizer", "sgd"),
    ("lr", "0.03"),
    ("momentum", "0"),
    ("weight_decay", "0"),
    ("mse_weight", "0.1"),
    ("replay_weight", "0.5"),
    ("replay_batch", "32"),
    ("unseen", "compete"),
];

const DER_CIFAR10_SHORT: &[(&str, &str)] =
    &[("width", "0.25"), ("memory", "500"), ("epochs", "1"), ("mse_weight", "0.2")];

/// 20 channels in place of 64: the reduced network of Lopez-Paz & Ranzato, 2017.
const TIL_CIFAR100_20: &[(&str, &str)] = &[
    ("dataset", "cifar-100"),
    ("scenario", "task"),
    ("classes_per_task", "5"),
    ("augment", "none"),
    ("model", "resnet18"),
    ("width", "0.3125"),
    ("memory", "1300"),
    ("epochs", "1"),
    ("batch_size", "10"),
    ("optimizer", "sgd"),
    ("lr", "0.03"),
    ("momentum", "0"),
    ("weight_decay", "0"),
    ("replay_batch", "1300"),
];

const TIL_CIFAR100_10: &[(&str, &str)] =
    &[("classes_per_task", "10"), ("epochs", "10"), ("batch_size", "32"), ("replay_batch", "128")];

const VDFD_CIFAR100_10: &[(&str, &str)] = &[
    ("dataset", "cifar-100"),
    ("scenario", "task"),
    ("classes_per_task", "10"),
    ("augment", "crop-flip"),
    ("model", "preact-resnet18"),
    ("epochs", "80"),
    ("batch_size", "32"),
    ("optimizer", "adam"),
    ("lr", "1e-4"),
    ("head_lr", "5e-3"),
    ("lr_steps", "30,60"),
    ("lr_decay", "0.5"),
    ("weight_decay", "5e-4"),
    ("decay", "all"),
    ("memory", "1300"),
    ("reg_weight", "10"),
    ("relation_lr", "7e-4"),
    ("relation_decay", "5e-4"),
    ("log_det_epsilon", "1e-3"),
];

const VDFD_CIFAR100_20: &[(&str, &str)] = &[("classes_per_task", "5"), ("reg_weight", "5"), ("null_space", "30")];

/// 20 channels in place of 64, and a rate for training that short.
const VDFD_SHORT: &[(&str, &str)] = &[
    ("max_tasks", "5"),
    ("width", "0.3125"),
    ("epochs", "10"),
    ("batch_size", "64"),
    ("lr", "1e-3"),
    ("lr_steps", "4,8"),
    ("jacobian_samples", "512"),
    ("covariance_samples", "1024"),
];

/// The settings of the preset of this name: those of all methods that it is for.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn settings(name: &str) -> Result<Values> {
    by_name("preset", name, ALL, |preset| preset.name)?.values(ALL, &every_row())
}
