//! What is kept of a task: how the mean output of each of its classes depends on the weights, one number per filter, of rank 1.

use crate::continual::{Learner, MethodState};
use crate::device::{self, Array, DType};
use crate::error::{Error, Result};
use crate::linalg::{Matrix, svd_of_tall, symmetric_eigen};
use crate::ops::{FilterRun, Filters, Mode};
use crate::tensor::Tensor;

/// G ≈ {σ_l u_l v_lᵀ} over the tensors l of everything but the last layer, and Gᵀw* at the weights w* after the task.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The output of each of its classes.
    pub outputs: Vec<usize>,
    /// u of all tensors, one after the other: a number per filter.
    pub u: Vec<f32>,
    /// σ, a number per tensor.
    pub sigma: Vec<f32>,
    /// v of all tensors: (tensors, classes).
    pub v: Vec<f32>,
    /// Gᵀw*, a number per class.
    pub anchor: Vec<f32>,
}

impl Kept {
    /// Numbers of the compressed Jacobian: Σ over tensors of filters + 1 + classes.
    pub fn n_floats(&self) -> usize {
        self.u.len() + self.sigma.len() + self.v.len()
    }

    /// Bytes of all that is kept, Gᵀw* among it.
    pub fn bytes(&self) -> u64 {
        4 * (self.n_floats() + self.anchor.len()) as u64
    }

    pub(super) fn save(&self, name: &str, state: &mut MethodState) {
        let named = [("u", &self.u), ("sigma", &self.sigma), ("v", &self.v), ("anchor", &self.anchor)];
        named.into_iter().for_each(|(own, values)| state.put(format!("{name}.{own}"), values.clone()));
    }

    pub(super) fn load(name: &str, outputs: Vec<usize>, state: &mut MethodState) -> Result<Kept> {
        let mut need = |own: &str| state.need(&format!("{name}.{own}"));
        Ok(Kept { outputs, u: need("u")?, sigma: need("sigma")?, v: need("v")?, anchor: need("anchor")? })
    }
}

/// The filters of everything but the last layer: rows of weights, single numbers of batch norms and biases.
///
/// # Errors
/// If the network has one layer only, or the device is out of memory.
pub fn filters_of(learner: &Learner) -> Result<Filters> {
    let parameters = &learner.network.parameters;
    let (weight, bias) = parameters.last_layer();
    let runs: Vec<FilterRun> = parameters
        .places()
        .filter(|(_, start)| *start != weight && Some(*start) != bias)
        .map(|(entry, start)| {
            let n = entry.shape[0];
            FilterRun { start, n, length: entry.shape.n_elements() / n }
        })
        .collect();
    Filters::new(&learner.device, &runs)
}

/// Gradients of the mean logits of `outputs` over plain training samples in eval mode, each filter's averaged to one number:
/// (outputs, filters). One backward pass per output and batch; the network's gradients are overwritten.
///
/// # Errors
/// If there is no sample, or the device is out of memory.
pub fn filter_jacobian(
    learner: &Learner,
    filters: &Filters,
    samples: &[u32],
    outputs: &[usize],
) -> Result<Vec<Vec<f32>>> {
    let parameters = &learner.network.parameters;
    let gradients = parameters.gradients().ok_or_else(|| Error::op("jacobian", "the parameters are frozen"))?;
    let zeros = || -> Result<Array> {
        let zeros = Array::empty(&learner.device, [filters.n_filters()], DType::F32)?;
        device::fill(&zeros, 0.0)?;
        Ok(zeros)
    };
    let sums: Vec<Array> = outputs.iter().map(|_| zeros()).collect::<Result<_>>()?;
    let weight = 1.0 / samples.len() as f32;
    for chunk in samples.chunks(learner.at_once) {
        let logits = learner.network.forward(&learner.plain_input(chunk)?, Mode::Eval)?.logits;
        let (shape, width) = (logits.shape(), logits.shape()[1]);
        // Of maps the mean over pixels.
        let plane: usize = shape[2..].iter().product();
        let share = weight / plane as f32;
        for (&output, sum) in outputs.iter().zip(&sums) {
            let is_output = |i: usize| i / plane % width == output;
            let cotangent: Vec<f32> = (0..shape.n_elements()).map(|i| if is_output(i) { share } else { 0.0 }).collect();
            parameters.backward_with(&logits, Array::from_f32(&learner.device, shape, &cotangent)?)?;
            filters.add_means(gradients, 1.0, sum)?;
        }
    }
    sums.iter().map(Array::to_vec).collect()
}

