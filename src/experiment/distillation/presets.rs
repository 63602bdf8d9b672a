//! Distillations with names. Flags win over a preset.

use super::config::rows;
use super::results::{Arm, DistillResults};
use crate::error::{Result, by_name};
use crate::experiment::presets::Preset;
use crate::settings::Values;

/// A published accuracy.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// As the source calls it.
    pub called: &'static str,
    /// Which of ours it is compared with.
    pub figure: Figure,
    /// In percent.
    pub percent: f64,
    /// Where it is from.
    pub source: &'static str,
}

/// An accuracy of a distillation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The teacher's.
    Teacher,
    /// Of students from labels alone.
    Scratch,
    /// Of students by the scheme.
    Distilled,
    /// Of what answers beside them, by its name.
    Other(&'static str),
}

/// A published figure beside the measured one.
#[derive(Clone, Debug)]
pub struct LedgerRow {
    /// What was published.
    pub published: Published,
    /// Mean and standard deviation over pairs, as fractions; `None` where this was not measured.
    pub measured: Option<(f64, f64)>,
}

/// Figures of the literature for the preset of this name: none for most.
pub fn published(preset: &str) -> &'static [Published] {
    PUBLISHED.iter().find(|(name, _)| *name == preset).map_or(&[], |(_, figures)| figures)
}

/// The published figures of a preset beside those of a distillation.
pub fn ledger(preset: &str, results: &DistillResults) -> Vec<LedgerRow> {
    let comparisons = results.comparisons();
    let first = comparisons.first();
    let of = |published: &Published| match published.figure {
        Figure::Teacher => results.teacher_accuracy.map(|accuracy| (accuracy, 0.0)),
        Figure::Scratch => Some(first?.mean_sd(Arm::Scratch, |student| student.accuracy)),
        Figure::Distilled => Some(first?.mean_sd(Arm::Distilled, |student| student.accuracy)),
        Figure::Other(name) => {
            let others = first?.others(|other| other.accuracy);
            others.into_iter().find(|(other, ..)| other.name == name).map(|(_, mean, sd)| (mean, sd))
        }
    };
    published(preset).iter().map(|published| LedgerRow { published: *published, measured: of(published) }).collect()
}

/// The same as a file.
pub fn ledger_csv(rows: &[LedgerRow]) -> String {
    let mut csv = String::from("figure,published,measured,sd,difference,source\n");
    for LedgerRow { published: Published { called, percent, source, .. }, measured } in rows {
        let numbers = measured.map_or(",,".into(), |(mean, sd)| {
            format!("{:.2},{:.2},{:+.2}", 100.0 * mean, 100.0 * sd, 100.0 * mean - percent)
        });
        csv += &format!("\"{called}\",{percent},{numbers},\"{source}\"\n");
    }
    csv
}

