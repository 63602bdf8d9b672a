//! Bad input: the program prints one clear message, creates nothing and loses nothing.

use crate::common;
use crate::common::program::{PLAIN, TINY, engram, fails, json, names, native, succeeds};
use engram::experiment::checkpoint::CHECKPOINT_FILE;
use std::path::Path;
use tempfile::TempDir;

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

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
    let said = succeeds(&dir, &format!("{command} --force")).err;
    assert!(said.contains("20 training and 10 test images") && said.contains("another data set"), "{said}");
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
        let message = fails(&dir, command, 1, words).message();
        assert!(message.contains(name), "{name} is not named: {message}");
        std::fs::write(&path, whole).unwrap();
    }
    // Half a .gz file in place of the plain one.
    let path = dir.path().join(images);
    std::fs::rename(&path, dir.path().join("plain")).unwrap();
    std::fs::write(dir.path().join(format!("{images}.gz")), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).unwrap();
    fails(&dir, command, 1, &["train-images-idx3-ubyte.gz", "gzip"]);
    std::fs::remove_file(dir.path().join(format!("{images}.gz"))).unwrap();
    fails(&dir, command, 1, &["missing train-images-idx3-ubyte ", "--data-dir", "datasets/README.md"]);
    fails(&dir, &command.replace("--data-dir .", "--data-dir nowhere"), 1, &["nowhere", &native("nowhere/mnist")]);
    assert!(!dir.path().join("out").exists(), "a refusal leaves nothing");
}

#[test]
fn unknown_names_are_wrong_use() {
    let dir = temp();
    fails(&dir, "icarl --dataset cifar --out out", 2, &["cifar", "glyphs", "mnist"]);
    fails(&dir, "imagine --out out", 2, &["imagine"]);
    fails(&dir, "icarl --model resnet --out out", 2, &["resnet", "mlp", "cnn5"]);
    fails(&dir, "icarl --dataset MNIST --out out", 2, &["Did you mean 'mnist'?"]);
    fails(&dir, "icarl --dataset cifar100 --out out", 2, &["Did you mean 'cifar-100'?"]);
    fails(&dir, "compare iCaRL er --out out", 2, &["Did you mean 'icarl'?"]);
    fails(&dir, "iCaRL --out out", 2, &["iCaRL", "similar subcommand", "'icarl'"]);
    fails(&dir, "distill --scheme Hinton --out out", 2, &["Did you mean 'hinton'?"]);
    fails(&dir, "datasets verify folder:pictures", 2, &["folder:pictures", "nothing is published", "datasets show"]);
    fails(&dir, "tune ewconline --out out", 2, &["Did you mean 'ewc-online'?"]);
    fails(&dir, "icarl --preset icarl-cifar-100 --out out", 2, &["Did you mean 'icarl-cifar100'?"]);
    fails(&dir, "icarl --device cuda --out out", 2, &["cuda", "auto", "gpu:INDEX"]);
    fails(&dir, "icarl --optimizer lion --out out", 2, &["lion", "sgd", "adam"]);
    fails(&dir, "icarl --class-order 1,10 --out out", 2, &["10", "0 to 9"]);
    fails(&dir, "icarl --class-order 1,1 --out out", 2, &["class 1", "twice"]);
    fails(&dir, "icarl --class-order sorted --out out", 2, &["sorted", "natural"]);
    fails(&dir, "icarl --class-order 0,-1 --out out", 2, &["0,-1"]);
    fails(&dir, "icarl --nothing --out out", 2, &["--nothing"]);
    if common::gpu(false).is_some() {
        fails(&dir, "icarl --device gpu:99 --out out", 2, &["99", "gpu:0"]);
        fails(&dir, "icarl --device gpu:voodoo --out out", 2, &["voodoo", "gpu:0"]);
    }
    assert!(!dir.path().join("out").exists(), "a refusal leaves nothing");
}

