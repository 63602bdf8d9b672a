//! Methods on images with masks, through the same runner as those of classes: a tiny part of shape-city and a network of a few
//! layers.

use crate::common;
use crate::common::program::{json, native, succeeds};
use crate::common::runs::{Interrupt, Pairs, Weights, shape_city, trained};
use engram::continual::{self, CLASSES, MASKS, MethodSpec};
use engram::data::{self, Dataset};
use engram::experiment::Config;
use engram::experiment::checkpoint::CHECKPOINT_FILE;
use engram::experiment::results::{Metrics, RunFolder, Score};
use engram::experiment::sink::Silent;
use engram::experiment::{resume, run};
use engram::{Device, Error};
use safetensors::SafeTensors;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

static CITY: LazyLock<Dataset> = LazyLock::new(|| shape_city(3, 1, 1));

const USUAL: Pairs = &[
    ("dataset", "shape-city"),
    ("model", "fcn3"),
    ("width", "0.25"),
    ("epochs", "2"),
    ("batch_size", "4"),
    ("drop_last", "true"),
    ("fisher_samples", "3"),
];
const BY_CLASS: Pairs = &[("scenario", "class"), ("steps", "3-1")];
const BRANCHES: Pairs =
    &[("scenario", "class"), ("steps", "3-1"), ("model", "deeplab-lite-rc"), ("drop_branches", "true")];
const BY_DOMAIN: Pairs = &[("scenario", "domain"), ("steps", "4-1-1")];

fn config(method: &str, stream: Pairs) -> Config {
    common::runs::config(method, USUAL, stream)
}

/// Runs and resumes with an interruption after every `every` batches, and says how often.
fn in_pieces(config: &Config, folder: &RunFolder, every: usize) -> usize {
    for n in 0..100 {
        let flag = AtomicBool::new(false);
        let mut sink = Interrupt(every, &flag);
        let result = match n {
            0 => run(config, &CITY, &Device::cpu(), Some(folder), &mut sink, &flag),
            _ => resume(config, &CITY, &Device::cpu(), folder, &mut sink, &flag),
        };
        match result {
            Ok(_) => return n,
            Err(Error::Interrupted) => assert!(folder.path().join(CHECKPOINT_FILE).exists()),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the run does not end");
}

#[test]
fn a_resumed_run_ends_in_the_bits_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    for (i, (method, stream, every)) in [
        ("finetune", BY_CLASS, 5),
        ("finetune", BY_DOMAIN, 4),
        ("lwf", BY_CLASS, 7),
        ("cumulative", BY_CLASS, 9),
        ("lwf-mc", BY_CLASS, 7),
        ("vdfd", BY_CLASS, 6),
        ("dfd", BY_DOMAIN, 3),
        ("ewc", BY_DOMAIN, 3),
        ("si", BY_CLASS, 5),
        ("rcil", BRANCHES, 7),
    ]
    .into_iter()
    .enumerate()
    {
        let config = config(method, stream);
        let folder = |name: &str| RunFolder::create(&dir.path().join(format!("{i}-{name}")), false).unwrap();
        let (whole, pieces) = (folder("whole"), folder("pieces"));
        run(&config, &CITY, &Device::cpu(), Some(&whole), &mut Silent, &AtomicBool::new(false)).unwrap();
        assert!(in_pieces(&config, &pieces, every) > 1, "{method} was not interrupted");
        for file in
            ["model.safetensors", "metrics.json", "accuracy.csv", "losses.csv", "segmented-01.png", "segmented-03.png"]
        {
            let read = |folder: &RunFolder| std::fs::read(folder.path().join(file)).unwrap();
            assert!(read(&whole) == read(&pieces), "{method}: {file} differs");
        }
    }
}

/// The same losses on both devices over two tasks, of methods that between them use every kernel for pixels.
#[test]
fn a_gpu_learns_what_the_cpu_does() {
    let Some(gpu) = common::gpu(true) else { return };
    let dir = tempfile::tempdir().unwrap();
    for (i, (method, stream)) in
        [("mib", BY_CLASS), ("plop", BY_CLASS), ("rcil", BY_CLASS), ("lwf", BY_DOMAIN), ("vdfd", BY_DOMAIN)]
            .iter()
            .enumerate()
    {
        let more: Pairs = &[("epochs", "1"), ("max_tasks", "2"), ("optimizer", "sgd"), ("lr", "0.01")];
        let config = small(method, &[stream, more].concat());
        let [cpu, gpu] = [("cpu", Device::cpu()), ("gpu", gpu.clone())].map(|(name, device)| {
            let folder = RunFolder::create(&dir.path().join(format!("{i}-{name}")), false).unwrap();
            run(&config, &CITY, &device, Some(&folder), &mut Silent, &AtomicBool::new(false)).unwrap();
            let text = std::fs::read_to_string(folder.path().join("losses.csv")).unwrap();
            text.lines().map(|line| line.split(',').map(str::to_string).collect::<Vec<_>>()).collect::<Vec<_>>()
        });
        assert_eq!(cpu.len(), gpu.len(), "{method}");
        let value = cpu[0].iter().position(|name| name == "value").unwrap();
        for (cpu, gpu) in cpu[1..].iter().zip(&gpu[1..]) {
            let [a, b] = [cpu, gpu].map(|row| row[value].parse::<f32>().unwrap());
            // A pixel at PLOP's threshold may have a label on one device alone.
            let tolerance = if *method == "plop" { 1e-2 } else { 1e-3 };
            assert!((a - b).abs() <= tolerance * a.abs().max(1e-2), "{method}: {cpu:?} {gpu:?}");
        }
    }
}

fn with_threads(config: &Config, n: usize) -> (Metrics, Weights) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    pool.install(|| trained(config, &CITY))
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for (method, stream) in [("finetune", BY_CLASS), ("lwf", BY_DOMAIN)] {
        let config = config(method, stream);
        let one = with_threads(&config, 1);
        assert!(one == with_threads(&config, 3), "{method}");
    }
}

