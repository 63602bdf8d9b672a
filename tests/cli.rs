//! The program as a person uses it: what it prints, writes and answers with, and what it says to bad input.

mod common;

use engram::experiment::checkpoint::CHECKPOINT_FILE;
use engram::experiment::results::RESULT_FILES;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_engram");

/// A run of a second or less.
const TINY: &str = "--limit-per-task 40 --epochs 1 --memory 20 --model mlp --device cpu";

struct Outcome {
    code: i32,
    out: String,
    err: String,
}

/// Variables of the person who runs the tests must not change what is tested.
const VARIABLES: [&str; 2] = ["ENGRAM_DATA_DIR", "RAYON_NUM_THREADS"];

/// Runs the program in a folder, with its arguments as on a command line.
#[track_caller]
fn engram(dir: &Path, arguments: &str) -> Outcome {
    engram_with(dir, arguments, &[])
}

#[track_caller]
fn engram_with(dir: &Path, arguments: &str, variables: &[(&str, &str)]) -> Outcome {
    let mut command = assert_cmd::Command::new(PROGRAM);
    command.current_dir(dir).args(arguments.split_whitespace()).timeout(Duration::from_secs(120));
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    // Mesa complains on stderr where a machine has no such folder.
    command.env("XDG_RUNTIME_DIR", dir).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let outcome = Outcome {
        code: output.status.code().unwrap_or_else(|| panic!("engram {arguments}: ended by a signal, or too slow")),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(!outcome.err.contains("panicked"), "engram {arguments}:\n{}", outcome.err);
    outcome
}

/// The output of a run that must succeed.
#[track_caller]
fn succeeds(dir: &Path, arguments: &str) -> Outcome {
    let outcome = engram(dir, arguments);
    assert_eq!(outcome.code, 0, "engram {arguments}:\n{}", outcome.err);
    outcome
}

/// The message of a run that must fail with this code; it must have all the words.
#[track_caller]
fn fails(dir: &Path, arguments: &str, code: i32, words: &[&str]) -> String {
    let outcome = engram(dir, arguments);
    assert_eq!(outcome.code, code, "engram {arguments}:\n{}{}", outcome.out, outcome.err);
    assert!(outcome.err.starts_with("error: "), "engram {arguments}:\n{}", outcome.err);
    // A message is broken where a line would be too long.
    let message = outcome.err.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(message.contains(word), "engram {arguments}: no {word:?} in\n{}", outcome.err);
    }
    check_width(&outcome.err);
    message
}

/// No line is wider than 100 columns; a word that is, such as a path, has a line of its own.
#[track_caller]
fn check_width(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 100 || line.split_whitespace().count() == 1, "too wide:\n{line}");
    }
}

#[track_caller]
fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

// ---------------------------------------------------------------------------------------------------------- good runs

