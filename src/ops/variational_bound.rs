//! The regulariser of VDFD: a quadratic form and the log-determinant of its matrix, by Cholesky's factors. Twin:
//! `shaders/variational_bound.wgsl`.

use super::case::{Case, Input, Op, Tolerance};
use super::sum::sum_into;
use super::wide::ROWS;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::{Backward, Destinations, Tensor};

const SOURCE: &[&str] = &[PRELUDE, ROWS, include_str!("../../shaders/variational_bound.wgsl")];
const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup: Workgroup::Row, constants: &[] }
}
static FORWARD: Kernel = kernel("variational_bound.forward", "forward", "rrwww");
static BACKWARD: Kernel = kernel("variational_bound.backward", "backward", "rrrrrww");

impl Tensor {
    /// y = Σ_t d\[t\]ᵀ·Π\[t\]·d\[t\] − log det(Π\[t\] + εI) with Π\[t\] = P\[t\]·P\[t\]ᵀ, P this tensor; `in_quadratic`: with Π\[t\] + εI in
    /// both. Shapes: P (T, M, W), d T·M elements in any shape → (1). Where no Π\[t\] + εI is positive definite, y is no number, or
    /// infinite. Li et al., TPAMI 2023, the regulariser of VDFD.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn variational_bound(&self, d: &Tensor, epsilon: f32, in_quadratic: bool) -> Result<Tensor> {
        self.expect_f32("variational_bound")?;
        d.expect_f32("variational_bound")?;
        self.expect_same_device("variational_bound", d)?;
        let &[n, m, width] = &*self.shape() else {
            return Err(Error::op("variational_bound", format!("{} is no stack of matrices (T, M, W)", self.shape())));
        };
        if d.n_elements() != n * m {
            let what = format!("{} has not a number for each row of {}", d.shape(), self.shape());
            return Err(Error::op("variational_bound", what));
        }
        let empty = |n: usize| Array::empty(&self.device(), [n], DType::F32);
        let (p, d_array) = (self.array().clone(), d.array().clone());
        let (l, q, values, y) = (empty(n * m * m)?, empty(n * width)?, empty(n)?, empty(1)?);
        let quadratic = if in_quadratic { epsilon } else { 0.0 };
        let saved = BoundBackward { p, d: d_array, l, q, epsilon, quadratic };
        match self.device() {
            Device::Cpu(_) => saved.forward(&values),
            Device::Gpu(gpu) => {
                gpu.expect_turns("variational_bound", 3 * m * m * width.div_ceil(64))?;
                let arrays = [&saved.p, &saved.d, &saved.l, &saved.q, &values];
                gpu.launch(&FORWARD, &arrays, &saved.params(), Grid::Rows(n))?;
            }
        }
        sum_into(&values, 1.0, &y)?;
        Ok(Tensor::from_op("variational_bound", y, &[self, d], || saved))
    }
}

struct BoundBackward {
    p: Array,
    d: Array,
    /// L of each task, row after row; above the diagonal is nothing of use.
    l: Array,
    /// Pᵀd.
    q: Array,
    epsilon: f32,
    /// What ‖d‖² counts.
    quadratic: f32,
}

