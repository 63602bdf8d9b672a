//! What Adam-NSCL and OWM share: second moments of every layer's inputs, gathered after a task, and steps whose part in each
//! weight is multiplied with a projector.

use super::{Held, Keep, Learner, MethodState, TaskData};
use crate::device::{self, Array, DType};
use crate::error::{Error, Result};
use crate::linalg::Matrix;
use crate::models::Product;
use crate::ops::{Conv2d, Mode};
use crate::tensor::{Tensor, no_grad};
use std::sync::atomic::Ordering::Relaxed;

/// The patches of a feature map (C, H, W) that a convolution with a square kernel multiplies its weight with: a row for each
/// place of its result, (C, KH, KW) each.
pub fn unfold(map: &[f32], [c, h, w]: [usize; 3], kernel: usize, geometry: Conv2d) -> Vec<f64> {
    let Conv2d { stride, padding, dilation } = geometry;
    let (Some(p), Some(q)) = (geometry.outputs(h, kernel), geometry.outputs(w, kernel)) else { return Vec::new() };
    let mut rows = Vec::with_capacity(p * q * c * kernel * kernel);
    let at = |place: usize, tap: usize, size: usize| {
        (place * stride + tap * dilation).checked_sub(padding).filter(|at| *at < size)
    };
    for place in 0..p * q {
        for channel in 0..c {
            for tap in 0..kernel * kernel {
                let (i, j) = (at(place / q, tap / kernel, h), at(place % q, tap % kernel, w));
                let value = i.zip(j).map_or(0.0, |(i, j)| map[(channel * h + i) * w + j]);
                rows.push(f64::from(value));
            }
        }
    }
    rows
}

/// Σ x·xᵀ over the inputs x of every layer whose steps are projected: of a convolution the patches, at every place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputMoments {
    /// (I, I) for each layer, row after row.
    pub sums: Vec<Vec<f32>>,
}

/// The layers whose steps are projected: all with a weight, but the last where every task has outputs of its own in it.
fn layers(learner: &Learner) -> Vec<Product> {
    let mut all = learner.network.products();
    if !learner.heads.is_empty() {
        all.pop();
    }
    all
}

impl InputMoments {
    /// Adds those of a task's images in eval mode, batch by batch: of each image, or of the batch's mean input (`averaged`).
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the task is; then nothing has changed.
    pub fn add_task(&mut self, learner: &Learner, task: &TaskData, samples: &[u32], averaged: bool) -> Result<()> {
        let (layers, entries) = (layers(learner), learner.network.parameters.tensors());
        let taps: Vec<_> = layers.iter().filter_map(|layer| layer.input).collect();
        let width = |layer: &Product| entries[layer.weight].shape().rows_cols().1;
        let mut sums: Vec<Vec<f64>> = match self.sums.is_empty() {
            true => layers.iter().map(|layer| vec![0.0; width(layer).pow(2)]).collect(),
            false => self.sums.iter().map(|sum| sum.iter().map(|&x| f64::from(x)).collect()).collect(),
        };
        for chunk in samples.chunks(learner.at_once) {
            if task.interrupted.load(Relaxed) {
                return Err(Error::Interrupted);
            }
            let x = learner.plain_input(chunk)?;
            let (_, mut values) = no_grad(|| learner.network.forward_with(&x, Mode::Eval, &taps))?;
            values.reverse();
            for (layer, sum) in layers.iter().zip(&mut sums) {
                let input = if layer.input.is_some() { values.pop() } else { None }.unwrap_or_else(|| x.clone());
                let kernel = entries[layer.weight].shape().last().copied().unwrap_or(1);
                let rows = rows_of(&input, kernel, layer.geometry, averaged)?;
                let rows = Matrix::new(rows.len() / width(layer), width(layer), rows)?;
                sum.iter_mut().zip(rows.gram().values()).for_each(|(sum, new)| *sum += new);
            }
        }
        self.sums = sums.into_iter().map(|sum| sum.into_iter().map(|x| x as f32).collect()).collect();
        Ok(())
    }

    /// The moments of a layer.
    pub fn matrix(&self, layer: usize) -> Matrix {
        let sum = &self.sums[layer];
        let n = sum.len().isqrt();
        Matrix::from_fn(n, n, |i, j| 0.5 * (f64::from(sum[i * n + j]) + f64::from(sum[j * n + i])))
    }
}

impl Keep for InputMoments {
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()> {
        self.sums.iter().enumerate().for_each(|(i, sum)| state.put(format!("{name}.{i}"), sum.clone()));
        Ok(())
    }

    fn load(&mut self, name: &str, _learner: &Learner, state: &mut MethodState) -> Result<()> {
        self.sums = (0..).map_while(|i| state.take(&format!("{name}.{i}"))).collect();
        Ok(())
    }