#[test]
fn a_run_prints_a_table_and_leaves_its_files() {
    let dir = temp();
    let run = succeeds(dir.path(), &format!("icarl {TINY} --out out"));
    for task in 1..=5 {
        assert!(run.out.contains(&format!("{task}/5 ")), "no row of task {task}:\n{}", run.out);
    }
    for words in ["nme", "Result: icarl tells 10 classes apart", "Forgetting:", "Memory:", "finetune", "Results: out"] {
        assert!(run.out.contains(words), "no {words:?} in\n{}", run.out);
    }
    // No terminal, no bar: not a carriage return, not an escape sequence.
    assert!(!run.out.contains(['\r', '\u{1b}']), "{:?}", run.out);
    assert_eq!(run.err, "");

    let out = dir.path().join("out");
    let mut files = BTreeSet::from(RESULT_FILES.map(String::from));
    files.insert("exemplars".into());
    assert_eq!(names(&out), files);

    let config = json(&out.join("config.json"));
    for key in ["version", "method", "dataset", "model", "device", "adapter", "memory", "epochs", "batch_size", "lr"] {
        assert!(!config[key].is_null(), "config.json does not say {key}");
    }
    assert_eq!((&config["method"], &config["seed"]), (&"icarl".into(), &1.into()));

    let metrics = json(&out.join("metrics.json"));
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

    let timing = json(&out.join("timing.json"));
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
    succeeds(dir.path(), &format!("icarl {TINY} --class-order seed:3 --lr 0.002 --out first"));
    succeeds(dir.path(), "icarl --config first/config.json --out second");
    assert_eq!(metrics("first"), metrics("second"));

    succeeds(dir.path(), "icarl --config first/config.json --seed 7 --class-order natural --out third");
    let (first, third) = (json(&dir.path().join("first/config.json")), json(&dir.path().join("third/config.json")));
    assert_eq!((&first["seed"], &third["seed"]), (&1.into(), &7.into()));
    assert_eq!((&first["class_order"], &third["class_order"]), (&"seed:3".into(), &"natural".into()));
    assert_eq!((&first["lr"], &first["memory"]), (&third["lr"], &third["memory"]));
    assert_ne!(metrics("first"), metrics("third"));
}

