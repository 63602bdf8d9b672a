//! The logarithm of the odds of each sample's own class. Twin: `shaders/target_log_odds.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op, Tolerance};
use super::softmax::check_temperature;
use super::threads::for_rows;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/target_log_odds.wgsl")];
static FORWARD: Kernel = Kernel {
    name: "target_log_odds.forward",
    source: SOURCE,
    entry: "forward",
    bindings: "rrw",
    workgroup: Workgroup::Rows,
    constants: &[],
};
static BACKWARD: Kernel = Kernel {
    name: "target_log_odds.backward",
    source: SOURCE,
    entry: "backward",
    bindings: "rrrw",
    workgroup: Workgroup::Rows,
    constants: &[],
};

impl Tensor {
    /// y\[n\] = ln(p/(1 − p)) = x\[n, l\]/T − ln Σ_{c ≠ l} exp(x\[n, c\]/T) with l the label and p = softmax(x/T)\[l\]. Shapes: x
    /// (N, C) with C ≥ 2, labels (N), u32 → (N). dx\[n, l\] = dy/T, dx\[n, c\] = −dy·q\[c\]/T with q the softmax without l. A
    /// label ≥ C makes the result NaN.
    ///
    /// # Errors
    /// If the sizes do not fit, or T is not positive.
    pub fn target_log_odds(&self, labels: &Tensor, temperature: f32) -> Result<Tensor> {
        self.expect_f32("target_log_odds")?;
        labels.expect_u32("target_log_odds")?;
        self.expect_same_device("target_log_odds", labels)?;
        check_temperature("target_log_odds", temperature)?;
        let (n, classes) = self.shape().rows_cols();
        if labels.n_elements() != n || classes < 2 {
            let message = format!("logits {} and labels {} do not fit", self.shape(), labels.shape());
            return Err(Error::op("target_log_odds", message));
        }
        let y = Array::empty(&self.device(), [n], DType::F32)?;
        match self.device() {
            Device::Cpu(_) => {
                let (x, labels) = (self.array().cpu(), labels.array().cpu());
                for ((y, x), label) in y.cpu_mut().iter_mut().zip(x.chunks_exact(classes)).zip(labels.iter()) {
                    let label = label.to_bits() as usize;
                    *y = x.get(label).map_or(f32::NAN, |&own| {
                        let (largest, total) = others(x, label, temperature);
                        (f64::from(own - largest) / f64::from(temperature) - total.ln()) as f32
                    });
                }
            }
            Device::Gpu(gpu) => {
                gpu.expect_turns("target_log_odds", 3 * self.shape().rows_cols().1)?;
                let params = [n as u32, classes as u32, temperature.to_bits()];
                gpu.launch(&FORWARD, &[self.array(), labels.array(), &y], &params, Grid::Invocations(n))?;
            }
        }
        let saved = TargetLogOddsBackward { x: self.array().clone(), labels: labels.array().clone(), temperature };
        Ok(Tensor::from_op("target_log_odds", y, &[self], || saved))
    }
}

/// The largest other logit, and Σ exp((x − largest)/T) over the others.
fn others(x: &[f32], label: usize, temperature: f32) -> (f32, f64) {
    let others = || x.iter().enumerate().filter(|(c, _)| *c != label).map(|(_, &x)| x);
    let largest = others().fold(f32::NEG_INFINITY, f32::max);
    (largest, others().map(|x| f64::from((x - largest) / temperature).exp()).sum())
}

struct TargetLogOddsBackward {
    x: Array,
    labels: Array,
    temperature: f32,
}

impl Backward for TargetLogOddsBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        let (n, classes) = dx.shape().rows_cols();
        match dy.device() {
            Device::Cpu(_) => {
                let (dy, x, labels) = (dy.cpu(), self.x.cpu(), self.labels.cpu());
                for_rows(&mut dx.cpu_mut(), classes, |first, rows| {
                    for (row, dx) in (first..).zip(rows.chunks_exact_mut(classes)) {
                        let (x, label) = (&x[row * classes..(row + 1) * classes], labels[row].to_bits() as usize);
                        let (largest, total) = others(x, label, self.temperature);
                        let step = if label < classes { dy[row] / self.temperature } else { f32::NAN };
                        for (c, (dx, &x)) in dx.iter_mut().zip(x).enumerate() {
                            let share = (f64::from((x - largest) / self.temperature).exp() / total) as f32;
                            *dx = step * if c == label { 1.0 } else { -share };
                        }
                    }
                });
                Ok(())
            }
            Device::Gpu(gpu) => {
                let params = [n as u32, classes as u32, self.temperature.to_bits()];
                gpu.launch(&BACKWARD, &[dy, &self.x, &self.labels, &dx], &params, Grid::Invocations(n))
            }
        }
    }
}

pub static OP: Op = Op {
    name: "target_log_odds",
    formula: "y[n] = x[n,l]/T − ln Σ_{c≠l} exp(x[n,c]/T), l = label[n]",
    shaders: &["target_log_odds"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let inputs = || vec![Input::new([11, 7], Fill::Uniform(-3.0, 3.0)), Input::constant([11], Fill::Indices(7))];
        let edges = vec![Input::new([4, 14], Fill::Values(EDGES)), Input::constant([4], Fill::Indices(14))];
        vec![
            Case::new("t1", inputs(), |x| x[0].target_log_odds(&x[1], 1.0)).tolerance(Tolerance::Exponential),
            Case::new("t4", inputs(), |x| x[0].target_log_odds(&x[1], 4.0)).tolerance(Tolerance::Exponential),
            Case::new("edges", edges, |x| x[0].target_log_odds(&x[1], 2.0))
                .tolerance(Tolerance::Exponential)
                .without_differences(),
        ]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        x.target_log_odds(&Tensor::from_u32(device, [3], &[0, 1, 2])?, 1.0)
    },
};
