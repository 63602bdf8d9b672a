//! Methods that must be equal to fine-tuning, bit by bit, and those that must not: whole runs on the CPU.

mod common;

use common::runs::{Weights, glyphs, trained};
use engram::continual::{self, GdumbEval, MethodSpec, OptionFlags, Options, Unseen};
use engram::data::{Dataset, Scenario};
use engram::experiment::Overrides;
use engram::experiment::results::Metrics;
use engram::optim::Kind;
use std::sync::LazyLock;

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| glyphs(240, 100));

fn short(method: &'static MethodSpec, change: impl FnOnce(Overrides) -> Overrides) -> (Metrics, Weights) {
    let own = method.options;
    let settings = Overrides {
        model: Some("mlp".into()),
        width: Some(0.25),
        classes_per_task: Some(4),
        memory: Some(40),
        epochs: Some(2),
        batch_size: Some(16),
        optimizer: Some(Kind::Sgd),
        lr: Some(0.05),
        options: OptionFlags {
            fisher_samples: own.contains(&"fisher_samples").then_some(6),
            memory_epochs: own.contains(&"memory_epochs").then_some(2),
            // Large enough to be seen, and small enough for this rate.
            penalty_weight: own.contains(&"penalty_weight").then_some(0.1),
            ..OptionFlags::default()
        },
        ..Overrides::default()
    };
    let config = change(settings).resolve(method).unwrap();
    trained(&config, &GLYPHS)
}

fn method(name: &str) -> &'static MethodSpec {
    continual::spec(name).unwrap()
}

/// With its coefficient 0 a penalty or a distillation changes nothing: parameters, running statistics and predictions.
#[test]
fn with_coefficient_0_penalties_and_distillation_are_finetuning() {
    let zero = |name: &str, options: OptionFlags| match name {
        "lwf" => OptionFlags { kd_weight: Some(0.0), ..options },
        _ => OptionFlags { penalty_weight: Some(0.0), ..options },
    };
    for (model, scenario) in
        [("mlp", Scenario::Class), ("mlp", Scenario::Task), ("mlp", Scenario::Domain), ("resnet20", Scenario::Class)]
    {
        let with = |settings: Overrides| Overrides { model: Some(model.into()), scenario: Some(scenario), ..settings };
        let (plain, weights) = short(method("finetune"), with);
        for name in ["ewc", "ewc-online", "si", "mas", "lwf"] {
            let change = |s: Overrides| with(Overrides { options: zero(name, s.options.clone()), ..s });
            let (metrics, own) = short(method(name), change);
            assert!(own == weights, "{name} on {model}, {scenario:?}: other weights");
            assert_eq!(metrics.classifiers, plain.classifiers, "{name} on {model}, {scenario:?}");
            // And with its own coefficient it is not.
            assert!(short(method(name), with).1 != weights, "{name} on {model}, {scenario:?}: no effect");
        }
    }
}

static EMPTY: MethodSpec = MethodSpec {
    name: "er without memory",
    build: |options| (continual::spec("er").unwrap().build)(Options { memory: 0, ..options }),
    ..MethodSpec::BASE
};

#[test]
fn replay_from_an_empty_memory_is_finetuning() {
    for model in ["mlp", "resnet20"] {
        let with = |settings: Overrides| Overrides { model: Some(model.into()), ..settings };
        assert!(short(&EMPTY, with).1 == short(method("finetune"), with).1, "{model}");
    }
}

/// Without batch norm the zero-weighted terms leave no trace; with it their forward passes move the running statistics.
#[test]
fn dark_experience_replay_with_weights_0_is_finetuning() {
    let zero = |s: Overrides| Overrides {
        options: OptionFlags { mse_weight: Some(0.0), replay_weight: Some(0.0), ..s.options },
        ..s
    };
    assert!(short(method("der++"), zero).1 == short(method("finetune"), |s| s).1);
    let with = |s: Overrides| Overrides { model: Some("resnet20".into()), ..s };
    let (der, plain) = (short(method("der++"), |s| with(zero(s))).1, short(method("finetune"), with).1);
    for (name, values) in &der {
        let is_statistic = name.contains("running");
        assert_eq!(*values != plain[name], is_statistic, "{name}");
    }
}

