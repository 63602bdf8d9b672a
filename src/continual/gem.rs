//! Gradient episodic memory (Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NIPS 2017): a step may not
//! raise the mean loss on the memory of any earlier task. The gradient is replaced by the nearest one for which that holds, to
//! first order: a quadratic program with a multiplier per task.

use super::memory::MEMORY;
use super::outputs::UNSEEN;
use super::replay::{REPLAY_BATCH, Replay, Stored, replayed_loss};
use super::{Batch, Held, Keeps, Learner, Loss, Method, MethodSpec, Plain, Renumbering, TaskData};
use crate::device::{self, Array, DType};
use crate::error::{Error, Result};
use crate::linalg::{Cholesky, Matrix};
use crate::rng::{Purpose, Rng};
use crate::settings::Setting;
use crate::tensor::Tensor;

const MARGIN: Setting = Setting::number(
    "margin",
    "GAMMA",
    "γ, the least multiplier of a task whose loss would rise: above 0 old losses are pushed down",
)
.usually("0.5");

const RIDGE: Setting =
    Setting::number("ridge", "R", "Added to the diagonal of the quadratic program, so that it has one solution")
        .positive()
        .usually("1e-3");

struct Gem {
    capacity: usize,
    replay_batch: Option<usize>,
    margin: f32,
    ridge: f32,
    /// Samples of each earlier task.
    tasks: Vec<Vec<Stored>>,
    /// Room for the gradients of the new images and of each task's memory: (tasks + 1, parameters).
    gradients: Option<Array>,
}

/// The multipliers v of min ½·vᵀ(H + ridge·I)v + qᵀv, v ≥ margin, by an active set (Lawson and Hanson 1974), exactly: H = GGᵀ of the
/// gradients of earlier tasks, q = Gg of the new gradient g. The gradient becomes g + Gᵀv.
///
/// ```
/// use engram::continual::gem_multipliers;
/// use engram::linalg::Matrix;
/// // One task whose gradient (1, 0) the new one, (−2, 1), opposes: v = 2 takes all of that away.
/// let v = gem_multipliers(&Matrix::new(1, 1, vec![1.0])?, &[-2.0], 0.0, 1e-12)?;
/// assert!((v[0] - 2.0).abs() < 1e-9);
/// # Ok::<(), engram::Error>(())
/// ```
///
/// # Errors
/// If H + ridge·I is not positive definite, or q has another length.
pub fn gem_multipliers(h: &Matrix, q: &[f64], margin: f64, ridge: f64) -> Result<Vec<f64>> {
    let n = q.len();
    if h.rows() != n {
        return Err(Error::op("gem", format!("{} gradients of tasks, but {n} products with the new one", h.rows())));
    }
    let h = Matrix::from_fn(n, n, |i, j| h.at(i, j) + if i == j { ridge } else { 0.0 });
    // With v = x + margin: min ½·xᵀHx + cᵀx, x ≥ 0.
    let c: Vec<f64> = (0..n).map(|i| q[i] + margin * h.row(i).iter().sum::<f64>()).collect();
    let scale = c.iter().fold(f64::MIN_POSITIVE, |largest, c| largest.max(c.abs()));
    let slope = |x: &[f64], i: usize| -c[i] - h.row(i).iter().zip(x).map(|(h, x)| h * x).sum::<f64>();
    let (mut x, mut free) = (vec![0.0; n], vec![false; n]);
    // Each round lowers the objective, so no set of free multipliers comes twice; the bound is for rounding.
    for _ in 0..3 * n + 10 {
        let steepest = (0..n).filter(|&i| !free[i]).max_by(|&i, &j| slope(&x, i).total_cmp(&slope(&x, j)));
        let Some(steepest) = steepest.filter(|&i| slope(&x, i) > 1e-12 * scale) else { break };
        free[steepest] = true;
        loop {
            let own: Vec<usize> = (0..n).filter(|&i| free[i]).collect();
            let part = Matrix::from_fn(own.len(), own.len(), |i, j| h.at(own[i], own[j]));
            let target = Matrix::from_fn(own.len(), 1, |i, _| -c[own[i]]);
            let z = Cholesky::new(&part)?.solve(&target)?;
            // As far towards the free minimum as no multiplier becomes negative; the first that would is fixed again.
            let part_of = |i: usize, z: f64| if x[i] > 0.0 { x[i] / (x[i] - z) } else { 0.0 };
            let blocked = own.iter().zip(z.values()).filter(|(_, z)| **z <= 0.0).map(|(&i, &z)| (part_of(i, z), i));
            let first = blocked.min_by(|a, b| a.0.total_cmp(&b.0));
            let step = first.map_or(1.0, |(step, _)| step);
            own.iter().zip(z.values()).for_each(|(&i, &z)| x[i] += step * (z - x[i]));
            let Some((_, i)) = first else { break };
            (x[i], free[i]) = (0.0, false);
        }
    }
    Ok(x.into_iter().map(|x| x + margin).collect())
}

impl Gem {
    /// The memories of earlier tasks that have one: with fewer images than tasks, the oldest have none.
    fn memories(&self) -> impl Iterator<Item = &Vec<Stored>> {
        self.tasks.iter().filter(|items| !items.is_empty())
    }

