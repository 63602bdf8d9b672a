//! The variants of iCaRL (hybrid2, hybrid3, lwf-mc, fixed-representation): what must equal iCaRL, and what must differ.

use crate::common::runs::{Pairs, Weights, config, glyphs, trained};
use engram::continual;
use engram::data::Dataset;
use engram::experiment::results::Metrics;
use engram::experiment::{Config, presets};
use std::sync::LazyLock;

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| glyphs(300, 200));

/// A short run on the CPU: its metrics, and its weights as bytes.
fn short(method: &str, more: Pairs) -> (Metrics, Weights) {
    let usual = &[
        ("model", "resnet20"),
        ("width", "0.25"),
        ("classes_per_task", "4"),
        ("memory", "40"),
        ("epochs", "2"),
        ("batch_size", "16"),
        ("optimizer", "sgd"),
        ("lr", "0.1"),
    ];
    trained(&config(method, usual, more), &GLYPHS)
}

const ONE: Pairs = &[("max_tasks", "1")];
const TWO: Pairs = &[("max_tasks", "2")];

#[test]
fn in_the_first_task_all_of_them_learn_the_same() {
    let (_, icarl) = short("icarl", ONE);
    for method in ["hybrid2", "hybrid3", "lwf-mc", "fixed-representation"] {
        assert!(short(method, ONE).1 == icarl, "{method} differs from iCaRL in the first task");
    }
}

#[test]
fn in_the_second_task_each_goes_its_own_way() {
    let all: Vec<Weights> = ["icarl", "hybrid2", "lwf-mc", "finetune"].map(|m| short(m, TWO).1).into();
    for (i, one) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|other| other != one), "two methods have the same weights");
    }
    let (two, weights_of_two) = short("hybrid2", TWO);
    let (three, weights_of_three) = short("hybrid3", TWO);
    assert!(weights_of_two == weights_of_three && two.classifiers == three.classifiers);
    let first = |method: &str| {
        let config = config(method, &[("memory", "40")], &[]);
        (config.method.build)(&config.values).classifiers()[0].name
    };
    assert_eq!(
        [first("icarl"), first("hybrid2"), first("hybrid3"), first("lwf-mc")],
        ["nme", "nme", "network", "network"]
    );
    let (lwf, _) = short("lwf-mc", TWO);
    assert!(lwf.memory_bytes[1].exemplars == 0 && lwf.memory_bytes[1].old_network > 0);
    assert_eq!(lwf.classifiers.keys().collect::<Vec<_>>(), ["network"]);
}

/// After the first task only the outputs of classes to come may move; weight decay on everything tries to move the rest.
#[test]
fn a_fixed_representation_stays_fixed() {
    let decaying = |n| short("fixed-representation", &[("max_tasks", n), ("weight_decay", "0.01"), ("decay", "all")]);
    let (_, before) = decaying("1");
    let (_, after) = decaying("2");
    let n_old = 4;
    for (name, values) in &before {
        let n_fixed = match name.as_str() {
            "fc.weight" => n_old * 16 * 4,
            "fc.bias" => n_old * 4,
            _ => values.len(),
        };
        assert!(values[..n_fixed] == after[name][..n_fixed], "{name} moved");
        assert!(n_fixed == values.len() || values[n_fixed..] != after[name][n_fixed..], "{name} learned nothing");
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()))
}

/// The first task goes by --lr, later ones by --later-lr.
#[test]
fn later_tasks_have_a_rate_of_their_own() {
    let with =
        |settings: &[(&str, &str)]| short("finetune", &[&[("weight_decay", "0"), ("lr", "1e-3")], settings].concat()).1;
    let first = with(&[("max_tasks", "1")]);
    let still = with(&[("max_tasks", "2"), ("later_lr", "1e-12")]);
    let usual = with(&[("max_tasks", "2")]);
    let moved = |a: &Weights, b: &Weights| {
        let learnt = a.iter().filter(|(name, _)| !name.contains("running"));
        let pairs = learnt.flat_map(|(name, bytes)| floats(bytes).zip(floats(&b[name])));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(moved(&first, &still) < 1e-9, "{}", moved(&first, &still));
    assert!(moved(&first, &usual) > 1e-4, "{}", moved(&first, &usual));
    assert!(usual == with(&[("max_tasks", "2"), ("later_lr", "1e-3")]), "the same rate is the same run");
}

/// With all classes as candidates some answers are classes that have not come: never better, and the same in the end.
#[test]
fn classes_that_have_not_come_are_wrong_answers() {
    // Hardly trained, so that outputs of classes to come are not the smallest yet.
    let with = |candidates| short("icarl", &[("candidates", candidates), ("lr", "1e-6"), ("epochs", "1")]);
    let (seen, _) = with("seen");
    let (all, _) = with("all");
    for (name, result) in &seen.classifiers {
        let other = &all.classifiers[name].seen_accuracy;
        assert!(result.seen_accuracy.iter().zip(other).all(|(seen, all)| all <= seen), "{name}");
        assert_eq!(result.seen_accuracy.last(), other.last(), "{name}: in the end all classes have come");
    }
    assert_ne!(seen.classifiers["network"].seen_accuracy, all.classifiers["network"].seen_accuracy);
}

/// The recipe of the paper, number for number.
#[test]
fn the_preset_is_the_papers_recipe() {
    let preset = presets::settings("icarl-cifar100").unwrap();
    let config = Config::resolve(continual::spec("icarl").unwrap(), preset).unwrap();
    let json = serde_json::to_value(&config).unwrap();
    let expected = [
        ("dataset", "\"cifar-100\""),
        ("normalize", "\"mean-image\""),
        ("augment", "\"crop-flip\""),
        ("model", "\"resnet32\""),
        ("width", "1.0"),
        ("shortcut", "\"a\""),
        ("last_relu", "false"),
        ("classes_per_task", "10"),
        ("class_order", "\"icarl\""),
        ("memory", "2000"),
        ("memory_rounding", "\"ceil\""),
        ("herding", "\"original\""),
        ("candidates", "\"all\""),
        ("epochs", "70"),
        ("batch_size", "128"),
        ("drop_last", "true"),
        ("optimizer", "\"sgd\""),
        ("lr", "2.0"),
        ("lr_steps", "[49,63]"),
        ("lr_decay", "0.2"),
        ("velocity", "\"steps\""),
        ("reset_optimizer", "false"),
        ("decay", "\"weights\""),
    ];
    for (field, value) in expected {
        assert_eq!(json[field].to_string(), value, "{field}");
    }
    let training = &config.training;
    for (value, expected) in
        [(config.model.options.bn_epsilon, 1e-4), (training.momentum, 0.9), (training.weight_decay, 2e-5)]
    {
        assert!((value - expected).abs() < 1e-9);
    }
    assert!(presets::settings("icarl-cifar10").is_err_and(|e| e.to_string().contains("icarl-cifar100")));
}
