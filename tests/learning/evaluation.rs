//! Looking at images outside of training: the same answers however many at a time, in no more memory than training takes, and
//! on the very numbers that training had.

use crate::common;
use engram::continual::Learner;
use engram::data::pictures::Picture;
use engram::data::{Dataset, Normalize, files};
use engram::experiment::results::RunFolder;
use engram::experiment::saved::Predictor;
use engram::experiment::{Config, run, sink::Silent};
use engram::models::{Network, Options};
use engram::ops::Mode;
use engram::optim::{Kind, Optimizer};
use engram::rng::{Purpose, Rng};
use engram::settings::Choose;
use engram::{Device, Tensor, continual};
use image::{DynamicImage, ImageFormat, RgbaImage};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Noise, of so many images a part.
fn noise([channels, height, width]: [usize; 3], n: usize) -> Dataset {
    let images = |seed| {
        let mut rng = Rng::keyed(seed, Purpose::Test, 0);
        let pixels = (0..n * channels * height * width).map(|_| rng.below(256) as u8).collect();
        let labels = (0..n as u32).map(|i| i % 2).collect();
        Arc::new(engram::data::Images { channels, height, width, pixels, labels, views: Vec::new(), masks: Vec::new() })
    };
    Dataset {
        name: "noise".into(),
        class_names: vec!["a".into(), "b".into()],
        train: images(1),
        test: images(2),
        mean: vec![0.5; channels],
        std: vec![0.25; channels],
        flips: false,
        notes: Vec::new(),
        left_out: Vec::new(),
        domains: Vec::new(),
    }
}

const MODELS: [(&str, f32, [usize; 3]); 3] =
    [("mlp", 0.25, [1, 28, 28]), ("cnn", 0.25, [1, 28, 28]), ("resnet20", 0.25, [3, 12, 12])];

fn learner(model: &str, width: f32, input: [usize; 3], device: &Device, dataset: &Dataset) -> Learner {
    let options = Options { width, ..Options::default() };
    let network = Network::with_options(model, &options, input, 10, device, 1).unwrap();
    Learner::new(network, device, dataset).unwrap()
}

#[test]
fn answers_do_not_depend_on_how_many_images_are_looked_at_together() {
    const N: usize = 20;
    for device in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten() {
        for (model, width, input) in MODELS {
            let dataset = noise(input, N);
            let mut learner = learner(model, width, input, &device, &dataset);
            let samples: Vec<u32> = (0..N as u32).collect();
            let mut answers = |at_once| {
                learner.at_once = at_once;
                let mut all: Vec<f32> = Vec::new();
                let mut add = |_, output: engram::nn::Output| {
                    all.extend(output.logits.to_vec()?);
                    Ok(())
                };
                learner.evaluate(&dataset.test, &samples, &mut add).unwrap();
                all.extend(learner.normalized_features(&samples, true).unwrap().to_vec().unwrap());
                all
            };
            let whole = answers(N);
            for at_once in [1, 3, 7, 16] {
                let other = answers(at_once);
                let what = format!("{model} on {}: {at_once} at a time", device.describe());
                assert_eq!(other.len(), whole.len());
                for (a, b) in other.iter().zip(&whole) {
                    assert_eq!(a.to_bits(), b.to_bits(), "{what}: {a}, not {b}");
                }
            }
        }
    }
}

/// What is looked at finds room in the memory that a step of training took, but for a last part that is smaller.
#[test]
fn looking_takes_no_more_memory_than_training() {
    for device in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten() {
        for (model, width, input) in [("cnn", 0.5, [1, 28, 28]), ("resnet20", 0.25, [3, 32, 32])] {
            for batch_size in [1, 6] {
                let n = 60;
                let dataset = noise(input, n);
                let learner = learner(model, width, input, &device, &dataset).trained_by(batch_size);
                let network = &learner.network;
                let mut optimizer = Optimizer::new(Kind::Adam, 0.9, 0.0, &network.parameters).unwrap();
                let samples: Vec<u32> = (0..batch_size as u32).collect();
                let before = device.counters().held_bytes;
                for _ in 0..3 {
                    let x = learner.plain_input(&samples).unwrap();
                    let logits = network.forward(&x, Mode::Train).unwrap().logits;
                    let labels = Tensor::from_u32(&device, [batch_size], &vec![0; batch_size]).unwrap();
                    network.parameters.backward(&logits.cross_entropy(&labels, 10).unwrap()).unwrap();
                    optimizer.step(&network.parameters, 0.01).unwrap();
                    device.synchronize().unwrap();
                }
                let step = device.counters().held_bytes - before;
                let all: Vec<u32> = (0..n as u32).collect();
                learner.evaluate(&dataset.test, &all, |_, output| output.logits.to_vec().map(drop)).unwrap();
                let more = device.counters().held_bytes - before - step;
                let what = format!("{model}, batches of {batch_size} on {}", device.describe());
                assert!(more < step / 4, "{what}: {more} bytes more than the {step} of a step");
            }
        }
    }
}