#[test]
fn a_config_file_is_checked() {
    let dir = temp();
    let write = |text: &str| std::fs::write(dir.path().join("c.json"), text).unwrap();
    write(r#"{"epochs": 1, "learning_rate": 0.1}"#);
    fails(dir.path(), "icarl --config c.json --out out", 2, &["c.json", "learning_rate", "lr"]);
    write(r#"{"epochs": "many"}"#);
    fails(dir.path(), "icarl --config c.json --out out", 2, &["c.json", "many"]);
    write(r#"{"epochs": 0}"#);
    fails(dir.path(), "icarl --config c.json --out out", 2, &["--epochs", "at least 1"]);
    write(r#"{"epochs": -1}"#);
    fails(dir.path(), "icarl --config c.json --out out", 2, &["c.json", "-1"]);
    write("epochs = 1");
    fails(dir.path(), "icarl --config c.json --out out", 2, &["c.json"]);
    write(r#"{"lr": 1e39}"#);
    for command in ["icarl", "distill"] {
        let command = format!("{command} --config c.json --out out");
        fails(dir.path(), &command, 2, &["c.json", "number out of range"]);
    }
    fails(dir.path(), "icarl --config nowhere.json --out out", 1, &["nowhere.json", "cannot read"]);
    assert!(!dir.path().join("out").exists());
}

#[test]
fn quiet_is_one_line() {
    let dir = temp();
    let run = succeeds(dir.path(), &format!("finetune {TINY} --quiet --out out"));
    assert_eq!(run.out.trim_end().lines().count(), 1, "{}", run.out);
    assert!(run.out.contains("finetune") && run.out.contains('%'), "{}", run.out);
    assert_eq!(run.err, "");
}

#[test]
fn several_seeds_have_folders_and_a_mean() {
    let dir = temp();
    let run = succeeds(dir.path(), &format!("icarl {TINY} --classes-per-task 5 --seed 4 --seeds 2 --quiet --out out"));
    assert_eq!(names(&dir.path().join("out")), ["report.html", "seed-4", "seed-5"].map(String::from).into());
    for seed in [4, 5] {
        let folder = dir.path().join(format!("out/seed-{seed}"));
        assert_eq!(json(&folder.join("metrics.json"))["seed"], seed);
        assert_eq!(json(&folder.join("config.json"))["seeds"], 1);
    }
    assert!(run.out.contains("mean ± standard deviation over 2 seeds (4 5)"), "{}", run.out);
    let row = run.out.lines().find(|line| line.starts_with("nme")).expect("no row of nme");
    assert!(row.matches('±').count() >= 2, "{row}");
}

#[test]
fn the_baselines_run() {
    let dir = temp();
    succeeds(dir.path(), &format!("finetune {TINY} --out finetune"));
    let metrics = json(&dir.path().join("finetune/metrics.json"));
    assert_eq!(keys(&metrics["classifiers"]), ["network"].into());
    assert_eq!(metrics["classifiers"]["network"]["matrix"].as_array().unwrap().len(), 5);
    assert!(metrics["classifiers"]["network"]["forgetting"].is_number());
    assert_eq!(metrics["memory_bytes"][4]["total"], 0);

    succeeds(dir.path(), &format!("joint {TINY} --out joint"));
    let metrics = json(&dir.path().join("joint/metrics.json"));
    let network = &metrics["classifiers"]["network"];
    assert_eq!((&metrics["n_tasks"], network["matrix"].as_array().unwrap().len()), (&1.into(), 1));
    assert!(network["forgetting"].is_null() && network["backward_transfer"].is_null());
    assert!(network["final_accuracy"].is_number());
}

#[test]
fn the_built_in_set_can_be_exported_and_run_from_its_files() {
    let dir = temp();
    let list = succeeds(dir.path(), "datasets").out;
    for words in ["glyphs", "built in", "mnist", "missing", "train-images-idx3-ubyte", "datasets/mnist"] {
        assert!(list.contains(words), "no {words:?} in\n{list}");
    }
    let run = succeeds(dir.path(), "datasets export glyphs files");
    assert_eq!(run.out.lines().count(), 4);
    let list = succeeds(dir.path(), "datasets --data-dir files").out;
    assert!(list.contains("present in files"), "{list}");
    let by_variable = engram_with(dir.path(), "datasets", &[("ENGRAM_DATA_DIR", "files")]).out;
    assert!(by_variable.contains("present in files"), "{by_variable}");

    succeeds(dir.path(), &format!("icarl {TINY} --dataset mnist --data-dir files --out out"));
    let metrics = json(&dir.path().join("out/metrics.json"));
    assert_eq!((&metrics["dataset"], &metrics["complete"]), (&"mnist".into(), &true.into()));

    fails(dir.path(), "datasets export nothing files", 2, &["nothing", "glyphs"]);
    std::fs::write(dir.path().join("file"), "").unwrap();
    fails(dir.path(), "datasets export glyphs file/below", 1, &["file/below", "cannot create"]);
}

#[test]
fn devices_are_listed() {
    let dir = temp();
    let list = succeeds(dir.path(), "devices").out;
    assert!(list.contains("cpu") && list.contains("* is what --device auto takes"), "{list}");
    if common::gpu(false).is_some() {
        assert!(list.contains("gpu:0"), "{list}");
    }
}

#[test]
fn ops_are_checked_and_timed() {
    let dir = temp();
    let check = succeeds(dir.path(), "check relu --device cpu").out;
    assert!(check.contains("relu") && check.contains("agree with the CPU"), "{check}");
    fails(dir.path(), "check nothing --device cpu", 2, &["nothing"]);

    let expected = ["allocated_bytes", "dispatches", "gflops", "held_bytes", "ms", "name"];
    let bench = "bench op matmul 64 --repeat 2 --json --device cpu";
    for command in [bench, "bench step --model mlp --batch-size 4 --repeat 2 --json --device cpu"] {
        let rows: Value = serde_json::from_str(&succeeds(dir.path(), command).out).unwrap();
        assert!(!rows.as_array().unwrap().is_empty());
        for row in rows.as_array().unwrap() {
            assert_eq!(keys(row), expected.into(), "{command}");
            assert!(row["ms"].as_f64().unwrap() > 0.0 && row["gflops"].as_f64().unwrap() > 0.0, "{command}: {row}");
        }
    }
    fails(dir.path(), "bench op nothing --device cpu", 2, &["nothing", "matmul"]);
    fails(dir.path(), "bench op matmul 0 --device cpu", 2, &["at least 1"]);
    fails(dir.path(), "bench op matmul -4 --device cpu", 2, &["-4"]);
    fails(dir.path(), "bench op matmul 8 --repeat 0 --device cpu", 2, &["--repeat", "at least 1"]);
    fails(dir.path(), "bench op matmul 8 --threads 0 --device cpu", 2, &["--threads", "at least 1"]);
    fails(dir.path(), "bench step --model nothing --device cpu", 2, &["nothing", "cnn5"]);
}

#[test]
fn the_help_names_every_flag_and_its_default() {
    let dir = temp();
    for method in ["icarl", "finetune", "joint"] {
        let help = succeeds(dir.path(), &format!("{method} --help")).out;
        assert!(!help.contains("[`"), "marks of the documentation in the help:\n{help}");
        let flags = "dataset data-dir labels image-format normalize augment model device threads classes-per-task class-order limit-per-task memory \
                     memory-rounding epochs batch-size optimizer lr lr-steps lr-decay momentum weight-decay seed seeds \
                     config out force quiet trace checked";
        for flag in flags.split_whitespace() {
            assert!(
                help.contains(&format!("--{flag} ")) || help.contains(&format!("--{flag}\n")),
                "no --{flag}:\n{help}"
            );
        }
        for default in ["[default: cnn]", "[default: auto]", "[default: 2]", "[default: ceil]", "[default: 0.9]"] {
            assert!(help.contains(default), "no {default}:\n{help}");
        }
        for recipe in ["glyphs", "shapes", "mnist", "fashion-mnist", "cifar-10", "cifar-100", "folder"] {
            assert!(help.lines().any(|line| line.contains(recipe) && line.contains("--batch-size")), "{help}");
        }
    }
    let help = succeeds(dir.path(), "--help").out;
    for command in ["icarl", "finetune", "joint", "predict", "report", "datasets", "devices", "check", "bench"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "no {command}:\n{help}");
    }
    assert!(succeeds(dir.path(), "--version").out.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_gpu_run_and_its_trace() {
    if common::gpu(false).is_none() {
        return;
    }
    let dir = temp();
    let run =
        succeeds(dir.path(), "icarl --limit-per-task 10 --epochs 1 --memory 10 --model mlp --device gpu --out out");
    assert!(run.out.contains("Results: out"), "{}", run.out);
    let metrics = json(&dir.path().join("out/metrics.json"));
    assert_eq!(metrics["complete"], true);
    let config = json(&dir.path().join("out/config.json"));
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
    if !engram_with(dir.path(), "devices", &none).out.contains("There is no adapter.") {
        eprintln!("SKIPPED: this machine has an adapter besides Vulkan's");
        return;
    }
    for device in ["gpu", "gpu:0", "gpu:llvmpipe"] {
        let run = engram_with(dir.path(), &format!("icarl --device {device} --out out"), &none);
        assert_eq!(run.code, 1, "{}", run.err);
        for word in ["no GPU adapter", "--device cpu"] {
            assert!(run.err.contains(word), "no {word:?} in\n{}", run.err);
        }
        if cfg!(target_os = "linux") {
            assert!(run.err.contains("mesa-vulkan-drivers"), "{}", run.err);
        }
    }
    assert_eq!(engram_with(dir.path(), "check", &none).code, 1);
    assert!(!dir.path().join("out").exists(), "a refusal leaves nothing");
    // `auto` falls back to the processor.
    let tiny = TINY.replace("--device cpu", "--device auto");
    assert_eq!(engram_with(dir.path(), &format!("joint {tiny} --quiet --out out"), &none).code, 0);
}

// ---------------------------------------------------------------------------------------------------------- bad input

/// The bytes of an IDX file.
fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let header = [0, 0, 8, dims.len() as u8].into_iter();
    header.chain(dims.iter().flat_map(|dim| dim.to_be_bytes())).chain(data.iter().copied()).collect()
}

/// Four files under MNIST's names: `n` images a class for training, one a class for testing, 8×8 pixels.
fn write_files(dir: &Path, n: u32) {
    let parts = [("train", n), ("t10k", 1)];
    for (part, n) in parts {
        let labels: Vec<u8> = (0..10 * n).map(|i| (i % 10) as u8).collect();
        let pixels: Vec<u8> = labels.iter().flat_map(|&label| [20 * label; 64]).collect();
        std::fs::write(dir.join(format!("{part}-images-idx3-ubyte")), idx(&[10 * n, 8, 8], &pixels)).unwrap();
        std::fs::write(dir.join(format!("{part}-labels-idx1-ubyte")), idx(&[10 * n], &labels)).unwrap();
    }
}

#[test]
fn damaged_data_files_are_named() {
    let dir = temp();
    write_files(dir.path(), 2);
    let command = "finetune --dataset mnist --data-dir . --model mlp --epochs 1 --device cpu --out out";
    succeeds(dir.path(), &format!("{command} --force"));
    std::fs::remove_dir_all(dir.path().join("out")).unwrap();

    let (images, labels) = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage, &[&str]); 11] = [
        (images, |bytes| bytes.truncate(100), &["truncated", "1296 bytes", "found 100"]),
        (images, |bytes| bytes.truncate(7), &["truncated", "header", "7 bytes"]),
        (images, |bytes| bytes.clear(), &["truncated", "0 bytes"]),
        (images, |bytes| bytes.push(0), &["oversized", "1296 bytes", "1297"]),
        (images, |bytes| bytes[2] = 9, &["wrong magic number"]),
        (images, |bytes| bytes[3] = 1, &["wrong magic number", "images"]),
        (images, |bytes| bytes[4..16].fill(0xff), &["truncated", "4294967295"]),
        (images, |bytes| bytes[8..12].fill(0), &["size is zero"]),
        (labels, |bytes| bytes.truncate(20), &["truncated"]),
        (labels, |bytes| bytes[8 + 13] = 10, &["label 13 is 10", "0 to 9"]),
        (labels, |bytes| *bytes = idx(&[19], &[0; 19]), &["19 labels", "20 images", "do not belong together"]),
    ];
    for (name, damage, words) in damages {
        let path = dir.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let message = fails(dir.path(), command, 1, words);
        assert!(message.contains(name), "{name} is not named: {message}");
        std::fs::write(&path, whole).unwrap();
    }
    // Half a .gz file in place of the plain one.
    let path = dir.path().join(images);
    std::fs::rename(&path, dir.path().join("plain")).unwrap();
    std::fs::write(dir.path().join(format!("{images}.gz")), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).unwrap();
    fails(dir.path(), command, 1, &["train-images-idx3-ubyte.gz", "gzip"]);
    std::fs::remove_file(dir.path().join(format!("{images}.gz"))).unwrap();
    fails(dir.path(), command, 1, &["missing train-images-idx3-ubyte ", "--data-dir", "datasets/README.md"]);
    fails(dir.path(), &command.replace("--data-dir .", "--data-dir nowhere"), 1, &["nowhere", "nowhere/mnist"]);
    assert!(!dir.path().join("out").exists(), "a refusal leaves nothing");
}

#[test]
fn unknown_names_are_wrong_use() {
    let dir = temp();
    fails(dir.path(), "icarl --dataset cifar --out out", 2, &["cifar", "glyphs", "mnist"]);
    fails(dir.path(), "imagine --out out", 2, &["imagine"]);
    fails(dir.path(), "icarl --model resnet --out out", 2, &["resnet", "mlp", "cnn5"]);
    fails(dir.path(), "icarl --device cuda --out out", 2, &["cuda", "auto", "gpu:INDEX"]);
    fails(dir.path(), "icarl --optimizer lion --out out", 2, &["lion", "sgd", "adam"]);
    fails(dir.path(), "icarl --class-order 1,10 --out out", 2, &["10", "0 to 9"]);
    fails(dir.path(), "icarl --class-order 1,1 --out out", 2, &["class 1", "twice"]);
    fails(dir.path(), "icarl --class-order sorted --out out", 2, &["sorted", "natural"]);
    fails(dir.path(), "icarl --class-order 0,-1 --out out", 2, &["0,-1"]);
    fails(dir.path(), "icarl --nothing --out out", 2, &["--nothing"]);
    if common::gpu(false).is_some() {
        fails(dir.path(), "icarl --device gpu:99 --out out", 2, &["99", "gpu:0"]);
        fails(dir.path(), "icarl --device gpu:voodoo --out out", 2, &["voodoo", "gpu:0"]);
    }
    assert!(!dir.path().join("out").exists(), "a refusal leaves nothing");
}

#[test]
fn impossible_numbers_are_wrong_use() {
    let dir = temp();
    fails(dir.path(), "icarl --classes-per-task 11 --out out", 2, &["11", "10 classes"]);
    fails(dir.path(), "icarl --classes-per-task 4 --class-order 0,1,2 --out out", 2, &["4", "3 classes"]);
    fails(dir.path(), "icarl --memory 9 --out out", 2, &["--memory 9", "10 classes", "--memory 10"]);
    fails(dir.path(), "icarl --limit-per-task 1 --out out", 2, &["1", "at least 2"]);
    let sizes = ["epochs", "batch-size", "seeds", "classes-per-task", "threads", "limit-per-task"];
    for flag in sizes {
        fails(dir.path(), &format!("icarl --{flag} 0 --out out"), 2, &[&format!("--{flag}"), "at least 1"]);
    }
    fails(dir.path(), "icarl --memory 0 --out out", 2, &["--memory 0"]);
    for flag in sizes.into_iter().chain(["memory", "seed", "lr-steps"]) {
        for value in ["-1", "x", "1.5", "99999999999999999999999"] {
            let words = [&format!("--{flag}"), value];
            fails(dir.path(), &format!("icarl --{flag} {value} --out out"), 2, &words);
        }
    }
    for (flag, values) in
        [("lr", ["0", "-0.1", "nan"]), ("lr-decay", ["0", "-1", "inf"]), ("momentum", ["1", "-0.1", "nan"])]
    {
        for value in values {
            fails(dir.path(), &format!("icarl --{flag} {value} --out out"), 2, &[&format!("--{flag}")]);
        }
    }
    fails(dir.path(), "icarl --weight-decay -1 --out out", 2, &["--weight-decay -1"]);
    fails(dir.path(), "ewc --penalty-weight -0.1 --out out", 2, &["--penalty-weight -0.1: it must be 0 or a positive"]);
    // Settings are kept as JSON, which has no such numbers: taken for "not given", they would be the default.
    for command in
        ["icarl --width", "ewc --penalty-weight", "distill --lr", "tune ewc --drop", "compare er --of er:lr="]
    {
        for value in ["nan", "inf", "1e999"] {
            let separator = if command.ends_with('=') { "" } else { " " };
            fails(dir.path(), &format!("{command}{separator}{value} --out out"), 2, &[value, "a finite number"]);
        }
    }
    assert!(!dir.path().join("out").exists(), "a refusal leaves nothing");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = temp();
    std::fs::write(dir.path().join("file"), "mine").unwrap();
    // Below a regular file, because tests may run as root, for whom permissions do not hold.
    fails(dir.path(), &format!("icarl {TINY} --out file/run"), 1, &["file/run", "cannot create"]);
    fails(dir.path(), &format!("icarl {TINY} --out file --force"), 1, &["file", "cannot create"]);
    assert_eq!(std::fs::read_to_string(dir.path().join("file")).unwrap(), "mine");
}

#[test]
fn an_existing_run_is_kept_without_force() {
    let dir = temp();
    let metrics = || std::fs::read_to_string(dir.path().join("out/metrics.json")).unwrap();
    succeeds(dir.path(), &format!("joint {TINY} --quiet --out out"));
    let first = metrics();
    fails(dir.path(), &format!("joint {TINY} --seed 2 --out out"), 2, &["out", "--force"]);
    assert_eq!(metrics(), first);
    // Wrong use is found before anything is replaced.
    for wrong in ["--limit-per-task 9", "--class-order 0,10", "--dataset nothing", "--device nothing"] {
        let rest = TINY.replace("--limit-per-task 40", "").replace("--device cpu", "");
        fails(dir.path(), &format!("joint {rest} {wrong} --out out --force"), 2, &[]);
        assert_eq!(metrics(), first, "{wrong} destroyed earlier results");
    }
    // What another kind of run left goes too; what is nobody's stays.
    for name in ["terms.csv", "notes"] {
        std::fs::write(dir.path().join("out").join(name), "old").unwrap();
    }
    succeeds(dir.path(), &format!("joint {TINY} --seed 2 --quiet --out out --force"));
    assert_ne!(metrics(), first);
    assert_eq!(["terms.csv", "notes"].map(|name| dir.path().join("out").join(name).exists()), [false, true]);
    // One of several seeds' folders is taken: none is begun.
    std::fs::create_dir_all(dir.path().join("many/seed-2")).unwrap();
    std::fs::write(dir.path().join("many/seed-2/notes"), "mine").unwrap();
    fails(dir.path(), &format!("joint {TINY} --seeds 2 --out many"), 2, &["seed-2", "--force"]);
    assert_eq!(names(&dir.path().join("many/seed-2")).len(), 1);
}

#[test]
fn divergence_ends_a_run_and_keeps_earlier_tasks() {
    let dir = temp();
    // A single class has nothing to learn under cross-entropy: the first task survives any rate, if weights do not decay.
    let arguments =
        "--classes-per-task 1 --optimizer sgd --lr 1e30 --weight-decay 0 --epochs 3 --limit-per-task 40 --model mlp";
    fails(dir.path(), &format!("finetune {arguments} --device cpu --out out"), 1, &["diverged", "task 2", "--lr"]);
    let metrics = json(&dir.path().join("out/metrics.json"));
    assert_eq!(metrics["complete"], false);
    assert_eq!(metrics["classifiers"]["network"]["matrix"].as_array().unwrap().len(), 1);
    let weights = std::fs::read(dir.path().join("out/model.safetensors")).unwrap();
    safetensors::SafeTensors::deserialize(&weights).unwrap();
    assert!(!names(&dir.path().join("out")).iter().any(|name| name.ends_with(".tmp")));

    // In the first task: no results, and none is pretended.
    let arguments = "--optimizer sgd --lr 1e30 --epochs 3 --limit-per-task 40 --memory 10 --model mlp";
    fails(dir.path(), &format!("icarl {arguments} --device cpu --out first"), 1, &["diverged", "task 1", "--lr"]);
    let names = names(&dir.path().join("first"));
    assert!(names.iter().all(|name| name == "config.json" || name == CHECKPOINT_FILE), "{names:?}");

    // The step that breaks the weights is the last of its task.
    let arguments = "--optimizer sgd --lr 1e30 --epochs 1 --limit-per-task 20 --memory 10 --model mlp";
    let devices = if common::gpu(false).is_some() { vec!["cpu", "gpu"] } else { vec!["cpu"] };
    for device in devices {
        let run = engram(dir.path(), &format!("icarl {arguments} --device {device} --out last-{device}"));
        assert_eq!(run.code, 1, "{device}: {}", run.err);
        assert!(run.err.contains("diverged"), "{device}: {}", run.err);
        let metrics = dir.path().join(format!("last-{device}/metrics.json"));
        assert!(!metrics.exists() || json(&metrics)["complete"] == false);
    }
}

/// Ends the program whatever becomes of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_a_run_cleanly() {
    let dir = temp();
    let mut command = std::process::Command::new(PROGRAM);
    command.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command.args("icarl --limit-per-task 40 --epochs 400 --memory 20 --model mlp --device cpu --out out".split(' '));
    let mut running = Running(command.spawn().unwrap());
    let metrics = dir.path().join("out/metrics.json");
    let started = Instant::now();
    while !metrics.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "the first task does not end");
        assert!(running.0.try_wait().unwrap().is_none(), "the run ended before it could be interrupted");
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &running.0.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let status = running.0.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    let mut err = String::new();
    std::io::Read::read_to_string(running.0.stderr.as_mut().unwrap(), &mut err).unwrap();
    assert!(err.contains("interrupted") && !err.contains("panicked"), "{err}");
    let metrics = json(&metrics);
    assert_eq!(metrics["complete"], false);
    let n_tasks = metrics["classifiers"]["nme"]["matrix"].as_array().unwrap().len();
    assert!((1..5).contains(&n_tasks), "{n_tasks} tasks are finished");
    assert!(!names(&dir.path().join("out")).iter().any(|name| name.ends_with(".tmp")));
}

#[test]
fn models_are_listed_and_shown() {
    let dir = temp();
    let list = succeeds(dir.path(), "models").out;
    for spec in engram::models::ALL {
        assert!(list.contains(spec.name), "no {} in\n{list}", spec.name);
    }
    check_width(&list);
    let shown = succeeds(dir.path(), "models show resnet32 --outputs 100").out;
    assert!(shown.contains("layer3.4.conv2") && shown.contains("470,004"), "{shown}");
    let narrow = succeeds(dir.path(), "models show resnet32 --width 0.5 --shortcut b --input 1x28x28").out;
    assert!(narrow.contains("layer2.0.downsample.0") && narrow.contains("8×28×28"), "{narrow}");
    fails(dir.path(), "models show lenet", 2, &["lenet", "resnet32"]);
    fails(dir.path(), "models show vgg11 --input 3x16x16", 2, &["3×16×16", "vgg11", "pooled"]);
    fails(dir.path(), "models show cnn --input 28x28", 2, &["--input", "3x32x32"]);
    fails(dir.path(), "models show cnn --width 0", 2, &["--width"]);
}

#[test]
fn presets_and_reproductions_refuse_what_they_do_not_know() {
    let dir = temp();
    fails(dir.path(), "icarl --preset icarl-cifar10", 2, &["icarl-cifar10", "icarl-cifar100"]);
    fails(dir.path(), "reproduce imagenet", 2, &["imagenet", "icarl-cifar100"]);
    fails(dir.path(), "reproduce icarl-cifar100 --orders 0", 2, &["--orders"]);
    fails(dir.path(), "reproduce icarl-cifar100 --seeds 2", 2, &["--orders"]);
    fails(dir.path(), "reproduce der-cifar10 --orders 2", 2, &["--seeds"]);
    fails(dir.path(), "reproduce icarl-cifar100 --classes-per-task 3", 2, &["2, 5, 10, 20, 50"]);
    fails(dir.path(), "reproduce der-cifar10 --memory 300", 2, &["200, 500"]);
    fails(dir.path(), "reproduce der-cifar10 --methods er,icarl", 2, &["icarl", "no figure"]);
    // The data set is not there: the preset is the paper's, not a smaller one.
    fails(dir.path(), "icarl --preset icarl-cifar100", 1, &["cifar-100"]);
    fails(dir.path(), "reproduce icarl-cifar100", 1, &["cifar-100"]);
    let clash = engram(dir.path(), "icarl --resume x --preset icarl-cifar100");
    assert!(clash.code == 2 && clash.err.contains("cannot be used with"), "{}", clash.err);
    let time = engram(dir.path(), "icarl --stop-after soon");
    assert!(time.code == 2 && time.err.contains("90s, 9m or 2h"), "{}", time.err);
}
