//! Presets and reproductions on tiny data sets of the right format, two images per class: they start, resume, and say that they
//! were shortened.

use crate::common::program::{fails, json, succeeds};
use engram::experiment::distillation::presets as distillations;
use engram::experiment::presets;
use std::path::Path;

/// Records of these labels; every class has a brightness of its own.
fn records(labels: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let pixels = |class: u8| (0..3072u32).map(move |k| (u32::from(class) * 23 + k % 7) as u8);
    labels.flat_map(|label| [label.clone(), pixels(label[label.len() - 1]).collect()].concat()).collect()
}

/// CIFAR-10 with two training images and a test image of each class.
fn write_cifar_10(dir: &Path) {
    let dir = dir.join("datasets/cifar-10");
    std::fs::create_dir_all(&dir).unwrap();
    for batch in 0..5u8 {
        let labels = [0, 1, 2, 3].map(|i| vec![(batch * 4 + i) % 10]);
        std::fs::write(dir.join(format!("data_batch_{}.bin", batch + 1)), records(labels.into_iter())).unwrap();
    }
    std::fs::write(dir.join("test_batch.bin"), records((0..10).map(|label| vec![label]))).unwrap();
    let names: String = (0..10).map(|i| format!("class {i}\n")).collect();
    std::fs::write(dir.join("batches.meta.txt"), names).unwrap();
}

fn write_cifar_100(dir: &Path) {
    let dir = dir.join("datasets/cifar-100");
    std::fs::create_dir_all(&dir).unwrap();
    let all = || (0..100u8).map(|fine| vec![fine / 5, fine]);
    std::fs::write(dir.join("train.bin"), records(all().chain(all()))).unwrap();
    std::fs::write(dir.join("test.bin"), records(all())).unwrap();
    let names = |n: u32, what: &str| (0..n).map(|i| format!("{what}_{i}\n")).collect::<String>();
    std::fs::write(dir.join("fine_label_names.txt"), names(100, "fine")).unwrap();
    std::fs::write(dir.join("coarse_label_names.txt"), names(20, "coarse")).unwrap();
}

#[test]
fn task_incremental_cifar_100_starts() {
    let dir = tempfile::tempdir().unwrap();
    write_cifar_100(dir.path());
    let methods = "finetune ewc si mas lwf a-gem";
    for (preset, n_classes) in [("til-cifar100-10", 10), ("til-cifar100-20", 5)] {
        let line = format!(
            "compare {methods} --preset {preset} --out {preset} --width 0.05 --epochs 1 --max-tasks 2 --seeds 1 \
             --fisher-samples 3 --device cpu"
        );
        let out = succeeds(&dir, &line).out;
        for wanted in ["task-incremental, resnet18", "ACC", "BWT", "a-gem K=1300", "Answer:"] {
            assert!(out.contains(wanted), "{preset}: no {wanted:?} in {out}");
        }
        let run = dir.path().join(preset).join("lwf/seed-1");
        let (config, metrics) = (json(run.join("config.json")), json(run.join("metrics.json")));
        assert_eq!((&config["scenario"], &config["augment"]), (&"task".into(), &"none".into()));
        assert_eq!(metrics["classes_per_task"][0].as_array().unwrap().len(), n_classes, "{preset}");
        assert!(metrics["classifiers"]["network"]["backward_transfer"].is_number());
    }
}

#[test]
fn der_is_reproduced_beside_icarl() {
    let dir = tempfile::tempdir().unwrap();
    write_cifar_10(dir.path());
    let line = "reproduce der-cifar10 --methods er,der++ --memory 200 --width 0.05 --epochs 1 --limit-per-task 4 \
                --seeds 2 --device cpu --out L";
    let out = succeeds(&dir, line).out;
    for wanted in [
        "| DER++ | 2 | 200 | final accuracy | 64.88 |",
        "| DER++ | 2 | 200 | final accuracy with the task known | 91.92 |",
        "| ER | 2 | 200 | final accuracy | 44.79 |",
        "shortened",
        "Buzzega",
    ] {
        assert!(out.contains(wanted), "no {wanted:?} in {out}");
    }
    assert!(!out.contains("A-GEM") && !out.contains("72.7"), "{out}");
    let config = json(dir.path().join("L/seed-2/er-k200/config.json"));
    assert_eq!((config["lr"].as_f64().map(|lr| lr as f32), config["seed"].as_u64()), (Some(0.1), Some(2)));
    assert_eq!(config["unseen"], "compete");
    let csv = std::fs::read_to_string(dir.path().join("L/reproduced.csv")).unwrap();
    let row =
        csv.lines().find(|line| line.starts_with("DER++,der++,network,final accuracy,2,200,64.88,")).expect("a row");
    assert!(row.contains(",2,") && row.contains(",shortened,") && row.contains("--mse-weight 0.1"), "{row}");

    // Complete runs are kept; a run whose results are gone is done again and gives the same.
    std::fs::remove_dir_all(dir.path().join("L/seed-1/er-k200")).unwrap();
    let again = succeeds(&dir, line).err;
    assert_eq!(again.matches("is complete").count(), 3, "{again}");
    let measured =
        |csv: &str| csv.lines().map(|line| line.split(',').take(12).collect::<Vec<_>>().join(",")).collect::<Vec<_>>();
    assert_eq!(measured(&csv), measured(&std::fs::read_to_string(dir.path().join("L/reproduced.csv")).unwrap()));
}

/// What a preset sets is what a run with it has, and what its flags alone would give.
#[test]
fn presets_are_listed_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let list = succeeds(&dir, "presets").out;
    let origins = |command: &str, name: &str| {
        let out = succeeds(&dir, command).out;
        out.lines()
            .filter(|line| line.ends_with(name))
            .map(|line| line.split_whitespace().next().unwrap().to_string())
            .collect()
    };
    for (preset, command) in presets::ALL
        .iter()
        .map(|preset| (preset, "finetune"))
        .chain(distillations::ALL.iter().map(|preset| (preset, "distill")))
    {
        let name = preset.name;
        assert!(list.lines().any(|line| line.split_whitespace().next() == Some(name)), "{name} is not in:\n{list}");
        let shown = succeeds(&dir, &format!("presets show {name}")).out;
        let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        for said in preset.deviations.iter().chain([&preset.paper, &preset.summary]) {
            assert!(
                words.contains(&said.split_whitespace().collect::<Vec<_>>().join(" ")),
                "'{said}' is not in:\n{shown}"
            );
        }
        let set: Vec<String> = origins(&format!("{command} --preset {name} --explain"), &format!("preset {name}"));
        assert!(!set.is_empty(), "{name} sets nothing of a run");
        for setting in set {
            let flag = format!("--{} ", setting.replace('_', "-"));
            assert!(words.contains(&flag), "{name} sets {flag}, which is not in:\n{shown}");
        }
    }
    assert!(succeeds(&dir, "presets show icarl-cifar100").out.contains("engram reproduce icarl-cifar100"));
    assert!(succeeds(&dir, "presets show one-resnet32-cifar100").out.contains("ONE 73.39 %"));
    fails(&dir, "presets show icarl-cifar10", 2, &["unknown preset", "icarl-cifar100", "kd-mnist"]);
}
