//! Adam-NSCL (Wang, Li, Sun and Xu, "Training Networks in Null Space of Feature Covariance for Continual Learning", CVPR 2021): after
//! the first task, a step of each weight is projected onto the directions in which the inputs of earlier tasks hardly vary, so that
//! the layer's outputs for them stay as they are.

use super::fisher::{FisherKind, Measured, fisher};
use super::importance::Penalty;
use super::outputs::UNSEEN;
use super::projected::{InputMoments, ProjectedSteps};
use super::{Batch, Keeps, Learner, Loss, Method, MethodSpec, TaskData};
use crate::error::Result;
use crate::linalg::{Matrix, symmetric_eigen};
use crate::rng::{Purpose, Rng};
use crate::settings::{Setting, choices};

choices! {
    /// Whose inputs count in covariances.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Averaging {
        #[default]
        /// Those of a batch's mean image in each layer: as in the authors' logs.
        Batches = "batches",
        /// Those of every image.
        Images = "images",
    }
}

const NULL_SPACE: Setting = Setting::number(
    "null_space",
    "A",
    "a: directions in which inputs vary by at most a times the least variance count as empty",
)
.positive()
.usually("10");

const COVARIANCE_OF: Setting =
    Setting::choice::<Averaging>("covariance_of", "WHAT", "Whose inputs count in covariances").usually("batches");

const COVARIANCE_SAMPLES: Setting =
    Setting::whole("covariance_samples", "N", "Images of a task that covariances are gathered over")
        .between(1, u64::MAX)
        .open("all");

const LATER_FACTOR: Setting =
    Setting::number("later_factor", "FACTOR", "Factor on --lr for projected weights, after the first task")
        .positive()
        .usually("0.5");

const NORM_FACTOR: Setting =
    Setting::number("norm_factor", "FACTOR", "Factor on --lr for scales, shifts and biases of all layers but the last")
        .usually("5");

const NORM_PENALTY: Setting = Setting::number(
    "norm_penalty",
    "WEIGHT",
    "What the penalty of EWC on scales and shifts of batch norms is multiplied with",
)
.usually("100");

struct AdamNscl {
    a: f32,
    averaging: Averaging,
    covariance_samples: Option<usize>,
    later_factor: f32,
    norm_factor: f32,
    moments: InputMoments,
    /// On scales and shifts.
    penalty: Penalty,
    /// From the first step of a task until its end; in the first, nothing is projected.
    steps: Option<ProjectedSteps>,
    batch_size: usize,
}

/// U·Uᵀ/‖U·Uᵀ‖ of the eigenvectors U of a covariance whose eigenvalues are at most `a` times the least. A least one below 2⁻²³ of the
/// largest counts as that much: inputs are known no better.
///
/// ```
/// use engram::continual::null_space_projector;
/// use engram::linalg::Matrix;
/// // Inputs vary along the first axis alone: the other two are free.
/// let p = null_space_projector(&Matrix::from_fn(3, 3, |i, j| if i + j == 0 { 1.0 } else { 0.0 }), 10.0)?;
/// let free = 1.0 / 2.0f64.sqrt();
/// assert!((0..3).all(|i| (p.at(i, i) - if i == 0 { 0.0 } else { free }).abs() < 1e-12));
/// # Ok::<(), engram::Error>(())
/// ```
///
/// # Errors
/// If the covariance holds what is no number.
pub fn null_space_projector(covariance: &Matrix, a: f64) -> Result<Matrix> {
    let eigen = symmetric_eigen(covariance)?;
    let largest = eigen.values.last().copied().unwrap_or(0.0);
    let least = eigen.values[0].max(largest * f64::from(f32::EPSILON));
    // Of a positive number and a ≥ 1 at least one eigenvalue is below.
    let rank = eigen.values.iter().filter(|value| **value <= a * least).count().max(1);
    let n = covariance.rows();
    let u = Matrix::from_fn(n, rank, |i, j| eigen.vectors.at(i, j));
    let norm = (rank as f64).sqrt();
    let projector = u.times(&u.transposed())?;
    Ok(Matrix::from_fn(n, n, |i, j| projector.at(i, j) / norm))
}

impl AdamNscl {
    fn projected(&self, learner: &Learner) -> Result<ProjectedSteps> {
        let projectors: Result<Vec<Matrix>> = (0..self.moments.sums.len())
            .map(|layer| null_space_projector(&self.moments.matrix(layer), f64::from(self.a)))
            .collect();
        ProjectedSteps::new(learner, &projectors?, self.later_factor, self.norm_factor)
    }

