//! `engram predict`: from the run folder alone it gives the same answers as the run, and bad input gets one clear message.

use crate::common;
use crate::common::program::{Outcome, check_width, engram, fails, json, succeeds, unsealed};
use engram::experiment::saved::Predictor;
use engram::{Device, continual, data};
use image::{ExtendedColorType, GrayImage, ImageFormat, Luma, RgbImage};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

const TINY: &str = "--limit-per-task 60 --epochs 1 --device cpu --quiet";

/// A refusal answers nothing.
#[track_caller]
fn refuses(dir: &Path, arguments: &str, code: i32, words: &[&str]) {
    assert_eq!(fails(dir, arguments, code, words).out, "", "engram {arguments}");
}

fn temp_with_run(method: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let memory = if method == "finetune" { "" } else { "--memory 40" };
    succeeds(dir.path(), &format!("{method} {TINY} {memory} --class-order seed:3 --out run"));
    dir
}

fn grey(path: &Path, side: u32, value: impl Fn(u32, u32) -> u8) {
    GrayImage::from_fn(side, side, |x, y| Luma([value(x, y)])).save(path).unwrap();
}

/// The test images of the built-in set as PNG files, and their classes.
fn test_pictures(dir: &Path) -> Vec<(String, u32)> {
    let images = data::spec("glyphs").unwrap().load(dir).unwrap().test;
    (0..images.len())
        .map(|i| {
            let name = format!("{i}.png");
            image::save_buffer(dir.join(&name), images.image(i), 28, 28, ExtendedColorType::L8).unwrap();
            (name, images.labels[i])
        })
        .collect()
}

/// All 2,000 test images as files: the counts of true and predicted classes are those of the run's own evaluation.
#[track_caller]
fn agrees_with_the_evaluation(dir: &Path, classifier: &str, score: &str) {
    let pictures = test_pictures(dir);
    let names: Vec<&str> = pictures.iter().map(|(name, _)| name.as_str()).collect();
    let arguments = format!("predict run --json --top-k 10 --device cpu --classifier {classifier} {}", names.join(" "));
    let outcome = succeeds(dir, &arguments);
    assert_eq!(outcome.err, "");
    let answers: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(answers.as_array().unwrap().len(), pictures.len());

    let metrics = json(dir.join("run/metrics.json"));
    let classes: Vec<u64> = metrics["classes_per_task"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|task| task.as_array().unwrap().iter().map(|class| class.as_u64().unwrap()))
        .collect();
    assert_ne!(classes, (0..10).collect::<Vec<u64>>(), "an order that could hide a mix-up of class and label");
    let label = |class: u64| classes.iter().position(|&c| c == class).unwrap();
    let mut confusion = vec![vec![0; 10]; 10];
    for (answer, (name, class)) in answers.as_array().unwrap().iter().zip(&pictures) {
        assert_eq!(answer["image"], **name);
        let all = answer["predictions"].as_array().unwrap();
        let best_first: Vec<f64> = all.iter().map(|one| one[score].as_f64().unwrap()).collect();
        let sorted = |pair: &[f64]| if score == "distance" { pair[0] <= pair[1] } else { pair[0] >= pair[1] };
        assert!(best_first.len() == 10 && best_first.windows(2).all(sorted), "{answer}");
        confusion[label(u64::from(*class))][label(all[0]["class"].as_u64().unwrap())] += 1;
    }
    assert_eq!(metrics["classifiers"][classifier]["confusion"], serde_json::json!(confusion));
}

#[test]
fn nearest_mean_and_network_say_what_they_said_in_the_run() {
    let dir = temp_with_run("icarl");
    agrees_with_the_evaluation(dir.path(), "nme", "distance");
    agrees_with_the_evaluation(dir.path(), "network", "probability");
}

