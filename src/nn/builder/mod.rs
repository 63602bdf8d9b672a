//! The one way to build a network: layer after layer, with the shapes between them.

mod layers;

use super::layer::{Layer, OutputKind, Place};
use super::layer_spec::{LayerSpec, Start};
use super::parameters::{Init, Parameter};
use crate::ops::Conv2d;
use crate::shape::Shape;

/// Larger than any network here. Lists of layers may come from a file: nothing is allocated for what it merely claims.
const MOST_LAYERS: usize = 4096;
const MOST_SLOTS: usize = 64;
const MOST_STEPS: usize = 1024;
const MOST_PARAMETERS: usize = 1 << 30;
const MOST_VALUES: usize = 1 << 24;
const MOST_OF_NAME: usize = 100;

const NO_OUTPUTS: &str =
    "\"out\" is missing: only the last layer with weights goes without, and gets an output per class";

/// A line of the table of layers.
#[derive(Clone, Debug)]
pub struct LayerInfo {
    /// As PyTorch would name it, and empty for layers without parameters.
    pub name: String,
    /// What it does, for example `conv 3×3 /2`.
    pub what: String,
    /// Channels, height, width of its result.
    pub shape: [usize; 3],
    /// Weights and biases.
    pub n_parameters: usize,
    /// Multiply–accumulates for one image.
    pub macs: u64,
}

/// Collects layers and follows the shape through them. A layer that does not fit is refused: [`Builder::refusal`] says why, and
/// what comes after it is ignored.
///
/// ```
/// use engram::nn::{self, Builder, Parameters, Pass, Statistics};
/// use engram::ops::Mode;
/// use engram::{Device, Tensor};
/// let device = Device::cpu();
/// let mut builder = Builder::new([1, 8, 8]);
/// builder.linear("hidden", 16);
/// builder.feature();
/// builder.relu();
/// builder.linear("last", 3);
/// let parameters = Parameters::new(&device, builder.parameters, 1)?;
/// assert_eq!(parameters.n_parameters(), 64 * 16 + 16 + 16 * 3 + 3);
///
/// let statistics = Statistics::new(&device, builder.norms)?; // none: there is no batch norm
/// let x = Tensor::from_f32(&device, [5, 1, 8, 8], &[0.5; 5 * 64])?;
/// let (output, _) = nn::forward(&builder.layers, &x, &parameters, &statistics, Pass::of(Mode::Train))?;
/// assert_eq!(*output.logits.shape(), [5, 3]);
/// # Ok::<(), engram::Error>(())
/// ```
pub struct Builder {
    /// So far, in order.
    pub layers: Vec<Layer>,
    /// The same as a file lists them.
    pub specs: Vec<LayerSpec>,
    /// Those the layers index.
    pub parameters: Vec<Parameter>,
    /// Names and channels of the batch norms.
    pub norms: Vec<(String, usize)>,
    /// One line per layer.
    pub table: Vec<LayerInfo>,
    /// Named values, in order.
    pub places: Vec<Place>,
    /// Those of them that name what left the last layer.
    current: Vec<usize>,
    /// Channels, height, width of the images.
    input: [usize; 3],
    /// Channels, height, width of what leaves the last layer; a vector is (D, 1, 1).
    pub shape: [usize; 3],
    /// Whether it is an image of channels, and no vector.
    is_map: bool,
    /// What slots keep: the shape, and whether it is an image of channels.
    kept: Vec<Option<([usize; 3], bool)>>,
    n_stages: usize,
    /// D, the length of the feature vector; 0 before [`Builder::feature`] or [`Builder::feature_map`].
    pub n_features: usize,
    /// What the layers answer for, by the kind of feature that is marked.
    pub kind: OutputKind,
    /// ε of batch norms.
    pub epsilon: f32,
    /// Why the layers cannot be built for these images.
    pub refusal: Option<String>,
}

/// Done, or why a layer is refused.
type Fits<T> = Result<T, String>;

impl Builder {
    /// An empty row of layers for images of (channels, height, width).
    pub fn new(input: [usize; 3]) -> Builder {
        Builder {
            layers: Vec::new(),
            specs: Vec::new(),
            parameters: Vec::new(),
            norms: Vec::new(),
            table: Vec::new(),
            places: Vec::new(),
            current: Vec::new(),
            input,
            shape: input,
            is_map: true,
            kept: Vec::new(),
            n_stages: 0,
            n_features: 0,
            kind: OutputKind::Classes,
            epsilon: 1e-5,
            refusal: size_of(&input).err(),
        }
    }

