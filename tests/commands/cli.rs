//! The program as a user sees it: output, files and exit codes.

use crate::common;
use crate::common::program::{
    PLAIN, PROGRAM, TINY, check_width, engram_with, fails, json, names, native, process, succeeds,
};
use engram::experiment::results::RESULT_FILES;
use serde_json::Value;
use std::collections::BTreeSet;
use tempfile::TempDir;

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_run_prints_a_table_and_leaves_its_files() {
    let dir = temp();
    let run = succeeds(&dir, &format!("icarl {TINY} --out out"));
    for task in 1..=5 {
        assert!(run.out.contains(&format!("{task}/5 ")), "no row of task {task}:\n{}", run.out);
    }
    for words in
        ["nme", "Result: icarl tells 10 classes apart", "  forgetting  ", "Memory:", "finetune", "Results: out"]
    {
        assert!(run.out.contains(words), "no {words:?} in\n{}", run.out);
    }
    // No terminal, no bar: not a carriage return, not an escape sequence.
    assert!(!run.out.contains(['\r', '\u{1b}']), "{:?}", run.out);
    assert_eq!(run.err, "");

    let out = dir.path().join("out");
    let mut files = [&RESULT_FILES[..], &["exemplars"]].concat();
    files.sort();
    assert_eq!(names(&out), files);

    let config = json(out.join("config.json"));
    for key in ["version", "method", "dataset", "model", "device", "adapter", "memory", "epochs", "batch_size", "lr"] {
        assert!(!config[key].is_null(), "config.json does not say {key}");
    }
    assert_eq!((&config["method"], &config["seed"]), (&"icarl".into(), &1.into()));

    let metrics = json(out.join("metrics.json"));
    let expected = [
        "method",
        "dataset",
        "model",
        "scenario",
        "seed",
        "n_tasks",
        "classes_per_task",
        "memory_bytes",
        "complete",
        "classifiers",
        "judged_by",
        "checksum",
    ];
    assert_eq!(keys(&metrics), expected.into());
    assert_eq!(metrics["complete"], true);
    assert_eq!((&metrics["dataset"], &metrics["model"]), (&"glyphs".into(), &"mlp".into()));
    assert_eq!(metrics["n_tasks"], 5);
    assert_eq!(metrics["classes_per_task"], serde_json::json!([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]));
    for memory in metrics["memory_bytes"].as_array().unwrap() {
        assert_eq!(keys(memory), ["class_means", "exemplars", "importance", "logits", "old_network", "total"].into());
    }
    assert_eq!(keys(&metrics["classifiers"]), ["ncm", "network", "nme"].into());
    for (name, result) in metrics["classifiers"].as_object().unwrap() {
        let expected = [
            "average_accuracy",
            "average_incremental_accuracy",
            "backward_transfer",
            "confusion",
            "final_accuracy",
            "forgetting",
            "forward_transfer",
            "learning_accuracy",
            "matrix",
            "seen_accuracy",
            "task_known",
            "task_known_accuracy",
        ];
        assert!(result["forward_transfer"].is_null(), "it is 0 by construction where classes are new");
        assert_eq!(keys(result), expected.into(), "{name}");
        for (t, row) in result["matrix"].as_array().unwrap().iter().enumerate() {
            for (i, accuracy) in row.as_array().unwrap().iter().enumerate() {
                assert_eq!(accuracy.is_null(), i > t, "{name} matrix[{t}][{i}]");
                assert!(accuracy.as_f64().is_none_or(|a| (0.0..=1.0).contains(&a)), "{name} matrix[{t}][{i}]");
            }
        }
        assert_eq!(result["final_accuracy"], result["seen_accuracy"][4], "{name}");
    }

    let timing = json(out.join("timing.json"));
    assert!(timing["seconds_total"].as_f64().unwrap() > 0.0 && timing["images_per_second"].as_f64().unwrap() > 0.0);
    let csv = std::fs::read_to_string(out.join("accuracy.csv")).unwrap();
    assert_eq!(csv.lines().next(), Some("classifier,after_task,task,accuracy"));
    // Three classifiers, 1 + … + 5 entries and a `seen` after each task.
    assert_eq!(csv.lines().count(), 1 + 3 * (15 + 5));
    let weights = std::fs::read(out.join("model.safetensors")).unwrap();
    let weights = safetensors::SafeTensors::deserialize(&weights).unwrap();
    assert_eq!(weights.tensor("fc3.weight").unwrap().shape(), [10, 256]);
}