    /// The gradients of each earlier task's memory, below that of the new images.
    fn collect(&mut self, learner: &Learner, batch: &Batch, own: &Array) -> Result<Array> {
        let (parameters, n, m) = (&learner.network.parameters, own.n_elements(), self.memories().count() + 1);
        let all = match self.gradients.take() {
            Some(all) if all.n_elements() == m * n => all,
            _ => Array::empty(&learner.device, [m, n], DType::F32)?,
        };
        device::copy(own, &all.slice(0, [n])?)?;
        let mut rng = Rng::keyed(learner.seed, Purpose::Replay, batch.key);
        for (t, items) in self.memories().enumerate() {
            let mut slots: Vec<u32> = (0..items.len() as u32).collect();
            rng.shuffle(&mut slots);
            slots.truncate(self.replay_batch.unwrap_or(batch.images.len()));
            let of = |f: fn(&Stored) -> u32| -> Vec<u32> { slots.iter().map(|&i| f(&items[i as usize])).collect() };
            let images = learner.batch(&of(|item| item.sample), &of(|item| item.label), &mut rng);
            parameters.backward(&replayed_loss(learner, &Replay { images, slots }, batch.n_seen)?)?;
            device::copy(own, &all.slice((t + 1) * n, [n])?)?;
        }
        Ok(all)
    }
}

impl Method for Gem {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        learner.loss_on(batch)
    }

    fn adjust_gradients(&mut self, learner: &Learner, batch: &Batch) -> Result<()> {
        if self.memories().next().is_none() {
            return Ok(());
        }
        let gradients = learner.network.parameters.gradients();
        let gradients = gradients.ok_or_else(|| Error::op("gem", "the parameters are frozen"))?;
        let (all, n, m) =
            (self.collect(learner, batch, gradients)?, gradients.n_elements(), self.memories().count() + 1);
        let stack = Tensor::constant(all.clone());
        let products = stack.reshape([1, m, n])?.gram()?.to_vec()?;
        let product = |i: usize, j: usize| f64::from(products[i * m + j]);
        let new: Vec<f64> = (1..m).map(|t| product(0, t)).collect();
        // What is no number is left to whoever looks at the loss.
        if !new.iter().any(|&product| product < 0.0) || products.iter().any(|x| !x.is_finite()) {
            device::copy(&all.slice(0, [n])?, gradients)?;
        } else {
            let h = Matrix::from_fn(m - 1, m - 1, |i, j| 0.5 * (product(i + 1, j + 1) + product(j + 1, i + 1)));
            let v = gem_multipliers(&h, &new, f64::from(self.margin), f64::from(self.ridge))?;
            let weights: Vec<f32> = std::iter::once(1.0).chain(v.iter().map(|&v| v as f32)).collect();
            let sum = Tensor::from_f32(&learner.device, [1, m], &weights)?.matmul(&stack)?;
            device::copy(&sum.array().reshape([n])?, gradients)?;
        }
        self.gradients = Some(all);
        Ok(())
    }

    /// Only now: the memory speaks for earlier tasks. Each has as much of it, and the latest one image each of what is left over.
    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        let mut all: Vec<Stored> = task.labelled().collect();
        Rng::keyed(learner.seed, Purpose::Memory, task.index as u64).shuffle(&mut all);
        self.tasks.push(all);
        let (share, rest) = (self.capacity / self.tasks.len(), self.capacity % self.tasks.len());
        for (age, items) in self.tasks.iter_mut().rev().enumerate() {
            items.truncate(share + usize::from(age < rest));
        }
        Ok(())
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("tasks", &mut self.tasks)]
    }
}

impl Plain for Vec<Vec<Stored>> {
    fn count(&self, learner: &Learner, held: &mut Held) {
        self.concat().count(learner, held);
    }

    fn renumber(&mut self, to: &Renumbering) {
        self.iter_mut().for_each(|items| items.renumber(to));
    }

    fn exemplars(&self) -> Vec<Vec<u32>> {
        self.concat().exemplars()
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "gem",
    summary: "a step that would raise the loss on an earlier task's memory gives way to the nearest that does not",
    paper: "Lopez-Paz & Ranzato, NIPS 2017",
    equations: "g = ∂CE(f(x), y), G the gradients of each earlier task's memory; if Gg is negative anywhere g ← g + Gᵀv with v = argmin \
                ½·vᵀ(GGᵀ + ridge·I)v + (Gg)ᵀv, v ≥ γ",
    memory: "K images with labels of earlier tasks, K/t of each; the gradients of all of them during a step",
    expect: "Task-incremental: little forgetting, and slow: a forward and backward pass for every earlier task in each step.",
    deviations: &[
        "the memory is a random part of each task, drawn when it ends, and shared out among the tasks so far; the authors keep the \
         latest images of each, and fill the memory of the present task while it is learnt",
        "a random batch of each task's memory speaks for it in a step, unless --replay-batch is as large as all of it",
        "the program is solved exactly by an active set in f64, not by quadprog",
        "the memory's forward pass moves running statistics of batch norms too, as in the authors' code",
    ],
    needs_boundaries: true,
    options: &[MEMORY, REPLAY_BATCH, MARGIN, RIDGE, UNSEEN],
    build: |settings| {
        Box::new(Gem {
            capacity: settings.get("memory"),
            replay_batch: settings.find("replay_batch"),
            margin: settings.get("margin"),
            ridge: settings.get("ridge"),
            tasks: Vec::new(),
            gradients: None,
        })
    },
    ..MethodSpec::BASE
};
