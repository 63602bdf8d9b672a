//! Softmax cross-entropy of each pixel, where some classes may count as one. Twin: `shaders/pixel_cross_entropy.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use super::softmax::{log_sum_exp, softmax_row};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;
use std::ops::Range;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/pixel_cross_entropy.wgsl")];
const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup: Workgroup::Flat, constants: &[] }
}
static FORWARD: Kernel = kernel("pixel_cross_entropy.forward", "forward", "rrw");
static BACKWARD: Kernel = kernel("pixel_cross_entropy.backward", "backward", "rrrw");

/// The label of a pixel that belongs to no class, or to one that is not known: losses and counts leave it out.
pub const IGNORE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Sizes {
    n: usize,
    c: usize,
    plane: usize,
    n_active: usize,
    n_merged: usize,
}

impl Tensor {
    /// The loss of each pixel, −ln p(label): y[n, h, w] = ln Σ_c exp x[n, c, h, w] − ln Σ_{c ∈ G} exp x[n, c, h, w] over the
    /// first `n_active` channels. G is the label, or all of the first `n_merged` classes where it is one of them: those count
    /// as one class whose probability is the sum of theirs (the unbiased cross-entropy of MiB, Cermelli et al., CVPR 2020); 0
    /// and 1 merge nothing. 0 where the label is [`IGNORE`]; a label that is not active makes the loss NaN. Shapes: (N, C, H,
    /// W), labels (N, H, W), u32 → (N, H, W). dx = dy·(softmax(x) − softmax over G), 0 for other channels and where the label
    /// is `IGNORE`.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn pixel_cross_entropy(&self, labels: &Tensor, n_active: usize, n_merged: usize) -> Result<Tensor> {
        self.expect_f32("pixel_cross_entropy")?;
        labels.expect_u32("pixel_cross_entropy")?;
        self.expect_same_device("pixel_cross_entropy", labels)?;
        let (x, t) = (self.shape(), labels.shape());
        let sizes = match (&*x, &*t) {
            (&[n, c, h, w], &[m, p, q])
                if [n, h, w] == [m, p, q] && (1..=c).contains(&n_active) && n_merged <= n_active =>
            {
                Sizes { n, c, plane: h * w, n_active, n_merged }
            }
            _ => {
                let why = format!("logits {x}, labels {t}, {n_active} active outputs, {n_merged} merged do not fit");
                return Err(Error::op("pixel_cross_entropy", why));
            }
        };
        let y = Array::empty(&self.device(), t, DType::F32)?;
        match self.device() {
            Device::Cpu(_) => forward_cpu(sizes, &self.array().cpu(), &labels.array().cpu(), &mut y.cpu_mut()),
            Device::Gpu(gpu) => {
                let pixels = Grid::Invocations(sizes.n * sizes.plane);
                gpu.launch(&FORWARD, &[self.array(), labels.array(), &y], &sizes.params(), pixels)?;
            }
        }
        let saved = || PixelBackward { sizes, x: self.array().clone(), labels: labels.array().clone() };
        Ok(Tensor::from_op("pixel_cross_entropy", y, &[self], saved))
    }
}

impl Sizes {
    fn params(&self) -> [u32; 5] {
        let Sizes { n, c, plane, n_active, n_merged } = *self;
        [n * plane, c, plane, n_active, n_merged].map(|size| size as u32)
    }

    /// The classes that a label stands for; `None` if it is not active.
    fn group(&self, label: u32) -> Option<Range<usize>> {
        match label as usize {
            label if label < self.n_merged => Some(0..self.n_merged),
            label if label < self.n_active => Some(label..label + 1),
            _ => None,
        }
    }

    /// The active numbers of a pixel.
    fn gather(&self, image: &[f32], pixel: usize, x: &mut [f32]) {
        x.iter_mut().zip(image[pixel..].iter().step_by(self.plane)).for_each(|(x, value)| *x = *value);
    }
}

