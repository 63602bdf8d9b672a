//! Networks for other programs: ONNX for runtimes, and a module of PyTorch that loads safetensors.
//!
//! Both take images of 0 to 1, so the normalisation is part of them, and both answer with features, logits and the scores of a
//! [`Head`], the classifier that stands behind the features.

mod blocks;
mod onnx;
mod steps;
mod torch;
mod wire;

use super::Network;
use crate::error::{Error, Result};
use crate::nn::LayerSpec;
use crate::settings::choices;

choices! {
    /// What other programs read.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Format {
        /// One file for onnxruntime and others: opset 17, any number of images at once.
        Onnx = "onnx",
        /// A folder with model.py, for PyTorch, and the numbers that it loads.
        Torch = "torch",
    }
}

/// The classifier behind the features φ of D numbers. All matrices are row-major; a score is larger where a class is likelier.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// The network's own outputs, those of classes that have come: scores are logits.
    Network,
    /// W·φ + b.
    Linear {
        /// W, (classes, D).
        weight: Vec<f32>,
        /// b, (classes).
        bias: Vec<f32>,
    },
    /// −‖φ − μ‖ for the mean μ of each class.
    NearestMean {
        /// (classes, D).
        means: Vec<f32>,
    },
    /// −‖Lᵀ·(x − μ)‖² with x = ±√|φ|, and L and μ of each class, so that L·Lᵀ is the inverse of its covariance: FeCAM (Goswami et al.,
    /// "FeCAM: Exploiting the Heterogeneity of Class Distributions in Exemplar-Free Continual Learning", NeurIPS 2023).
    Mahalanobis {
        /// (classes, D).
        means: Vec<f32>,
        /// L, (classes, D, D).
        factors: Vec<f32>,
    },
    /// W·relu(P·φ): random projection and ridge regression (McDonnell et al., "RanPAC: Random Projections and Pre-trained Models
    /// for Continual Learning", NeurIPS 2023).
    Ranpac {
        /// P, (M, D).
        projection: Vec<f32>,
        /// W, (classes, M).
        weight: Vec<f32>,
    },
}

/// A classifier to be written for other programs.
///
/// ```
/// use engram::models::{Network, export::{Export, Format, Head}};
/// let network = Network::new("resnet20", [3, 32, 32], 10, &engram::Device::cpu(), 1)?;
/// let export = Export {
///     network: &network,
///     mean: vec![0.5; 3],
///     std: vec![0.25; 3],
///     mirrored: false,
///     quarters: None,
///     unit_length: true,
///     head: Head::NearestMean { means: vec![0.0; 2 * network.n_features] },
///     classes: vec!["bolt".into(), "nut".into()],
/// };
/// let files = export.files(Format::Torch)?;
/// assert_eq!(files[0].0, "model.py");
/// assert!(export.files(Format::Onnx)?[0].1.len() > 4 * network.parameters.n_parameters());
/// # Ok::<(), engram::Error>(())
/// ```
pub struct Export<'a> {
    /// What computes features and logits.
    pub network: &'a Network,
    /// An image x of 0 to 1 enters the network as (x − mean)/std. One mean per channel or per pixel.
    pub mean: Vec<f32>,
    /// One per channel.
    pub std: Vec<f32>,
    /// Whether features and logits are the means over a picture and its mirror image.
    pub mirrored: bool,
    /// The number of a stage, from 1: the head gets φ/‖φ‖ and, as 4·C more numbers of length 1, the means of the four quarters of what
    /// leaves that stage, instead of φ; of `mirrored` pictures with those of the mirror image, turned back.
    pub quarters: Option<usize>,
    /// Whether what the head gets is divided by its length.
    pub unit_length: bool,
    /// What makes scores of features.
    pub head: Head,
    /// What a person calls the classes, in the order of the scores.
    pub classes: Vec<String>,
}

