//! Random files and damaged files: no reader panics or allocates more than the size of the file justifies, and good files are
//! read back as they were written.
//!
//! `PROPTEST_CASES=100000 cargo test --release --test damage` tries more cases, different ones each time; `fuzz/` searches for bad
//! ones.

#[path = "../fuzz/src/lib.rs"]
mod harness;

use engram::data::{Images, idx};
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

/// Notes the largest allocation of each thread.
struct Watch;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(bytes: usize) {
    // Fails only while a thread ends.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watch {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static WATCH: Watch = Watch;

/// What reading this file may allocate at once: buffers, and per byte of the file what gzip can make of it (1,032 bytes),
/// twice, because a growing vector doubles.
fn justified(file: &[u8]) -> usize {
    let per_byte = if file.starts_with(&[0x1f, 0x8b]) { 2 * 1032 } else { 8 };
    (256 << 10) + per_byte * file.len()
}

#[track_caller]
fn frugally<R>(file: &[u8], read: impl FnOnce() -> R) -> R {
    frugally_beside(0, file, read)
}

/// As [`frugally`], where something of `own` bytes is copied besides.
#[track_caller]
fn frugally_beside<R>(own: usize, file: &[u8], read: impl FnOnce() -> R) -> R {
    LARGEST.set(0);
    let result = read();
    let (largest, justified) = (LARGEST.get(), own + justified(file));
    assert!(largest <= justified, "{largest} bytes at once for a file of {}", file.len());
    result
}

fn config(cases: u32) -> Config {
    let config = Config { failure_persistence: None, ..Config::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => Config { cases, rng_seed: RngSeed::Fixed(1), ..config },
    }
}

/// An IDX file of random sizes: images or labels.
fn idx_file() -> impl Strategy<Value = Vec<u8>> {
    let images = (1..6u32, 1..6u32, 1..6u32).prop_map(|(n, h, w)| vec![n, h, w]);
    let dims = prop_oneof![images, (1..40u32).prop_map(|n| vec![n])];
    (dims, any::<u8>()).prop_map(|(dims, start)| {
        let n: u32 = dims.iter().product();
        let header = [0, 0, 8, dims.len() as u8].into_iter().chain(dims.iter().flat_map(|dim| dim.to_be_bytes()));
        header.chain((0..n).map(|i| ((u32::from(start) + i) % 10) as u8)).collect()
    })
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Append(Vec<u8>),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    /// Four bytes of the start, where sizes and lengths stand.
    Header(u8, u32),
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let at = any::<prop::sample::Index>;
    let damage = prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        at().prop_map(Damage::Cut),
        prop::collection::vec(any::<u8>(), 1..20).prop_map(Damage::Append),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        at().prop_map(Damage::Remove),
        (0..5u8, any::<u32>()).prop_map(|(word, value)| Damage::Header(word, value)),
    ];
    prop::collection::vec(damage, 1..4)
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        if bytes.is_empty() {
            return bytes;
        }
        match damage {
            Damage::Set(at, byte) => *at.get_mut(&mut bytes) = *byte,
            Damage::Flip(at, bit) => *at.get_mut(&mut bytes) ^= 1 << bit,
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Append(more) => bytes.extend(more),
            Damage::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
            Damage::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
            Damage::Header(word, value) => {
                let at = 4 * usize::from(*word);
                if let Some(field) = bytes.get_mut(at..at + 4) {
                    field.copy_from_slice(&value.to_be_bytes());
                }
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), head in 0..4usize) {
        // Random bytes seldom get behind the first check: some files start like good ones.
        let heads: [&[u8]; 4] = [b"", &[0, 0, 8, 3], &[0x1f, 0x8b, 8, 0], b"{\"epochs\": 3, "];
        let bytes = [heads[head], &bytes].concat();
        frugally(&bytes, || harness::read_idx(&bytes));
        harness::read_run_folder(&bytes);
    }

    #[test]
    fn damaged_idx_files_are_no_panic(file in idx_file(), zip in any::<bool>(), damages in damages(), late in any::<bool>()) {
        let file = match (zip, late) {
            (false, _) => damaged(file, &damages),
            (true, true) => damaged(gz(&file), &damages),
            (true, false) => gz(&damaged(file, &damages)),
        };
        frugally(&file, || harness::read_idx(&file));
    }

    #[test]
    fn good_idx_files_are_read(file in idx_file(), zip in any::<bool>()) {
        let file = if zip { gz(&file) } else { file };
        prop_assert_eq!(frugally(&file, || harness::read_idx(&file)), 1);
    }

