//! Floor 4a: the models, as a table of layer lists.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{Builder, Layer, Output, Parameters};
use crate::ops::Conv2d;
use crate::tensor::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::path::Path;

/// A row of the model table.
pub struct ModelSpec {
    pub name: &'static str,
    pub summary: &'static str,
    /// Everything up to the last layer, which maps features to outputs.
    body: fn(&mut Builder),
}

/// Every model.
pub static ALL: &[ModelSpec] = &[
    ModelSpec {
        name: "mlp",
        summary: "linear 256 – ReLU – linear 256 (feature) – ReLU – linear",
        body: |b| {
            b.linear(256);
            b.relu();
            b.linear(256);
        },
    },
    ModelSpec {
        name: "cnn",
        summary: "3×3 conv 32 – ReLU – pool 2 – 3×3 conv 64 – ReLU – pool 2 – linear 128 (feature) – ReLU – linear",
        body: |b| convolutional(b, 3, 128),
    },
    ModelSpec {
        name: "cnn5",
        summary: "5×5 conv 32 – ReLU – pool 2 – 5×5 conv 64 – ReLU – pool 2 – linear 256 (feature) – ReLU – linear",
        body: |b| convolutional(b, 5, 256),
    },
];

fn convolutional(b: &mut Builder, kernel: usize, n_features: usize) {
    for channels in [32, 64] {
        b.conv(channels, kernel, Conv2d { stride: 1, padding: kernel / 2 });
        b.relu();
        b.max_pool(2);
    }
    b.linear(n_features);
}

/// The row of this name.
///
/// # Errors
/// If there is none; the message lists those there are.
pub fn spec(name: &str) -> Result<&'static ModelSpec> {
    ALL.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|spec| spec.name).collect();
        Error::usage(format!("unknown model '{name}': there are {}", known.join(", ")))
    })
}

/// A network on a device. The feature is what enters the last ReLU, so its numbers have both signs.
pub struct Network {
    layers: Vec<Layer>,
    pub parameters: Parameters,
    pub name: &'static str,
    /// Channels, height, width.
    pub input: [usize; 3],
    pub n_features: usize,
    pub n_outputs: usize,
    /// Multiply–accumulates of one forward pass of one image.
    pub macs: u64,
    first_layer_macs: u64,
}

impl Network {
    /// A freshly initialised network for images of `input` = (channels, height, width).
    ///
    /// # Errors
    /// If the model is unknown, the images are too small for it, or the device is out of memory.
    pub fn new(name: &str, input: [usize; 3], n_outputs: usize, device: &Device, seed: u64) -> Result<Network> {
        let spec = spec(name)?;
        if input.contains(&0) || input[1] < 4 || input[2] < 4 {
            return Err(Error::usage(format!("images of {input:?} are too small for the model '{name}'")));
        }
        let mut builder = Builder::new(input);
        (spec.body)(&mut builder);
        builder.feature();
        builder.relu();
        builder.linear(n_outputs);
        Ok(Network {
            layers: builder.layers,
            parameters: Parameters::new(device, builder.parameters, seed)?,
            name: spec.name,
            input,
            n_features: builder.n_features,
            n_outputs,
            macs: builder.macs,
            first_layer_macs: builder.first_layer_macs,
        })
    }

    /// Floating-point operations of forward and backward of one image; the first layer needs no gradient of its input.
    pub fn training_flop(&self) -> f64 {
        (6 * self.macs - 2 * self.first_layer_macs) as f64
    }

    /// Features and logits of a batch (N, C, H, W).
    pub fn forward(&self, x: &Tensor) -> Result<Output> {
        let mut x = x.clone();
        let mut features = None;
        for layer in &self.layers {
            x = layer.apply(&x, self.parameters.tensors())?;
            if matches!(layer, Layer::Feature) {
                features = Some(x.clone());
            }
        }
        Ok(Output { features: features.expect("bug: a model without a feature"), logits: x })
    }

    /// A frozen copy with the same weights.
    pub fn snapshot(&self) -> Result<Network> {
        Ok(Network { layers: self.layers.clone(), parameters: self.parameters.snapshot()?, ..*self })
    }

    /// The weights in the safetensors format, under PyTorch's names.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let host = self.parameters.to_host()?;
        let views = host.iter().map(|(name, shape, values)| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values));
            (*name, view.expect("bug: a parameter's size is not its shape's"))
        });
        safetensors::serialize(views, None)
            .map_err(|e| Error::Training(format!("the weights cannot be serialised: {e}")))
    }

    /// Overwrites the weights by those of a file.
    ///
    /// # Errors
    /// If the file is not of this architecture; the message names the tensor that differs.
    pub fn load_safetensors(&self, path: &Path) -> Result<()> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let file =
            SafeTensors::deserialize(&bytes).map_err(|e| Error::file(path, format!("no safetensors file: {e}")))?;
        let host = self.parameters.to_host()?;
        let mut new_values = Vec::new();
        for (name, shape, _) in &host {
            let view = file.tensor(name).map_err(|_| Error::file(path, format!("the tensor '{name}' is missing")))?;
            if view.dtype() != Dtype::F32 {
                return Err(Error::file(path, format!("'{name}' holds {:?}, not F32", view.dtype())));
            }
            if *view.shape() != **shape {
                let message = format!("'{name}' has shape {:?} in the file and {shape} in the model", view.shape());
                return Err(Error::file(path, message));
            }
            new_values.push(bytemuck::pod_collect_to_vec::<u8, f32>(view.data()));
        }
        // Only a file that fits in every part changes the network.
        for ((name, shape, _), values) in host.iter().zip(new_values) {
            self.parameters.set(name, shape, &values)?;
        }
        Ok(())
    }
}
