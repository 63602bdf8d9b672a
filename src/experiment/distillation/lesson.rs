//! The training of one network on one set of images, a teacher or a student.

use super::results::StudentTerm;
use crate::continual::Learner;
use crate::data::{Augmentation, Batch};
use crate::distill::{Companions, Student};
use crate::error::Result;
use crate::nn::Loss;
use crate::tensor::Tensor;
use crate::training::{Listener, Log, Objective, Recipe, Step, TermRecord, Trainee, Trainer, batches_from};

/// How often the terms of a loss are written down, in a whole training.
const N_RECORDS: usize = 10;

/// One training.
pub(super) struct Lesson<'a> {
    pub learner: &'a Learner,
    pub samples: Vec<u32>,
    pub recipe: &'a Recipe,
    pub augment: Augmentation,
    pub seed: u64,
    pub companions: Option<&'a dyn Companions>,
    /// The part of the images that the samples are.
    pub fraction: f64,
}

/// What a training leaves beside the network.
#[derive(Default)]
pub(super) struct Learned {
    pub seconds: f64,
    /// If there are companions.
    pub terms: Vec<StudentTerm>,
}

impl Lesson<'_> {
    /// Trains to the last epoch. `advice` is for the case that it diverges.
    pub fn learn<L: Listener + ?Sized>(self, what: &str, advice: &str, trainer: &mut Trainer<L>) -> Result<Learned> {
        let Lesson { learner, recipe, companions, .. } = self;
        let labels = (0..learner.network.n_outputs as u32).collect();
        let batches = recipe.batches(learner.images(), self.samples, labels, self.augment.into(), self.seed, 0);
        let mut plan = recipe.plan(what, &batches);
        plan.advice = advice.into();
        plan.log = companions.map(|_| Log { every: plan.n_steps().div_ceil(N_RECORDS).max(1), gradient_norms: true });
        let student = Student::new(&learner.network, companions, |parameters| recipe.optimizer(parameters))?;
        let student = student.in_turns_at(recipe.schedule.clone());
        let mut pupil = Pupil { learner, student, records: Vec::new() };
        let trained = trainer.run(&plan, batches_from(batches, 0)?, &mut pupil)?;
        let terms = pupil.records.into_iter();
        let terms = terms.map(|record| StudentTerm { seed: self.seed, fraction: self.fraction, record }).collect();
        Ok(Learned { seconds: trained.seconds.sum(), terms })
    }
}

/// A student that is shown images as the loader gives them.
struct Pupil<'a> {
    learner: &'a Learner,
    student: Student<'a>,
    records: Vec<TermRecord>,
}

impl Objective for Pupil<'_> {
    type Batch = Batch;

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        self.student.trainees()
    }

    fn loss(&mut self, images: Batch, step: Step) -> Result<Loss> {
        let x = self.learner.input(&images)?;
        let labels = Tensor::from_u32(&self.learner.device, [images.len()], &images.labels)?;
        self.student.loss((x, labels), step)
    }

    fn record(&mut self, term: TermRecord) {
        self.records.push(term);
    }
}