/// A network with a pyramid for what asks for one, and with branches for what folds them.
fn small(method: &str, more: Pairs) -> Config {
    let model = if method == "rcil" { "deeplab-lite-rc" } else { "deeplab-lite" };
    common::runs::config(method, USUAL, &[&[("model", model), ("width", "0.125")][..], more].concat())
}

/// Methods that learn from masks alone.
fn of_masks() -> impl Iterator<Item = &'static MethodSpec> {
    continual::ALL.iter().filter(|spec| spec.targets == MASKS)
}

#[test]
fn every_method_of_masks_resumes_and_is_the_same_for_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    for spec in of_masks() {
        for (i, stream) in [BY_CLASS, BY_DOMAIN].into_iter().enumerate() {
            let config = small(spec.name, &[stream, &[("epochs", "1")]].concat());
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            let (metrics, weights) = pool.install(|| trained(&config, &CITY));
            assert!(metrics.complete && metrics.n_tasks == 3);
            let folder = RunFolder::create(&dir.path().join(format!("{}-{i}", spec.name)), false).unwrap();
            assert!(in_pieces(&config, &folder, 2) > 1, "{} was not interrupted", spec.name);
            let bytes = std::fs::read(folder.path().join("model.safetensors")).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            for (name, view) in file.tensors() {
                assert!(weights[&name] == view.data(), "{}: {name} differs", spec.name);
            }
        }
    }
}

#[test]
fn every_method_of_masks_notices_that_training_diverges() {
    for spec in of_masks() {
        let config = config(spec.name, &[BY_DOMAIN, &[("lr", "1e30"), ("optimizer", "sgd")]].concat());
        let result = run(&config, &CITY, &Device::cpu(), None, &mut Silent, &AtomicBool::new(false));
        let message = result.map(drop).expect_err(spec.name).to_string();
        assert!(message.contains("diverged"), "{}: {message}", spec.name);
    }
}

