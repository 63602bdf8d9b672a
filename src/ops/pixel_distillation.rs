//! What an old network says of each pixel, where new classes count as its background. Twin: `shaders/pixel_distillation.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use super::softmax::{log_sum_exp, softmax_row};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/pixel_distillation.wgsl")];
const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup: Workgroup::Flat, constants: &[] }
}
static FORWARD: Kernel = kernel("pixel_distillation.forward", "forward", "rrw");
static BACKWARD: Kernel = kernel("pixel_distillation.backward", "backward", "rrrw");

#[derive(Clone, Copy)]
struct Sizes {
    n: usize,
    c: usize,
    plane: usize,
    d: usize,
    n_old: usize,
    n_active: usize,
}

impl Tensor {
    /// The distance of each pixel's softmax q to an old network's softmax t over its K = `n_old` classes:
    /// y[n, h, w] = −(1/K)·Σ_{c < K} t\[c\]·ln q\[c\]. Where `n_active` is larger than K, the classes from K on came since: to
    /// the old network they are background, its class 0, so that q\[0\] = p\[0\] + Σ_{K ≤ c < n_active} p\[c\] and q\[c\] =
    /// p\[c\] else, with p = softmax(x) over all `n_active` (the unbiased distillation of MiB, Cermelli et al., CVPR 2020).
    /// With `n_active` = K it is plain distillation. Shapes: x (N, C, H, W), teacher (N, D, H, W) → (N, H, W). dx\[c\] =
    /// dy·(p\[c\] − t\[c\])/K for old classes, dy·(p\[c\] − t\[0\]·p\[c\]/q\[0\])/K for class 0 and new ones; the teacher gets
    /// no gradient.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn pixel_distillation(&self, teacher: &Tensor, n_old: usize, n_active: usize) -> Result<Tensor> {
        self.expect_f32("pixel_distillation")?;
        teacher.expect_f32("pixel_distillation")?;
        self.expect_same_device("pixel_distillation", teacher)?;
        let (x, t) = (self.shape(), teacher.shape());
        let fits = |c: usize, d: usize| (1..=d.min(n_active)).contains(&n_old) && n_active <= c;
        let (sizes, y) = match (&*x, &*t) {
            (&[n, c, h, w], &[m, d, p, q]) if [n, h, w] == [m, p, q] && fits(c, d) => {
                let y = Array::empty(&self.device(), [n, h, w], DType::F32)?;
                (Sizes { n, c, plane: h * w, d, n_old, n_active }, y)
            }
            _ => {
                let why = format!("student {x}, teacher {t}, {n_old} old of {n_active} active outputs do not fit");
                return Err(Error::op("pixel_distillation", why));
            }
        };
        match self.device() {
            Device::Cpu(_) => {
                let (x, t) = (self.array().cpu(), teacher.array().cpu());
                sizes.over_pixels(&x, &t, &mut y.cpu_mut(), 1, |pixel, _, y| y[0] = pixel.loss() as f32);
            }
            Device::Gpu(gpu) => {
                let pixels = Grid::Invocations(sizes.n * sizes.plane);
                gpu.launch(&FORWARD, &[self.array(), teacher.array(), &y], &sizes.params(), pixels)?;
            }
        }
        let saved = || PixelDistillationBackward { sizes, x: self.array().clone(), teacher: teacher.array().clone() };
        Ok(Tensor::from_op("pixel_distillation", y, &[self], saved))
    }
}

/// One pixel: the active numbers of the student, and the teacher's softmax.
struct Pixel<'a> {
    x: &'a [f32],
    t: &'a [f32],
}

impl Pixel<'_> {
    /// The numbers that count as background.
    fn merged(&self) -> Vec<f32> {
        [&self.x[..1], &self.x[self.t.len()..]].concat()
    }

    fn loss(&self) -> f64 {
        let all = log_sum_exp(self.x, 1.0);
        let old = self.t.iter().zip(self.x).skip(1).map(|(t, x)| f64::from(*t) * (all - f64::from(*x)));
        let background = f64::from(self.t[0]) * (all - log_sum_exp(&self.merged(), 1.0));
        (background + old.sum::<f64>()) / self.t.len() as f64
    }

    fn gradient(&self, dx: &mut [f32]) {
        let k = self.t.len();
        let merged = self.merged();
        let mut share = vec![0.0; merged.len()];
        softmax_row(&merged, 1.0, &mut share);
        softmax_row(self.x, 1.0, dx);
        dx[0] -= self.t[0] * share[0];
        dx[1..k].iter_mut().zip(&self.t[1..]).for_each(|(dx, t)| *dx -= t);
        dx[k..].iter_mut().zip(&share[1..]).for_each(|(dx, share)| *dx -= self.t[0] * share);
        dx.iter_mut().for_each(|dx| *dx /= k as f32);
    }
}