    #[test]
    fn images_and_labels_come_back_as_they_were(n in 1..7usize, h in 1..9usize, w in 1..9usize, zip in any::<bool>(), seed in any::<u8>()) {
        let pixels: Vec<u8> = (0..n * h * w).map(|i| (i * 31 + usize::from(seed)) as u8).collect();
        let labels: Vec<u32> = (0..n as u32).map(|i| (i * 7 + u32::from(seed)) % 10).collect();
        let images = Images { channels: 1, height: h, width: w, pixels, labels, views: Vec::new(), masks: Vec::new() };
        let dir = tempfile::tempdir().unwrap();
        let [pixel_file, label_file] = ["images", "labels"].map(|name| dir.path().join(name));
        idx::write_images(&pixel_file, &images).unwrap();
        idx::write_labels(&label_file, &images.labels).unwrap();
        if zip {
            for path in [&pixel_file, &label_file] {
                std::fs::write(path, gz(&std::fs::read(path).unwrap())).unwrap();
            }
        }
        prop_assert_eq!(idx::read_pair(&pixel_file, &label_file, 10).unwrap(), images);
    }

    #[test]
    fn cifar_records_are_whole_or_refused(n in 1..4usize, coarse in 0..25u8, fine in 0..110u8, damages in damages()) {
        let record = |i: usize| [coarse, fine].into_iter().chain((0..3072).map(move |at| (at * 7 + i) as u8));
        let file: Vec<u8> = (0..n).flat_map(record).collect();
        let good = coarse < 20 && fine < 100;
        prop_assert_eq!(frugally(&file, || harness::read_cifar(&file)), good.then_some(n));
        let file = damaged(file, &damages);
        frugally(&file, || harness::read_cifar(&file));
    }

    #[test]
    fn damaged_settings_are_no_panic(damages in damages()) {
        let good = br#"{"dataset": "mnist", "model": "cnn5", "device": "gpu:1", "threads": 2, "classes_per_task": 3,
            "class_order": "3,1,4", "limit_per_task": null, "memory": 30, "memory_rounding": "floor", "epochs": 7,
            "batch_size": 32, "optimizer": "sgd", "lr": 0.1, "lr_steps": [4, 6], "lr_decay": 0.5, "momentum": 0.9,
            "weight_decay": 1e-4, "seed": 3, "seeds": 1, "method": "icarl", "version": "0.1.0", "adapter": "cpu"}"#;
        prop_assert!(harness::read_run_folder(good));
        harness::read_run_folder(&damaged(good.to_vec(), &damages));
    }

    #[test]
    fn damaged_metrics_are_no_panic(damages in damages()) {
        let good = br#"{"method":"icarl","dataset":"glyphs","model":"mlp","seed":1,"n_tasks":2,"classes_per_task":[[0],[1]],
            "memory_bytes":[{"exemplars":1,"old_network":0,"class_means":2,"total":3}],"complete":true,"classifiers":{"nme":{
            "matrix":[[0.5,null],[0.25,0.75]],"seen_accuracy":[0.5,0.5],"average_incremental_accuracy":0.5,
            "final_accuracy":0.5,"forgetting":0.25,"backward_transfer":-0.25}}}"#;
        harness::read_run_folder(&damaged(good.to_vec(), &damages));
    }

}

proptest! {
    // Each of these writes a network's weights three times.
    #![proptest_config(config(100))]

    #[test]
    fn damaged_pictures_and_checkpoints_are_no_panic(damages in damages(), side in 1..12u32) {
        let mut file = std::io::Cursor::new(Vec::new());
        let picture = image::RgbImage::from_fn(side, 2 * side, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
        picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
        let file = file.into_inner();
        prop_assert!(harness::read_picture(&file));
        harness::read_picture(&damaged(file, &damages));
        let values: Vec<u8> = (0..2 * side * side).map(|i| (i % 12) as u8).collect();
        let mask = engram::experiment::segmented::mask_png(2 * side as usize, side as usize, &values);
        prop_assert!(harness::read_mask(&mask));
        harness::read_mask(&damaged(mask, &damages));
        let weights = harness::network().to_safetensors().unwrap();
        prop_assert!(!harness::read_checkpoint(&weights), "weights are no checkpoint");
        harness::read_checkpoint(&damaged(weights, &damages));
    }

    #[test]
    fn damaged_weights_are_no_panic_and_change_nothing(damages in damages()) {
        let network = harness::network();
        let good = network.to_safetensors().unwrap();
        prop_assert!(harness::read_weights(&good, &network));
        let file = damaged(good, &damages);
        frugally_beside(network.parameters.bytes() as usize, &file, || harness::read_weights(&file, &network));
    }
}