#[test]
fn impossible_numbers_are_wrong_use() {
    let dir = temp();
    fails(&dir, "icarl --classes-per-task 11 --out out", 2, &["11", "10 classes"]);
    fails(&dir, "icarl --classes-per-task 4 --class-order 0,1,2 --out out", 2, &["4", "3 classes"]);
    fails(&dir, "icarl --memory 9 --out out", 2, &["--memory 9", "10 classes", "--memory 10"]);
    fails(&dir, "icarl --limit-per-task 1 --out out", 2, &["1", "at least 2"]);
    let sizes = ["epochs", "batch-size", "seeds", "classes-per-task", "threads", "limit-per-task"];
    for flag in sizes {
        fails(&dir, &format!("icarl --{flag} 0 --out out"), 2, &[&format!("--{flag}"), "at least 1"]);
    }
    fails(&dir, "icarl --memory 0 --out out", 2, &["--memory 0"]);
    for flag in sizes.into_iter().chain(["memory", "seed", "lr-steps"]) {
        for value in ["-1", "x", "1.5", "99999999999999999999999"] {
            let words = [&format!("--{flag}"), value];
            fails(&dir, &format!("icarl --{flag} {value} --out out"), 2, &words);
        }
    }
    for (flag, values) in
        [("lr", ["0", "-0.1", "nan"]), ("lr-decay", ["0", "-1", "inf"]), ("momentum", ["1", "-0.1", "nan"])]
    {
        for value in values {
            fails(&dir, &format!("icarl --{flag} {value} --out out"), 2, &[&format!("--{flag}")]);
        }
    }
    fails(&dir, "icarl --weight-decay -1 --out out", 2, &["--weight-decay -1"]);
    fails(&dir, "ewc --penalty-weight -0.1 --out out", 2, &["--penalty-weight -0.1: it must be 0 or a positive"]);
    // Settings are kept as JSON, which has no such numbers: taken for "not given", they would be the default.
    for command in
        ["icarl --width", "ewc --penalty-weight", "distill --lr", "tune ewc --drop", "compare er --of er:lr="]
    {
        for value in ["nan", "inf", "1e999"] {
            let separator = if command.ends_with('=') { "" } else { " " };
            fails(&dir, &format!("{command}{separator}{value} --out out"), 2, &[value, "a finite number"]);
        }
    }
    assert!(!dir.path().join("out").exists(), "a refusal leaves nothing");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = temp();
    std::fs::write(dir.path().join("file"), "mine").unwrap();
    // Below a regular file, because tests may run as root, for whom permissions do not hold.
    fails(&dir, &format!("icarl {TINY} --out file/run"), 1, &["file/run", "cannot create"]);
    fails(&dir, &format!("icarl {TINY} --out file --force"), 1, &["file", "cannot create"]);
    assert_eq!(std::fs::read_to_string(dir.path().join("file")).unwrap(), "mine");
}

#[test]
fn an_existing_run_is_kept_without_force() {
    let dir = temp();
    let metrics = || std::fs::read_to_string(dir.path().join("out/metrics.json")).unwrap();
    succeeds(&dir, &format!("joint {PLAIN} --quiet --out out"));
    let first = metrics();
    fails(&dir, &format!("joint {PLAIN} --seed 2 --out out"), 2, &["out", "--force"]);
    assert_eq!(metrics(), first);
    // Wrong use is found before anything is replaced.
    for wrong in ["--limit-per-task 9", "--class-order 0,10", "--dataset nothing", "--device nothing"] {
        let rest = TINY.replace("--limit-per-task 40", "").replace("--device cpu", "");
        fails(&dir, &format!("joint {rest} {wrong} --out out --force"), 2, &[]);
        assert_eq!(metrics(), first, "{wrong} destroyed earlier results");
    }
    // What another kind of run left goes too; what is nobody's stays.
    for name in ["terms.csv", "notes"] {
        std::fs::write(dir.path().join("out").join(name), "old").unwrap();
    }
    succeeds(&dir, &format!("joint {PLAIN} --seed 2 --quiet --out out --force"));
    assert_ne!(metrics(), first);
    assert_eq!(["terms.csv", "notes"].map(|name| dir.path().join("out").join(name).exists()), [false, true]);
    // One of several seeds' folders is taken: none is begun.
    std::fs::create_dir_all(dir.path().join("many/seed-2")).unwrap();
    std::fs::write(dir.path().join("many/seed-2/notes"), "mine").unwrap();
    fails(&dir, &format!("joint {PLAIN} --seeds 2 --out many"), 2, &["seed-2", "--force"]);
    assert_eq!(names(dir.path().join("many/seed-2")).len(), 1);
}

#[test]
fn divergence_ends_a_run_and_keeps_earlier_tasks() {
    let dir = temp();
    // A single class has nothing to learn under cross-entropy: the first task survives any rate, if weights do not decay.
    let arguments =
        "--classes-per-task 1 --optimizer sgd --lr 1e30 --weight-decay 0 --epochs 3 --limit-per-task 40 --model mlp";
    fails(&dir, &format!("finetune {arguments} --device cpu --out out"), 1, &["diverged", "task 2", "--lr"]);
    // From the second task on what holds the weights may be the cause.
    fails(&dir, &format!("ewc {arguments} --device cpu --out held"), 1, &["task 2", "--lr or --penalty-weight"]);
    let metrics = json(dir.path().join("out/metrics.json"));
    assert_eq!(metrics["complete"], false);
    assert_eq!(metrics["classifiers"]["network"]["matrix"].as_array().unwrap().len(), 1);
    let weights = std::fs::read(dir.path().join("out/model.safetensors")).unwrap();
    safetensors::SafeTensors::deserialize(&weights).unwrap();
    assert!(!names(dir.path().join("out")).iter().any(|name| name.ends_with(".tmp")));

    // In the first task: no results, and none is pretended.
    let arguments = "--optimizer sgd --lr 1e30 --epochs 3 --limit-per-task 40 --memory 10 --model mlp";
    fails(&dir, &format!("icarl {arguments} --device cpu --out first"), 1, &["diverged", "task 1", "--lr"]);
    let names = names(dir.path().join("first"));
    assert!(names.iter().all(|name| name == "config.json" || name == CHECKPOINT_FILE), "{names:?}");

    // The step that breaks the weights is the last of its task.
    let arguments = "--optimizer sgd --lr 1e30 --epochs 1 --limit-per-task 20 --memory 10 --model mlp";
    let devices = if common::gpu(false).is_some() { vec!["cpu", "gpu"] } else { vec!["cpu"] };
    for device in devices {
        let run = engram(&dir, &format!("icarl {arguments} --device {device} --out last-{device}"));
        assert_eq!(run.code, 1, "{device}: {}", run.err);
        assert!(run.err.contains("diverged"), "{device}: {}", run.err);
        let metrics = dir.path().join(format!("last-{device}/metrics.json"));
        assert!(!metrics.exists() || json(&metrics)["complete"] == false);
    }

    // A training within a method: GDumb's network on the memory.
    let arguments = "--memory-lr 1e30 --memory-epochs 3 --limit-per-task 40 --memory 20 --model mlp";
    fails(&dir, &format!("gdumb {arguments} --device cpu --out memory"), 1, &["diverged", "task 1", "--memory-lr"]);
    assert!(!dir.path().join("memory/metrics.json").exists());
}