/// Files of one class: every kind of colour, several sizes, and every format that is read.
fn pictures(folder: &Path, seed: u64) -> Vec<PathBuf> {
    std::fs::create_dir_all(folder).unwrap();
    let mut rng = Rng::keyed(seed, Purpose::Test, 1);
    let mut paths = Vec::new();
    for (width, height) in [(16, 16), (48, 31), (33, 70), (9, 9), (100, 100)] {
        let colour = [rng.below(200) as u8, rng.below(200) as u8, rng.below(200) as u8];
        let picture = DynamicImage::from(RgbaImage::from_fn(width, height, |_, _| {
            let [r, g, b] = colour.map(|base| base + rng.below(56) as u8);
            image::Rgba([r, g, b, if rng.below(4) == 0 { 90 } else { 255 }])
        }));
        let kinds: [(&str, ImageFormat, DynamicImage); 14] = [
            ("grey.png", ImageFormat::Png, picture.to_luma8().into()),
            ("deep-grey.png", ImageFormat::Png, deep(&picture).into_luma16().into()),
            ("grey-alpha.png", ImageFormat::Png, picture.to_luma_alpha8().into()),
            ("rgb.png", ImageFormat::Png, picture.to_rgb8().into()),
            ("rgba.png", ImageFormat::Png, picture.clone()),
            ("deep.png", ImageFormat::Png, deep(&picture)),
            ("grey.jpg", ImageFormat::Jpeg, picture.to_luma8().into()),
            ("rgb.jpg", ImageFormat::Jpeg, picture.to_rgb8().into()),
            ("rgb.bmp", ImageFormat::Bmp, picture.to_rgb8().into()),
            ("rgb.webp", ImageFormat::WebP, picture.to_rgb8().into()),
            ("rgba.webp", ImageFormat::WebP, picture.clone()),
            ("rgb.tif", ImageFormat::Tiff, picture.to_rgb8().into()),
            ("deep.tiff", ImageFormat::Tiff, deep(&picture)),
            ("rgba.gif", ImageFormat::Gif, picture.clone()),
        ];
        for (name, format, picture) in kinds {
            let path = folder.join(format!("{width}x{height}-{name}"));
            picture.save_with_format(&path, format).unwrap();
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

/// 16 bits a channel, of which the lower ones matter.
fn deep(picture: &DynamicImage) -> DynamicImage {
    let mut deep = picture.to_rgb16();
    deep.iter_mut().enumerate().for_each(|(i, value)| *value = value.wrapping_add((i % 251) as u16));
    deep.into()
}

/// What training's pipeline makes of a file and what `predict` makes of it, bit by bit.
#[test]
fn predict_gives_the_network_what_training_gives_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = [pictures(&dir.path().join("set/a"), 1), pictures(&dir.path().join("set/b"), 2)].concat();
    for (format, normalize) in [
        ("rgb32", Normalize::Channel),
        ("grey28", Normalize::MeanImage),
        ("rgb16", Normalize::Unit),
        ("grey9", Normalize::Channel),
    ] {
        let name = format!("folder:{}", dir.path().join("set").display());
        let settings = [
            ("dataset", name.as_str()),
            ("image_format", format),
            ("normalize", normalize.name()),
            ("model", "mlp"),
            ("width", "0.05"),
            ("classes_per_task", "1"),
            ("epochs", "1"),
        ];
        let config = Config::of(continual::spec("finetune").unwrap(), &settings).unwrap();
        let dataset = config.data.source().load(&config.data.load_options()).unwrap();
        let folder = RunFolder::create(&dir.path().join(format), false).unwrap();
        let device = Device::cpu();
        run(&config, &dataset, &device, Some(&folder), &mut Silent, &AtomicBool::new(false)).unwrap();
        let predictor = Predictor::load(folder.path(), &device).unwrap();
        let input = predictor.card.input;
        let learner = learner("mlp", 0.05, input, &device, &dataset);
        let bits = |x: Tensor| x.to_vec().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();

        let (mut n_train, mut n_test) = (0, 0);
        for file in &files {
            let (images, n) = match is_test(&files, file) {
                true => (&dataset.test, &mut n_test),
                false => (&dataset.train, &mut n_train),
            };
            let trained = bits(learner.plain_input_of(images, &[*n]).unwrap());
            let predicted = bits(predictor.input(Picture::read(file, input).unwrap().pixels).unwrap());
            assert!(trained == predicted, "{format}: {}", file.display());
            *n += 1;
        }
        assert_eq!((n_train as usize, n_test as usize), (dataset.train.len(), dataset.test.len()));
    }
}

/// A fifth of each class's files is for testing, those of the smallest MD5 of their names.
fn is_test(files: &[PathBuf], file: &Path) -> bool {
    let key = |path: &Path| files::md5_of_bytes(path.file_name().unwrap().to_str().unwrap().as_bytes());
    let class: Vec<&PathBuf> = files.iter().filter(|other| other.parent() == file.parent()).collect();
    class.iter().filter(|other| key(other) < key(file)).count() < class.len() / 5
}