/// The best approximation of rank 1 of each tensor's (filters, classes) matrix. `Gᵀw*` is left out.
///
/// # Errors
/// If the Jacobian holds what is no number.
pub fn compress(jacobian: &[Vec<f32>], filters: &Filters, outputs: &[usize]) -> Result<Kept> {
    let n_classes = jacobian.len();
    let mut kept =
        Kept { outputs: outputs.to_vec(), u: Vec::new(), sigma: Vec::new(), v: Vec::new(), anchor: Vec::new() };
    let mut first = 0;
    for run in filters.runs() {
        let n = Matrix::from_fn(run.n, n_classes, |o, c| f64::from(jacobian[c][first + o]));
        first += run.n;
        if n.values().iter().all(|&x| x == 0.0) {
            // Nothing depends on it.
            kept.u.extend(vec![0.0; run.n]);
            kept.sigma.push(0.0);
            kept.v.extend(vec![0.0; n_classes]);
            continue;
        }
        let svd = svd_of_tall(&n, 1)?;
        kept.u.extend(svd.u.values().iter().map(|&x| x as f32));
        kept.sigma.push(svd.values[0] as f32);
        kept.v.extend(svd.v.values().iter().map(|&x| x as f32));
    }
    Ok(kept)
}

/// The largest eigenvalue of Σ_i G_i·G_iᵀ: λ times twice that is the largest second derivative of λ·Σ_i ‖d_i‖² by the weights. It is
/// that of the products of the columns of all G_i with each other.
///
/// # Errors
/// If what is kept is of another network, or no numbers.
pub fn largest_curvature(kept: &[Kept], filters: &Filters) -> Result<f64> {
    // A column per class of a task, a row per filter, which counts as often as it has weights.
    let mut columns: Vec<Vec<f64>> = Vec::new();
    for kept in kept {
        for c in 0..kept.outputs.len() {
            let (mut column, mut first) = (Vec::with_capacity(filters.n_filters()), 0);
            for (l, run) in filters.runs().iter().enumerate() {
                let scale = f64::from(kept.sigma[l] * kept.v[l * kept.outputs.len() + c]) * (run.length as f64).sqrt();
                column.extend(kept.u[first..first + run.n].iter().map(|&u| f64::from(u) * scale));
                first += run.n;
            }
            columns.push(column);
        }
    }
    let products = Matrix::from_fn(filters.n_filters(), columns.len(), |row, column| columns[column][row]).gram();
    Ok(symmetric_eigen(&products)?.values.last().copied().unwrap_or(0.0))
}

/// Everything kept, side by side on the device, and d = Gᵀ(w − w*).
pub struct Drift {
    filters: Filters,
    /// (tasks, filters).
    u: Array,
    /// σ·v of every class of every task: (tasks · classes, tensors).
    scaled_v: Tensor,
    /// (tasks · classes): the task of each row.
    task_of_row: Tensor,
    /// Gᵀw*, (tasks · classes); 0 where a task has fewer classes than another.
    anchors: Tensor,
    /// Filter sums of the weights, (filters).
    sums: Array,
    /// uᵀ of the filter sums, (tasks, tensors): where the gradient of the regulariser ends.
    products: Tensor,
    /// ∂/∂`products`.
    gradient: Array,
    /// Of each task; those beyond its own are empty rows.
    pub n_classes: usize,
    /// Tasks.
    pub n_tasks: usize,
}

