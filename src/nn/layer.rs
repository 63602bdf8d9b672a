//! Layers in a row, the shapes between them, and the feature that classifiers of continual learning work on.

use super::parameters::Parameter;
use crate::error::Result;
use crate::ops::Conv2d;
use crate::tensor::Tensor;

/// One step of a sequential network. Numbers index the model's parameters.
#[derive(Clone, Debug)]
pub enum Layer {
    Conv {
        weight: usize,
        bias: usize,
        geometry: Conv2d,
    },
    Relu,
    MaxPool {
        size: usize,
        stride: usize,
    },
    Linear {
        weight: usize,
        bias: usize,
    },
    /// What leaves the layer before is the feature vector φ(x).
    Feature,
}

/// What a network says about a batch.
#[derive(Clone, Debug)]
pub struct Output {
    /// φ(x), (N, D).
    pub features: Tensor,
    /// (N, outputs).
    pub logits: Tensor,
}

impl Layer {
    /// Applies the layer to a batch.
    pub fn apply(&self, x: &Tensor, parameters: &[Tensor]) -> Result<Tensor> {
        match *self {
            Layer::Conv { weight, bias, geometry } => x.conv2d(&parameters[weight], Some(&parameters[bias]), geometry),
            Layer::Relu => x.relu(),
            Layer::MaxPool { size, stride } => x.max_pool2d(size, stride),
            Layer::Linear { weight, bias } => x.linear(&parameters[weight], Some(&parameters[bias])),
            Layer::Feature => Ok(x.clone()),
        }
    }
}

/// Collects layers and follows the shape through them.
pub struct Builder {
    pub layers: Vec<Layer>,
    pub parameters: Vec<Parameter>,
    /// Channels, height, width of what leaves the last layer; a vector is (D, 1, 1).
    pub shape: [usize; 3],
    /// Multiply–accumulates of one forward pass of one image.
    pub macs: u64,
    /// Those of the first layer with weights.
    pub first_layer_macs: u64,
    pub n_features: usize,
    n_convs: usize,
    n_linears: usize,
}

impl Builder {
    pub fn new(input: [usize; 3]) -> Builder {
        Builder {
            layers: Vec::new(),
            parameters: Vec::new(),
            shape: input,
            macs: 0,
            first_layer_macs: 0,
            n_features: 0,
            n_convs: 0,
            n_linears: 0,
        }
    }

    /// Weight and bias, uniform in ±1/√fan_in: the defaults of PyTorch's Conv2d and Linear.
    fn parameters(&mut self, layer: String, weight: &[usize]) -> (usize, usize) {
        let fan_in: usize = weight[1..].iter().product();
        let bound = 1.0 / (fan_in as f32).sqrt();
        let first = self.parameters.len();
        for (suffix, sizes, decay) in [("weight", weight, true), ("bias", &weight[..1], false)] {
            let shape = crate::shape::Shape::new(sizes).expect("bug: a layer without outputs");
            self.parameters.push(Parameter { name: format!("{layer}.{suffix}"), shape, bound, decay });
        }
        (first, first + 1)
    }

    pub fn conv(&mut self, out_channels: usize, kernel: usize, geometry: Conv2d) {
        let [c, h, w] = self.shape;
        self.n_convs += 1;
        let (weight, bias) = self.parameters(format!("conv{}", self.n_convs), &[out_channels, c, kernel, kernel]);
        let out = |size: usize| (size + 2 * geometry.padding - kernel) / geometry.stride + 1;
        self.shape = [out_channels, out(h), out(w)];
        self.add_macs(self.shape.iter().product::<usize>() * c * kernel * kernel);
        self.layers.push(Layer::Conv { weight, bias, geometry });
    }

    fn add_macs(&mut self, macs: usize) {
        self.macs += macs as u64;
        if self.first_layer_macs == 0 {
            self.first_layer_macs = macs as u64;
        }
    }

    pub fn relu(&mut self) {
        self.layers.push(Layer::Relu);
    }

    pub fn max_pool(&mut self, size: usize) {
        let [c, h, w] = self.shape;
        self.shape = [c, h / size, w / size];
        self.layers.push(Layer::MaxPool { size, stride: size });
    }

    pub fn linear(&mut self, outputs: usize) {
        let inputs = self.shape.iter().product();
        self.n_linears += 1;
        let (weight, bias) = self.parameters(format!("fc{}", self.n_linears), &[outputs, inputs]);
        self.shape = [outputs, 1, 1];
        self.add_macs(inputs * outputs);
        self.layers.push(Layer::Linear { weight, bias });
    }

    pub fn feature(&mut self) {
        self.n_features = self.shape.iter().product();
        self.layers.push(Layer::Feature);
    }
}
