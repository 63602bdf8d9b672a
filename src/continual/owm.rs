//! Orthogonal weights modification (Zeng, Chen, Cui and Yu, "Continual learning of context-dependent processing in neural networks",
//! Nature Machine Intelligence 1, 2019): a step of each weight is projected away from the inputs that the layer has had in earlier
//! tasks, by a projector that recursive least squares would arrive at.

use super::outputs::UNSEEN;
use super::projected::{InputMoments, ProjectedSteps};
use super::{Batch, Keeps, Learner, Loss, Method, MethodSpec, TaskData};
use crate::error::Result;
use crate::linalg::{Matrix, symmetric_eigen};
use crate::settings::Setting;

const ALPHA: Setting = Setting::number(
    "owm_alpha",
    "ALPHA",
    "α of recursive least squares: the smaller, the more of the inputs' directions is closed to later steps",
)
.positive()
.usually("1");

struct Owm {
    alpha: f32,
    moments: InputMoments,
    /// From the first step of a task after the first until its end.
    steps: Option<ProjectedSteps>,
}

/// P = (I + Σ x·xᵀ/α)⁻¹, at which P ← P − P·x·xᵀ·P/(α + xᵀ·P·x), from P = I on, arrives after all inputs x.
///
/// ```
/// use engram::continual::owm_projector;
/// use engram::linalg::Matrix;
/// // x = (1, 1): P = I − x·xᵀ/(α + 2).
/// let p = owm_projector(&Matrix::from_fn(2, 2, |_, _| 1.0), 0.5)?;
/// assert!((p.at(0, 0) - 0.6).abs() < 1e-12 && (p.at(0, 1) + 0.4).abs() < 1e-12);
/// # Ok::<(), engram::Error>(())
/// ```
///
/// # Errors
/// If the sum holds what is no number.
pub fn owm_projector(moments: &Matrix, alpha: f64) -> Result<Matrix> {
    let eigen = symmetric_eigen(moments)?;
    // Sums of squares: what is below 0 is rounding.
    let factors: Vec<f64> = eigen.values.iter().map(|value| 1.0 / (1.0 + value.max(0.0) / alpha)).collect();
    let v = &eigen.vectors;
    Matrix::from_fn(v.rows(), v.columns(), |i, j| v.at(i, j) * factors[j]).times(&v.transposed())
}

impl Owm {
    fn projected(&self, learner: &Learner) -> Result<ProjectedSteps> {
        let of = |layer| owm_projector(&self.moments.matrix(layer), f64::from(self.alpha));
        let projectors: Result<Vec<Matrix>> = (0..self.moments.sums.len()).map(of).collect();
        ProjectedSteps::new(learner, &projectors?, 1.0, 0.0)
    }
}

impl Method for Owm {
    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        learner.loss_on(batch)
    }

    fn adjust_gradients(&mut self, learner: &Learner, _batch: &Batch) -> Result<()> {
        if self.steps.is_none() && !self.moments.sums.is_empty() {
            self.steps = Some(self.projected(learner)?);
        }
        self.steps.as_ref().map_or(Ok(()), |steps| steps.remember(learner))
    }

    fn after_step(&mut self, learner: &Learner, _batch: &Batch) -> Result<()> {
        self.steps.as_ref().map_or(Ok(()), |steps| steps.apply(learner))
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.moments.add_task(learner, task, &task.samples.concat(), true)?;
        self.steps = None;
        Ok(())
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("moments", &mut self.moments)]
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "owm",
    summary: "steps are projected away from the inputs that each layer has had in earlier tasks",
    paper: "Zeng et al., Nature Machine Intelligence 2019",
    equations: "after task 1, Δw_l ← Δw_l·P_l, Δw the optimiser's step, P_l = (I + Σ x·xᵀ/α)⁻¹, x the mean inputs of layer l in each batch \
                of earlier tasks: what recursive least squares arrives at",
    memory: "Σ x·xᵀ of each layer, (in·k·k)² numbers",
    expect: "Task-incremental: forgets little without any image; what is learnt later suffers as the inputs' directions fill up.",
    deviations: &[
        "the step is projected, not the gradient: with plain sgd both are the same, with adam only the first keeps outputs",
        "projectors change between tasks, from a pass over the task in eval mode with one α; the authors' code changes them in each \
         step, with an α that falls within a task",
        "a task's images are gone through class by class, so that a batch's mean input is that of one or two classes; the authors' batches are \
         mixed",
        "where the task is known, the last layer is not projected: each task has outputs of its own",
        "scales, shifts and biases of all layers but the last stay as they are after the first task",
    ],
    needs_boundaries: true,
    options: &[ALPHA, UNSEEN],
    build: |settings| Box::new(Owm { alpha: settings.get("owm_alpha"), moments: InputMoments::default(), steps: None }),
    ..MethodSpec::BASE
};
