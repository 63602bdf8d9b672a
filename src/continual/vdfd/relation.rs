//! The precision of the outputs of earlier tasks, by a graph convolution over the rows of their heads: Π = P·Pᵀ.

use super::Kept;
use crate::continual::{Learner, MethodState};
use crate::error::Result;
use crate::nn::{Init, Parameter, Parameters};
use crate::optim::{Decay, Kind, Optimizer};
use crate::tensor::Tensor;

/// Numbers of a class inside the graph convolution, and at its end.
pub const HIDDEN: usize = 32;
/// Of a row of P.
pub const WIDTH: usize = 64;

/// P = rownorm(L·relu(L·X·W₁ + b₁)·W₂ + b₂) of every class of every task: classes of a task are nodes, X their rows of the last
/// layer brought to length 1, L the normalised adjacency XXᵀ + I.
pub struct Relation {
    /// W₁ (hidden, features), b₁, W₂ (width, hidden), b₂.
    pub parameters: Parameters,
    optimizer: Optimizer,
    /// X, (tasks · classes, features), with rows of zeros for classes that a task does not have.
    nodes: Vec<f32>,
    /// L·X.
    smoothed: Tensor,
    /// L of all tasks, block by block.
    adjacency: Tensor,
    /// 0 for the rows of classes that a task does not have; `None` if there are none.
    exists: Option<Tensor>,
    n_tasks: usize,
    n_classes: usize,
}

