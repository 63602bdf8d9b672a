//! Data sets, task streams and the loader, as a user of the library sees them.

use crate::common::complaint;
use engram::Error;
use engram::data::{
    self, Augment, Batch, ClassOrder, Dataset, Draw, Images, Loader, NO_LABEL, Plan, Presence, Scenario, Split,
    TaskStream, View, idx,
};
use flate2::{Compression, write::GzEncoder};
use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| data::spec("glyphs").unwrap().load(Path::new("unused")).unwrap());

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The bytes of an IDX file.
fn idx_bytes(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let header = [0, 0, 8, dims.len() as u8].into_iter();
    header.chain(dims.iter().flat_map(|dim| dim.to_be_bytes())).chain(data.iter().copied()).collect()
}

/// Two images of 3 rows and 4 columns; every pixel differs.
fn asymmetric() -> Images {
    Images {
        channels: 1,
        height: 3,
        width: 4,
        pixels: (1..=24).collect(),
        labels: vec![1, 0],
        views: Vec::new(),
        masks: Vec::new(),
    }
}

#[test]
fn pixels_keep_their_places_through_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (images_path, labels_path) = (dir.path().join("images"), dir.path().join("labels"));
    idx::write_images(&images_path, &asymmetric()).unwrap();
    idx::write_labels(&labels_path, &asymmetric().labels).unwrap();
    let images = idx::read_pair(&images_path, &labels_path, 2).unwrap();
    assert_eq!(images, asymmetric());
    let pixel = |image_idx: usize, y: usize, x: usize| images.image(image_idx)[y * images.width + x];
    assert_eq!([pixel(0, 0, 0), pixel(0, 0, 3), pixel(0, 2, 0)], [1, 4, 9], "top left, top right, bottom left");
    assert_eq!([pixel(1, 0, 0), pixel(1, 0, 3), pixel(1, 2, 0)], [13, 16, 21]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file stays behind");
    assert_eq!(std::fs::read(&images_path).unwrap(), idx_bytes(&[2, 3, 4], &asymmetric().pixels));

    // The same, compressed, whatever the name says.
    std::fs::write(&images_path, gzip(&idx_bytes(&[2, 3, 4], &asymmetric().pixels))).unwrap();
    assert_eq!(idx::read_pair(&images_path, &labels_path, 2).unwrap(), asymmetric());
}

#[test]
fn bad_image_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("images");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        idx::read_images(&path)
    };
    let good = idx_bytes(&[2, 3, 4], &[7; 24]);
    assert!(read(&good).is_ok() && read(&gzip(&good)).is_ok());
    let truncated = &good[..39];
    let oversized = idx_bytes(&[2, 3, 4], &[7; 26]);
    let huge = idx_bytes(&[u32::MAX, u32::MAX, u32::MAX], &[7; 24]);

    complaint(read(truncated), &["images", "truncated", "expected 40 bytes", "2x3x4", "found 39"]);
    complaint(read(&gzip(truncated)), &["truncated", "expected 40 bytes", "found 39"]);
    complaint(read(&oversized), &["oversized", "expected 40 bytes", "found 42"]);
    complaint(read(&gzip(&oversized)), &["oversized", "expected 40 bytes", "found more"]);
    complaint(read(&huge), &["truncated", "found 40"]);
    complaint(read(&gzip(&huge)), &["truncated", "cannot hold"]);
    complaint(read(&[]), &["truncated", "header of 16 bytes", "found 0 bytes"]);
    complaint(read(&good[..9]), &["truncated", "found 9 bytes"]);
    complaint(read(b"<html>not found</html>"), &["wrong magic number [3c, 68, 74, 6d]", "[00, 00, 08, 03]", "images"]);
    complaint(read(&idx_bytes(&[24], &[0; 24])), &["wrong magic number [00, 00, 08, 01]"]);
    for dims in [[0, 3, 4], [2, 0, 4], [2, 3, 0]] {
        complaint(read(&idx_bytes(&dims, &[])), &["size is zero"]);
    }

    // A bomb: 16 MiB of zeros behind a header that promises 24 bytes must stop at the 25th.
    let bomb = gzip(&idx_bytes(&[2, 3, 4], &vec![0; 1 << 24]));
    complaint(read(&bomb), &["oversized", "expected 40 bytes"]);
    // Damage in the header, in the data (found by the checksum at the latest), and a missing end.
    complaint(read(&[0x1f, 0x8b, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]), &["damaged gzip data"]);
    let mut damaged = gzip(&good);
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 1;
    complaint(read(&damaged), &["damaged gzip data", "fetch the file again"]);
    complaint(read(&gzip(&good)[..checksum]), &["gzip data end too early"]);
    complaint(idx::read_images(&dir.path().join("none")), &["none", "cannot open"]);
}