#[test]
fn a_run_can_be_repeated_from_its_config_and_flags_win() {
    let dir = temp();
    let metrics = |out: &str| std::fs::read_to_string(dir.path().join(out).join("metrics.json")).unwrap();
    succeeds(&dir, &format!("icarl {TINY} --class-order seed:3 --lr 0.002 --out first"));
    succeeds(&dir, "icarl --config first/config.json --out second");
    assert_eq!(metrics("first"), metrics("second"));

    succeeds(&dir, "icarl --config first/config.json --seed 7 --class-order natural --out third");
    let (first, third) = (json(dir.path().join("first/config.json")), json(dir.path().join("third/config.json")));
    assert_eq!((&first["seed"], &third["seed"]), (&1.into(), &7.into()));
    assert_eq!((&first["class_order"], &third["class_order"]), (&"seed:3".into(), &"natural".into()));
    assert_eq!((&first["lr"], &first["memory"]), (&third["lr"], &third["memory"]));
    assert_ne!(metrics("first"), metrics("third"));
}

#[test]
fn quiet_is_one_line() {
    let dir = temp();
    let run = succeeds(&dir, &format!("finetune {PLAIN} --quiet --out out"));
    assert_eq!(run.out.trim_end().lines().count(), 1, "{}", run.out);
    assert!(run.out.contains("finetune") && run.out.contains('%'), "{}", run.out);
    assert_eq!(run.err, "");
}

#[test]
fn several_seeds_have_folders_and_a_mean() {
    let dir = temp();
    let run = succeeds(&dir, &format!("icarl {TINY} --classes-per-task 5 --seed 4 --seeds 2 --quiet --out out"));
    assert_eq!(
        names(dir.path().join("out")),
        ["plan.json", "report.html", "seed-4", "seed-5", "seeds.csv", "seeds.json"]
    );
    for seed in [4, 5] {
        let folder = dir.path().join(format!("out/seed-{seed}"));
        assert_eq!(json(folder.join("metrics.json"))["seed"], seed);
        assert_eq!(json(folder.join("config.json"))["seeds"], 1);
    }
    assert!(run.out.contains("mean ± standard deviation over 2 seeds (4 5)"), "{}", run.out);
    let row = |title: &str| run.out.lines().find(|line| line.trim_start().starts_with(title)).expect("no such row");
    assert!(row("nme").contains("network"));
    assert!(["final accuracy", "forgetting"].iter().all(|title| row(title).matches('±').count() == 3), "{}", run.out);
}

#[test]
fn the_baselines_run() {
    let dir = temp();
    succeeds(&dir, &format!("finetune {PLAIN} --out finetune"));
    let metrics = json(dir.path().join("finetune/metrics.json"));
    assert_eq!(keys(&metrics["classifiers"]), ["network"].into());
    assert_eq!(metrics["classifiers"]["network"]["matrix"].as_array().unwrap().len(), 5);
    assert!(metrics["classifiers"]["network"]["forgetting"].is_number());
    assert_eq!(metrics["memory_bytes"][4]["total"], 0);

    succeeds(&dir, &format!("joint {PLAIN} --out joint"));
    let metrics = json(dir.path().join("joint/metrics.json"));
    let network = &metrics["classifiers"]["network"];
    assert_eq!((&metrics["n_tasks"], network["matrix"].as_array().unwrap().len()), (&1.into(), 1));
    assert!(network["forgetting"].is_null() && network["backward_transfer"].is_null());
    assert!(network["final_accuracy"].is_number());
}