    fn count(&self, _learner: &Learner, held: &mut Held) {
        held.importance += 4 * self.sums.iter().map(|sum| sum.len() as u64).sum::<u64>();
    }
}

/// What a layer multiplies its weight with, a row for each image (or for their mean) and place.
fn rows_of(input: &Tensor, kernel: usize, geometry: Option<Conv2d>, averaged: bool) -> Result<Vec<f64>> {
    let (n, size) = input.shape().rows_cols();
    let mean = |input: &Tensor| -> Result<Vec<f32>> {
        let ones = Tensor::from_f32(&input.device(), [1, n], &vec![1.0 / n as f32; n])?;
        ones.matmul(&input.reshape([n, size])?)?.to_vec()
    };
    let maps = if averaged { mean(input)? } else { input.to_vec()? };
    Ok(match (geometry, &*input.shape()) {
        (Some(geometry), &[_, c, h, w]) => {
            maps.chunks_exact(size).flat_map(|map| unfold(map, [c, h, w], kernel, geometry)).collect()
        }
        _ => maps.into_iter().map(f64::from).collect(),
    })
}

/// Changes what an optimiser's step has done: each weight's part is multiplied with a projector, and other parameters of the
/// layers in between move by a factor. Of the last layer only the weight may be projected.
pub(super) struct ProjectedSteps {
    /// The parameters before the step.
    before: Tensor,
    weights: Vec<Projected>,
    /// 1 where a step stays as it is, else 0; all vectors are as the parameters lie.
    kept: Tensor,
    /// 1 where it does not, else 0.
    changed: Tensor,
    /// What it is multiplied with there; 0 where a projector or nothing is.
    factors: Tensor,
}

struct Projected {
    start: usize,
    rows: usize,
    /// (I, I), times the factor on steps of weights.
    projector: Tensor,
}

impl ProjectedSteps {
    /// With a projector for each layer, in order; without any, weights move as they would.
    pub fn new(learner: &Learner, projectors: &[Matrix], factor: f32, factor_of_others: f32) -> Result<ProjectedSteps> {
        let parameters = &learner.network.parameters;
        let places: Vec<_> = parameters.places().collect();
        let last = learner.network.products().pop().map(|product| product.weight);
        let (_, last_bias) = parameters.last_layer();
        let layers = layers(learner);
        let n = parameters.values().n_elements();
        let (mut kept, mut factors) = (vec![1.0; n], vec![0.0; n]);
        let mut weights = Vec::new();
        for (layer, projector) in layers.iter().zip(projectors) {
            let (entry, start) = places[layer.weight];
            kept[start..start + entry.shape.n_elements()].fill(0.0);
            let values: Vec<f32> = projector.values().iter().map(|&x| (f64::from(factor) * x) as f32).collect();
            let shape = [projector.rows(), projector.columns()];
            let projector = Tensor::from_f32(&learner.device, shape, &values)?;
            weights.push(Projected { start, rows: entry.shape[0], projector });
        }
        let is_other = |i: usize, start: usize| {
            Some(i) != last && Some(start) != last_bias && layers.iter().all(|layer| layer.weight != i)
        };
        // By 1 they move as they would, to the bit but for the sign of a zero.
        let others =
            places.iter().enumerate().filter(|(i, (_, start))| factor_of_others != 1.0 && is_other(*i, *start));
        for (_, &(entry, start)) in others {
            let own = start..start + entry.shape.n_elements();
            kept[own.clone()].fill(0.0);
            factors[own].fill(factor_of_others);
        }
        let changed: Vec<f32> = kept.iter().map(|kept| 1.0 - kept).collect();
        let on_device = |values: &[f32]| Tensor::from_f32(&learner.device, [n], values);
        Ok(ProjectedSteps {
            before: Tensor::constant(Array::empty(&learner.device, [n], DType::F32)?),
            weights,
            kept: on_device(&kept)?,
            changed: on_device(&changed)?,
            factors: on_device(&factors)?,
        })
    }

    /// Before the optimiser's step.
    pub fn remember(&self, learner: &Learner) -> Result<()> {
        device::copy(learner.network.parameters.values(), self.before.array())
    }

    /// After it: w ← w₀ + factor·(w − w₀)·P.
    pub fn apply(&self, learner: &Learner) -> Result<()> {
        let values = learner.network.parameters.values();
        no_grad(|| {
            let w = Tensor::constant(values.reshape(self.before.shape())?);
            let step = w.sub(&self.before)?;
            let moved = step.mul(&self.factors)?;
            for Projected { start, rows, projector } in &self.weights {
                let shape = [*rows, projector.shape()[0]];
                let own = Tensor::constant(step.array().slice(*start, shape)?);
                device::copy(own.matmul(projector)?.array(), &moved.array().slice(*start, shape)?)?;
            }
            let after = w.mul(&self.kept)?.add(&self.before.mul(&self.changed)?)?.add(&moved)?;
            device::copy(after.array(), values)
        })
    }
}