#[test]
fn bad_labels_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (images_path, labels_path) = (dir.path().join("images"), dir.path().join("labels"));
    std::fs::write(&images_path, idx_bytes(&[2, 3, 4], &[7; 24])).unwrap();
    let read = |labels: &[u8]| {
        std::fs::write(&labels_path, idx_bytes(&[labels.len() as u32], labels)).unwrap();
        idx::read_pair(&images_path, &labels_path, 10)
    };
    assert_eq!(read(&[9, 0]).unwrap().labels, [9, 0]);
    complaint(read(&[9, 10]), &["labels", "label 1 is 10", "0 to 9"]);
    complaint(read(&[1, 2, 3]), &["3 labels", "2 images", "do not belong together"]);
    complaint(read(&[]), &["size is zero"]);
    complaint(idx::write_labels(&labels_path, &[256]), &["label 256"]);
    let colour = Images {
        channels: 3,
        height: 2,
        width: 2,
        pixels: vec![0; 12],
        labels: vec![0],
        views: Vec::new(),
        masks: Vec::new(),
    };
    complaint(idx::write_images(&images_path, &colour), &["3 channels"]);
    complaint(idx::write_labels(&dir.path().join("no/labels"), &[1]), &["cannot write"]);
}

#[test]
fn glyphs_are_the_same_everywhere() {
    // FNV-1a of all training, then all test bytes. Another value means other images, and so other results.
    let bytes = GLYPHS.train.pixels.iter().chain(&GLYPHS.test.pixels);
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    assert_eq!(format!("{hash:016x}"), "468c9ee9e720dfc4");
}

#[test]
fn glyphs_are_balanced_and_their_statistics_are_those_of_the_table() {
    for (images, per_class) in [(&GLYPHS.train, 1000), (&GLYPHS.test, 200)] {
        assert_eq!((images.channels, images.height, images.width), (1, 28, 28));
        for class in 0..10 {
            assert_eq!(images.labels.iter().filter(|&&label| label == class).count(), per_class);
        }
    }
    let pixels = &GLYPHS.train.pixels;
    let mean =
        |value: fn(u64) -> u64| pixels.iter().map(|&p| value(p.into())).sum::<u64>() as f64 / pixels.len() as f64;
    let (first, second) = (mean(|p| p), mean(|p| p * p));
    assert!((first / 255.0 - f64::from(GLYPHS.mean[0])).abs() < 1e-4);
    assert!(((second - first * first).sqrt() / 255.0 - f64::from(GLYPHS.std[0])).abs() < 1e-4);
    let distinct: HashSet<&[u8]> = GLYPHS.train.pixels.chunks(784).chain(GLYPHS.test.pixels.chunks(784)).collect();
    assert_eq!(distinct.len(), 12_000, "no image appears twice");
}

#[test]
fn exported_glyphs_are_read_back_identically() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new/mnist");
    assert_eq!(data::export(&GLYPHS, &folder).unwrap().len(), 4);
    // Both the folder and the one above it can be given as the data folder.
    for data_dir in [&folder, &dir.path().join("new")] {
        let read = data::spec("mnist").unwrap().load(data_dir).unwrap();
        assert!(read.train == GLYPHS.train && read.test == GLYPHS.test);
        assert_eq!((read.name.as_str(), read.flips, read.mean[0]), ("mnist", false, 0.1307));
    }
}

#[test]
fn fashion_mnist_shares_the_format_and_the_file_names() {
    let dir = tempfile::tempdir().unwrap();
    data::export(&GLYPHS, &dir.path().join("fashion-mnist")).unwrap();
    let fashion = data::spec("fashion-mnist").unwrap().load(dir.path()).unwrap();
    assert!(fashion.train == GLYPHS.train && fashion.test == GLYPHS.test);
    assert_eq!((fashion.class_names[0].as_str(), fashion.class_names[9].as_str()), ("T-shirt/top", "Ankle boot"));
    // Its folder is not taken for MNIST's.
    let missing = data::spec("mnist").unwrap().presence(dir.path());
    assert!(matches!(missing, Presence::Missing { ref files, .. } if files.len() == 4), "{missing:?}");
}