/// The summary names a command that shows the same stream without the method; it is that stream, whatever was set.
#[test]
fn the_baseline_that_is_named_has_the_same_stream() {
    let dir = temp();
    let own = "--class-order seed:3 --max-tasks 2 --batch-size 9 --seed 4";
    let out = succeeds(&dir, &format!("icarl {TINY} {own} --out run")).out;
    let line = out.replace("\\\n", "");
    let line = line.lines().find(|line| line.contains(" finetune --dataset")).expect("no baseline is named");
    let flags = line.split(" finetune ").nth(1).unwrap();
    for wanted in own.split(" --").chain(["model mlp", "limit-per-task 40", "epochs 1"]) {
        assert!(flags.contains(wanted.trim_start_matches("--")), "no {wanted} in {flags}");
    }
    succeeds(&dir, &format!("finetune {flags} --quiet --out same"));
    let classes = |run: &str| json(dir.path().join(run).join("metrics.json"))["classes_per_task"].clone();
    assert_eq!(classes("run"), classes("same"));
}

#[test]
fn the_built_in_set_can_be_exported_and_run_from_its_files() {
    let dir = temp();
    let list = succeeds(&dir, "datasets").out;
    for words in ["glyphs", "built in", "mnist", "missing", "train-images-idx3-ubyte", &native("datasets/mnist")] {
        assert!(list.contains(words), "no {words:?} in\n{list}");
    }
    let run = succeeds(&dir, "datasets export glyphs files");
    assert_eq!(run.out.lines().count(), 4);
    let list = succeeds(&dir, "datasets --data-dir files").out;
    assert!(list.contains("present in files"), "{list}");
    let by_variable = engram_with(&dir, "datasets", &[("ENGRAM_DATA_DIR", "files")]).out;
    assert!(by_variable.contains("present in files"), "{by_variable}");

    succeeds(&dir, &format!("icarl {TINY} --dataset mnist --data-dir files --out out"));
    let metrics = json(dir.path().join("out/metrics.json"));
    assert_eq!((&metrics["dataset"], &metrics["complete"]), (&"mnist".into(), &true.into()));

    fails(&dir, "datasets export glyphs files", 2, &["train-images-idx3-ubyte exists", "--force"]);
    succeeds(&dir, "datasets export glyphs files --force");
    fails(&dir, "datasets export nothing files", 2, &["nothing", "glyphs"]);
    std::fs::write(dir.path().join("file"), "").unwrap();
    fails(&dir, "datasets export glyphs file/below", 1, &["file/below", "cannot create"]);
}

#[test]
fn devices_are_listed() {
    let dir = temp();
    let list = succeeds(&dir, "devices").out;
    assert!(list.contains("cpu") && list.contains("* is what --device auto takes"), "{list}");
    if common::gpu(false).is_some() {
        assert!(list.contains("gpu:0"), "{list}");
    }
}

#[test]
fn ops_are_checked_and_timed() {
    let dir = temp();
    let check = succeeds(&dir, "check relu --device cpu").out;
    assert!(check.contains("relu") && check.contains("agree with the CPU"), "{check}");
    fails(&dir, "check nothing --device cpu", 2, &["nothing"]);

    let expected = ["allocated_bytes", "dispatches", "first_ms", "gflops", "held_bytes", "ms", "name"];
    let bench = "bench op matmul 64 --repeat 2 --json --device cpu";
    for command in [bench, "bench step --model mlp --batch-size 4 --repeat 2 --json --device cpu"] {
        let rows: Value = serde_json::from_str(&succeeds(dir.path(), command).out).unwrap();
        assert!(!rows.as_array().unwrap().is_empty());
        for row in rows.as_array().unwrap() {
            assert_eq!(keys(row), expected.into(), "{command}");
            assert!(row["ms"].as_f64().unwrap() > 0.0 && row["gflops"].as_f64().unwrap() > 0.0, "{command}: {row}");
        }
    }
    fails(&dir, "bench op nothing --device cpu", 2, &["nothing", "matmul"]);
    fails(&dir, "bench op matmul 0 --device cpu", 2, &["at least 1"]);
    fails(&dir, "bench op matmul -4 --device cpu", 2, &["-4"]);
    fails(&dir, "bench op matmul 8 --repeat 0 --device cpu", 2, &["--repeat", "at least 1"]);
    fails(&dir, "bench op matmul 8 --threads 0 --device cpu", 2, &["--threads", "at least 1"]);
    fails(&dir, "bench step --model nothing --device cpu", 2, &["nothing", "cnn5"]);
    fails(&dir, "bench step --traffic --device cpu", 2, &["--traffic", "--device gpu"]);
    fails(&dir, "bench record --device cpu", 2, &["--device gpu"]);
}

