//! Kullback–Leibler divergence of softened outputs. Twin: `shaders/kl_div.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op, Tolerance};
use super::row_loss::{RowLoss, backward, forward};
use super::softmax::check_temperature;
use super::wide::ROWS;
use crate::device::{Kernel, PRELUDE};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, ROWS, include_str!("../../shaders/kl_div.wgsl")];
static FORWARD: Kernel = forward("kl_div.forward", SOURCE);
static BACKWARD: Kernel = backward("kl_div.backward", SOURCE);

static LOSS: RowLoss = RowLoss {
    name: "kl_div",
    forward: &FORWARD,
    backward: &BACKWARD,
    row: |student, teacher, temperature| {
        let t = f64::from(temperature);
        let row = Softened::new(student, teacher, t);
        let close = |(p_t, w): (f64, f64)| p_t * w * w * curvature(-w / t);
        // T²·(p_t·δ + p_s − p_t), none of which is negative
        let far = |i: usize| {
            let (ln_s, ln_t) = (row.student.ln(i), row.teacher.ln(i));
            let d = ln_t - ln_s;
            let exact = ln_t.exp() * d + (ln_s.exp() - ln_t.exp());
            // Rounding may make it negative; NaN stays.
            let exact = if exact < 0.0 { 0.0 } else { exact };
            t * t * if d.abs() <= 0.5 { ln_t.exp() * d * d * curvature(-d) } else { exact }
        };
        let classes = 0..student.len();
        match row.is_close {
            true => classes.map(|i| close((row.teacher.ln(i).exp(), row.scaled_log_ratio(i)))).sum(),
            false => classes.map(far).sum(),
        }
    },
    // T · (p_s − p_t) = p_t · T · (e^−δ − 1)
    row_gradient: |student, teacher, temperature, dx| {
        let t = f64::from(temperature);
        let row = Softened::new(student, teacher, t);
        for (i, dx) in dx.iter_mut().enumerate() {
            let p_t = row.teacher.ln(i).exp();
            let gradient = match row.is_close {
                true => {
                    let w = row.scaled_log_ratio(i);
                    -p_t * w * (1.0 - w / t * curvature(-w / t))
                }
                false => t * (row.student.ln(i).exp() - p_t),
            };
            *dx = gradient as f32;
        }
    },
};

/// (eˣ − 1 − x)/x² for |x| ≤ ½: 1/2! + x/3! + x²/4! + …
fn curvature(x: f64) -> f64 {
    (3..16).rev().map(f64::from).fold(1.0, |sum, k| 1.0 + x / k * sum) / 2.0
}

/// The logarithms of a softmax.
struct LogSoftmax<'a> {
    x: &'a [f32],
    t: f64,
    largest: f64,
    log_total: f64,
}

impl LogSoftmax<'_> {
    fn new(x: &[f32], t: f64) -> LogSoftmax<'_> {
        let largest = f64::from(x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let total: f64 = x.iter().map(|&x| ((f64::from(x) - largest) / t).exp()).sum();
        LogSoftmax { x, t, largest, log_total: total.ln() }
    }

    fn ln(&self, i: usize) -> f64 {
        (f64::from(self.x[i]) - self.largest) / self.t - self.log_total
    }
}

/// A row of student and teacher. δ = ln p_t − ln p_s comes from the differences of the logits, as `shaders/kl_div.wgsl`
/// explains: not from two logarithms that agree in almost all digits where T is large.
struct Softened<'a> {
    student: LogSoftmax<'a>,
    teacher: LogSoftmax<'a>,
    centre: f64,
    is_close: bool,
    shift: f64,
}