static SHAPES: LazyLock<Dataset> = LazyLock::new(|| data::spec("shapes").unwrap().load(Path::new("unused")).unwrap());

#[test]
fn shapes_are_the_same_everywhere() {
    let bytes = SHAPES.train.pixels.iter().chain(&SHAPES.test.pixels);
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    assert_eq!(format!("{hash:016x}"), "99288f5cb723659e");
}

#[test]
fn shapes_are_balanced_and_their_statistics_are_those_of_the_table() {
    for (images, per_class) in [(&SHAPES.train, 500), (&SHAPES.test, 100)] {
        assert_eq!((images.channels, images.height, images.width), (3, 32, 32));
        for class in 0..20 {
            assert_eq!(images.labels.iter().filter(|&&label| label == class).count(), per_class);
        }
    }
    let (mean, std) = data::source::channel_statistics(&SHAPES.train);
    for (found, expected) in mean.iter().chain(&std).zip(SHAPES.mean.iter().chain(&SHAPES.std)) {
        assert!((found - expected).abs() < 1e-4, "mean {mean:?}, std {std:?}");
    }
    let distinct: HashSet<&[u8]> = SHAPES.train.pixels.chunks(3072).chain(SHAPES.test.pixels.chunks(3072)).collect();
    assert_eq!(distinct.len(), 12_000, "no image appears twice");

    let coarse = data::spec("shapes").unwrap().load_with(Path::new("unused"), data::Labels::Coarse).unwrap();
    assert_eq!(coarse.class_names, ["solid", "open", "woven", "thing"]);
    assert_eq!(coarse.train.pixels, SHAPES.train.pixels);
    assert!(coarse.train.labels.iter().zip(&SHAPES.train.labels).all(|(group, class)| *group == class / 5));
    complaint(data::export(&SHAPES, tempfile::tempdir().unwrap().path()), &["grey images", "3 channels"]);
}

fn fixture(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("glyphs20-{part}-ubyte"))
}