    /// The Fisher information of scales and shifts, from what the network takes a batch's images for.
    fn norms_fisher(&self, learner: &Learner, task: &TaskData, samples: &[u32]) -> Result<Vec<f32>> {
        let outputs = learner.active_outputs(task);
        let mut labels = Vec::new();
        learner.evaluate(&learner.images(), samples, |_, output| {
            let own = learner.masked(&output.logits, |_, at| outputs.contains(&at))?;
            labels.extend(own.argmax_rows(own.shape()[1])?.to_u32()?);
            Ok(())
        })?;
        let on = Measured { samples, labels: &labels, outputs };
        let all = fisher(learner, &on, FisherKind::ScaledBatch, self.batch_size, 0)?.to_vec()?;
        let mut own = vec![0.0; all.len()];
        let norms = learner.network.statistics.to_host()?;
        let norms: Vec<&str> = norms.iter().filter_map(|(name, _)| name.strip_suffix(".running_mean")).collect();
        for (entry, start) in learner.network.parameters.places() {
            let name = entry.name.strip_suffix(".weight").or(entry.name.strip_suffix(".bias"));
            if name.is_some_and(|name| norms.contains(&name)) {
                let range = start..start + entry.shape.n_elements();
                own[range.clone()].copy_from_slice(&all[range]);
            }
        }
        Ok(own)
    }
}

impl Method for AdamNscl {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        self.batch_size = self.batch_size.max(batch.images.len());
        self.penalty.added_to(learner.loss_on(batch)?, learner)
    }

    fn adjust_gradients(&mut self, learner: &Learner, _batch: &Batch) -> Result<()> {
        self.penalty.add_gradient(learner)?;
        if self.steps.is_none() {
            self.steps = Some(self.projected(learner)?);
        }
        self.steps.as_ref().map_or(Ok(()), |steps| steps.remember(learner))
    }

    fn after_step(&mut self, learner: &Learner, _batch: &Batch) -> Result<()> {
        self.steps.as_ref().map_or(Ok(()), |steps| steps.apply(learner))
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        let mut samples = task.samples.concat();
        Rng::keyed(learner.seed, Purpose::Fisher, (1 << 32) | task.index as u64).shuffle(&mut samples);
        samples.truncate(self.covariance_samples.unwrap_or(usize::MAX));
        self.moments.add_task(learner, task, &samples, self.averaging == Averaging::Batches)?;
        let new = self.norms_fisher(learner, task, &samples)?;
        self.steps = None;
        self.penalty.add(learner, &new)
    }

    fn stiffness(&self) -> Option<f32> {
        self.penalty.stiffness()
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("penalty", &mut self.penalty), ("moments", &mut self.moments), ("batch_size", &mut self.batch_size)]
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "adam-nscl",
    summary: "steps of Adam are projected onto directions in which earlier tasks' inputs of a layer hardly vary",
    paper: "Wang et al., CVPR 2021",
    equations: "after task 1, Δw_l ← factor·Δw_l·P_l, Δw the optimiser's step, P_l = UUᵀ/‖UUᵀ‖, U the eigenvectors of Σ x·xᵀ (x the \
                unfolded inputs of layer l, all tasks so far) with eigenvalues ≤ a·the least; batch norms: CE + weight·Σ_t Σ_i F_t,i (θ_i − θ*_t,i)²",
    memory: "Σ x·xᵀ of each layer, (in·k·k)² numbers: 92 million for preact-resnet18 (369 MB); and two numbers per parameter",
    expect: "Task-incremental: forgets little without any image, at some cost in what is learnt: the more so the larger a. Wide networks \
             leave more room than narrow ones.",
    deviations: &[
        "where tasks share outputs or compete with them, the steps of the last layer are projected too",
        "covariances sum up over tasks and images in eval mode, images as they are; the authors' loader crops and mirrors them",
        "a least eigenvalue below 2⁻²³ of the largest counts as that: in f32 what is below is rounding",
        "the penalties on batch norms of all tasks are stored as one, of the same gradient",
        "biases of layers in between move as scales and shifts do, unprojected; the authors' networks have none",
    ],
    scenarios: super::ANY,
    needs_boundaries: true,
    options: &[NULL_SPACE, COVARIANCE_OF, COVARIANCE_SAMPLES, LATER_FACTOR, NORM_FACTOR, NORM_PENALTY, UNSEEN],
    build: |settings| {
        Box::new(AdamNscl {
            a: settings.get("null_space"),
            averaging: settings.get("covariance_of"),
            covariance_samples: settings.find("covariance_samples"),
            later_factor: settings.get("later_factor"),
            norm_factor: settings.get("norm_factor"),
            penalty: Penalty::new(settings.get("norm_penalty"), None),
            moments: InputMoments::default(),
            steps: None,
            batch_size: 1,
        })
    },
    ..MethodSpec::BASE
};
