//! What must hold for any bytes in a file that engram reads: the result is a consistent value, or an error that names the file, and
//! never a panic. `tests/damage.rs` calls the same functions with damaged files.

use engram::Device;
use engram::data::cifar::{self, Record};
use engram::data::mask_png::{Legend, Mask};
use engram::data::{ImageFormat, VOID, idx, pictures};
use engram::experiment::checkpoint::{CHECKPOINT_FILE, Checkpoint};
use engram::experiment::results::{Metrics, accuracy_csv};
use engram::experiment::{Config, recorded_by};
use engram::models::Network;
use std::io::Write;
use std::path::Path;

/// Classes of the labels that [`idx`] reads.
const N_CLASSES: usize = 10;

fn with_file<R>(bytes: &[u8], read: impl FnOnce(&Path) -> R) -> R {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room for a temporary file");
    read(file.path())
}

/// The value, if there is one; the error must name the file.
fn value<T>(path: &Path, result: engram::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains(&path.display().to_string()), "the file is not named: {message}");
            None
        }
    }
}

/// Bytes as a file of images and as one of labels, plain or gzip. Returns how many of the two were accepted.
pub fn read_idx(bytes: &[u8]) -> usize {
    with_file(bytes, |path| {
        let images = value(path, idx::read_images(path));
        if let Some(images) = &images {
            let n = images.height * images.width;
            assert!(n > 0 && !images.pixels.is_empty() && images.pixels.len() % n == 0 && images.channels == 1);
        }
        let labels = value(path, idx::read_labels(path, N_CLASSES));
        if let Some(labels) = &labels {
            assert!(!labels.is_empty() && labels.iter().all(|&label| (label as usize) < N_CLASSES));
        }
        usize::from(images.is_some()) + usize::from(labels.is_some())
    })
}

/// Bytes as CIFAR-100 records. Returns the number of images, if they were accepted.
pub fn read_cifar(bytes: &[u8]) -> Option<usize> {
    with_file(bytes, |path| {
        let record = Record { label_classes: &[20, 100], label_idx: 1 };
        let images = value(path, cifar::read(&[path.to_path_buf()], record))?;
        assert_eq!(images.pixels.len(), images.labels.len() * images.image_bytes());
        assert!(images.labels.iter().all(|&label| label < 100) && !images.labels.is_empty());
        Some(images.labels.len())
    })
}

/// Bytes as a picture of a folder. Returns whether it is one.
pub fn read_picture(bytes: &[u8]) -> bool {
    with_file(bytes, |path| {
        let format: ImageFormat = "rgb8".parse().expect("a format");
        let Ok(pixels) = pictures::read(path, format) else { return false };
        assert_eq!(pixels.len(), 3 * 8 * 8);
        true
    })
}

/// Bytes as a mask, with and without a table of colours. Returns whether it is one of values.
pub fn read_mask(bytes: &[u8]) -> bool {
    let path = std::path::Path::new("mask.png");
    let colours = vec![([0, 0, 0], 0), ([128, 0, 0], 1), ([9, 9, 9], VOID)];
    let n_classes = 11;
    let values = (0..n_classes).chain([VOID]).collect();
    let mut legend = Legend { values, colours: Vec::new() };
    let is_mask = |legend: &Legend| match Mask::decode(path, bytes, legend) {
        Ok(mask) => {
            assert_eq!(mask.classes.len(), mask.width * mask.height);
            assert!(mask.classes.iter().all(|&class| class == VOID || class < n_classes));
            true
        }
        Err(_) => false,
    };
    let of_values = is_mask(&legend);
    legend.colours = colours;
    is_mask(&legend);
    of_values
}

/// Bytes as the checkpoint of a run. Returns whether it is one.
pub fn read_checkpoint(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join(CHECKPOINT_FILE), bytes).expect("room for a temporary file");
    value(folder.path(), Checkpoint::read(folder.path())).is_some()
}

/// Bytes as `config.json` and as `metrics.json`. Returns whether the configuration can be run.
pub fn read_run_folder(bytes: &[u8]) -> bool {
    if let Ok(metrics) = serde_json::from_slice::<Metrics>(bytes) {
        assert!(accuracy_csv(&metrics).starts_with("classifier,"));
    }
    with_file(bytes, |path| {
        let Some(recorded) = value(path, recorded_by(path)) else { return false };
        let method = engram::continual::spec("icarl").expect("a row of the table");
        match Config::resolve(method, recorded.values) {
            Ok(config) => {
                assert!(
                    config.training.epochs > 0 && config.training.batch_size > 0 && config.training.schedule.lr > 0.0,
                    "{config:?}"
                );
                true
            }
            Err(error) => {
                assert_eq!(error.exit_code(), 2, "wrong settings are wrong use: {error}");
                false
            }
        }
    })
}

/// The smallest network, fresh: 16 pixels, 2 outputs.
pub fn network() -> Network {
    Network::new("mlp", [1, 4, 4], 2, &Device::cpu(), 1).expect("a row of the table")
}

/// Bytes as the weights of `network`. Returns whether they were taken; if not, the network must be as it was.
pub fn read_weights(bytes: &[u8], network: &Network) -> bool {
    let before = network.parameters.values().to_vec().expect("the CPU's memory");
    with_file(bytes, |path| {
        let taken = value(path, network.load_safetensors(path)).is_some();
        let after = network.parameters.values().to_vec().expect("the CPU's memory");
        let same = before.iter().zip(&after).all(|(before, after)| before.to_bits() == after.to_bits());
        assert!(taken || same, "a refused file changed the network");
        taken
    })
}