    /// Names what left the last layer, and the ReLU behind it if that has come.
    pub fn name(&mut self, name: &str) {
        self.push(LayerSpec::Name { name: name.into() });
    }

    /// Declares that a stage of the network ends: what left the last layer is called `stage1`, `stage2`, … too.
    pub fn end_stage(&mut self) {
        self.push(LayerSpec::Stage {});
    }

    /// A convolution with square kernel. The weight is normal with variance 2/fan_in (He et al. 2015), the bias zero.
    pub fn conv(&mut self, name: &str, out_channels: usize, kernel: usize, geometry: Conv2d, bias: bool) {
        self.conv_with(name, out_channels, kernel, geometry, bias, Start::He);
    }

    /// A convolution whose weight and bias start as in PyTorch: uniform in ±1/√fan_in.
    pub fn conv_uniform(&mut self, name: &str, out_channels: usize, kernel: usize, geometry: Conv2d) {
        self.conv_with(name, out_channels, kernel, geometry, true, Start::Uniform);
    }

    fn conv_with(&mut self, name: &str, outputs: usize, kernel: usize, geometry: Conv2d, bias: bool, init: Start) {
        let Conv2d { stride, padding, dilation } = geometry;
        let (name, inputs, outputs) = (name.into(), Some(self.shape[0]), Some(outputs));
        self.push(LayerSpec::Conv { name, inputs, outputs, kernel, stride, padding, dilation, bias, init });
    }

    /// A batch norm, the sum with what a slot keeps, and ReLU.
    pub fn batch_norm(&mut self, name: &str, residual: Option<usize>, relu: bool) {
        let (inputs, epsilon) = (Some(self.shape[0]), self.epsilon);
        self.push(LayerSpec::BatchNorm { name: name.into(), inputs, add: residual, relu, epsilon });
    }

    /// max(x, 0).
    pub fn relu(&mut self) {
        self.push(LayerSpec::Relu {});
    }

    /// The maximum of windows of `size` × `size` that touch; what does not fill a window is left out.
    pub fn max_pool(&mut self, size: usize) {
        self.push(LayerSpec::MaxPool { size, stride: None, padding: 0 });
    }

    /// The maximum of windows of `size` × `size` that are `stride` apart, of which up to `padding` pixels lie outside.
    pub fn max_pool_with(&mut self, size: usize, stride: usize, padding: usize) {
        self.push(LayerSpec::MaxPool { size, stride: Some(stride), padding });
    }

    /// The mean of each channel.
    pub fn global_avg_pool(&mut self) {
        self.push(LayerSpec::GlobalAvgPool {});
    }

    /// A linear layer whose weight and bias start as in PyTorch: uniform in ±1/√fan_in.
    pub fn linear(&mut self, name: &str, outputs: usize) {
        self.linear_with(name, outputs, Start::Uniform);
    }

    /// A linear layer whose weight is normal with variance 1/fan_in and whose bias is zero.
    pub fn linear_normal(&mut self, name: &str, outputs: usize) {
        self.linear_with(name, outputs, Start::Normal);
    }

    fn linear_with(&mut self, name: &str, outputs: usize, init: Start) {
        let inputs = Some(self.shape.iter().product());
        self.push(LayerSpec::Linear { name: name.into(), inputs, outputs: Some(outputs), init });
    }

    /// Keeps what left the last layer in a slot.
    pub fn keep(&mut self, slot: usize) {
        self.push(LayerSpec::Keep { slot });
    }

    /// Goes on with what a slot keeps.
    pub fn resume(&mut self, slot: usize) {
        self.push(LayerSpec::Resume { slot });
    }

    /// The sum with what a slot keeps, which has the same shape.
    pub fn add_slot(&mut self, slot: usize) {
        self.push(LayerSpec::Add { slot });
    }

    /// Half the sum with what a slot keeps, which has the same shape.
    pub fn mean_slot(&mut self, slot: usize) {
        self.push(LayerSpec::Mean { slot });
    }

    /// Declares what left the last layer to be φ(x).
    pub fn feature(&mut self) {
        self.push(LayerSpec::Feature {});
    }

    /// Declares what left the last layer to be the feature vectors of pixels.
    pub fn feature_map(&mut self) {
        self.push(LayerSpec::FeatureMap {});
    }

