//! Data as people give it: what is left out of a folder, files under a wrong name, classes by their names.

use crate::common::program::{PLAIN, fails, json, succeeds};
use crate::common::runs::glyphs;
use engram::continual::{self, Learner, original_herding};
use engram::experiment::results::RunFolder;
use engram::experiment::{Config, run, sink::Silent};
use engram::models::{Network, Options};
use engram::{Device, Tensor};
use image::{GrayImage, Luma};
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn picture(path: &Path, seed: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    GrayImage::from_fn(12, 12, |x, y| Luma([(x * 17 + y * 5 + seed * 31) as u8])).save(path).unwrap();
}

#[test]
fn what_is_left_out_of_a_folder_is_counted_printed_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("set");
    for class in ["bolt", "nut", "washer"] {
        (0..6).for_each(|i| picture(&set.join(class).join(format!("{i}.png")), i));
    }
    std::fs::write(set.join("bolt/notes.txt"), "no picture").unwrap();
    std::fs::write(set.join("nut/more.TXT"), "no picture").unwrap();
    std::fs::write(set.join("readme"), "no picture").unwrap();
    std::fs::write(set.join("nut/broken.png"), "no picture").unwrap();
    picture(&set.join("washer/deeper/1.png"), 1);
    let ran = succeeds(&dir, &format!("finetune --dataset folder:set --image-format grey8 {PLAIN} --out run"));
    let said = ran.message();
    for words in ["2 .txt files", "1 sub-folders", "1 files without an ending", "1 of 19 pictures cannot be read"] {
        assert!(said.contains(words), "{words} is not in: {said}");
    }
    let left_out = json(dir.path().join("run/metrics.json"))["left_out"].clone();
    let counts: Vec<(String, u64)> = left_out
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["reason"].as_str().unwrap().to_string(), one["n"].as_u64().unwrap()))
        .collect();
    let expected =
        [("that cannot be read as pictures", 1), (".txt files", 2), ("files without an ending", 1), ("sub-folders", 1)];
    assert_eq!(counts, expected.map(|(reason, n)| (reason.to_string(), n)));
    let predicted = succeeds(&dir, "predict run set/bolt --device cpu");
    assert!(predicted.message().contains("left out of set/bolt: 1 .txt files"), "{}", predicted.err);
}

#[test]
fn classes_may_be_ordered_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["bolt", "nut", "washer"] {
        (0..6).for_each(|i| picture(&dir.path().join("set").join(class).join(format!("{i}.png")), i));
    }
    let run = format!("finetune --dataset folder:set --image-format grey8 {PLAIN} --classes-per-task 1");
    succeeds(&dir, &format!("{run} --class-order washer,bolt --out run"));
    let metrics = json(dir.path().join("run/metrics.json"));
    assert_eq!(metrics["classes_per_task"], serde_json::json!([[2], [0]]));
    assert_eq!(json(dir.path().join("run/config.json"))["class_order"], "washer,bolt");
    fails(&dir, &format!("{run} --class-order washr,bolt --out no"), 2, &["'washr'", "Did you mean 'washer'?"]);
    fails(&dir, &format!("{run} --class-order washer,0 --out no"), 2, &["washer,0", "not mixed"]);
    fails(&dir, &format!("{run} --class-order nut,nut --out no"), 2, &["twice"]);
    fails(&dir, &format!("finetune {} --out no", PLAIN.replace("mlp", "resnet")), 2, &["Did you mean 'resnet20'?"]);
}

/// As long as MNIST's, with zeros where the digits should be.
#[test]
fn a_known_file_with_other_content_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data/mnist");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, n) in [("train", 60_000u32), ("t10k", 10_000)] {
        let header = |magic: u32, sizes: &[u32]| -> Vec<u8> {
            std::iter::once(&magic).chain(sizes).flat_map(|number| number.to_be_bytes()).collect()
        };
        let mut images = header(0x803, &[n, 28, 28]);
        images.resize(16 + n as usize * 784, 0);
        std::fs::write(folder.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        let mut labels = header(0x801, &[n]);
        labels.extend((0..n).map(|i| (i % 10) as u8));
        std::fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    }
    let run = format!("finetune --dataset mnist --data-dir data {PLAIN} --out run");
    fails(&dir, &run, 1, &["other content", "ubyte", "datasets fetch mnist"]);
    // Data of one's own in MNIST's format are nobody else's.
    let dataset = glyphs(200, 60);
    engram::data::export(&dataset, &folder).unwrap();
    succeeds(&dir, &run);
}

/// The authors' way to choose exemplars, in a whole run: the pictures in its folder are those that the features of the saved
/// network lead to.
#[test]
fn a_run_chooses_exemplars_as_the_original_does() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = glyphs(240, 60);
    let settings = [
        ("model", "mlp"),
        ("width", "0.25"),
        ("memory", "20"),
        ("epochs", "2"),
        ("batch_size", "16"),
        ("max_tasks", "1"),
        ("herding", "original"),
    ];
    let config = Config::of(continual::spec("icarl").unwrap(), &settings).unwrap();
    let folder = RunFolder::create(&dir.path().join("run"), false).unwrap();
    let device = Device::cpu();
    run(&config, &dataset, &device, Some(&folder), &mut Silent, &AtomicBool::new(false)).unwrap();
    let options = Options { width: 0.25, ..Options::default() };
    let network = Network::with_options("mlp", &options, [1, 28, 28], 10, &device, 9).unwrap();
    network.load_safetensors(&folder.path().join("model.safetensors")).unwrap();
    let learner = Learner::new(network, &device, &dataset).unwrap().trained_by(16);
    let mut differs = false;
    for class in 0..2u32 {
        let samples: Vec<u32> =
            (0..dataset.train.len() as u32).filter(|&i| dataset.train.labels[i as usize] == class).collect();
        let features: Tensor = learner.normalized_features(&samples, false).unwrap();
        let picks = original_herding(&features.to_vec().unwrap(), features.shape()[1], 10);
        differs |= picks != features.herding(10).unwrap().to_u32().unwrap();
        for (k, pick) in picks.iter().enumerate() {
            let path = folder.path().join(format!("exemplars/{class}/{:02}.png", k + 1));
            let kept = image::open(&path).unwrap().into_luma8().into_raw();
            let expected = dataset.train.image(samples[*pick as usize] as usize);
            assert!(kept == expected, "class {class}, exemplar {}", k + 1);
        }
    }
    assert!(differs, "both ways choose alike here: the test tells nothing");
}
