//! Labels that an old network gives to pixels that it is sure of. Twin: `shaders/pseudo_labels.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use super::pixel_cross_entropy::IGNORE;
use super::row_sum::row_sum_into;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/pseudo_labels.wgsl")];
const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup: Workgroup::Flat, constants: &[] }
}
static CHOOSE: Kernel = kernel("pseudo_labels.choose", "choose", "rrrwww");
static SHARE: Kernel = kernel("pseudo_labels.share", "share", "rrw");

/// What an old network makes of the pixels that are not of a new class.
#[derive(Clone, Debug)]
pub struct PseudoLabels {
    /// A label for each pixel, [`IGNORE`] where the old network is not sure, (N, H, W).
    pub labels: Tensor,
    /// The share of the asked pixels of each image that got a label, 1 where none was asked, (N).
    pub accepted: Tensor,
}

/// The entropy of a softmax over K numbers as a part of the largest there is, and the place of the largest number:
/// u = −Σ_c p\[c\]·ln p\[c\] / ln K.
fn entropy_and_best(x: &[f32]) -> (f64, usize) {
    let best = (1..x.len()).fold(0, |best, c| if x[c] > x[best] { c } else { best });
    let (mut total, mut weighted) = (0.0, 0.0);
    for &value in x {
        let below = f64::from(value - x[best]);
        total += below.exp();
        weighted += below.exp() * below;
    }
    ((total.ln() - weighted / total) / (x.len().max(2) as f64).ln(), best)
}

impl Tensor {
    /// New labels by what these logits of an old network say (PLOP, Douillard et al., CVPR 2021). A pixel is asked for if its
    /// label is one of the first K = `thresholds.n_elements()` classes: then its label is the class of the largest of the first
    /// K logits if the entropy u = −Σ p·ln p / ln K of their softmax is below that class's threshold, and [`IGNORE`] if not.
    /// Other labels stay. Shapes: x (N, C, H, W), labels (N, H, W), u32, thresholds (K). No derivative.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn pseudo_labels(&self, labels: &Tensor, thresholds: &Tensor) -> Result<PseudoLabels> {
        self.expect_f32("pseudo_labels")?;
        labels.expect_u32("pseudo_labels")?;
        thresholds.expect_f32("pseudo_labels")?;
        self.expect_same_device("pseudo_labels", labels)?;
        self.expect_same_device("pseudo_labels", thresholds)?;
        let (x, t, n_old) = (self.shape(), labels.shape(), thresholds.n_elements());
        let (n, c, plane) = match (&*x, &*t) {
            (&[n, c, h, w], &[m, p, q]) if [n, h, w] == [m, p, q] && n_old <= c => (n, c, h * w),
            _ => {
                let why = format!("logits {x}, labels {t} and {n_old} thresholds do not fit");
                return Err(Error::op("pseudo_labels", why));
            }
        };
        let device = self.device();
        let y = Array::empty(&device, t, DType::U32)?;
        let accepted = Array::empty(&device, [n], DType::F32)?;
        match &device {
            Device::Cpu(_) => {
                let (x, labels, thresholds) = (self.array().cpu(), labels.array().cpu(), thresholds.array().cpu());
                let images = x.par_chunks_exact(c * plane).zip(labels.par_chunks_exact(plane));
                let mut y = y.cpu_mut();
                let chosen = y.par_chunks_exact_mut(plane).zip(images);
                let shares = chosen.map(|(y, (x, labels))| choose_cpu(x, labels, &thresholds, y));
                accepted.cpu_mut().copy_from_slice(&shares.collect::<Vec<f32>>());
            }
            Device::Gpu(gpu) => {
                let flags = || Array::empty(&device, [n, plane], DType::F32);
                let (taken, asked) = (flags()?, flags()?);
                let bindings = [self.array(), labels.array(), thresholds.array(), &y, &taken, &asked];
                let params = |n: usize| [n, c, plane, n_old].map(|size| size as u32);
                gpu.launch(&CHOOSE, &bindings, &params(n * plane), Grid::Invocations(n * plane))?;
                let sums = || Array::empty(&device, [n], DType::F32);
                let (n_taken, n_asked) = (sums()?, sums()?);
                row_sum_into(&taken, 1.0, &n_taken)?;
                row_sum_into(&asked, 1.0, &n_asked)?;
                gpu.launch(&SHARE, &[&n_taken, &n_asked, &accepted], &params(n), Grid::Invocations(n))?;
            }
        }
        Ok(PseudoLabels { labels: Tensor::constant(y), accepted: Tensor::constant(accepted) })
    }
}

/// The labels of one image, and the share of accepted ones among those that were asked for.
fn choose_cpu(x: &[f32], labels: &[f32], thresholds: &[f32], y: &mut [f32]) -> f32 {
    let (plane, n_old) = (labels.len(), thresholds.len());
    let mut own = vec![0.0; n_old];
    let (mut n_taken, mut n_asked) = (0, 0);
    for (pixel, (y, label)) in y.iter_mut().zip(labels).enumerate() {
        *y = *label;
        if (label.to_bits() as usize) < n_old {
            own.iter_mut().zip(x[pixel..].iter().step_by(plane)).for_each(|(own, x)| *own = *x);
            let (entropy, best) = entropy_and_best(&own);
            let is_sure = entropy < f64::from(thresholds[best]);
            *y = f32::from_bits(if is_sure { best as u32 } else { IGNORE });
            n_taken += u32::from(is_sure);
            n_asked += 1;
        }
    }
    if n_asked == 0 { 1.0 } else { n_taken as f32 / n_asked as f32 }
}

pub static OP: Op = Op {
    name: "pseudo_labels",
    formula: "y[i] = argmax_c x[·,i] where it is sure and label[i] is old",
    shaders: &["pseudo_labels", "row_sum"],
    kernels: &[&CHOOSE, &SHARE],
    gradient: false,
    cases: || {
        let inputs = || {
            vec![
                Input::constant([3, 5, 4, 7], Fill::Uniform(-4.0, 4.0)),
                Input::constant([3, 4, 7], Fill::Integers(&[0, 0, 3, IGNORE, 0, 1, 4, 0])),
                Input::constant([4], Fill::Values(&[0.3, 0.6, 0.45, 0.5])),
            ]
        };
        let nothing = vec![
            Input::constant([2, 3, 4, 5], Fill::Uniform(-4.0, 4.0)),
            Input::constant([2, 4, 5], Fill::Integers(&[2, IGNORE])),
            Input::constant([2], Fill::Values(&[0.5])),
        ];
        vec![
            Case::new("labels", inputs(), |x| Ok(x[0].pseudo_labels(&x[1], &x[2])?.labels)).tolerance(Tolerance::Exact),
            Case::new("accepted", inputs(), |x| Ok(x[0].pseudo_labels(&x[1], &x[2])?.accepted)),
            Case::new("nothing_is_asked", nothing, |x| Ok(x[0].pseudo_labels(&x[1], &x[2])?.accepted)),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [1, 2, 2, 3], &[0.0; 12])?;
        let labels = Tensor::from_u32(device, [1, 2, 3], &[0; 6])?;
        Ok(x.pseudo_labels(&labels, &Tensor::from_f32(device, [3], &[0.0; 3])?)?.labels)
    },
};