#[test]
fn fine_tuning_says_what_it_said_in_the_run() {
    let dir = temp_with_run("finetune");
    agrees_with_the_evaluation(dir.path(), "network", "probability");
    refuses(dir.path(), "predict run 0.png --classifier nme", 2, &["nme", "network"]);
    // Softmax over all classes.
    let all = succeeds(dir.path(), "predict run 0.png --json --top-k 10 --device cpu").out;
    let all: Value = serde_json::from_str(&all).unwrap();
    let sum: f64 =
        all[0]["predictions"].as_array().unwrap().iter().map(|one| one["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
}

/// Means of the exemplars as the library computes them from the saved weights are, bit by bit, those that were saved.
#[test]
fn the_means_saved_are_the_means_computed() {
    let dir = temp_with_run("icarl");
    let folder = dir.path().join("run");
    let device = Device::cpu();
    let predictor = Predictor::load(&folder, &device).unwrap();
    let card = &predictor.card;
    let dataset = data::spec("glyphs").unwrap().load(dir.path()).unwrap();
    let network = engram::models::Network::new(&card.model, card.input, 10, &device, 99).unwrap();
    network.load_safetensors(&folder.join("model.safetensors")).unwrap();
    let learner = continual::Learner::new(network, &device, &dataset).unwrap();

    // 40 exemplars of 10 classes: all four of a class lie in the folder as pictures.
    let index = json(folder.join("exemplars/index.json"));
    let find = |name: &str| {
        let pixels = image::open(folder.join("exemplars").join(name)).unwrap().into_luma8().into_raw();
        (0..dataset.train.len()).find(|&i| dataset.train.image(i) == pixels).expect("no training image") as u32
    };
    let exemplars: Vec<Vec<u32>> = index
        .as_array()
        .unwrap()
        .iter()
        .map(|class| {
            assert_eq!(class["n_kept"], 4);
            let samples: Vec<u32> =
                class["pictures"].as_array().unwrap().iter().map(|name| find(name.as_str().unwrap())).collect();
            assert!(samples.iter().all(|&i| u64::from(dataset.train.labels[i as usize]) == class["class"]));
            samples
        })
        .collect();
    let computed = learner.class_means(&exemplars).unwrap().to_vec().unwrap();
    assert_eq!(computed, predictor.class_means("nme").unwrap().to_vec().unwrap());
    assert_ne!(computed, predictor.class_means("ncm").unwrap().to_vec().unwrap());
    assert!(predictor.class_means("network").is_none());
}

#[test]
fn pictures_of_other_kinds_are_converted_and_it_is_said() {
    let dir = temp_with_run("icarl");
    let first = std::fs::read_dir(dir.path().join("run/exemplars")).unwrap().flatten();
    let folder = first.map(|entry| entry.path()).find(|path| path.is_dir()).unwrap();
    let original = image::open(folder.join("01.png")).unwrap();
    let path = |name: &str| dir.path().join(name);
    original.to_rgb8().save(path("rgb.png")).unwrap();
    original.to_rgba8().save(path("rgba.png")).unwrap();
    original.to_luma16().save(path("deep.png")).unwrap();
    original.resize_exact(56, 56, image::imageops::FilterType::Nearest).save(path("big.png")).unwrap();
    original.to_rgb8().save_with_format(path("photo.jpg"), ImageFormat::Jpeg).unwrap();
    image::save_buffer(path("plain.png"), original.as_bytes(), 28, 28, ExtendedColorType::L8).unwrap();
    let mut negative = original.clone();
    negative.invert();
    negative.save(path("negative.png")).unwrap();

    let predict = |arguments: &str| succeeds(dir.path(), &format!("predict run --device cpu {arguments}"));
    let answers = |outcome: &Outcome| {
        let below = outcome.out.lines().skip_while(|line| !line.is_empty());
        below.skip(2).map(String::from).collect::<Vec<_>>()
    };
    let plain = predict("plain.png");
    assert_eq!(plain.err, "");
    for (name, change) in [("rgb.png", "colour to grey"), ("rgba.png", "colour to grey"), ("deep.png", "16 to 8 bits")]
    {
        let same = predict(name);
        assert!(same.err.contains(change) && same.err.contains(name), "{}", same.err);
        assert_eq!(answers(&same), answers(&plain), "{name}: the same pixels");
    }
    assert!(predict("big.png").err.contains("56x56 to 28x28"));
    assert!(predict("photo.jpg").err.contains("colour to grey"));
    let swapped = predict("negative.png --invert");
    assert_eq!(answers(&swapped), answers(&plain));
    grey(&path("white.png"), 28, |x, _| if x == 14 { 0 } else { 255 });
    assert!(predict("white.png").err.contains("try --invert"));
    assert!(!predict("white.png --invert").err.contains("mostly bright"));
}

#[test]
fn the_text_shows_the_best_classes_first() {
    let dir = temp_with_run("icarl");
    grey(&dir.path().join("a.png"), 28, |x, y| (x * y / 4) as u8);
    let said = |arguments: &str| {
        let text = succeeds(dir.path(), &format!("predict run {arguments} --device cpu")).out;
        check_width(&text);
        let (headline, answers) = text.split_once("\n\n").expect("a headline");
        (headline.to_string(), answers.lines().map(str::to_string).collect::<Vec<_>>())
    };
    let (headline, answers) = said("a.png");
    assert!(headline.starts_with("icarl on glyphs, 10 classes; nme: distance"), "{headline}");
    assert_eq!((answers[0].as_str(), answers.len()), ("a.png", 1 + 5), "{answers:?}");
    let (headline, answers) = said("a.png a.png --top-k 99 --classifier network");
    assert_eq!(answers.len(), 2 * (1 + 10) + 1, "at most the classes seen: {answers:?}");
    assert!(headline.contains("sigmoid") && answers[1].contains(" %"), "{headline}\n{answers:?}");
}

#[test]
fn a_gpu_says_what_the_cpu_says() {
    if common::gpu(false).is_none() {
        return;
    }
    let dir = temp_with_run("icarl");
    let pictures: Vec<String> = test_pictures(dir.path()).into_iter().take(20).map(|(name, _)| name).collect();
    for (classifier, score) in [("nme", "distance"), ("network", "probability")] {
        let answers = |device: &str| -> Vec<Value> {
            let command = format!("predict run --json --top-k 10 --classifier {classifier} --device {device}");
            let text = succeeds(dir.path(), &format!("{command} {}", pictures.join(" "))).out;
            serde_json::from_str(&text).unwrap()
        };
        let by_class = |answer: &Value, class: &Value| {
            let all = answer["predictions"].as_array().unwrap();
            all.iter().find(|one| one["class"] == *class).unwrap()[score].as_f64().unwrap()
        };
        for (cpu, gpu) in answers("cpu").iter().zip(&answers("gpu")) {
            for one in cpu["predictions"].as_array().unwrap() {
                let (a, b) = (one[score].as_f64().unwrap(), by_class(gpu, &one["class"]));
                assert!((a - b).abs() < 1e-4, "{classifier}: {a} and {b} in {}", cpu["image"]);
            }
        }
    }
}

#[test]
fn bad_input_gets_one_clear_message() {
    let dir = temp_with_run("icarl");
    let path = |name: &str| dir.path().join(name);
    grey(&path("a.png"), 28, |_, _| 9);
    refuses(dir.path(), "predict nowhere a.png", 2, &["nowhere", "no such run"]);
    std::fs::create_dir_all(path("empty")).unwrap();
    refuses(dir.path(), "predict empty a.png", 2, &["empty", "model.json"]);
    std::fs::write(path("empty/config.json"), "{}").unwrap();
    refuses(dir.path(), "predict empty a.png", 2, &["empty", "before its first task"]);
    std::fs::create_dir_all(path("several")).unwrap();
    std::fs::rename(path("run"), path("several/seed-1")).unwrap();
    refuses(dir.path(), "predict several a.png", 2, &["holds runs", "seed-1"]);
    std::fs::rename(path("several/seed-1"), path("run")).unwrap();

    refuses(dir.path(), "predict run missing.png", 1, &["missing.png", "cannot read"]);
    std::fs::write(path("text.png"), "no picture").unwrap();
    refuses(dir.path(), "predict run text.png", 1, &["text.png", "PNG or JPEG"]);
    let whole = std::fs::read(path("a.png")).unwrap();
    std::fs::write(path("half.png"), &whole[..whole.len() / 2]).unwrap();
    refuses(dir.path(), "predict run half.png", 1, &["half.png", "PNG or JPEG"]);
    refuses(dir.path(), "predict run empty", 1, &["empty", "no picture"]);
    // What can be read is answered, and the rest is an error in the end.
    for images in ["text.png a.png half.png", "."] {
        let outcome = engram(&dir, &format!("predict run {images} --device cpu"));
        let named = ["text.png", "half.png"].iter().all(|name| outcome.err.contains(&format!("{name}: no")));
        assert!(outcome.code == 1 && outcome.out.contains("a.png") && named, "{outcome:?}");
    }
    refuses(dir.path(), "predict run a.png --top-k 0", 2, &["--top-k"]);
    refuses(dir.path(), "predict run a.png --classifier best", 2, &["best", "nme, network, ncm"]);
    refuses(dir.path(), "predict run a.png --device tpu", 2, &["tpu"]);

    for name in ["model.safetensors", "class_means.safetensors"] {
        let file = path("run").join(name);
        let whole = std::fs::read(&file).unwrap();
        let mut bent = whole.clone();
        *bent.last_mut().unwrap() ^= 1;
        for damaged in [&whole[..whole.len() - 1], &bent, b""] {
            std::fs::write(&file, damaged).unwrap();
            refuses(dir.path(), "predict run a.png", 1, &[name, "damaged"]);
        }
        std::fs::remove_file(&file).unwrap();
        refuses(dir.path(), "predict run a.png", 1, &[name, "cannot read"]);
        std::fs::write(&file, whole).unwrap();
    }
    let sealed = std::fs::read_to_string(path("run/model.json")).unwrap();
    // A card says whether it is as it was written.
    for (from, to) in
        [("\"std\": [", "\"std\": [1"), ("\"name\": \"3\"", "\"name\": \"4\""), ("\"softmax\"", "\"sigmoid\"")]
    {
        let (from, to) = if sealed.contains(from) { (from, to) } else { (to, from) };
        assert!(sealed.contains(from));
        std::fs::write(path("run/model.json"), sealed.replacen(from, to, 1)).unwrap();
        refuses(dir.path(), "predict run a.png", 1, &["model.json", "damaged", "checksum"]);
    }
    let card = unsealed(&sealed);
    let with = |from: &str, to: &str| {
        assert!(card.contains(from));
        std::fs::write(path("run/model.json"), card.replacen(from, to, 1)).unwrap();
    };
    with("\"format\": 1", "\"format\": 2");
    refuses(dir.path(), "predict run a.png", 1, &["model.json", "newer engram", "update"]);
    with("\"model\": \"cnn\"", "\"model\": \"mlp\"");
    refuses(dir.path(), "predict run a.png", 1, &["model.safetensors"]);
    with("\"n_outputs\": 10", "\"n_outputs\": 3");
    refuses(dir.path(), "predict run a.png", 1, &["model.json", "damaged"]);
    // Without the class means an answer by them would be one by the network.
    with("\"class_means.safetensors\"", "\"notes\"");
    refuses(dir.path(), "predict run a.png", 1, &["model.json", "damaged"]);
    for (from, to) in [
        ("\"input\": [1, 28, 28]", "\"input\": [1, 4294967296, 4294967296]"),
        ("\"input\": [1, 28, 28]", "\"input\": [0, 28, 28]"),
        ("\"n_outputs\": 10", "\"n_outputs\": 4611686018427387904"),
        ("\"n_tasks_learnt\": 5", "\"n_tasks_learnt\": 6"),
        ("\"std\": [", "\"std\": [0.0, "),
    ] {
        with(from, to);
        refuses(dir.path(), "predict run a.png", 1, &["model.json", "damaged"]);
    }
    with("{", "");
    refuses(dir.path(), "predict run a.png", 1, &["model.json", "damaged"]);
    std::fs::write(path("run/model.json"), &card).unwrap();
    succeeds(dir.path(), "predict run a.png --device cpu");
}

#[test]
fn an_incomplete_run_names_the_classes_it_has_seen() {
    let dir = temp_with_run("icarl");
    let path = dir.path().join("run/model.json");
    let mut card = json(&path);
    card["n_tasks_learnt"] = 4.into();
    card.as_object_mut().unwrap().remove("checksum");
    std::fs::write(&path, card.to_string()).unwrap();
    RgbImage::new(28, 28).save(dir.path().join("a.png")).unwrap();
    let outcome = succeeds(dir.path(), "predict run a.png --device cpu");
    assert!(outcome.err.contains("incomplete, 4 of 5 tasks"), "{}", outcome.err);
    let outcome = succeeds(dir.path(), "export run --to onnx --out run.onnx");
    assert!(outcome.err.contains("incomplete, 4 of 5 tasks"), "{}", outcome.err);
}