#[test]
fn steps_of_all_models_are_timed_one_after_the_other() {
    let dir = temp();
    let tiny = "bench step --model all --width 0.05 --batch-size 2 --repeat 1 --device cpu";
    let run = succeeds(&dir, tiny);
    check_width(&run.out);
    succeeds(&dir, &format!("{tiny} --json-file rows.json"));
    let rows = json(dir.path().join("rows.json"));
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), engram::models::ALL.len());
    assert_eq!(run.out.lines().count(), rows.len() + 2, "{}", run.out);
    for (spec, row) in engram::models::ALL.iter().zip(rows) {
        let name = row["name"].as_str().unwrap();
        assert!(name.contains(spec.name) && run.out.contains(name), "{name}");
    }
}

/// What a step of the smallest network moves, as the program says it and by hand.
#[test]
fn a_step_says_what_its_kernels_move() {
    if common::gpu(false).is_none() {
        return;
    }
    let dir = temp();
    let command = "bench step --model mlp --batch-size 2 --repeat 2 --device gpu";
    let rows: Value = serde_json::from_str(&succeeds(&dir, &format!("{command} --traffic --json")).out).unwrap();
    let kernels = rows[0]["kernels"].as_array().unwrap();
    let sum: u64 = kernels.iter().map(|row| row["dispatches"].as_u64().unwrap()).sum();
    assert_eq!(Some(sum), rows[0]["dispatches"].as_u64());
    // Weights of 784·256, 256·256 and 256·10, biases of 256, 256 and 10, each in whole slices of 64 words. The optimiser reads
    // the gradient and changes the weights and the momentum.
    let words = 784 * 256 + 256 * 256 + 2560 + 256 + 256 + 64;
    let sgd = kernels.iter().find(|row| row["kernel"] == "sgd").unwrap();
    assert_eq!((&sgd["dispatches"], &sgd["read_bytes"]), (&1.into(), &(4 * words).into()));
    assert_eq!(sgd["written_bytes"], 8 * words);

    let run = succeeds(&dir, &format!("{command} --trace"));
    for word in ["calls", "MiB read", "total ms", "share", "sgd", "\nall "] {
        assert!(run.out.contains(word), "no {word:?} in\n{}", run.out);
    }
    assert!(!run.err.contains("µs  groups "), "a line per dispatch:\n{}", run.err);
    check_width(&run.out);
}

#[test]
fn the_host_is_timed_alone() {
    if common::gpu(false).is_none() {
        return;
    }
    let dir = temp();
    let host: Value =
        serde_json::from_str(&succeeds(&dir, "bench record 20 --repeat 2 --json --device gpu").out).unwrap();
    let [record, encode, submit] = ["record_ms", "encode_ms", "submit_ms"].map(|part| host[part].as_f64().unwrap());
    assert!(record > 0.0 && encode > 0.0 && submit > 0.0, "{host}");
    assert!(succeeds(&dir, "bench record 20 --repeat 1 --device gpu").out.contains("µs/launch"));
}