    /// The mean of each channel as a map of one pixel.
    pub fn image_pool(&mut self) {
        self.push(LayerSpec::ImagePool {});
    }

    /// The channels of what slots keep, behind each other.
    pub fn concat(&mut self, slots: &[usize]) {
        self.push(LayerSpec::Concat { slots: slots.into() });
    }

    /// Maps of the height and width of what a slot keeps, or of the images, linearly between pixels.
    pub fn resize(&mut self, slot: Option<usize>) {
        self.push(LayerSpec::Resize { slot });
    }

    /// The next layer, as a file lists it.
    pub fn push(&mut self, spec: LayerSpec) {
        if self.refusal.is_some() {
            return;
        }
        match self.apply(&spec) {
            Ok(()) => self.specs.push(spec),
            Err(why) => {
                // A name from a file may be anything.
                let label: String = spec.label().chars().filter(|c| !c.is_control()).take(MOST_OF_NAME).collect();
                self.refusal = Some(format!("layer {} ({label}): {why}", self.specs.len() + 1));
            }
        }
    }

    /// What is wrong with the layers as a classifier of so many classes, if anything.
    pub fn finish(&mut self, n_outputs: usize) {
        let last = LayerSpec::classifier(&self.specs);
        let last =
            last.filter(|&(at, _)| self.specs[at].outputs_mut() == Some(&mut Some(n_outputs))).map(|(_, kind)| kind);
        let why = match () {
            () if self.refusal.is_some() => return,
            () if last.is_none() => {
                "the last layer must be linear, with as many outputs as there are classes, or a convolution of so many channels \
                 and a resize to the images"
            }
            () if self.n_features == 0 => {
                "no layer is marked as the feature, the vector that classifiers of continual learning compare: put a feature \
                 mark before the last linear layer, or a feature-map mark before the last convolution"
            }
            () if last != Some(self.kind) => {
                "a feature mark goes with a linear layer at the end, a feature-map mark with a convolution and a resize"
            }
            () => return,
        };
        self.refusal = Some(why.into());
    }

    fn apply(&mut self, spec: &LayerSpec) -> Fits<()> {
        if self.specs.len() == MOST_LAYERS {
            return Err(format!("a network has at most {MOST_LAYERS} layers"));
        }
        match spec {
            &LayerSpec::Conv { ref name, inputs, outputs, kernel, stride, padding, dilation, bias, init } => {
                self.expect_channels(inputs)?;
                let outputs = outputs.ok_or(NO_OUTPUTS)?;
                self.add_conv(name, outputs, kernel, Conv2d { stride, padding, dilation }, bias, init)
            }
            &LayerSpec::BatchNorm { ref name, inputs, add, relu, epsilon } => {
                self.expect_channels(inputs)?;
                self.add_batch_norm(name, add, relu, epsilon)
            }
            LayerSpec::Relu {} => self.add_relu(),
            &LayerSpec::MaxPool { size, stride, padding } => self.add_max_pool(size, stride.unwrap_or(size), padding),
            LayerSpec::GlobalAvgPool {} => {
                let [c, ..] = self.map()?;
                (self.shape, self.is_map) = ([c, 1, 1], false);
                self.add(None, "global average pool".into(), 0, 0, Layer::GlobalAvgPool)
            }
            &LayerSpec::Linear { ref name, inputs, outputs, init } => self.add_linear(name, inputs, outputs, init),
            &LayerSpec::Keep { slot } => self.add_keep(slot),
            &LayerSpec::Resume { slot } => {
                (self.shape, self.is_map) = self.in_slot(slot)?;
                self.current.clear();
                self.layers.push(Layer::Resume(slot));
                Ok(())
            }
            &LayerSpec::Add { slot } => {
                self.expect_shape_of(slot)?;
                self.add(None, "sum".into(), 0, 0, Layer::Add(slot))
            }
            &LayerSpec::Mean { slot } => {
                self.expect_shape_of(slot)?;
                self.add(None, "mean of two".into(), 0, 0, Layer::Mean(slot))
            }
            LayerSpec::Feature {} => {
                let n = self.shape.iter().product();
                (self.shape, self.is_map) = ([n, 1, 1], false);
                self.add_feature(n, Layer::Feature)
            }
            LayerSpec::ImagePool {} => {
                let [c, ..] = self.map()?;
                self.shape = [c, 1, 1];
                self.add(None, "mean over the image".into(), 0, 0, Layer::ImagePool)
            }
            LayerSpec::Concat { slots } => self.add_concat(slots),
            &LayerSpec::Resize { slot } => self.add_resize(slot),
            LayerSpec::FeatureMap {} => {
                let [c, ..] = self.map()?;
                self.add_feature(c, Layer::FeatureMap)?;
                self.kind = OutputKind::Pixels;
                Ok(())
            }
            LayerSpec::Name { name } => self.add_name(name),
            LayerSpec::Stage {} => {
                self.n_stages += 1;
                self.add_name(&format!("stage{}", self.n_stages))
            }
        }
    }