impl Drift {
    /// For these tasks.
    ///
    /// # Errors
    /// If they are of another network, or the device is out of memory.
    pub fn new(learner: &Learner, kept: &[Kept]) -> Result<Drift> {
        let (device, filters) = (&learner.device, filters_of(learner)?);
        let (n_tasks, n_tensors) = (kept.len(), filters.runs().len());
        let n_classes = kept.iter().map(|kept| kept.outputs.len()).max().unwrap_or(0);
        let fits = |kept: &Kept| {
            let n = kept.outputs.len();
            let lengths = [kept.u.len(), kept.sigma.len(), kept.v.len(), kept.anchor.len()];
            n > 0 && lengths == [filters.n_filters(), n_tensors, n_tensors * n, n]
        };
        if !kept.iter().all(fits) {
            return Err(Error::usage("what is kept of earlier tasks is of another network"));
        }
        let (mut scaled_v, mut anchors) = (vec![0.0; n_tasks * n_classes * n_tensors], vec![0.0; n_tasks * n_classes]);
        for (t, kept) in kept.iter().enumerate() {
            let own = kept.outputs.len();
            for (l, (sigma, v)) in kept.sigma.iter().zip(kept.v.chunks_exact(own)).enumerate() {
                for (c, v) in v.iter().enumerate() {
                    scaled_v[(t * n_classes + c) * n_tensors + l] = sigma * v;
                }
            }
            anchors[t * n_classes..][..kept.anchor.len()].copy_from_slice(&kept.anchor);
        }
        let u: Vec<f32> = kept.iter().flat_map(|kept| kept.u.iter().copied()).collect();
        let task_of_row: Vec<u32> = (0..n_tasks * n_classes).map(|row| (row / n_classes) as u32).collect();
        let empty = |shape: &[usize]| Array::empty(device, crate::shape::Shape::new(shape)?, DType::F32);
        let (products, gradient) = (empty(&[n_tasks, n_tensors])?, empty(&[n_tasks, n_tensors])?);
        Ok(Drift {
            u: Array::from_f32(device, [n_tasks, filters.n_filters()], &u)?,
            scaled_v: Tensor::from_f32(device, [n_tasks * n_classes, n_tensors], &scaled_v)?,
            task_of_row: Tensor::from_u32(device, [task_of_row.len()], &task_of_row)?,
            anchors: Tensor::from_f32(device, [anchors.len()], &anchors)?,
            sums: empty(&[filters.n_filters()])?,
            products: Tensor::parameter(products, gradient.clone()),
            gradient,
            n_classes,
            n_tasks,
            filters,
        })
    }

    /// d of every class of every task at the learner's weights, (tasks · classes): a class's mean output has moved by about as much.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn now(&self, learner: &Learner) -> Result<Tensor> {
        self.filters.sums(learner.network.parameters.values(), &self.sums)?;
        self.filters.dots(&self.u, &self.sums, self.products.array())?;
        self.products.gather_rows(&self.task_of_row)?.mul(&self.scaled_v)?.row_sum()?.sub(&self.anchors)
    }

    /// Adds what the last backward pass found out about [`Drift::now`] to the network's gradients.
    ///
    /// # Errors
    /// If the parameters are frozen.
    pub fn add_gradient(&self, learner: &Learner) -> Result<()> {
        let gradients = learner.network.parameters.gradients();
        let gradients = gradients.ok_or_else(|| Error::op("vdfd", "the parameters are frozen"))?;
        self.filters.add_gradient(gradients, &self.u, &self.gradient, 1.0)
    }
}

/// The same with Gᵀw* of the learner's weights, so that d is 0 there, exactly.
///
/// # Errors
/// As [`Drift::new`].
pub fn anchored(learner: &Learner, kept: Kept) -> Result<Kept> {
    let unanchored = Kept { anchor: vec![0.0; kept.outputs.len()], ..kept };
    let anchor = Drift::new(learner, std::slice::from_ref(&unanchored))?.now(learner)?.to_vec()?;
    Ok(Kept { anchor, ..unanchored })
}