/// With its coefficients at 0 a method is fine-tuning bit by bit, and with its usual ones it is not.
#[test]
fn without_its_terms_a_method_is_fine_tuning() {
    const START: (&str, &str) = ("start_as_background", "false");
    let off: [(&str, Pairs); 8] = [
        ("mib", &[("kd_weight", "0"), ("unbiased", "false"), START]),
        ("ilt", &[("kd_weight", "0"), ("feature_weight", "0")]),
        ("plop", &[("pod_weight", "0"), ("pod_logits_weight", "0"), ("pseudo_labels", "false"), START]),
        (
            "rcil",
            &[
                ("kd_weight", "0"),
                ("cube_weight", "0"),
                ("channels_weight", "0"),
                ("cube_logits_weight", "0"),
                ("unbiased", "false"),
                START,
            ],
        ),
        ("lwf", &[("kd_weight", "0")]),
        ("ewc", &[("penalty_weight", "0")]),
        ("vdfd", &[("reg_weight", "0")]),
        ("dfd", &[("reg_weight", "0")]),
    ];
    for stream in [BY_CLASS, BY_DOMAIN] {
        let (_, plain) = trained(&config("finetune", stream), &CITY);
        for (method, off) in off.iter().filter(|(method, _)| continual::spec(method).unwrap().targets != CLASSES) {
            let (_, weights) = trained(&config(method, &[stream, *off].concat()), &CITY);
            assert!(weights == plain, "{method} without its terms is not fine-tuning on {stream:?}");
            let (_, weights) = trained(&config(method, stream), &CITY);
            assert!(weights != plain, "{method} is fine-tuning on {stream:?}");
        }
    }
}

#[test]
fn a_run_is_judged_by_miou() {
    let (metrics, _) = trained(&config("finetune", BY_CLASS), &CITY);
    assert_eq!((metrics.score, metrics.n_tasks), (Score::MeanIou, 3));
    assert_eq!(metrics.classes_per_task, [vec![0, 1, 2, 3], vec![4], vec![5]]);
    let result = &metrics.classifiers["network"];
    let masks = result.masks.as_ref().unwrap();
    assert_eq!((masks.iou.len(), result.confusion.len(), result.matrix.len()), (6, 6, 3));
    let mean = |iou: &[Option<f64>]| iou.iter().flatten().sum::<f64>() / iou.iter().flatten().count() as f64;
    let same = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-12, "{a:?} {b}");
    same(result.final_accuracy(), mean(&masks.iou));
    same(masks.old, mean(&masks.iou[..4]));
    same(masks.new, mean(&masks.iou[4..]));
    same(result.matrix[2][0], mean(&masks.iou[..4]));
    same(result.matrix[2][1], masks.iou[4].unwrap());
    assert_eq!(result.matrix[0][1..], [None, None]);
    // Void pixels do not count, and all others do.
    let counted: u32 = result.confusion.iter().flatten().sum();
    let known = CITY.test.masks.iter().filter(|&&class| class != data::VOID).count();
    assert_eq!(counted as usize, known);

    let (metrics, _) = trained(&config("finetune", BY_DOMAIN), &CITY);
    assert_eq!(metrics.domains_per_task.iter().map(Vec::len).collect::<Vec<_>>(), [4, 1, 1]);
    let result = &metrics.classifiers["network"];
    assert_eq!((result.masks.as_ref().unwrap().old, result.before.len()), (None, 2));
    assert!(result.forward_transfer().is_some() && result.backward_transfer().is_some());

    let (metrics, _) = trained(&config("joint", BY_DOMAIN), &CITY);
    assert_eq!(metrics.classifiers["network"].matrix.len(), 1);
    assert!(metrics.classifiers["network"].matrix[0].iter().all(Option::is_some));
}