#[test]
fn compiled_kernels_are_kept_where_the_user_wants_them() {
    if !cfg!(target_os = "linux") || common::gpu(false).is_none() {
        return;
    }
    let dir = temp();
    let run = |variables: &[(&str, &str)]| {
        let outcome = engram_with(&dir, "check relu --device gpu", variables);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
    };
    let home = dir.path().join("home").into_os_string().into_string().unwrap();
    run(&[("XDG_CACHE_HOME", &home)]);
    assert!(!dir.path().join("home/engram").exists(), "an empty ENGRAM_CACHE_DIR turns the cache off");

    run(&[("ENGRAM_CACHE_DIR", "kept")]);
    let kept = names(dir.path().join("kept"));
    assert!(kept.len() == 1 && kept[0].ends_with(".bin"), "{kept:?}");
    let file = dir.path().join("kept").join(&kept[0]);
    let good = std::fs::read(&file).unwrap();
    assert!(good.starts_with(b"engram"));
    for damaged in [&good[..good.len() / 2], &b"no cache at all"[..], &[]] {
        std::fs::write(&file, damaged).unwrap();
        run(&[("ENGRAM_CACHE_DIR", "kept")]);
        assert_eq!(std::fs::read(&file).unwrap(), good, "a damaged file is written anew");
    }
    assert_eq!(names(dir.path().join("kept")), kept, "nothing else is left");
    // A folder that cannot be made is no error.
    run(&[("ENGRAM_CACHE_DIR", file.to_str().unwrap())]);

    let mut command = process(PROGRAM, &dir);
    command.args(["check", "relu", "--device", "gpu"]).env_remove("ENGRAM_CACHE_DIR").env("XDG_CACHE_HOME", &home);
    assert!(command.output().unwrap().status.success());
    assert_eq!(names(dir.path().join("home/engram")), kept);
}

