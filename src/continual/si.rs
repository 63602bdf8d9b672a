//! Synaptic intelligence (Zenke, Poole & Ganguli, "Continual Learning Through Synaptic Intelligence", ICML 2017): a parameter
//! matters as much as the loss fell along its path while a task was learnt.

use super::importance::{PENALTY_WEIGHT, Penalty, copied, zeros};
use super::outputs::UNSEEN;
use super::spec::CLASSES_AND_MASKS;
use super::{Batch, Keep, Keeps, Learner, Loss, Method, MethodSpec, MethodState, TaskData};
use crate::device::{self, Array};
use crate::error::{Error, Result};
use crate::ops::add_path;
use crate::settings::{Setting, choices};

choices! {
    /// The gradient that SI's path integral goes by.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum PathGradient {
        #[default]
        /// Of the cross-entropy alone, as the paper has it.
        Loss = "loss",
        /// With the penalty's, as avalanche-lib has it.
        Total = "total",
    }
}

choices! {
    /// What becomes of negative importances of SI.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Negative {
        #[default]
        /// They stay.
        Keep = "keep",
        /// They become 0.
        Clamp = "clamp",
    }
}

const DAMPING: Setting =
    Setting::number("damping", "XI", "ξ of SI: keeps its quotient finite").positive().usually("0.1");

const NEGATIVE: Setting =
    Setting::choice::<Negative>("negative", "HOW", "What becomes of negative importances").usually("keep");

const PATH_GRADIENT: Setting =
    Setting::choice::<PathGradient>("path_gradient", "WHICH", "Which gradient SI's path integral goes by")
        .usually("loss");

const IMPORTANCE_LIMIT: Setting = Setting::number(
    "importance_limit",
    "IMPORTANCE",
    "Importances of SI above this count as this much; avalanche-lib has 0.001",
)
.positive()
.open("no limit");

struct Si {
    damping: f32,
    negative: Negative,
    path_gradient: PathGradient,
    penalty: Penalty,
    running: Option<Running>,
}

/// Vectors of the running task.
struct Running {
    /// ω, the path integral.
    path: Array,
    /// θ at the start of the task.
    start: Array,
    /// The gradient of the loss without the penalty, and θ before the step.
    gradient: Array,
    before: Array,
}

impl Running {
    fn new(learner: &Learner) -> Result<Running> {
        Ok(Running {
            path: zeros(learner)?,
            start: copied(learner)?,
            gradient: zeros(learner)?,
            before: zeros(learner)?,
        })
    }
}

impl Keep for Option<Running> {
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()> {
        let Some(running) = self else { return Ok(()) };
        state.put(format!("{name}.path"), running.path.to_vec()?);
        state.put(format!("{name}.start"), running.start.to_vec()?);
        Ok(())
    }

    fn load(&mut self, name: &str, learner: &Learner, state: &mut MethodState) -> Result<()> {
        *self = None;
        let Some(path) = state.take(&format!("{name}.path")) else { return Ok(()) };
        let running = self.insert(Running::new(learner)?);
        running.path.write(&path)?;
        running.start.write(&state.need(&format!("{name}.start"))?)
    }
}

impl Method for Si {
    fn begin_task(&mut self, learner: &Learner, _task: &TaskData) -> Result<()> {
        self.running = Some(Running::new(learner)?);
        Ok(())
    }

    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        self.penalty.added_to(learner.loss_on(batch)?, learner)
    }

    fn adjust_gradients(&mut self, learner: &Learner, _batch: &Batch) -> Result<()> {
        let parameters = &learner.network.parameters;
        let gradients = parameters.gradients().ok_or_else(|| Error::op("si", "the parameters are frozen"))?;
        if self.path_gradient == PathGradient::Total {
            self.penalty.add_gradient(learner)?;
        }
        if let Some(running) = &self.running {
            device::copy(gradients, &running.gradient)?;
            device::copy(parameters.values(), &running.before)?;
        }
        match self.path_gradient {
            PathGradient::Loss => self.penalty.add_gradient(learner),
            PathGradient::Total => Ok(()),
        }
    }

    /// ω ← ω − g·Δθ with the step the optimiser has actually taken.
    fn after_step(&mut self, learner: &Learner, _batch: &Batch) -> Result<()> {
        let Some(running) = &self.running else { return Ok(()) };
        add_path(&running.path, &running.gradient, learner.network.parameters.values(), &running.before)
    }

    /// Ω ← Ω + ω/((θ − θ_start)² + ξ), θ* ← θ.
    fn end_task(&mut self, learner: &Learner, _task: &TaskData) -> Result<()> {
        let Some(running) = self.running.take() else { return Ok(()) };
        let w = learner.network.parameters.values().to_vec()?;
        let (path, start) = (running.path.to_vec()?, running.start.to_vec()?);
        let [mut importance, _] = self.penalty.held(learner)?;
        for (i, total) in importance.iter_mut().enumerate() {
            let gained = path[i] / ((w[i] - start[i]).powi(2) + self.damping);
            *total += if self.negative == Negative::Clamp { gained.max(0.0) } else { gained };
        }
        self.penalty.hold(learner, importance, &w)
    }

    fn stiffness(&self) -> Option<f32> {
        self.penalty.stiffness()
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("penalty", &mut self.penalty), ("running", &mut self.running)]
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "si",
    summary: "synaptic intelligence: a penalty by how much the loss fell along each parameter's path",
    paper: "Zenke et al., ICML 2017",
    equations: "L = CE(f(x), y) + c·Σ_i Ω_i (θ_i − θ*_i)²; in each step ω ← ω − g·Δθ, g the gradient of the cross-entropy \
                alone; after a task Ω ← Ω + ω/((θ − θ_start)² + ξ), ω ← 0, θ* ← θ",
    memory: "two numbers per parameter: Ω and θ* (four more while a task is learnt)",
    expect: "As EWC without the pass over the data at the end of a task: it helps where the task is known or labels are \
             shared, and does not solve class-incremental learning.",
    deviations: &[
        "Δθ is the optimiser's own step, weight decay and momentum included",
        "negative importances stay, as in the authors' code; --negative clamp makes them 0, as most toolboxes do",
    ],
    needs_boundaries: true,
    options: &[PENALTY_WEIGHT, DAMPING, NEGATIVE, PATH_GRADIENT, IMPORTANCE_LIMIT, UNSEEN],
    trade_off: &[("penalty_weight", 100.0)],
    targets: CLASSES_AND_MASKS,
    build: |settings| {
        Box::new(Si {
            penalty: Penalty::new(settings.get("penalty_weight"), settings.find("importance_limit")),
            damping: settings.get("damping"),
            negative: settings.get("negative"),
            path_gradient: settings.get("path_gradient"),
            running: None,
        })
    },
    ..MethodSpec::BASE
};