#[test]
fn presets_and_reproductions_refuse_what_they_do_not_know() {
    let dir = temp();
    fails(&dir, "icarl --preset icarl-cifar10", 2, &["icarl-cifar10", "icarl-cifar100"]);
    // The tables of 10 and of 20 tasks: known, but there are no images.
    fails(&dir, "reproduce vdfd-cifar100 --data-dir .", 1, &["cifar-100"]);
    fails(&dir, "reproduce vdfd-cifar100 --data-dir . --classes-per-task 10", 2, &["vdfd-cifar100-20"]);
    fails(&dir, "reproduce vdfd-cifar", 2, &["no published figures", "vdfd-cifar100-10"]);
    fails(&dir, "reproduce imagenet", 2, &["imagenet", "icarl-cifar100"]);
    fails(&dir, "reproduce icarl-cifar100 --orders 0", 2, &["--orders"]);
    fails(&dir, "reproduce icarl-cifar100 --seeds 2", 2, &["--orders"]);
    fails(&dir, "reproduce der-cifar10 --orders 2", 2, &["--seeds"]);
    fails(&dir, "reproduce icarl-cifar100 --classes-per-task 3", 2, &["2, 5, 10, 20, 50"]);
    fails(&dir, "reproduce der-cifar10 --memory 300", 2, &["200, 500"]);
    fails(&dir, "reproduce der-cifar10 --methods er,icarl", 2, &["icarl", "no figure"]);
    // The data set is not there: the preset is the paper's, not a smaller one.
    fails(&dir, "icarl --preset icarl-cifar100", 1, &["cifar-100"]);
    fails(&dir, "reproduce icarl-cifar100", 1, &["cifar-100"]);
    fails(&dir, "icarl --resume x --preset icarl-cifar100", 2, &["cannot be used with"]);
    fails(&dir, "icarl --stop-after soon", 2, &["90s, 9m or 2h"]);
}

#[test]
fn a_config_file_is_checked() {
    let dir = temp();
    let write = |text: &str| std::fs::write(dir.path().join("c.json"), text).unwrap();
    write(r#"{"epochs": 1, "learning_rate": 0.1}"#);
    fails(&dir, "icarl --config c.json --out out", 2, &["c.json", "learning_rate", "lr"]);
    write(r#"{"epochs": "many"}"#);
    fails(&dir, "icarl --config c.json --out out", 2, &["c.json", "many"]);
    write(r#"{"epochs": 0}"#);
    fails(&dir, "icarl --config c.json --out out", 2, &["--epochs", "at least 1"]);
    write(r#"{"epochs": -1}"#);
    fails(&dir, "icarl --config c.json --out out", 2, &["c.json", "-1"]);
    write(r#"{"method": "ewc", "fisher": "exact"}"#);
    fails(&dir, "finetune --config c.json --out out", 2, &["c.json", "--fisher", "another method"]);
    write("epochs = 1");
    fails(&dir, "icarl --config c.json --out out", 2, &["c.json"]);
    write(r#"{"lr": 1e39}"#);
    for command in ["icarl", "distill"] {
        let command = format!("{command} --config c.json --out out");
        fails(&dir, &command, 2, &["c.json", "a finite number is needed"]);
    }
    fails(&dir, "icarl --config nowhere.json --out out", 1, &["nowhere.json", "cannot read"]);
    assert!(!dir.path().join("out").exists());
}

/// Loading data uses threads too: the bound must come before.
#[test]
fn a_bound_on_threads_holds() {
    let dir = temp();
    for command in ["finetune", "segment finetune --limit-per-task 4 --epochs 1 --max-tasks 1", "joint"] {
        let settings = if command.starts_with("segment") { "--device cpu" } else { PLAIN };
        let said = succeeds(&dir, &format!("{command} {settings} --threads 3 --out run --force"));
        assert!(
            said.out.contains("3 threads") && !said.err.contains("too late"),
            "{command}: {}{}",
            said.out,
            said.err
        );
    }
}