#[test]
fn the_help_names_every_flag_and_its_default() {
    let dir = temp();
    for method in ["icarl", "finetune", "joint"] {
        let help = succeeds(&dir, &format!("{method} --help")).out;
        assert!(!help.contains("[`"), "marks of the documentation in the help:\n{help}");
        let flags = "dataset data-dir labels image-format normalize augment model device threads classes-per-task class-order limit-per-task epochs batch-size optimizer lr lr-steps lr-decay momentum weight-decay seed seeds \
                     config out force quiet trace checked";
        for flag in flags.split_whitespace() {
            assert!(
                help.contains(&format!("--{flag} ")) || help.contains(&format!("--{flag}\n")),
                "no --{flag}:\n{help}"
            );
        }
        for default in ["[default: cnn]", "[default: auto]", "[default: 2; 10", "[default: 1e-4]", "[default: 0.9]"] {
            assert!(help.contains(default), "no {default}:\n{help}");
        }
        for recipe in ["glyphs", "shapes", "mnist", "fashion-mnist", "cifar-10", "cifar-100", "folder"] {
            assert!(help.lines().any(|line| line.contains(recipe) && line.contains("--batch-size")), "{help}");
        }
    }
    // Masks call for other defaults.
    fails(
        &dir,
        "segment finetune --dataset glyphs",
        2,
        &["one class for each image", "engram finetune --dataset glyphs"],
    );
    let help = succeeds(&dir, "segment --help").out;
    for default in ["shape-city", "deeplab-lite", "0.5", "16 for shape-city", "sampled"] {
        assert!(help.contains(&format!("[default: {default}]")), "no {default}:\n{help}");
    }
    let help = succeeds(&dir, "--help").out;
    for command in ["icarl", "finetune", "joint", "predict", "report", "datasets", "devices", "check", "bench"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "no {command}:\n{help}");
    }
    assert!(succeeds(&dir, "--version").out.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_gpu_run_and_its_trace() {
    if common::gpu(false).is_none() {
        return;
    }
    let dir = temp();
    let run = succeeds(&dir, "icarl --limit-per-task 10 --epochs 1 --memory 10 --model mlp --device gpu --out out");
    assert!(run.out.contains("Results: out"), "{}", run.out);
    let metrics = json(dir.path().join("out/metrics.json"));
    assert_eq!(metrics["complete"], true);
    let config = json(dir.path().join("out/config.json"));
    assert_eq!(config["device"], "gpu");
    assert!(!config["adapter"].as_str().unwrap().starts_with("cpu"));

    let trace = "joint --limit-per-task 10 --epochs 1 --model mlp --device gpu --quiet --trace --out trace";
    let run = succeeds(dir.path(), trace);
    let dispatches = run.err.lines().filter(|line| line.contains("µs  groups ")).count();
    assert!(dispatches > 20, "{dispatches} dispatches:\n{}", run.err);
    let summary = run.err.split("kernel ").last().unwrap();
    for word in ["calls", "total ms", "relu.forward", "adam"] {
        assert!(summary.contains(word), "no {word:?} in\n{summary}");
    }
    assert_eq!(run.out.trim_end().lines().count(), 1, "{}", run.out);
}

#[test]
fn without_an_adapter_the_program_says_what_to_install() {
    let dir = temp();
    let none = [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];
    if !engram_with(&dir, "devices", &none).out.contains("There is no adapter.") {
        eprintln!("SKIPPED: this machine has an adapter besides Vulkan's");
        return;
    }
    for device in ["gpu", "gpu:0", "gpu:llvmpipe"] {
        let run = engram_with(&dir, &format!("icarl --device {device} --out out"), &none);
        assert_eq!(run.code, 1, "{}", run.err);
        for word in ["no GPU adapter", "--device cpu"] {
            assert!(run.err.contains(word), "no {word:?} in\n{}", run.err);
        }
        if cfg!(target_os = "linux") {
            assert!(run.err.contains("mesa-vulkan-drivers"), "{}", run.err);
        }
    }
    assert_eq!(engram_with(&dir, "check", &none).code, 1);
    assert!(!dir.path().join("out").exists(), "a refusal leaves nothing");
    // `auto` falls back to the processor.
    let tiny = PLAIN.replace("--device cpu", "--device auto");
    assert_eq!(engram_with(&dir, &format!("joint {tiny} --quiet --out out"), &none).code, 0);
}

#[test]
fn models_are_listed_and_shown() {
    let dir = temp();
    let list = succeeds(&dir, "models").out;
    for spec in engram::models::ALL {
        assert!(list.contains(spec.name), "no {} in\n{list}", spec.name);
    }
    check_width(&list);
    let shown = succeeds(&dir, "models show resnet32 --outputs 100").out;
    assert!(shown.contains("layer3.4.conv2") && shown.contains("470,004"), "{shown}");
    let narrow = succeeds(&dir, "models show resnet32 --width 0.5 --shortcut b --input 1x28x28").out;
    assert!(narrow.contains("layer2.0.downsample.0") && narrow.contains("8×28×28"), "{narrow}");
    fails(&dir, "models show lenet", 2, &["lenet", "resnet32"]);
    fails(&dir, "models show vgg11 --input 3x16x16", 2, &["3×16×16", "vgg11", "pooled"]);
    fails(&dir, "models show cnn --input 28x28", 2, &["--input", "3x32x32"]);
    fails(&dir, "models show cnn --width 0", 2, &["--width"]);
}

#[test]
fn lists_have_a_name() {
    let dir = temp();
    for command in ["datasets", "methods", "models", "presets"] {
        let list = succeeds(&dir, &format!("{command} list")).out;
        assert!(list.lines().count() > 5, "{command}: {list}");
        assert_eq!(list, succeeds(&dir, command).out, "{command}");
    }
}

#[test]
fn numbers_at_their_limits_are_taken_or_refused() {
    let dir = temp();
    let largest = u64::MAX;
    succeeds(&dir, &format!("finetune {PLAIN} --max-tasks 1 --quiet --seed {largest} --out largest"));
    assert_eq!(json(dir.path().join("largest/metrics.json"))["seed"], largest);
    for (arguments, wanted) in [
        (format!("finetune --seed {largest} --seeds 2"), "--seed"),
        (format!("compare er finetune --seed {largest}"), "--seed"),
        (format!("finetune --seed {largest}0"), "too large"),
        ("finetune --epochs many".into(), "a whole number is needed"),
        ("finetune --lr fast".into(), "a number is needed"),
        ("finetune --threads 100000".into(), "--threads"),
        (format!("der --memory {largest}"), "--memory"),
    ] {
        fails(&dir, &arguments, 2, &[wanted]);
    }
}
