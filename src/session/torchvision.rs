//! Weights of torchvision's ResNet-18 and ResNet-34, by the names that they have there.

use super::Backbone;
use super::backbone::Card;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::{Options, Stem};
use safetensors::tensor::SafeTensors;
use std::path::Path;

/// What torchvision's networks were trained with.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];
/// Pictures are scaled to so many pixels, of which so many in the middle are looked at.
const SCALED: usize = 256;
const SIDE: usize = 224;
/// Channels of the first stage.
const WIDTH: f32 = 64.0;
/// ResNet-34 is some 90 MB.
const MOST_BYTES: u64 = 1 << 30;

/// The network of a file. Which of the two it is, its width and its number of outputs are told from the tensors.
pub(super) fn open(path: &Path, device: &Device) -> Result<Backbone> {
    let n_bytes = path.metadata().map_err(Error::io(path, "read"))?.len();
    if n_bytes > MOST_BYTES {
        return Err(Error::file(path, format!("no file of weights of at most {} GiB", MOST_BYTES >> 30)));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let card = described(path, &bytes)?;
    let network = card.network(device)?;
    network.load_bytes(&bytes, path)?;
    Backbone::new(card, network)
}

fn described(path: &Path, bytes: &[u8]) -> Result<Card> {
    let known = "a backbone is the folder of a run, or a safetensors file of torchvision's ResNet-18 or ResNet-34";
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| Error::file(path, format!("no safetensors file ({e}): {known}")))?;
    let shape = |name: &str| file.tensor(name).map(|view| view.shape().to_vec()).ok();
    let foreign = |why: &str| Error::file(path, format!("{why}: {known}"));
    if shape("layer1.0.conv3.weight").is_some() {
        return Err(foreign("a residual network of bottleneck blocks"));
    }
    let Some(&[channels, 3, 7, 7]) = shape("conv1.weight").as_deref() else {
        return Err(foreign("no network with torchvision's 7×7 'conv1.weight'"));
    };
    let Some(&[n_outputs, _]) = shape("fc.weight").as_deref() else {
        return Err(foreign("the tensor 'fc.weight' is missing"));
    };
    let model = if shape("layer1.2.conv1.weight").is_some() { "resnet34" } else { "resnet18" };
    Ok(Card {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        model: model.into(),
        options: Options { width: channels as f32 / WIDTH, stem: Stem::Large, ..Options::default() },
        layers: None,
        input: [3, SIDE, SIDE],
        of_height: Some(SCALED),
        n_outputs,
        mean: MEAN.to_vec(),
        std: STD.to_vec(),
        flips: true,
        quarters: None,
    })
}