impl Export<'_> {
    /// The content of the file, or of the files of the folder, each with its name.
    ///
    /// # Errors
    /// If the network answers for pixels, sizes do not fit one another, a layer has a name that PyTorch cannot give it, or the adapter was lost.
    pub fn files(&self, format: Format) -> Result<Vec<(&'static str, Vec<u8>)>> {
        if let Some(what) = self.misfit() {
            return Err(Error::op("export", format!("{what} of another size than network and classes")));
        }
        let of_pixels = |layer: &&LayerSpec| {
            use LayerSpec::{Concat, FeatureMap, ImagePool, Mean, Resize};
            matches!(layer, ImagePool {} | Concat { .. } | Resize { .. } | FeatureMap {} | Mean { .. })
        };
        if let Some(layer) = self.network.list().layers.iter().find(of_pixels) {
            let (name, kind) = (&self.network.name, layer.label());
            return Err(Error::usage(format!(
                "'{name}' has a layer of the kind '{kind}', which cannot be exported: networks for images without such layers can"
            )));
        }
        match format {
            Format::Onnx => Ok(vec![("model.onnx", onnx::model(self)?)]),
            Format::Torch => torch::files(self),
        }
    }

    /// What does not fit the network and the number of classes.
    fn misfit(&self) -> Option<&'static str> {
        let ([c, h, w], d, n) = (self.network.input, self.n_head(), self.classes.len());
        if self.quarters.is_some() && self.map().is_none() {
            return Some("the quarters of a stage are");
        }
        let fits = |values: &[f32], rows: usize, columns: usize| values.len() == rows * columns;
        let head = match &self.head {
            Head::Network => n <= self.network.n_outputs,
            Head::Linear { weight, bias } => fits(weight, n, d) && fits(bias, n, 1),
            Head::NearestMean { means } => fits(means, n, d),
            Head::Mahalanobis { means, factors } => fits(means, n, d) && fits(factors, n * d, d),
            Head::Ranpac { projection, weight } => {
                fits(projection, self.n_projected(), d) && fits(weight, n, self.n_projected())
            }
        };
        let mean = [c, c * h * w].contains(&self.mean.len());
        let parts = [(mean, "the mean"), (self.std.len() == c, "the std"), (head && n > 0, "the head")];
        parts.into_iter().find(|(fits, _)| !fits).map(|(_, what)| what)
    }

    /// Channels, height and width of the map whose quarters count.
    fn map(&self) -> Option<[usize; 3]> {
        let stages = self.network.stages();
        let place = stages.get(self.quarters?.checked_sub(1)?)?;
        Some(place.shape).filter(|[_, h, w]| *h > 1 && *w > 1)
    }

    /// Numbers that the head gets.
    fn n_head(&self) -> usize {
        self.network.n_features + self.map().map_or(0, |[c, ..]| 4 * c)
    }

    /// M of a random projection.
    fn n_projected(&self) -> usize {
        match &self.head {
            Head::Ranpac { projection, .. } => projection.len() / self.n_head(),
            _ => 0,
        }
    }

    /// Axes of the mean as it is subtracted from (N, C, H, W).
    fn mean_shape(&self) -> [usize; 3] {
        let [c, h, w] = self.network.input;
        if self.mean.len() == c { [c, 1, 1] } else { [c, h, w] }
    }

    /// The head's numbers with their names and shapes.
    fn head_tensors(&self) -> Vec<(&'static str, Vec<usize>, &[f32])> {
        let (d, n, m) = (self.n_head(), self.classes.len(), self.n_projected());
        match &self.head {
            Head::Network => vec![],
            Head::Linear { weight, bias } => vec![("weight", vec![n, d], weight), ("bias", vec![n], bias)],
            Head::NearestMean { means } => vec![("means", vec![n, d], means)],
            Head::Mahalanobis { means, factors } => {
                vec![("means", vec![n, d], means), ("factors", vec![n, d, d], factors)]
            }
            Head::Ranpac { projection, weight } => {
                vec![("projection", vec![m, d], projection), ("weight", vec![n, m], weight)]
            }
        }
    }

    /// The names of the classes as JSON, which is a list in Python too.
    fn class_names(&self) -> String {
        serde_json::to_string(&self.classes).expect("bug: names that are no JSON")
    }

    /// What it is, in a line.
    fn title(&self) -> String {
        let [c, h, w] = self.network.input;
        let (name, n, version) = (&self.network.name, self.classes.len(), env!("CARGO_PKG_VERSION"));
        let name: String = name.chars().filter(|c| c.is_ascii_graphic() && !"\"\\".contains(*c)).collect();
        format!("{name} for images of {c}x{h}x{w}, {n} classes; written by engram {version}")
    }
}