/// Every preset of distillation.
pub static ALL: &[Preset] = &[
    Preset {
        name: "kd-mnist",
        summary: "MNIST: cnn on all images teaches an mlp with 1,000 labelled images; 5 pairs, 40 epochs",
        paper: "Hinton, Vinyals and Dean, 2015",
        deviations: OWN,
        base: None,
        settings: KD_MNIST,
    },
    Preset {
        name: "kd-mnist-narrow-40",
        summary: "the same with 32 hidden units, 40 epochs: a small student gains less at first, and loses with --epochs 10",
        paper: "Hinton, Vinyals and Dean, 2015",
        deviations: OWN,
        base: Some("kd-mnist"),
        settings: &[("student_width", "0.125")],
    },
    Preset {
        name: "kd-mnist-narrow-200",
        summary: "the same with 32 hidden units, 200 epochs: what a longer training makes of it",
        paper: "Hinton, Vinyals and Dean, 2015",
        deviations: OWN,
        base: Some("kd-mnist-narrow-40"),
        settings: &[("epochs", "200")],
    },
    Preset {
        name: "kd-cifar10-vgg11-slim",
        summary: "CIFAR-10: resnet18 teaches vgg11-slim; 3 pairs, 60 epochs",
        paper: "Hinton, Vinyals and Dean, 2015",
        deviations: OWN,
        base: None,
        settings: KD_CIFAR10_VGG11_SLIM,
    },
    Preset {
        name: "kd-cifar10-vgg11-slim-short",
        summary: "the same at a quarter of the width, 5 epochs",
        paper: "Hinton, Vinyals and Dean, 2015",
        deviations: OWN,
        base: Some("kd-cifar10-vgg11-slim"),
        settings: SHORTENED,
    },
    Preset {
        name: "lab5-response",
        summary: "CIFAR-10: resnet34 teaches resnet18 by its outputs; 3 pairs, 200 epochs",
        paper: "Hinton, Vinyals and Dean, 2015, by the recipe of kuangliu/pytorch-cifar",
        deviations: KUANGLIU,
        base: None,
        settings: LAB5_RESPONSE,
    },
    Preset {
        name: "lab5-response-short",
        summary: "the same at a quarter of the width, 5 epochs",
        paper: "Hinton, Vinyals and Dean, 2015, shortened",
        deviations: KUANGLIU,
        base: Some("lab5-response"),
        settings: SHORTENED,
    },
    Preset {
        name: "lab5-feature",
        summary: "CIFAR-10: resnet34 teaches resnet18 by the features of its second stage; 3 pairs, 200 epochs",
        paper: "Romero et al., ICLR 2015, by the recipe of kuangliu/pytorch-cifar",
        deviations: HINT,
        base: Some("lab5-response"),
        settings: LAB5_FEATURE,
    },
    Preset {
        name: "lab5-feature-short",
        summary: "the same at a quarter of the width, 5 epochs",
        paper: "Romero et al., ICLR 2015, shortened",
        deviations: HINT,
        base: Some("lab5-feature"),
        settings: SHORTENED,
    },
    Preset {
        name: "lab5-feature-ofd",
        summary: "CIFAR-10: resnet34 teaches resnet18 by the overhaul of features; 3 pairs, 200 epochs",
        paper: "Heo et al., ICCV 2019, by the recipe of kuangliu/pytorch-cifar",
        deviations: KUANGLIU,
        base: Some("lab5-response"),
        settings: &[("scheme", "ofd")],
    },
    Preset {
        name: "ofd-wrn16-2",
        summary: "CIFAR-10: wrn28-4 teaches wrn16-2 by the overhaul of features; 3 pairs, 200 epochs, plain momentum",
        paper: "Heo et al., ICCV 2019, and mmrazor's figures",
        deviations: OFD,
        base: None,
        settings: OFD_WRN16_2,
    },
    Preset {
        name: "ofd-wrn16-2-short",
        summary: "the same at a quarter of the width, 6,000 images, 8 epochs",
        paper: "Heo et al., ICCV 2019, shortened",
        deviations: OFD,
        base: Some("ofd-wrn16-2"),
        settings: OFD_WRN16_2_SHORT,
    },
    Preset {
        name: "one-resnet32-cifar100",
        summary: "CIFAR-100: resnet32 with three branches behind the second stage; 3 pairs, 300 epochs",
        paper: "Lan, Zhu and Gong, NeurIPS 2018, and the authors' code",
        deviations: ONE,
        base: None,
        settings: ONE_RESNET32,
    },
    Preset {
        name: "one-resnet110-cifar100",
        summary: "the same of resnet110, with basic blocks where the authors have bottlenecks",
        paper: "Lan, Zhu and Gong, NeurIPS 2018, and the authors' code",
        deviations: ONE,
        base: Some("one-resnet32-cifar100"),
        settings: &[("student", "resnet110")],
    },
    Preset {
        name: "one-short",
        summary: "CIFAR-10, 2,000 images: resnet20 at a quarter of the width with three branches; 3 pairs, 15 epochs",
        paper: "Lan, Zhu and Gong, NeurIPS 2018, shortened",
        deviations: ONE,
        base: None,
        settings: ONLINE_SHORT,
    },
    Preset {
        name: "dml-short",
        summary: "the same, two peers",
        paper: "Zhang et al., CVPR 2018, shortened",
        deviations: OWN,
        base: Some("one-short"),
        settings: &[("scheme", "dml")],
    },
    Preset {
        name: "byot-short",
        summary: "the same, with exits behind its stages",
        paper: "Zhang et al., ICCV 2019, shortened",
        deviations: OWN,
        base: Some("one-short"),
        settings: &[("scheme", "byot")],
    },
    Preset {
        name: "born-again-short",
        summary: "the same, two generations",
        paper: "Furlanello et al., ICML 2018, shortened",
        deviations: OWN,
        base: Some("one-short"),
        settings: &[("scheme", "born-again"), ("generations", "2")],
    },
];

const OWN: &[&str] = &["a setting of engram's own"];

const KUANGLIU: &[&str] = &[
    "weights begin with the deviation √(2/fan-in); PyTorch's default, which is taken there, is √(1/(3·fan-in))",
    "initial values, the order of images and draws come from engram's own generator",
];

const HINT: &[&str] = &[
    "the hint weighs 10: at this rate a linear regressor diverges under the usual weight of 100, whose source has half the rate \
     and a batch norm behind the regressor",
    KUANGLIU[0],
    KUANGLIU[1],
];

