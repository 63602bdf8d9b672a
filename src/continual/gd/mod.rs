//! Global distillation (Lee, Lee, Shin and Lee, "Overcoming Catastrophic Forgetting with Unlabeled Data in the Wild", ICCV 2019),
//! without data from the wild. Two networks teach the one that is kept, M: P, which is M before the task, all old outputs at once; and C,
//! which learns the new task alone, the new outputs. A task ends with a balanced fine-tuning of the last layer.
//!
//! - `teacher`: C.
//! - `balanced`: the fine-tuning, and the weights by class.

mod balanced;
mod teacher;

pub use balanced::{class_weights, weighted_cross_entropy, weighted_kl_div};

use super::before::Before;
use super::memory::MEMORY;
use super::{Batch, Exemplars, Keeps, Learner, Loss, Method, MethodSpec, TaskData};
use crate::data::{self, Scenario};
use crate::error::Result;
use crate::models::Network;
use crate::nn::Parameters;
use crate::ops::Mode;
use crate::optim::Optimizer;
use crate::rng::{Purpose, Rng};
use crate::settings::{Setting, Values};
use crate::tensor::Tensor;
use crate::training::Recipe;
use std::ops::Range;

const KD_WEIGHT: Setting =
    Setting::number("kd_weight", "WEIGHT", "What the distillation losses are multiplied with").usually("1");

const TEMPERATURE: Setting =
    Setting::number("temperature", "T", "T, the temperature of distillation").positive().usually("2");

const CONFIDENCE_WEIGHT: Setting = Setting::number(
    "confidence_weight",
    "WEIGHT",
    "What keeps the new task's teacher unsure of old exemplars is multiplied with",
)
.usually("1");

const BALANCED_EPOCHS: Setting = Setting::whole(
    "balanced_epochs",
    "N",
    "Passes of the last layer over the task's images and the memory, each class with the same weight; 0 for none",
)
.between(0, 1 << 20)
.open("a tenth of --epochs, at least 1");

struct Gd {
    memory: usize,
    kd_weight: f32,
    temperature: f32,
    confidence_weight: f32,
    balanced_epochs: usize,
    /// How M is trained, and C.
    recipe: Recipe,
    /// What the last layer's rate is multiplied with, if it has one of its own.
    head_factor: Option<f32>,
    exemplars: Exemplars,
    /// P; none in the first task.
    old: Before,
    /// C; none in the first task, where M is the teacher of its own classes.
    current: Before,
    /// The outputs of this task's labels.
    new: Range<usize>,
}

impl Gd {
    fn new(settings: &Values) -> Gd {
        // A run with a recipe that makes no sense does not come this far.
        let mut recipe = Recipe::of(settings).expect("bug: a run whose recipe makes no sense");
        // All that the method trains itself it trains in later tasks.
        if let Some(lr) = settings.find("later_lr") {
            recipe.schedule.lr = lr;
        }
        Gd {
            memory: settings.get("memory"),
            kd_weight: settings.get("kd_weight"),
            temperature: settings.get("temperature"),
            confidence_weight: settings.get("confidence_weight"),
            balanced_epochs: settings.find("balanced_epochs").unwrap_or((recipe.epochs / 10).max(1)),
            head_factor: settings.find::<f32>("head_lr").map(|lr| lr / recipe.schedule.lr),
            recipe,
            exemplars: Exemplars::default(),
            old: Before::default(),
            current: Before::default(),
            new: 0..0,
        }
    }

    fn optimizer(&self, parameters: &Parameters) -> Result<Optimizer> {
        Ok(self.recipe.optimizer(parameters)?.with_last_layer(self.head_factor))
    }

    /// The task's images and the memory for a training besides the runner's, which is number 0: each has draws of its own.
    fn batches(&self, recipe: &Recipe, learner: &Learner, task: &TaskData, number: u64) -> data::Plan {
        recipe.batches(
            learner.images(),
            self.training_set(task),
            task.label_of_class.clone(),
            learner.augment,
            learner.seed.wrapping_add(number << 32),
            task.index * recipe.epochs,
        )
    }

