//! Whole runs on the CPU: which settings of a method must equal fine-tuning bit by bit, and which must not.

use crate::common::runs::{Pairs, Weights, config, config_of, glyphs, trained, try_config};
use engram::continual::{self, MethodSpec};
use engram::data::{Dataset, Scenario};
use engram::experiment::every_row;
use engram::experiment::metrics::learning_accuracy;
use engram::experiment::results::Metrics;
use engram::settings::{Origin, Values};
use std::sync::LazyLock;

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| glyphs(240, 100));

const USUAL: Pairs = &[
    ("model", "mlp"),
    ("width", "0.25"),
    ("classes_per_task", "4"),
    ("memory", "40"),
    ("epochs", "2"),
    ("batch_size", "16"),
    ("optimizer", "sgd"),
    ("lr", "0.05"),
    ("fisher_samples", "6"),
    ("memory_epochs", "2"),
    // Large enough to be seen, and small enough for this rate.
    ("penalty_weight", "0.1"),
    ("reg_weight", "1e-3"),
];

fn short(method: &'static MethodSpec, more: &[Pairs]) -> (Metrics, Weights) {
    trained(&config_of(method, USUAL, &more.concat()), &GLYPHS)
}

fn method(name: &str) -> &'static MethodSpec {
    continual::spec(name).unwrap()
}

/// With its coefficient 0 a penalty or a distillation changes nothing: parameters, running statistics and predictions.
#[test]
fn with_coefficient_0_penalties_and_distillation_are_finetuning() {
    for (model, scenario) in [("mlp", "class"), ("mlp", "task"), ("mlp", "domain"), ("resnet20", "class")] {
        let with: Pairs = &[("model", model), ("scenario", scenario)];
        let (plain, weights) = short(method("finetune"), &[with]);
        for name in ["ewc", "ewc-online", "si", "mas", "lwf"] {
            let zero: Pairs = if name == "lwf" { &[("kd_weight", "0")] } else { &[("penalty_weight", "0")] };
            let (metrics, own) = short(method(name), &[with, zero]);
            assert!(own == weights, "{name} on {model}, {scenario}: other weights");
            assert_eq!(metrics.classifiers, plain.classifiers, "{name} on {model}, {scenario}");
            // And with its own coefficient it is not.
            assert!(short(method(name), &[with]).1 != weights, "{name} on {model}, {scenario}: no effect");
        }
    }
}

static EMPTY: MethodSpec = MethodSpec {
    name: "er without memory",
    build: |settings| {
        let nothing = Values::of(&every_row(), &[("memory", "0")], &Origin::Flag).unwrap();
        let er = config("er", USUAL, &[]).values;
        (continual::spec("er").unwrap().build)(&nothing.or(settings.clone()).or(er))
    },
    ..MethodSpec::BASE
};

#[test]
fn replay_from_an_empty_memory_is_finetuning() {
    for model in ["mlp", "resnet20"] {
        let with: Pairs = &[("model", model)];
        assert!(short(&EMPTY, &[with]).1 == short(method("finetune"), &[with]).1, "{model}");
    }
}

/// Without batch norm the zero-weighted terms leave no trace; with it their forward passes move the running statistics.
#[test]
fn dark_experience_replay_with_weights_0_is_finetuning() {
    let zero: Pairs = &[("mse_weight", "0"), ("replay_weight", "0")];
    assert!(short(method("der++"), &[zero]).1 == short(method("finetune"), &[]).1);
    let with: Pairs = &[("model", "resnet20")];
    let (der, plain) = (short(method("der++"), &[with, zero]).1, short(method("finetune"), &[with]).1);
    for (name, values) in &der {
        let is_statistic = name.contains("running");
        assert_eq!(*values != plain[name], is_statistic, "{name}");
    }
}