/// L of L·Lᵀ = P·Pᵀ + εI, row after row, with zeros above the diagonal.
fn factor(p: &[f32], m: usize, epsilon: f32) -> Vec<f64> {
    let row = |i: usize| &p[i * p.len() / m..(i + 1) * p.len() / m];
    let product =
        |i: usize, j: usize| -> f64 { row(i).iter().zip(row(j)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    let mut l = vec![0.0f64; m * m];
    for k in 0..m {
        for i in k..m {
            let before: f64 = (0..k).map(|j| l[i * m + j] * l[k * m + j]).sum();
            let value = product(i, k) - before;
            l[i * m + k] = if i == k { (value + f64::from(epsilon)).sqrt() } else { value / l[k * m + k] };
        }
    }
    l
}

/// x ← (L·Lᵀ)⁻¹·x.
fn solve(l: &[f32], x: &mut [f64]) {
    let m = x.len();
    let at = |i: usize, j: usize| f64::from(l[i * m + j]);
    for i in 0..m {
        let before: f64 = (0..i).map(|j| at(i, j) * x[j]).sum();
        x[i] = (x[i] - before) / at(i, i);
    }
    for i in (0..m).rev() {
        let behind: f64 = (i + 1..m).map(|j| at(j, i) * x[j]).sum();
        x[i] = (x[i] - behind) / at(i, i);
    }
}

impl BoundBackward {
    fn params(&self) -> [u32; 5] {
        let &[n, m, width] = &*self.p.shape() else { panic!("bug: P has three axes") };
        [n as u32, m as u32, width as u32, self.epsilon.to_bits(), self.quadratic.to_bits()]
    }

    /// Fills L and q, and the value of each task.
    fn forward(&self, values: &Array) {
        let &[_, m, width] = &*self.p.shape() else { panic!("bug: P has three axes") };
        let (p, d, mut values) = (self.p.cpu(), self.d.cpu(), values.cpu_mut());
        let (mut l, mut q) = (self.l.cpu_mut(), self.q.cpu_mut());
        let tasks = p.chunks_exact(m * width).zip(d.chunks_exact(m));
        let results = l.chunks_exact_mut(m * m).zip(q.chunks_exact_mut(width)).zip(values.iter_mut());
        for ((p, d), ((l, q), value)) in tasks.zip(results) {
            let exact = factor(p, m, self.epsilon);
            let mut squares: f64 = d.iter().map(|&d| f64::from(self.quadratic) * f64::from(d).powi(2)).sum();
            for (w, q) in q.iter_mut().enumerate() {
                let own: f64 = d.iter().enumerate().map(|(c, &d)| f64::from(d) * f64::from(p[c * width + w])).sum();
                squares += own * own;
                *q = own as f32;
            }
            *value = (squares - (0..m).map(|k| 2.0 * exact[k * m + k].ln()).sum::<f64>()) as f32;
            l.iter_mut().zip(exact).for_each(|(l, exact)| *l = exact as f32);
        }
    }
}

impl Backward for BoundBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let &[n, m, width] = &*self.p.shape() else { panic!("bug: P has three axes") };
        let place = |i: usize, like: &Array, inputs: &mut Destinations| match inputs.wants(i) {
            true => inputs.place(i),
            false => Array::empty(&dy.device(), like.shape(), DType::F32),
        };
        let (dp, dd) = (place(0, &self.p, inputs)?, place(1, &self.d, inputs)?);
        if let Device::Gpu(gpu) = dy.device() {
            let arrays = [&self.p, &self.d, &self.l, &self.q, dy, &dp, &dd];
            return gpu.launch(&BACKWARD, &arrays, &self.params(), Grid::Rows(n));
        }
        let (p, d, l, q) = (self.p.cpu(), self.d.cpu(), self.l.cpu(), self.q.cpu());
        let (scale, mut dp, mut dd) = (2.0 * f64::from(dy.cpu()[0]), dp.cpu_mut(), dd.cpu_mut());
        let tasks =
            p.chunks_exact(m * width).zip(d.chunks_exact(m)).zip(l.chunks_exact(m * m).zip(q.chunks_exact(width)));
        let results = dp.chunks_exact_mut(m * width).zip(dd.chunks_exact_mut(m));
        for (((p, d), (l, q)), (dp, dd)) in tasks.zip(results) {
            for (w, &q) in q.iter().enumerate() {
                let mut a: Vec<f64> = (0..m).map(|c| f64::from(p[c * width + w])).collect();
                solve(l, &mut a);
                for (c, a) in a.into_iter().enumerate() {
                    dp[c * width + w] = (scale * (f64::from(d[c]) * f64::from(q) - a)) as f32;
                }
            }
            for ((dd, &d), p) in dd.iter_mut().zip(d).zip(p.chunks_exact(width)) {
                let along: f64 = p.iter().zip(q).map(|(&p, &q)| f64::from(p) * f64::from(q)).sum();
                *dd = (scale * (along + f64::from(self.quadratic) * f64::from(d))) as f32;
            }
        }
        Ok(())
    }
}

pub static OP: Op = Op {
    name: "variational_bound",
    formula: "y = Σ_t dᵀ[t]·Π[t]·d[t] − log det(Π[t] + εI), Π[t] = P[t]·Pᵀ[t]",
    shaders: &["variational_bound", "rows", "sum", "add_up"],
    kernels: &[&FORWARD, &BACKWARD],
    gradient: true,
    cases: || {
        let case = |name, [n, m, width]: [usize; 3], run| {
            let inputs = vec![Input::random([n, m, width]), Input::random([n * m])];
            Case::new(name, inputs, run).tolerance(Tolerance::Normalized)
        };
        let plain = |x: &[Tensor]| x[0].variational_bound(&x[1], 0.5, false);
        vec![
            case("stack", [3, 5, 7], plain),
            case("one_row", [4, 1, 3], plain),
            case("in_quadratic", [2, 4, 3], |x| x[0].variational_bound(&x[1], 0.5, true)),
            case("large", [2, 37, 70], plain).without_differences(),
        ]
    },
    refuses: |device| {
        let d = Tensor::from_f32(device, [3], &[0.0; 3])?;
        Tensor::from_f32(device, [1, 2, 3], &[0.0; 6])?.variational_bound(&d, 0.5, false)
    },
};