    /// A loss with the terms of both teachers. A group of outputs counts as much as it has of all that were seen; `distance` says how far
    /// the student's are from its teacher's.
    fn with_teachers(
        &self,
        learner: &Learner,
        (n_old, n_seen): (usize, usize),
        (logits, x): (&Tensor, &Tensor),
        ce: Tensor,
        distance: impl Fn(&Range<usize>, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Loss> {
        let loss = Loss::single("cross_entropy", ce);
        let (Some(old), Some(current)) = (self.old.logits(x)?, self.current.logits(x)?) else { return Ok(loss) };
        let taught = |loss: Loss, name, said: &Tensor, group: Range<usize>| -> Result<Loss> {
            let [student, teacher] = [logits, said].map(|all| all.narrow_channels(group.clone()));
            let term = distance(&group, &student?, &teacher?)?;
            Ok(loss.and(name, self.kd_weight * group.len() as f32 / n_seen as f32, term))
        };
        let mut groups = learner.old_heads(n_old).into_iter();
        let loss = groups.try_fold(loss, |loss, group| taught(loss, "kd", &old, group))?;
        taught(loss, "kd_current", &current, self.new.clone())
    }

    /// K/classes of each class at random; what is left over goes to the latest, one each.
    fn keep_exemplars(&mut self, learner: &Learner, task: &TaskData) {
        self.exemplars.0.extend_from_slice(&task.samples);
        let n_classes = self.exemplars.0.len();
        let mut left = self.memory % n_classes;
        let mut rng = Rng::keyed(learner.seed, Purpose::Memory, task.index as u64);
        for samples in self.exemplars.0.iter_mut().rev() {
            let extra = usize::from(left > 0 && samples.len() > self.memory / n_classes);
            left -= extra;
            rng.shuffle(samples);
            samples.truncate(self.memory / n_classes + extra);
        }
    }
}

impl Method for Gd {
    fn training_set(&self, task: &TaskData) -> Vec<u32> {
        task.samples.iter().chain(&self.exemplars.0).flatten().copied().collect()
    }

    /// C is trained before M.
    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.new = task.labels.clone();
        self.old.begin(learner, task)?;
        if task.n_old > 0 {
            let teacher = self.train_teacher(learner, task)?;
            self.current = Before::of(teacher.snapshot()?);
        }
        Ok(())
    }

    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let logits = learner.network.forward(&batch.x, Mode::Train)?.logits;
        let ce = learner.cross_entropy(&logits, &batch.images.labels, batch.n_seen)?;
        let sizes = (batch.n_old, batch.n_seen);
        self.with_teachers(learner, sizes, (&logits, &batch.x), ce, |_, student, teacher| {
            student.kl_div(teacher, self.temperature)
        })
    }

    fn end_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        if task.n_old > 0 && self.balanced_epochs > 0 {
            self.fine_tune(learner, task)?;
        }
        self.keep_exemplars(learner, task);
        self.current = Before::default();
        Ok(())
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![
            ("exemplars", &mut self.exemplars),
            ("old", &mut self.old),
            ("current", &mut self.current),
            ("new", &mut self.new),
        ]
    }
}

/// A copy of the network that can be trained.
fn copy_of(learner: &Learner) -> Result<Network> {
    let network = learner.network.fresh(&learner.device, learner.seed)?;
    network.copy_weights_of(&learner.network)?;
    Ok(network)
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "gd",
    summary: "the old network and one of the new task alone both teach; a balanced fine-tuning of the last layer ends a task",
    paper: "Lee et al., ICCV 2019",
    equations: "L = CE(f(x), y) + λ·(old/seen·T²·KL(p_T(f_P(x)) ‖ p_T(f(x))) over old outputs + new/seen·the same of f_C over new ones), \
                f_P: the network before the task; f_C: from f_P on, min CE over new outputs + KL(uniform ‖ p(f_C(x_M))) on exemplars; \
                then the last layer alone on the same losses, a sample of class k weighted by n/(classes·n_k)",
    memory: "K images, the old network; while a task is learnt the new task's teacher",
    expect: "Teachers and fine-tuning each help (MNIST with 1,000 images a task, 4 epochs, K = 200, one seed: 86.0 %, without teachers 82.5, \
             without fine-tuning 79.5). Where images are seen a few times only, er, which repeats the memory in every batch, does as well \
             at a third of the cost: two trainings a task, and two teachers a step.",
    deviations: &[
        "without unlabelled images, and so without the ensemble of both teachers (Q), which teaches on those alone: the authors' own \
         setting without external data",
        "exemplars are drawn anew from those kept and the task's images, at random, as the authors' code does; it keeps them by seed and stage",
        "batch norms keep averaging while the last layer is tuned, as in the authors' code; its learning rate is a tenth of --lr, a tenth of that \
         after half of the epochs and again after three quarters",
        "--balanced-epochs come after --epochs; the authors take 20 of 200 away from them",
        "in task-incremental learning old outputs are distilled task by task, and each image's cross-entropy runs over its own task's",
    ],
    scenarios: &[Scenario::Class, Scenario::Task],
    needs_boundaries: true,
    options: &[MEMORY, KD_WEIGHT, TEMPERATURE, CONFIDENCE_WEIGHT, BALANCED_EPOCHS],
    trade_off: &[("kd_weight", 16.0)],
    build: |settings| Box::new(Gd::new(settings)),
    ..MethodSpec::BASE
};