#[test]
fn the_first_task_of_some_methods_is_finetuning() {
    let first: &[Pairs] = &[&[("max_tasks", "1")]];
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
    for spec in continual::ALL.iter().filter(|spec| spec.has("unseen")) {
        let weights = |unseen, n| short(spec, &[&[("classes_per_task", n), ("max_tasks", "1"), ("unseen", unseen)]]).1;
        assert!(weights("masked", "4") != weights("compete", "4"), "{}: no effect", spec.name);
        assert!(weights("masked", "10") == weights("compete", "10"), "{}: all classes are seen", spec.name);
    }
}

/// Later they all go their own way.
#[test]
fn no_two_methods_are_the_same() {
    let names = [
        "finetune",
        "ewc",
        "si",
        "mas",
        "lwf",
        "a-gem",
        "er",
        "er-ace",
        "der",
        "der++",
        "gdumb",
        "cumulative",
        "vdfd",
        "dfd",
        "adam-nscl",
        "owm",
        "gem",
        "mega",
    ];
    let all: Vec<Weights> = names.iter().map(|name| short(method(name), &[]).1).collect();
    for (i, one) in all.iter().enumerate() {
        let same = all[..i].iter().position(|other| other == one);
        assert!(same.is_none(), "{} and {} end in the same weights", names[i], names[same.unwrap()]);
    }
}

/// GDumb's networks know nothing of each other: without the earlier ones the last is the same.
#[test]
fn gdumb_may_train_its_last_network_alone() {
    let (every, weights) = short(method("gdumb"), &[]);
    let last: Pairs = &[("gdumb_eval", "last")];
    let (alone, weights_alone) = short(method("gdumb"), &[last]);
    assert!(weights == weights_alone);
    let rows = |metrics: &Metrics| metrics.classifiers["network"].matrix.clone();
    assert_eq!(rows(&every)[2], rows(&alone)[2]);
    assert!(rows(&alone)[1] != rows(&every)[1], "there is no network before the last");
    // The last task of a shortened run is its last.
    let two: Pairs = &[("max_tasks", "2")];
    assert!(short(method("gdumb"), &[two]).1 == short(method("gdumb"), &[two, last]).1);
}

#[test]
fn every_scenario_gives_its_numbers() {
    for scenario in [Scenario::Class, Scenario::Task, Scenario::Domain, Scenario::Permuted, Scenario::Rotated] {
        let views: Pairs = if scenario.is_view() { &[("tasks", "3")] } else { &[] };
        let with: &[Pairs] = &[&[("scenario", scenario.name()), ("epochs", "1")], views];
        let (metrics, _) = short(method("er"), with);
        let result = &metrics.classifiers["network"];
        assert_eq!((metrics.scenario.as_str(), result.matrix.len()), (scenario.name(), 3));
        assert!(result.matrix.iter().enumerate().all(|(t, row)| row.iter().flatten().count() == t + 1));
        assert!(result.average_accuracy().is_some() && learning_accuracy(&result.matrix).is_some());
        let n_labels = match scenario {
            Scenario::Class | Scenario::Task | Scenario::Permuted | Scenario::Rotated => 10,
            Scenario::Domain => 4,
        };
        assert_eq!(result.confusion.len(), n_labels, "{scenario:?}");
        // Forward transfer is for scenarios in which a task can be answered before it is learnt.
        assert_eq!(result.forward_transfer().is_some(), scenario != Scenario::Class);
        assert_eq!(result.before.len(), if scenario == Scenario::Class { 0 } else { 2 });
        assert_eq!(result.task_known.len(), if scenario == Scenario::Class { 3 } else { 0 });
        if scenario == Scenario::Class {
            // Fewer wrong answers to choose from.
            let pairs = result.matrix.iter().flatten().zip(result.task_known.iter().flatten());
            assert!(pairs.flat_map(|(open, known)| open.zip(*known)).all(|(open, known)| known >= open));
        }
        let (joint, _) = short(method("joint"), with);
        let result = &joint.classifiers["network"];
        assert_eq!((result.matrix.len(), result.forgetting()), (1, None), "{scenario:?}");
        assert_eq!(result.matrix[0].len(), 3);
        assert!(result.matrix[0].iter().all(Option::is_some));
    }
}