const OFD: &[&str] = &[
    "the recipe is the authors' for CIFAR-100, the published figures are mmrazor's for CIFAR-10",
    "momentum is plain and images are padded with zeros; the authors' is Nesterov's, and they pad by reflection",
    "the teacher is trained by the same recipe; mmrazor's came trained",
];

const ONE: &[&str] = &[
    "students are judged after the last epoch; the published figures are the best epoch's on the test images",
    "shortcuts have no parameters; the authors' are 1×1 convolutions",
    "weights begin with the deviation √(2/fan-in), the authors' with √(2/fan-out)",
    "blocks are basic at all depths; the authors' resnet110 has bottlenecks, 164 convolutions in all",
];

/// Figures of the literature, by preset.
const PUBLISHED: &[(&str, &[Published])] = &[
    (
        "one-resnet32-cifar100",
        &[
            Published { called: "ResNet-32 alone", figure: Figure::Scratch, percent: 68.82, source: LAN },
            Published { called: "ONE", figure: Figure::Distilled, percent: 73.39, source: LAN },
            Published { called: "ONE-E", figure: Figure::Other("all (ONE-E)"), percent: 75.37, source: LAN },
        ],
    ),
    (
        "one-resnet110-cifar100",
        &[
            Published { called: "ResNet-110 alone", figure: Figure::Scratch, percent: 74.67, source: LAN },
            Published { called: "ONE", figure: Figure::Distilled, percent: 78.38, source: LAN },
            Published { called: "ONE-E", figure: Figure::Other("all (ONE-E)"), percent: 78.97, source: LAN },
        ],
    ),
    (
        "ofd-wrn16-2",
        &[
            Published { called: "WRN-28-4, the teacher", figure: Figure::Teacher, percent: 95.49, source: MMRAZOR },
            Published { called: "WRN-16-2 alone", figure: Figure::Scratch, percent: 93.43, source: MMRAZOR },
            Published { called: "OFD", figure: Figure::Distilled, percent: 94.21, source: MMRAZOR },
        ],
    ),
];

const LAN: &str = "Lan et al. 2018, best epoch on the test images";

const MMRAZOR: &str = "mmrazor, configs/distill/mmcls/ofd";

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

/// The authors' recipe, as in `ONE_ResNet32.sh`.
const ONE_RESNET32: &[(&str, &str)] = &[
    ("scheme", "one"),
    ("student", "resnet32"),
    ("dataset", "cifar-100"),
    ("epochs", "300"),
    ("batch_size", "128"),
    ("optimizer", "sgd"),
    ("lr", "0.1"),
    ("lr_steps", "151,225"),
    ("lr_decay", "0.1"),
    ("weight_decay", "1e-4"),
    ("rampup", "80"),
    ("seeds", "3"),
];

/// The authors' recipe for CIFAR; at full width the squares are summed as they sum them.
const OFD_WRN16_2: &[(&str, &str)] = &[
    ("scheme", "ofd"),
    ("teacher", "wrn28-4"),
    ("student", "wrn16-2"),
    ("dataset", "cifar-10"),
    ("epochs", "200"),
    ("batch_size", "128"),
    ("optimizer", "sgd"),
    ("lr", "0.1"),
    ("lr_steps", "100,150"),
    ("lr_decay", "0.1"),
    ("weight_decay", "5e-4"),
    ("teacher_epochs", "200"),
    ("teacher_batch_size", "128"),
    ("seeds", "3"),
];

const OFD_WRN16_2_SHORT: &[(&str, &str)] = &[
    ("teacher_width", "0.25"),
    ("student_width", "0.25"),
    ("limit", "6000"),
    ("teacher_limit", "20000"),
    ("epochs", "8"),
    ("lr_steps", "4,6"),
    ("teacher_epochs", "8"),
];

/// What a processor of two cores does in a few minutes.
const ONLINE_SHORT: &[(&str, &str)] = &[
    ("scheme", "one"),
    ("student", "resnet20"),
    ("student_width", "0.25"),
    ("dataset", "cifar-10"),
    ("limit", "2000"),
    ("epochs", "15"),
    ("batch_size", "50"),
    ("optimizer", "sgd"),
    ("lr", "0.1"),
    ("weight_decay", "1e-4"),
    ("seeds", "3"),
];

const SHORTENED: &[(&str, &str)] =
    &[("teacher_width", "0.25"), ("student_width", "0.25"), ("epochs", "5"), ("teacher_epochs", "5")];

/// The settings of the preset of this name.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn settings(name: &str) -> Result<Values> {
    by_name("preset", name, ALL, |preset| preset.name)?.values(ALL, &rows())
}