#[test]
fn the_network_learns_what_is_on_the_images() {
    let more: Pairs = &[("scenario", "domain"), ("steps", "1-1"), ("max_tasks", "1"), ("epochs", "60"), ("lr", "0.01")];
    let (metrics, _) = trained(&common::runs::config("finetune", USUAL, more), &CITY);
    let (untrained, _) = trained(
        &common::runs::config("finetune", USUAL, &[&more[..3], &[("epochs", "1"), ("lr", "1e-9")]].concat()),
        &CITY,
    );
    let [now, before] = [&metrics, &untrained].map(|m| m.classifiers["network"].masks.as_ref().unwrap().pixel_accuracy);
    assert!(now > before + 0.2 && now > 0.5, "{before} became {now}");
}

#[test]
fn a_run_is_shown_and_its_network_used() {
    let dir = tempfile::tempdir().unwrap();
    let run = "segment finetune --model fcn3 --width 0.25 --limit-per-task 8 --epochs 1 --batch-size 4 --device cpu";
    let out = succeeds(dir.path(), &format!("{run} --out run")).out;
    for words in ["finetune on shape-city: fcn3", "6 classes in 3 tasks", "mIoU", "  pixel accuracy  "] {
        assert!(out.contains(words), "{words} is not in {out}");
    }
    assert!(!out.contains("Guessing") && !out.contains(" accuracy on"), "{out}");
    let page = std::fs::read_to_string(dir.path().join("run/report.html")).unwrap();
    assert_eq!(page.matches("data:image/png;base64").count(), 3, "a picture after each task");
    assert!(page.contains("IoU of each class") && page.contains("Final mIoU"));
    assert_eq!(json(dir.path().join("run/metrics.json"))["score"], "mean_iou");

    let images = &CITY.test;
    for (name, image) in [("a.png", 0), ("b.png", 1)] {
        let bytes = images.image(image);
        let pixel = |x: u32, y: u32| [0, 1, 2].map(|c| bytes[c * 4096 + (y * 64 + x) as usize]);
        image::RgbImage::from_fn(64, 64, |x, y| image::Rgb(pixel(x, y))).save(dir.path().join(name)).unwrap();
    }
    let out = succeeds(dir.path(), "predict run a.png b.png --out answers --device cpu").out;
    for name in ["answers/a-overlay.png", "answers/b-mask.png"] {
        assert!(out.contains(&native(name)), "{name} is not in:\n{out}");
    }
    let overlay = image::open(dir.path().join("answers/a-overlay.png")).unwrap();
    assert_eq!((overlay.width(), overlay.height()), (64, 64));
    let help = succeeds(dir.path(), "segment --help").out;
    assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    assert!(help.contains("--steps") && !help.contains("--classes-per-task"), "{help}");
}

#[test]
fn methods_are_compared_by_miou() {
    let dir = tempfile::tempdir().unwrap();
    let out = succeeds(
        dir.path(),
        "compare finetune joint --dataset shape-city --model fcn3 --width 0.25 --limit-per-task 8 --epochs 1 --batch-size 4 \
         --seeds 2 --device cpu --out all",
    )
    .out;
    let head = out.lines().find(|line| line.starts_with("method")).expect("a table");
    assert!(head.contains("mIoU") && head.contains("old") && head.contains("new"), "{head}");
    let csv = std::fs::read_to_string(dir.path().join("all/comparison.csv")).unwrap();
    assert!(csv.lines().next().unwrap().contains("old_miou,new_miou,pixel_accuracy"), "{csv}");
    let table = out.lines().skip_while(|line| !line.starts_with("method")).take(4);
    assert!(table.clone().count() == 4 && table.into_iter().all(|line| line.chars().count() <= 80), "{out}");
}

/// What a run of domains writes down is read back: by a comparison at its end, by its report, and as a configuration.
#[test]
fn runs_over_domains_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let usual =
        "--dataset shape-city --model fcn3 --scenario domain --steps 6-2 --limit-per-task 16 --epochs 1 --device cpu";
    let out = succeeds(dir.path(), &format!("compare finetune lwf {usual} --seeds 1 --out grid")).out;
    assert!(out.contains("Answer:"), "{out}");
    succeeds(dir.path(), "report grid");
    succeeds(dir.path(), "segment finetune --config grid/finetune/seed-1/config.json --out again --quiet");
}
