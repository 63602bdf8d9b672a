//! Kullback–Leibler divergence of softened outputs. Twin: `shaders/kl_div.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op, Tolerance};
use super::row_loss::{RowLoss, backward, forward};
use super::softmax::{check_temperature, log_sum_exp, softmax_row};
use crate::device::{Kernel, PRELUDE};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/kl_div.wgsl")];
static FORWARD: Kernel = forward("kl_div.forward", SOURCE);
static BACKWARD: Kernel = backward("kl_div.backward", SOURCE);

static LOSS: RowLoss = RowLoss {
    name: "kl_div",
    forward: &FORWARD,
    backward: &BACKWARD,
    // T² · Σ_c p_t (ln p_t − ln p_s)
    row: |student, teacher, temperature| {
        let t = f64::from(temperature);
        let (log_student, log_teacher) = (log_sum_exp(student, temperature), log_sum_exp(teacher, temperature));
        let terms = student.iter().zip(teacher).map(|(&s, &q)| {
            let (s, q) = (f64::from(s) / t - log_student, f64::from(q) / t - log_teacher);
            q.exp() * (q - s)
        });
        t * t * terms.sum::<f64>()
    },
    // T · (p_s − p_t)
    row_gradient: |student, teacher, temperature, dx| {
        let log_teacher = log_sum_exp(teacher, temperature);
        softmax_row(student, temperature, dx);
        for (dx, &q) in dx.iter_mut().zip(teacher) {
            let p_teacher = (f64::from(q) / f64::from(temperature) - log_teacher).exp();
            *dx = ((f64::from(*dx) - p_teacher) * f64::from(temperature)) as f32;
        }
    },
};

impl Tensor {
    /// y = T²·(1/N)·Σ_n Σ_c p_t·(ln p_t − ln p_s), shape \[1\], with p = softmax(logits/T) of the teacher and of this student
    /// (Hinton et al. 2015; the T² keeps the gradient's size). Shapes: both (N, C). dx = T·(p_s − p_t)/N; the teacher gets
    /// no gradient.
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
        LOSS.apply(self, teacher, temperature, 1.0 / self.shape()[0] as f32)
    }
}

pub static OP: Op = Op {
    name: "kl_div",
    formula: "y = T² · mean_n Σ_c p_t (ln p_t − ln p_s)",
    shaders: &["kl_div", "sum"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let rows = || Fill::Uniform(-3.0, 3.0);
        let inputs = || vec![Input::new([11, 7], rows()), Input::constant([11, 7], rows())];
        let edges = vec![Input::new([2, 14], Fill::Values(EDGES)), Input::constant([2, 14], rows())];
        vec![
            Case::new("t1", inputs(), |x| x[0].kl_div(&x[1], 1.0)).tolerance(Tolerance::Exponential),
            Case::new("t4", inputs(), |x| x[0].kl_div(&x[1], 4.0)).tolerance(Tolerance::Exponential),
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