    fn expect_channels(&self, expected: Option<usize>) -> Fits<()> {
        match expected {
            Some(expected) if expected != self.shape[0] => {
                Err(format!("it takes {expected} channels, and {} arrive", self.shape[0]))
            }
            _ => Ok(()),
        }
    }

    /// That what arrives can be added to what a slot keeps.
    fn expect_shape_of(&self, slot: usize) -> Fits<()> {
        let (kept, is_map) = self.in_slot(slot)?;
        if kept == self.shape && is_map == self.is_map {
            return Ok(());
        }
        let [[c, h, w], [kept_c, kept_h, kept_w]] = [self.shape, kept];
        Err(format!(
            "slot {slot} keeps {kept_c}×{kept_h}×{kept_w}, which cannot be added to {c}×{h}×{w}: give both the same shape"
        ))
    }

    /// The shape of what arrives, which must be an image of channels.
    fn map(&self) -> Fits<[usize; 3]> {
        match self.is_map {
            true => Ok(self.shape),
            false => Err(format!("a vector of {} arrives, and it takes a map of channels", self.shape[0])),
        }
    }

    fn in_slot(&self, slot: usize) -> Fits<([usize; 3], bool)> {
        self.kept.get(slot).copied().flatten().ok_or_else(|| format!("nothing was kept in slot {slot} before"))
    }

    fn parameter(&mut self, name: String, sizes: &[usize], init: Init, decay: bool) -> Fits<usize> {
        let count = |parameter: &Parameter| parameter.shape.n_elements();
        let before: usize = self.parameters.iter().map(count).sum();
        let own = sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
        if own.and_then(|own| own.checked_add(before)).is_none_or(|all| all > MOST_PARAMETERS) {
            return Err(format!("more than {MOST_PARAMETERS} parameters: make layers narrower, or pool before them"));
        }
        let shape = Shape::new(sizes).map_err(|e| e.to_string())?;
        self.parameters.push(Parameter { name, shape, init, decay });
        Ok(self.parameters.len() - 1)
    }

    fn add(&mut self, name: Option<&str>, what: String, n_parameters: usize, macs: u64, layer: Layer) -> Fits<()> {
        let shown = name.unwrap_or_default().into();
        self.table.push(LayerInfo { name: shown, what, shape: self.shape, n_parameters, macs });
        self.layers.push(layer);
        self.current.clear();
        name.map_or(Ok(()), |name| self.add_name(name))
    }

    fn add_name(&mut self, name: &str) -> Fits<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > MOST_OF_NAME || !name.chars().all(plain) {
            return Err(format!("a name has 1 to {MOST_OF_NAME} letters, digits, dots, hyphens and underscores"));
        }
        if self.places.iter().any(|place| place.name == name) {
            return Err(format!("the name '{name}' is taken: choose another"));
        }
        let place = match self.current.first() {
            Some(&same) => Place { name: name.into(), ..self.places[same].clone() },
            None => {
                let Some(layer) = self.layers.len().checked_sub(1) else {
                    return Err("there is no layer before it to name".into());
                };
                let fused = matches!(self.layers[layer], Layer::BatchNorm { relu: true, .. });
                Place { name: name.into(), layer, relu: fused.then_some(layer), shape: self.shape }
            }
        };
        self.current.push(self.places.len());
        self.places.push(place);
        Ok(())
    }
}

/// Numbers of a result of one image.
fn size_of(shape: &[usize]) -> Fits<usize> {
    if shape.contains(&0) {
        return Err("an axis or the number of outputs is 0".into());
    }
    let n = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    n.filter(|n| *n <= MOST_VALUES)
        .ok_or_else(|| format!("{shape:?} are more than {MOST_VALUES} numbers for one image: make it smaller"))
}