impl Sizes {
    fn params(&self) -> [u32; 6] {
        let Sizes { n, c, plane, d, n_old, n_active } = *self;
        [n * plane, c, plane, d, n_old, n_active].map(|size| size as u32)
    }

    /// Calls `f(pixel, its place among all, numbers)` for each pixel, and spreads the numbers, of which a pixel has `n`, over
    /// the maps of the result.
    fn over_pixels(
        &self,
        x: &[f32],
        t: &[f32],
        result: &mut [f32],
        n: usize,
        f: impl Fn(Pixel, usize, &mut [f32]) + Sync,
    ) {
        let &Sizes { c, plane, d, n_old, n_active, .. } = self;
        let images = x.par_chunks_exact(c * plane).zip(t.par_chunks_exact(d * plane));
        result.par_chunks_exact_mut(n * plane).zip(images).enumerate().for_each(|(image, (result, (x, t)))| {
            let [mut own, mut old, mut softened] = [n_active, n_old, n_old].map(|n| vec![0.0; n]);
            let mut numbers = vec![0.0; n];
            for pixel in 0..plane {
                let gather = |from: &[f32], to: &mut [f32]| {
                    to.iter_mut().zip(from[pixel..].iter().step_by(plane)).for_each(|(to, from)| *to = *from);
                };
                gather(x, &mut own);
                gather(t, &mut old);
                softmax_row(&old, 1.0, &mut softened);
                f(Pixel { x: &own, t: &softened }, image * plane + pixel, &mut numbers);
                result[pixel..].iter_mut().step_by(plane).zip(&numbers).for_each(|(to, from)| *to = *from);
            }
        });
    }
}

struct PixelDistillationBackward {
    sizes: Sizes,
    x: Array,
    teacher: Array,
}

impl Backward for PixelDistillationBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let Sizes { n, c, plane, n_active, .. } = self.sizes;
        match dy.device() {
            Device::Cpu(_) => {
                let dy = dy.cpu();
                let (x, t) = (self.x.cpu(), self.teacher.cpu());
                self.sizes.over_pixels(&x, &t, &mut dx.cpu_mut(), c, |pixel, at, dx| {
                    pixel.gradient(&mut dx[..n_active]);
                    dx[..n_active].iter_mut().for_each(|dx| *dx *= dy[at]);
                });
                Ok(())
            }
            Device::Gpu(gpu) => {
                let bindings = [&self.x, &self.teacher, dy, &dx];
                gpu.launch(&BACKWARD, &bindings, &self.sizes.params(), Grid::Invocations(n * plane))
            }
        }
    }
}

pub static OP: Op = Op {
    name: "pixel_distillation",
    formula: "y[n,i] = −Σ_{c<K} t[c]·ln q[c] / K, q[0] = p[0] + Σ_{c≥K} p[c]",
    shaders: &["pixel_distillation"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let inputs = |d| {
            let rows = || Fill::Uniform(-3.0, 3.0);
            vec![Input::new([2, 7, 3, 5], rows()), Input::constant([2, d, 3, 5], rows())]
        };
        let case = |name, inputs, run| Case::new(name, inputs, run).tolerance(Tolerance::Exponential);
        let far = || Fill::Values(&[90.0, -60.0, 30.0, -90.0, 0.0]);
        vec![
            case("plain", inputs(7), |x| x[0].pixel_distillation(&x[1], 4, 4)),
            case("unbiased", inputs(4), |x| x[0].pixel_distillation(&x[1], 4, x[0].shape()[1])),
            case("unbiased_4_of_6", inputs(7), |x| x[0].pixel_distillation(&x[1], 4, 6)),
            case("one_old", inputs(2), |x| x[0].pixel_distillation(&x[1], 1, 3)),
            case("far", vec![Input::new([1, 4, 2, 3], far()), Input::constant([1, 4, 2, 3], far())], |x| {
                x[0].pixel_distillation(&x[1], 2, 4)
            })
            .without_differences(),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [1, 2, 2, 3], &[0.0; 12])?;
        x.pixel_distillation(&x, 3, 2)
    },
};