/// In a blurry stream every label may come at any time, and accuracy is measured on the way.
#[test]
fn a_blurry_stream_has_an_any_time_accuracy() {
    for name in ["er", "er-ace", "der++", "gdumb"] {
        let epochs: Pairs = if method(name).goes_by("epochs") { &[("epochs", "1")] } else { &[] };
        let (metrics, _) = short(method(name), &[&[("blurry", "20"), ("eval_every", "2"), ("memory", "60")], epochs]);
        let n_steps = metrics.any_time.len();
        assert!(n_steps >= 6, "{name}: {n_steps}");
        // At every second batch of 16 images, counted over the whole stream, and at its end.
        let (end, inside) = metrics.any_time.split_last().unwrap();
        for (i, point) in inside.iter().enumerate() {
            let place = 32 * (i + 1);
            assert!((place..place + 16).contains(&point.n_images), "{name}: {} is not {place}", point.n_images);
        }
        assert_eq!(end.accuracy, metrics.classifiers["network"].final_accuracy().unwrap(), "{name}");
        assert_eq!(end.n_images, 240, "{name}");
        let mean = metrics.any_time.iter().map(|point| point.accuracy).sum::<f64>() / n_steps as f64;
        assert!((metrics.average_any_time_accuracy.unwrap() - mean).abs() < 1e-12);
    }
    let message = try_config(method("ewc"), &[], &[("blurry", "20")]).unwrap_err().to_string();
    assert!(message.contains("where a task ends"), "{message}");
}

#[test]
fn what_does_not_fit_is_refused_in_one_message() {
    let message = |name: &str, settings: Pairs| try_config(method(name), &[], settings).unwrap_err().to_string();
    assert!(message("icarl", &[("scenario", "permuted")]).contains("it suits class, task"));
    let text = message("er", &[("temperature", "2")]);
    assert!(text.contains("er has no --temperature") && text.contains("--replay-batch"), "{text}");
    for wrong in ["0", "-1"] {
        let text = message("lwf", &[("temperature", wrong)]);
        assert!(text.contains("must be a positive number"), "{wrong}: {text}");
    }
    for wrong in ["NaN", "inf", "1e99"] {
        let text = message("lwf", &[("temperature", wrong)]);
        assert!(text.contains("a finite number is needed"), "{wrong}: {text}");
    }
    let text = message("er", &[("memory", "9")]);
    assert!(text.contains("--memory 9 is less than one exemplar"), "{text}");
    let text = message("er", &[("scenario", "rotated"), ("first_task", "3")]);
    assert!(text.contains("--first-task"), "{text}");
}

/// What would change nothing is refused, and the message names what was probably meant.
#[test]
fn settings_without_effect_are_refused() {
    let cases: [(&str, Pairs, &str); 9] = [
        ("icarl", &[("tasks", "3")], "--max-tasks"),
        ("ewc", &[("memory", "5")], "--penalty-weight"),
        ("er", &[("momentum", "0.5")], "--optimizer sgd"),
        ("er", &[("epochs", "2"), ("lr_steps", "9")], "2 epochs"),
        ("er", &[("max_tasks", "50")], "5 tasks"),
        ("er", &[("lr_decay", "0.5")], "--lr-steps"),
        ("er", &[("image_format", "rgb8")], "folder:"),
        ("er", &[("shortcut", "a")], "resnet32"),
        ("gdumb", &[("lr", "0.1")], "does not go by it"),
    ];
    for (name, settings, wanted) in cases {
        let text = try_config(method(name), &[], settings).unwrap_err().to_string();
        let flag = engram::settings::flag(settings.last().unwrap().0);
        assert!(text.contains(&flag) && text.contains(wanted), "{name}: {text}");
        // What a preset brings along for others is left out.
        let kept = try_config(method(name), settings, &[]).unwrap();
        let left_out = settings.last().unwrap().0;
        assert!(["max_tasks", "lr_steps"].contains(&left_out) || kept.values.value(left_out).is_none(), "{left_out}");
    }
}