/// D^-½·(A + I)·D^-½ of A = XXᵀ, D the row sums of A + I; 0 where a row sum is negative. X has unit rows, or rows of zeros.
pub fn normalized_adjacency(x: &[f32], n_rows: usize) -> Vec<f32> {
    let d = x.len() / n_rows.max(1);
    let row = |i: usize| &x[i * d..(i + 1) * d];
    let exists = |i: usize| row(i).iter().any(|&x| x != 0.0);
    let with_self = |i: usize, j: usize| {
        let product: f64 = row(i).iter().zip(row(j)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        product + f64::from(u8::from(i == j && exists(i)))
    };
    let a: Vec<f64> = (0..n_rows * n_rows).map(|at| with_self(at / n_rows, at % n_rows)).collect();
    let root = |i: usize| {
        let sum: f64 = a[i * n_rows..(i + 1) * n_rows].iter().sum();
        if sum > 0.0 { 1.0 / sum.sqrt() } else { 0.0 }
    };
    let roots: Vec<f64> = (0..n_rows).map(root).collect();
    a.iter().enumerate().map(|(at, a)| (roots[at / n_rows] * a * roots[at % n_rows]) as f32).collect()
}

/// The rows of the last layer that belong to each task, brought to length 1: (tasks · classes, features).
fn nodes_of(learner: &Learner, kept: &[Kept], n_classes: usize) -> Result<Vec<f32>> {
    let (network, mut nodes) = (&learner.network, Vec::new());
    let (weight, _) = network.parameters.last_layer();
    let (d, values) = (network.n_features, network.parameters.values().to_vec()?);
    for kept in kept {
        for &output in &kept.outputs {
            let row = &values[weight + output * d..][..d];
            let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt().max(1e-12);
            nodes.extend(row.iter().map(|&x| (f64::from(x) / norm) as f32));
        }
        nodes.resize(nodes.len() + (n_classes - kept.outputs.len()) * d, 0.0);
    }
    Ok(nodes)
}

impl Relation {
    /// A fresh one for the heads of these tasks as they are now.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn new(learner: &Learner, kept: &[Kept], n_classes: usize, weight_decay: f32, task: usize) -> Result<Relation> {
        let nodes = nodes_of(learner, kept, n_classes)?;
        Self::of_nodes(learner, kept, n_classes, weight_decay, task, nodes)
    }

    fn of_nodes(
        learner: &Learner,
        kept: &[Kept],
        n_classes: usize,
        weight_decay: f32,
        task: usize,
        nodes: Vec<f32>,
    ) -> Result<Relation> {
        let (device, d) = (&learner.device, learner.network.n_features);
        let (n_tasks, n_rows) = (kept.len(), kept.len() * n_classes);
        let mut adjacency = vec![0.0; n_rows * n_rows];
        for (t, x) in nodes.chunks_exact(n_classes * d).enumerate() {
            for (c, row) in normalized_adjacency(x, n_classes).chunks_exact(n_classes).enumerate() {
                adjacency[(t * n_classes + c) * n_rows + t * n_classes..][..n_classes].copy_from_slice(row);
            }
        }
        let adjacency = Tensor::from_f32(device, [n_rows, n_rows], &adjacency)?;
        let x = Tensor::from_f32(device, [n_rows, d], &nodes)?;
        let exists: Vec<f32> = kept
            .iter()
            .flat_map(|kept| (0..n_classes).map(|c| if c < kept.outputs.len() { 1.0 } else { 0.0 }))
            .flat_map(|exists| [exists; WIDTH])
            .collect();
        let parameter = |name: &str, shape: &[usize], width: usize| -> Result<Parameter> {
            let init = Init::Uniform(1.0 / (width as f32).sqrt());
            Ok(Parameter { name: name.into(), shape: crate::shape::Shape::new(shape)?, init, decay: true })
        };
        let entries = vec![
            parameter("w1", &[HIDDEN, d], HIDDEN)?,
            parameter("b1", &[HIDDEN], HIDDEN)?,
            parameter("w2", &[WIDTH, HIDDEN], WIDTH)?,
            parameter("b2", &[WIDTH], WIDTH)?,
        ];
        // Another stream of draws than the network's own, and for each task.
        let seed = learner.seed.wrapping_add((task as u64 + 1) << 32);
        let parameters = Parameters::new(device, entries, seed)?;
        Ok(Relation {
            optimizer: Optimizer::new(Kind::Adam, 0.0, weight_decay, &parameters)?.decaying(Decay::All),
            parameters,
            smoothed: adjacency.matmul(&x)?.detach(),
            adjacency,
            exists: match exists.contains(&0.0) {
                true => Some(Tensor::from_f32(device, [n_rows, WIDTH], &exists)?),
                false => None,
            },
            nodes,
            n_tasks,
            n_classes,
        })
    }

    /// P of every task, (tasks, classes, [`WIDTH`]).
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn factors(&self) -> Result<Tensor> {
        let [w1, b1, w2, b2] = self.parameters.tensors() else { panic!("bug: a graph convolution of two layers") };
        let hidden = self.smoothed.linear(w1, Some(b1))?.relu()?;
        let mut p = self.adjacency.matmul(&hidden)?.linear(w2, Some(b2))?.l2_normalize()?;
        if let Some(exists) = &self.exists {
            p = p.mul(exists)?;
        }
        p.reshape([self.n_tasks, self.n_classes, WIDTH])
    }

    /// X, (tasks · classes, features).
    pub fn nodes(&self) -> &[f32] {
        &self.nodes
    }

    /// One step down the gradient of the last backward pass.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn step(&mut self, lr: f32) -> Result<()> {
        self.optimizer.step(&self.parameters, lr)
    }

    /// Adds it to a checkpoint, all but the steps so far, which are returned.
    pub(super) fn save(&self, name: &str, state: &mut MethodState) -> Result<u32> {
        let (n_steps, moments) = self.optimizer.state()?;
        state.put(format!("{name}.relation"), self.parameters.values().to_vec()?);
        state.put(format!("{name}.nodes"), self.nodes.clone());
        moments.into_iter().enumerate().for_each(|(i, values)| state.put(format!("{name}.moment.{i}"), values));
        Ok(n_steps)
    }

    /// What [`Relation::save`] added.
    pub(super) fn load(
        learner: &Learner,
        kept: &[Kept],
        n_classes: usize,
        weight_decay: f32,
        (name, n_steps, state): (&str, u32, &mut MethodState),
    ) -> Result<Relation> {
        let mut need = |own: &str| state.need(&format!("{name}.{own}"));
        let mut relation = Self::of_nodes(learner, kept, n_classes, weight_decay, 0, need("nodes")?)?;
        relation.parameters.values().write(&need("relation")?)?;
        relation.optimizer.restore(n_steps, &[need("moment.0")?, need("moment.1")?])?;
        Ok(relation)
    }
}