#[test]
fn the_first_task_of_some_methods_is_finetuning() {
    let first = |settings: Overrides| Overrides { max_tasks: Some(1), ..settings };
    let (_, plain) = short(method("finetune"), first);
    for name in ["ewc", "ewc-online", "si", "mas", "lwf", "a-gem", "er-ace", "cumulative"] {
        assert!(short(method(name), first).1 == plain, "{name} differs in the first task");
    }
    for name in ["er", "der", "der++", "gdumb", "icarl", "lwf-mc"] {
        assert!(short(method(name), first).1 != plain, "{name} should differ in the first task");
    }
}

/// Outputs of classes to come matter to every loss over outputs while there are such classes, and not afterwards.
#[test]
fn unseen_outputs_matter_until_they_are_seen() {
    let with =
        |unseen| move |s: Overrides| Overrides { options: OptionFlags { unseen: Some(unseen), ..s.options }, ..s };
    for spec in continual::ALL.iter().filter(|spec| spec.options.contains(&"unseen")) {
        let first_of = |n| move |s: Overrides| Overrides { classes_per_task: Some(n), max_tasks: Some(1), ..s };
        let weights = |unseen, n| short(spec, |s| first_of(n)(with(unseen)(s))).1;
        assert!(weights(Unseen::Masked, 4) != weights(Unseen::Compete, 4), "{}: no effect", spec.name);
        assert!(weights(Unseen::Masked, 10) == weights(Unseen::Compete, 10), "{}: all classes are seen", spec.name);
    }
}

/// Later they all go their own way.
#[test]
fn no_two_methods_are_the_same() {
    let names = ["finetune", "ewc", "si", "mas", "lwf", "a-gem", "er", "er-ace", "der", "der++", "gdumb", "cumulative"];
    let all: Vec<Weights> = names.iter().map(|name| short(method(name), |s| s).1).collect();
    for (i, one) in all.iter().enumerate() {
        let same = all[..i].iter().position(|other| other == one);
        assert!(same.is_none(), "{} and {} end in the same weights", names[i], names[same.unwrap()]);
    }
}

/// GDumb's networks know nothing of each other: without the earlier ones the last is the same.
#[test]
fn gdumb_may_train_its_last_network_alone() {
    let (every, weights) = short(method("gdumb"), |s| s);
    let last = |s: Overrides| {
        let options = OptionFlags { gdumb_eval: Some(GdumbEval::Last), ..s.options };
        Overrides { options, ..s }
    };
    let (alone, weights_alone) = short(method("gdumb"), last);
    assert!(weights == weights_alone);
    let rows = |metrics: &Metrics| metrics.classifiers["network"].matrix.clone();
    assert_eq!(rows(&every)[2], rows(&alone)[2]);
    assert!(rows(&alone)[1] != rows(&every)[1], "there is no network before the last");
    // The last task of a shortened run is its last.
    let two = |s: Overrides| Overrides { max_tasks: Some(2), ..s };
    assert!(short(method("gdumb"), two).1 == short(method("gdumb"), |s| two(last(s))).1);
}

