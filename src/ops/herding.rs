//! Herding: the exemplars whose running mean stays closest to the class mean. Twin: `shaders/herding.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use super::squared_distances::squared_distance;
use super::threads::for_rows;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup, copy, fill};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/herding.wgsl")];
static SCORE: Kernel = Kernel {
    name: "herding.score",
    source: SOURCE,
    entry: "score",
    bindings: "rrrw",
    workgroup: Workgroup::Rows,
    constants: &[],
};
static PICK: Kernel = Kernel {
    name: "herding.pick",
    source: SOURCE,
    entry: "pick",
    bindings: "rrrwww",
    workgroup: Workgroup::One,
    constants: &[],
};

impl Tensor {
    /// The first `m` rows that herding picks, in order of choice: for k = 1 … m the row n, not yet chosen, that minimises
    /// ‖μ − (φ\[n\] + Σ chosen)/k‖, the first of equals; μ is the mean of all rows (Rebuffi et al. 2017, Algorithm 4).
    /// Shapes: φ (N, D) → (m), u32. No derivative. On the GPU all picks are recorded without waiting for one.
    ///
    /// # Errors
    /// If φ is no matrix, or `m` is 0 or larger than N.
    pub fn herding(&self, m: usize) -> Result<Tensor> {
        self.expect_f32("herding")?;
        if self.shape().len() != 2 {
            return Err(Error::op("herding", format!("needs a matrix, not {}", self.shape())));
        }
        let (n, d) = self.shape().rows_cols();
        if m == 0 || m > n {
            return Err(Error::op("herding", format!("{m} picks from {n} rows")));
        }
        let device = self.device();
        let mean = self.channel_sum()?.scale(1.0 / n as f32)?;
        let picks = Array::empty(&device, [m], DType::U32)?;
        match &device {
            Device::Cpu(_) => herd(&self.array().cpu(), &mean.array().cpu(), &mut picks.cpu_mut()),
            Device::Gpu(gpu) => {
                gpu.expect_turns("herding", n + d)?;
                let (features, mean) = (self.array(), mean.array());
                let target = Array::empty(&device, [d], DType::F32)?;
                copy(mean, &target)?;
                let chosen = Array::empty(&device, [n], DType::F32)?;
                fill(&chosen, 0.0)?;
                let scores = Array::empty(&device, [n], DType::F32)?;
                for k in 0..m {
                    let params = [n as u32, d as u32, k as u32];
                    let bindings = [features, &target, &chosen, &scores];
                    gpu.launch(&SCORE, &bindings, &params, Grid::Invocations(n))?;
                    let bindings = [features, &scores, mean, &target, &chosen, &picks];
                    gpu.launch(&PICK, &bindings, &params, Grid::Invocations(1))?;
                }
            }
        }
        Ok(Tensor::constant(picks))
    }
}

/// ‖μ − (φ + Σ)/k‖ orders the rows like ‖t − φ‖ with t = k·μ − Σ: t starts at μ and moves by μ − φ\[pick\].
fn herd(features: &[f32], mean: &[f32], picks: &mut [f32]) {
    let d = mean.len();
    let mut target = mean.to_vec();
    let mut scores = vec![0.0f32; features.len() / d];
    let mut chosen = vec![false; scores.len()];
    for pick in picks {
        for_rows(&mut scores, 1, |first, scores| {
            for (n, score) in (first..).zip(scores) {
                *score = squared_distance(&features[n * d..(n + 1) * d], &target);
            }
        });
        let mut best = None;
        for (n, &score) in scores.iter().enumerate() {
            if !chosen[n] && best.is_none_or(|(_, lowest)| score < lowest) {
                best = Some((n, score));
            }
        }
        let (n, _) = best.expect("bug: more picks than rows");
        chosen[n] = true;
        *pick = f32::from_bits(n as u32);
        for ((target, mean), row) in target.iter_mut().zip(mean).zip(&features[n * d..]) {
            *target += mean - row;
        }
    }
}

pub static OP: Op = Op {
    name: "herding",
    formula: "pick[k] = argmin_n ‖μ − (φ[n] + Σ_{j<k} φ[pick[j]])/k‖",
    shaders: &["herding", "channel_sum"],
    kernels: &[&SCORE, &PICK],
    gradient: false,
    cases: || {
        vec![
            Case::new("some", vec![Input::constant([67, 13], Fill::Uniform(-1.0, 1.0))], |x| x[0].herding(20))
                .tolerance(Tolerance::Exact),
            Case::new("all", vec![Input::constant([9, 5], Fill::Uniform(-1.0, 1.0))], |x| x[0].herding(9))
                .tolerance(Tolerance::Exact),
            Case::new("ties", vec![Input::constant([6, 2], Fill::Values(&[0.5]))], |x| x[0].herding(6))
                .tolerance(Tolerance::Exact),
        ]
    },
    refuses: |device| Tensor::from_f32(device, [2, 2], &[0.0; 4])?.herding(3),
};