fn forward_cpu(sizes: Sizes, x: &[f32], labels: &[f32], y: &mut [f32]) {
    let Sizes { c, plane, n_active, .. } = sizes;
    let images = y.par_chunks_exact_mut(plane).zip(x.par_chunks_exact(c * plane)).zip(labels.par_chunks_exact(plane));
    images.for_each(|((y, image), labels)| {
        let mut x = vec![0.0; n_active];
        for (pixel, (y, label)) in y.iter_mut().zip(labels).enumerate() {
            let label = label.to_bits();
            if label == IGNORE {
                *y = 0.0;
                continue;
            }
            sizes.gather(image, pixel, &mut x);
            let own = sizes.group(label).map_or(f64::NAN, |group| log_sum_exp(&x[group], 1.0));
            *y = (log_sum_exp(&x, 1.0) - own) as f32;
        }
    });
}

struct PixelBackward {
    sizes: Sizes,
    x: Array,
    labels: Array,
}

impl Backward for PixelBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        match dy.device() {
            Device::Cpu(_) => {
                backward_cpu(self.sizes, &self.x.cpu(), &self.labels.cpu(), &dy.cpu(), &mut dx.cpu_mut());
                Ok(())
            }
            Device::Gpu(gpu) => {
                let pixels = Grid::Invocations(self.sizes.n * self.sizes.plane);
                gpu.launch(&BACKWARD, &[&self.x, &self.labels, dy, &dx], &self.sizes.params(), pixels)
            }
        }
    }
}

fn backward_cpu(sizes: Sizes, x: &[f32], labels: &[f32], dy: &[f32], dx: &mut [f32]) {
    let Sizes { c, plane, n_active, .. } = sizes;
    let images = dx.par_chunks_exact_mut(c * plane).zip(x.par_chunks_exact(c * plane));
    images.zip(labels.par_chunks_exact(plane).zip(dy.par_chunks_exact(plane))).for_each(
        |((dx, image), (labels, dy))| {
            let [mut x, mut all, mut own] = [(); 3].map(|()| vec![0.0; n_active]);
            dx.fill(0.0);
            for (pixel, (label, dy)) in
                labels.iter().zip(dy).enumerate().filter(|(_, (label, _))| label.to_bits() != IGNORE)
            {
                sizes.gather(image, pixel, &mut x);
                softmax_row(&x, 1.0, &mut all);
                match sizes.group(label.to_bits()) {
                    Some(group) => {
                        softmax_row(&x[group.clone()], 1.0, &mut own[group.clone()]);
                        all[group.clone()].iter_mut().zip(&own[group]).for_each(|(all, own)| *all -= own);
                    }
                    None => all.fill(f32::NAN),
                }
                dx[pixel..].iter_mut().step_by(plane).zip(&all).for_each(|(dx, all)| *dx = dy * all);
            }
        },
    );
}

pub static OP: Op = Op {
    name: "pixel_cross_entropy",
    formula: "y[n,i] = −ln Σ_{c as good as label[n,i]} softmax(x[n,·,i])[c]",
    shaders: &["pixel_cross_entropy"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let inputs =
            |labels| vec![Input::new([2, 7, 3, 5], Fill::Uniform(-3.0, 3.0)), Input::constant([2, 3, 5], labels)];
        let some = || Fill::Integers(&[0, 3, IGNORE, 6, 1, 2, 5, 4, IGNORE]);
        let case = |name, inputs, run| Case::new(name, inputs, run).tolerance(Tolerance::Exponential);
        let far = Input::new([1, 4, 2, 3], Fill::Values(&[90.0, -60.0, 30.0, -90.0, 0.0]));
        vec![
            case("all", inputs(some()), |x| x[0].pixel_cross_entropy(&x[1], x[0].shape()[1], 0)),
            case("first_5", inputs(Fill::Indices(5)), |x| x[0].pixel_cross_entropy(&x[1], 5, 1)),
            case("merged_3", inputs(some()), |x| x[0].pixel_cross_entropy(&x[1], x[0].shape()[1], 3)),
            case("merged_3_of_5", inputs(Fill::Indices(5)), |x| x[0].pixel_cross_entropy(&x[1], 5, 3)),
            case("nothing_counts", inputs(Fill::Integers(&[IGNORE])), |x| x[0].pixel_cross_entropy(&x[1], 7, 3)),
            case("far", vec![far, Input::constant([1, 2, 3], Fill::Indices(4))], |x| {
                x[0].pixel_cross_entropy(&x[1], 4, 2)
            })
            .without_differences(),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [1, 2, 2, 3], &[0.0; 12])?;
        x.pixel_cross_entropy(&Tensor::from_u32(device, [1, 3, 2], &[0; 6])?, 2, 0)
    },
};