impl<'a> Softened<'a> {
    fn new(student: &'a [f32], teacher: &'a [f32], t: f64) -> Softened<'a> {
        let (student, teacher) = (LogSoftmax::new(student, t), LogSoftmax::new(teacher, t));
        let mut row = Softened { student, teacher, centre: 0.0, is_close: false, shift: 0.0 };
        let p: Vec<f64> = (0..row.student.x.len()).map(|i| row.student.ln(i).exp()).collect();
        row.centre = p.iter().enumerate().map(|(i, p)| p * row.scaled_log_ratio(i)).sum();
        let ratios: Vec<f64> = (0..p.len()).map(|i| row.scaled_log_ratio(i) / t).collect();
        row.is_close = ratios.iter().all(|x| x.abs() <= 0.5);
        row.shift = t * p.iter().zip(&ratios).map(|(p, x)| p * x * x * curvature(*x)).sum::<f64>().ln_1p();
        row
    }

    /// T·δ, where the row is close.
    fn scaled_log_ratio(&self, i: usize) -> f64 {
        f64::from(self.teacher.x[i]) - f64::from(self.student.x[i]) - self.centre - self.shift
    }
}

impl Tensor {
    /// y = T²·(1/N)·Σ_n Σ_c p_t·(ln p_t − ln p_s), shape \[1\], with p = softmax(logits/T) of the teacher and of this student
    /// (Hinton et al. 2015; the T² keeps the gradient's size). Shapes: both (N, C). dx = T·(p_s − p_t)/N; the teacher gets
    /// no gradient. Of maps of outputs (N, C, H, W) the mean over all pixels.
    ///
    /// # Errors
    /// If the shapes differ or T is not positive.
    pub fn kl_div(&self, teacher: &Tensor, temperature: f32) -> Result<Tensor> {
        teacher.expect_f32("kl_div")?;
        check_temperature("kl_div", temperature)?;
        if self.shape() != teacher.shape() {
            return Err(Error::op(
                "kl_div",
                format!("student {} and teacher {} differ", self.shape(), teacher.shape()),
            ));
        }
        if self.shape().len() == 4 {
            self.expect_f32("kl_div")?;
            return self.to_pixels()?.kl_div(&teacher.to_pixels()?, temperature);
        }
        LOSS.apply(self, teacher, temperature, 1.0 / self.shape()[0] as f32)
    }
}

pub static OP: Op = Op {
    name: "kl_div",
    formula: "y = T² · mean_n Σ_c p_t (ln p_t − ln p_s)",
    shaders: &["kl_div", "rows", "sum", "to_pixels"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let rows = || Fill::Uniform(-3.0, 3.0);
        let inputs = || vec![Input::new([11, 7], rows()), Input::constant([11, 7], rows())];
        let maps = vec![Input::new([2, 5, 3, 4], rows()), Input::constant([2, 5, 3, 4], rows())];
        let edges = vec![Input::new([2, 14], Fill::Values(EDGES)), Input::constant([2, 14], rows())];
        vec![
            Case::new("t1", inputs(), |x| x[0].kl_div(&x[1], 1.0)).tolerance(Tolerance::Exponential),
            Case::new("t4", inputs(), |x| x[0].kl_div(&x[1], 4.0)).tolerance(Tolerance::Exponential),
            Case::new("t100", inputs(), |x| x[0].kl_div(&x[1], 100.0)).tolerance(Tolerance::Exponential),
            Case::new("t100000", inputs(), |x| x[0].kl_div(&x[1], 1e5))
                .tolerance(Tolerance::Exponential)
                .without_differences(),
            // Some classes far apart, some close.
            Case::new("t0.7", inputs(), |x| x[0].kl_div(&x[1], 0.7)).tolerance(Tolerance::Exponential),
            Case::new("many_classes", vec![Input::new([3, 301], rows()), Input::constant([3, 301], rows())], |x| {
                x[0].kl_div(&x[1], 20.0)
            })
            .tolerance(Tolerance::Exponential)
            .without_differences(),
            Case::new("pixels", maps, |x| x[0].kl_div(&x[1], 2.0)).tolerance(Tolerance::Exponential),
            Case::new("edges", edges, |x| x[0].kl_div(&x[1], 2.0))
                .tolerance(Tolerance::Exponential)
                .without_differences(),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.kl_div(&Tensor::from_f32(device, [3, 2], &[0.0; 6])?, 1.0)
    },
};