#[test]
fn the_committed_files_are_read() {
    let images = idx::read_pair(&fixture("images-idx3"), &fixture("labels-idx1"), 10).unwrap();
    assert_eq!((images.len(), images.height, images.width), (20, 28, 28));
    assert_eq!(images.labels, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(images.image(0)[14 * 28..][8..20], FIXTURE_ROW);
    assert_eq!(images.pixels, GLYPHS.train.pixels[..20 * 784], "see write_the_committed_files");
}

/// Columns 8 to 19 of row 14 of the first image, a zero.
const FIXTURE_ROW: [u8; 12] = [181, 114, 22, 49, 48, 0, 67, 180, 184, 30, 72, 22];

/// `ENGRAM_WRITE_FIXTURES=1 cargo test --test learning data::` writes them anew when the glyphs change on purpose.
#[test]
fn the_committed_files_are_the_first_glyphs() {
    let train = &GLYPHS.train;
    let first = Images {
        pixels: train.pixels[..20 * 784].to_vec(),
        labels: train.labels[..20].to_vec(),
        views: Vec::new(),
        masks: Vec::new(),
        ..**train
    };
    let (images, labels) = (fixture("images-idx3"), fixture("labels-idx1"));
    if std::env::var_os("ENGRAM_WRITE_FIXTURES").is_some() {
        idx::write_images(&images, &first).unwrap();
        idx::write_labels(&labels, &first.labels).unwrap();
    }
    assert_eq!(idx::read_pair(&images, &labels, 10).unwrap(), first);
}

#[test]
fn real_mnist_is_what_it_should_be() {
    let Some(dir) = std::env::var_os("ENGRAM_DATA_DIR") else {
        // Not by eprintln!, which the test harness hides while a test passes.
        let line = "SKIPPED: real_mnist_is_what_it_should_be needs ENGRAM_DATA_DIR, see datasets/README.md";
        writeln!(std::io::stderr(), "{line}").unwrap();
        return;
    };
    let mnist = data::spec("mnist").unwrap().load(Path::new(&dir)).unwrap();
    let histogram = |images: &Images| {
        let mut counts = [0; 10];
        images.labels.iter().for_each(|&label| counts[label as usize] += 1);
        counts
    };
    assert_eq!(histogram(&mnist.train), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
    assert_eq!(histogram(&mnist.test), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    assert_eq!((mnist.train.len(), mnist.test.len()), (60_000, 10_000));
    // The first image is the well-known five; this is where its upper bar begins.
    assert_eq!((mnist.train.labels[0], &mnist.train.image(0)[5 * 28 + 12..][..4]), (5, &[3, 18, 18, 18][..]));
}

#[test]
fn missing_files_and_unknown_names_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let mnist = data::spec("mnist").unwrap();
    std::fs::write(dir.path().join("train-labels-idx1-ubyte.gz"), b"").unwrap();
    let Presence::Missing { files, searched } = mnist.presence(dir.path()) else { panic!("nothing is there") };
    assert_eq!(files, ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]);
    assert_eq!(searched, [dir.path().join("mnist"), dir.path().to_path_buf()]);
    let folder = dir.path().join("mnist").display().to_string();
    let advice = ["t10k-images-idx3-ubyte", &folder, "--data-dir", "ENGRAM_DATA_DIR", "--dataset glyphs"];
    complaint(mnist.load(dir.path()), &advice);
    assert_eq!(data::spec("glyphs").unwrap().presence(dir.path()), Presence::BuiltIn);
    complaint(data::spec("emnist"), &["\"emnist\"", "glyphs", "mnist"]);
    assert!(matches!(data::spec("emnist"), Err(Error::Usage(_))));
}

#[test]
fn streams_split_all_images_by_class() {
    let stream = TaskStream::split(&GLYPHS, 2, &"7,1,4,0,9,8,2,3,6,5".parse().unwrap(), None).unwrap();
    assert_eq!((stream.tasks.len(), stream.n_classes), (5, 10));
    assert_eq!(stream.label_of_class, [3, 1, 6, 7, 2, 9, 8, 0, 5, 4]);
    let second = &stream.tasks[1];
    assert_eq!((second.index, &second.classes[..], second.first_label), (1, &[4, 0][..], 2));
    assert_eq!(second.train[..4], [0, 4, 10, 14]);
    assert_eq!((second.train.len(), second.test.len()), (2000, 400));
    let all: HashSet<u32> = stream.tasks.iter().flat_map(|task| task.train.iter().copied()).collect();
    assert_eq!(all.len(), 10_000);

    // Classes that do not divide, joint training, a shuffled order, a part of the classes.
    let sizes = |classes_per_task, order: &str| -> Vec<usize> {
        let stream = TaskStream::split(&GLYPHS, classes_per_task, &order.parse().unwrap(), None).unwrap();
        stream.tasks.iter().map(|task| task.classes.len()).collect()
    };
    assert_eq!(sizes(4, "natural"), [4, 4, 2]);
    assert_eq!(sizes(10, "seed:3"), [10]);
    assert_eq!(sizes(1, "3,5"), [1, 1]);
    let part = TaskStream::split(&GLYPHS, 1, &ClassOrder::Explicit(vec![3, 5]), None).unwrap();
    assert_eq!((part.n_classes, part.label_of_class[5], part.label_of_class[4]), (2, 1, NO_LABEL));
}

#[test]
fn a_limit_shortens_training_evenly() {
    let stream = TaskStream::split(&GLYPHS, 2, &ClassOrder::Natural, Some(5)).unwrap();
    assert_eq!(stream.tasks[1].train, [2, 3, 12, 13, 22]);
    assert_eq!(stream.tasks[1].test.len(), 400);
    let generous = TaskStream::split(&GLYPHS, 2, &ClassOrder::Natural, Some(1 << 20)).unwrap();
    assert_eq!(generous.tasks[1].train.len(), 2000);
}

#[test]
fn impossible_streams_are_refused() {
    let split = |classes_per_task, order: &str, limit| {
        let result = TaskStream::split(&GLYPHS, classes_per_task, &order.parse().unwrap(), limit);
        assert!(matches!(result, Err(Error::Usage(_))));
        result
    };
    complaint(split(0, "natural", None), &["0 classes per task", "1 to 10"]);
    complaint(split(11, "natural", None), &["11 classes per task", "10 classes"]);
    complaint(split(3, "1,2", None), &["3 classes per task", "2 classes"]);
    complaint(split(1, "1,2,1", None), &["class 1 is named twice"]);
    complaint(split(1, "1,10", None), &["no class 10", "0 to 9"]);
    complaint(split(2, "natural", Some(1)), &["limit of 1", "at least 2"]);
    let mut gap = GLYPHS.clone();
    Arc::make_mut(&mut gap.test).labels.iter_mut().for_each(|label| *label = (*label).max(1));
    complaint(TaskStream::split(&gap, 2, &ClassOrder::Natural, None), &["class 0", "no test images"]);
}

/// Three epochs over the 30 images of classes 3 and 5 among the first 150, in batches of 8.
fn plan() -> Plan {
    Plan {
        images: GLYPHS.train.clone(),
        samples: Arc::new((0..150).filter(|i| i % 10 == 3 || i % 10 == 5).collect()),
        label_of_class: Arc::new(vec![NO_LABEL, NO_LABEL, NO_LABEL, 1, NO_LABEL, 0]),
        batch_size: 8,
        seed: 4,
        first_epoch: 10,
        n_epochs: 3,
        augment: Augment { pad: 2, flip: true, scale: false },
        drop_last: false,
    }
}

fn load(plan: Plan) -> Vec<(u64, Batch)> {
    Loader::new(plan).unwrap().collect()
}

#[test]
fn the_second_thread_changes_nothing() {
    let batches = load(plan());
    assert_eq!(batches, plan().batches().unwrap().collect::<Vec<_>>());
    assert_eq!(batches.len(), 3 * plan().batches_per_epoch());
    let sizes: Vec<(u64, usize)> = batches.iter().map(|(epoch, batch)| (*epoch, batch.len())).collect();
    assert_eq!(sizes[..5], [(10, 8), (10, 8), (10, 8), (10, 6), (11, 8)]);
    // An epoch is the same whether the run starts with it or reaches it.
    assert_eq!(batches[4..], load(Plan { first_epoch: 11, n_epochs: 2, ..plan() }));
    assert_ne!(batches, load(Plan { seed: 5, ..plan() }));
}

#[test]
fn an_epoch_has_every_sample_once_and_its_own_order() {
    let batches = load(plan());
    let epoch = |number: u64| -> Vec<u32> {
        let of_epoch = batches.iter().filter(|(epoch, _)| *epoch == number);
        of_epoch.flat_map(|(_, batch)| batch.samples.iter().copied()).collect()
    };
    for number in 10..13 {
        let mut samples = epoch(number);
        assert_ne!(&samples, &*plan().samples, "shuffled");
        samples.sort_unstable();
        assert_eq!(&samples, &*plan().samples);
    }
    assert_ne!(epoch(10), epoch(11));
}

#[test]
fn batches_carry_bytes_labels_and_draws() {
    let batches = load(plan());
    for (_, batch) in &batches {
        assert_eq!(batch.pixels, data::gather(&GLYPHS.train, &batch.samples));
        for (i, &sample) in batch.samples.iter().enumerate() {
            assert_eq!(batch.pixels[i * 784..(i + 1) * 784], *GLYPHS.train.image(sample as usize));
            assert_eq!(batch.labels[i], if sample % 10 == 3 { 1 } else { 0 });
        }
    }
    let draws: Vec<Draw> = batches.iter().flat_map(|(_, batch)| batch.draws.iter().copied()).collect();
    for offset in -2..=2 {
        assert!(draws.iter().any(|draw| draw.dy == offset) && draws.iter().any(|draw| draw.dx == offset));
    }
    assert!(draws.iter().all(|draw| draw.dy.abs() <= 2 && draw.dx.abs() <= 2 && draw.flip <= 1));
    assert!(draws.iter().any(|draw| draw.flip == 0) && draws.iter().any(|draw| draw.flip == 1));
    // Without augmentation the images are the same ones, plain.
    let plain = load(Plan { augment: Augment::default(), ..plan() });
    assert!(plain.iter().all(|(_, batch)| batch.draws.iter().all(|draw| *draw == Draw::default())));
    assert!(plain.iter().zip(&batches).all(|(a, b)| a.1.samples == b.1.samples));
}

#[test]
fn the_last_batch_can_be_dropped() {
    let sizes = |batch_size| -> Vec<usize> {
        let plan = Plan { drop_last: true, n_epochs: 1, batch_size, ..plan() };
        let n = plan.batches_per_epoch();
        let sizes: Vec<usize> = load(plan).iter().map(|(_, batch)| batch.len()).collect();
        assert_eq!(sizes.len(), n);
        sizes
    };
    assert_eq!(sizes(8), [8, 8, 8]);
    assert_eq!(sizes(10), [10, 10, 10]);
    assert_eq!(sizes(64), [30], "the only batch stays");
}

#[test]
fn dropping_the_loader_ends_its_thread() {
    let plan = Plan { n_epochs: 1_000_000, ..plan() };
    let samples = plan.samples.clone();
    let mut loader = Loader::new(plan).unwrap();
    assert!(loader.next().is_some());
    drop(loader);
    assert_eq!(Arc::strong_count(&samples), 1, "the thread's copies are gone");
}

#[test]
fn impossible_plans_are_refused() {
    complaint(Loader::new(Plan { batch_size: 0, ..plan() }), &["batch size of 0"]);
    complaint(Loader::new(Plan { samples: Arc::default(), ..plan() }), &["no training images"]);
    complaint(Loader::new(Plan { samples: Arc::new(vec![10_000]), ..plan() }), &["no image 10000", "10000"]);
    complaint(Loader::new(Plan { samples: Arc::new(vec![4]), ..plan() }), &["image 4", "class 4", "not in the stream"]);
    complaint(Loader::new(Plan { samples: Arc::new(vec![9]), ..plan() }), &["image 9", "class 9"]);
}

/// Fifty classes, then ten at a time; every class once.
#[test]
fn a_first_task_may_be_larger() {
    let split = Split { first_task: Some(5), classes_per_task: 2, ..Split::default() };
    let (_, stream) = split.tasks(&GLYPHS).unwrap();
    let sizes: Vec<(usize, usize)> = stream.tasks.iter().map(|t| (t.first_label, t.classes.len())).collect();
    assert_eq!(sizes, [(0, 5), (5, 2), (7, 2), (9, 1)]);
    for first_task in [Some(0), Some(11)] {
        let message = Split { first_task, ..Split::default() }.tasks(&GLYPHS).unwrap_err().to_string();
        assert!(message.contains("first task"), "{message}");
    }
}

#[test]
fn domains_share_labels() {
    let split = Split { scenario: Scenario::Domain, ..Split::default() };
    let (_, stream) = split.tasks(&GLYPHS).unwrap();
    assert_eq!((stream.n_classes, stream.tasks.len()), (2, 5));
    assert_eq!(stream.label_of_class, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
    assert!(stream.tasks.iter().all(|task| task.first_label == 0));
}

/// Every view has all classes and its own samples; the bytes are made when they are asked for.
#[test]
fn views_are_tasks_over_the_same_images() {
    let split = Split { scenario: Scenario::Rotated, n_tasks: 4, limit_per_task: Some(30), ..Split::default() };
    let (dataset, stream) = split.tasks(&GLYPHS).unwrap();
    assert_eq!((dataset.train.len(), dataset.train.pixels.len()), (4 * GLYPHS.train.len(), GLYPHS.train.pixels.len()));
    for (v, task) in stream.tasks.iter().enumerate() {
        assert_eq!((task.train.len(), task.test.len(), task.classes.len()), (30, GLYPHS.test.len(), 10));
        let (sample, base) = (task.train[3], stream.tasks[0].train[3]);
        assert_eq!(sample as usize, v * GLYPHS.train.len() + base as usize);
        let expected = View::rotation(v, 4).apply(GLYPHS.train.image(base as usize), 28, 28);
        assert_eq!(data::gather(&dataset.train, &[sample]), expected);
        assert_eq!(dataset.train.labels[sample as usize], GLYPHS.train.labels[base as usize]);
    }
    // Samples of all views are numbered in 32 bits.
    let message = Split { n_tasks: 1_000_000_000, ..split }.tasks(&GLYPHS).unwrap_err().to_string();
    assert!(message.contains("choose 1 to 429496"), "{message}");
}

/// M percent of each task's samples come from other tasks, and none is lost.
#[test]
fn a_blurry_stream_mixes_tasks() {
    let split = Split { blurry: 10, limit_per_task: Some(100), ..Split::default() };
    let (_, stream) = split.tasks(&GLYPHS).unwrap();
    let plain = TaskStream::split(&GLYPHS, 2, &ClassOrder::Natural, Some(100)).unwrap();
    for (task, plain) in stream.tasks.iter().zip(&plain.tasks) {
        let n_foreign = task.train.iter().filter(|sample| !plain.train.contains(sample)).count();
        assert!((8..=12).contains(&n_foreign), "{n_foreign} of {}", task.train.len());
    }
    let all = |stream: &TaskStream| {
        let mut all: Vec<u32> = stream.tasks.iter().flat_map(|task| task.train.clone()).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(all(&stream), all(&plain));
    assert_eq!(Split { blurry: 0, ..split }.tasks(&GLYPHS).unwrap().1, plain);
}