#[test]
fn every_scenario_gives_its_numbers() {
    let with =
        |scenario| move |s: Overrides| Overrides { scenario: Some(scenario), tasks: Some(3), epochs: Some(1), ..s };
    for scenario in [Scenario::Class, Scenario::Task, Scenario::Domain, Scenario::Permuted, Scenario::Rotated] {
        let (metrics, _) = short(method("er"), with(scenario));
        let result = &metrics.classifiers["network"];
        assert_eq!((metrics.scenario.as_str(), result.matrix.len()), (scenario.name(), 3));
        assert!(result.matrix.iter().enumerate().all(|(t, row)| row.iter().flatten().count() == t + 1));
        assert!(result.average_accuracy.is_some() && result.learning_accuracy.is_some());
        let n_labels = match scenario {
            Scenario::Class | Scenario::Task | Scenario::Permuted | Scenario::Rotated => 10,
            Scenario::Domain => 4,
        };
        assert_eq!(result.confusion.len(), n_labels, "{scenario:?}");
        // Forward transfer is for scenarios in which a task can be answered before it is learnt.
        assert_eq!(result.forward_transfer.is_some(), scenario != Scenario::Class);
        assert_eq!(result.before.len(), if scenario == Scenario::Class { 0 } else { 2 });
        assert_eq!(result.task_known.len(), if scenario == Scenario::Class { 3 } else { 0 });
        if scenario == Scenario::Class {
            // Fewer wrong answers to choose from.
            let pairs = result.matrix.iter().flatten().zip(result.task_known.iter().flatten());
            assert!(pairs.flat_map(|(open, known)| open.zip(*known)).all(|(open, known)| known >= open));
        }
        let (joint, _) = short(method("joint"), with(scenario));
        let result = &joint.classifiers["network"];
        assert_eq!((result.matrix.len(), result.forgetting), (1, None), "{scenario:?}");
        assert_eq!(result.matrix[0].len(), if scenario == Scenario::Class { 1 } else { 3 });
        assert!(result.matrix[0].iter().all(Option::is_some));
    }
}

/// In a blurry stream every label may come at any time, and accuracy is measured on the way.
#[test]
fn a_blurry_stream_has_an_any_time_accuracy() {
    let blurry =
        |s: Overrides| Overrides { blurry: Some(20), eval_every: Some(2), epochs: Some(1), memory: Some(60), ..s };
    for name in ["er", "er-ace", "der++", "gdumb"] {
        let (metrics, _) = short(method(name), blurry);
        let n_steps = metrics.any_time.len();
        assert!(n_steps >= 6, "{name}: {n_steps}");
        // At every second batch of 16 images, counted over the whole stream, and at its end.
        let (end, inside) = metrics.any_time.split_last().unwrap();
        for (i, point) in inside.iter().enumerate() {
            let place = 32 * (i + 1);
            assert!((place..place + 16).contains(&point.n_images), "{name}: {} is not {place}", point.n_images);
        }
        assert_eq!(end.accuracy, metrics.classifiers["network"].final_accuracy.unwrap(), "{name}");
        assert_eq!(end.n_images, 240, "{name}");
        let mean = metrics.any_time.iter().map(|point| point.accuracy).sum::<f64>() / n_steps as f64;
        assert!((metrics.average_any_time_accuracy.unwrap() - mean).abs() < 1e-12);
    }
    let settings = Overrides { blurry: Some(20), ..Overrides::default() };
    let message = settings.resolve(method("ewc")).unwrap_err().to_string();
    assert!(message.contains("where a task ends"), "{message}");
}

#[test]
fn what_does_not_fit_is_refused_in_one_message() {
    let message = |name: &str, settings: Overrides| settings.resolve(method(name)).unwrap_err().to_string();
    let with = |scenario| Overrides { scenario: Some(scenario), ..Overrides::default() };
    assert!(message("icarl", with(Scenario::Permuted)).contains("it suits class, task"));
    let flags = OptionFlags { temperature: Some(2.0), ..OptionFlags::default() };
    let text = message("er", Overrides { options: flags, ..Overrides::default() });
    assert!(text.contains("er has no --temperature") && text.contains("--replay-batch"), "{text}");
    for wrong in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let flags = OptionFlags { temperature: Some(wrong), ..OptionFlags::default() };
        let text = message("lwf", Overrides { options: flags, ..Overrides::default() });
        assert!(text.contains("must be a positive number"), "{wrong}: {text}");
    }
    let text = message("er", Overrides { memory: Some(9), ..Overrides::default() });
    assert!(text.contains("--memory 9 is less than one exemplar"), "{text}");
    let text = message("er", Overrides { first_task: Some(3), ..with(Scenario::Rotated) });
    assert!(text.contains("--first-task"), "{text}");
}
