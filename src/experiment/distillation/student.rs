//! One student: trained on labels alone or by the scheme, measured, and added to the results.

use super::config::DistillConfig;
use super::lesson::{Learned, Lesson};
use super::measure::{calibration_error, logits, omitted, other, other_logits, predictions};
use super::results::{Arm, DistillResults, OtherResult, StudentResult};
use super::run::Teachers;
use super::teacher::network;
use crate::continual::Learner;
use crate::data::Dataset;
use crate::device::Device;
use crate::distill::{Answer, Companions, TeacherMean, combined, seed_along};
use crate::error::Result;
use crate::experiment::metrics::accuracy;
use crate::experiment::sink::Sink;
use crate::models::Network;
use crate::tensor::Tensor;
use crate::training::Trainer;

type DynTrainer<'a, 'b> = Trainer<'a, dyn Sink + 'b>;

const ADVICE: &str = "Use a smaller --lr, or smaller weights of the terms";

/// Which student.
pub(super) struct Student<'a> {
    pub config: &'a DistillConfig,
    pub dataset: &'a Dataset,
    pub teachers: &'a Teachers,
    pub arm: Arm,
    pub seed: u64,
    pub fraction: f64,
    pub samples: &'a [u32],
}

/// A student and what came of its training.
struct Trained {
    learner: Learner,
    learned: Learned,
    others: Vec<OtherResult>,
    layers: Vec<(String, String)>,
}

impl Student<'_> {
    /// Trains it, measures it and adds it to the results. `scratch` is its twin that learned from labels alone, where that has
    /// just been trained.
    pub fn train(
        &self,
        scratch: Option<Network>,
        results: &mut DistillResults,
        trainer: &mut DynTrainer,
    ) -> Result<Network> {
        let Student { config, dataset, arm, seed, fraction, .. } = *self;
        let trained = match arm {
            Arm::Scratch => self.alone(trainer)?,
            Arm::Distilled if config.spec.has_generations() => {
                // After an interruption the twin is gone; trained again it is the same.
                let scratch = scratch.map_or_else(|| Ok(self.alone(trainer)?.learner.network), Ok)?;
                self.generations(scratch, trainer)?
            }
            Arm::Distilled => {
                let copies = self.teachers.networks.iter().map(Network::snapshot).collect::<Result<Vec<_>>>()?;
                self.with(copies, seed, &format!("distilled student, seed {seed}"), trainer)?
            }
        };
        if arm == Arm::Distilled && results.held_bytes == 0 {
            results.held_bytes = trainer.device.counters().held_bytes;
        }
        let Trained { learner, learned, others, layers } = trained;
        let (n_classes, labels) = (dataset.n_classes(), &dataset.test.labels);
        let z = logits(&learner, &dataset.test)?;
        let answers = predictions(&z, n_classes);
        results.students.push(StudentResult {
            arm,
            seed,
            fraction,
            n_images: self.samples.len(),
            accuracy: accuracy(labels, &answers),
            calibration_error: calibration_error(&z, n_classes, labels),
            agreement: self.teachers.are_there().then(|| accuracy(&self.teachers.answers, &answers)),
            seconds_training: learned.seconds,
            omitted: config.omit_class.map(|class| omitted(&z, n_classes, labels, class)),
            others,
        });
        results.terms.extend(learned.terms);
        if arm == Arm::Distilled {
            results.layers = layers;
        }
        Ok(learner.network)
    }

    /// An untrained one whose weights are keyed by this.
    fn untrained(&self, seed: u64, device: &Device) -> Result<Learner> {
        let network = network(&self.config.student, self.config.student_width, self.dataset, device, seed)?;
        Ok(Learner::new(network, device, self.dataset)?.trained_by(self.config.training.batch_size))
    }

    fn lesson<'a>(&'a self, learner: &'a Learner, companions: Option<&'a dyn Companions>) -> Lesson<'a> {
        Lesson {
            learner,
            samples: self.samples.to_vec(),
            recipe: &self.config.training,
            augment: self.config.data.augment,
            seed: self.seed,
            companions,
            fraction: self.fraction,
        }
    }

    /// From labels alone.
    fn alone(&self, trainer: &mut DynTrainer) -> Result<Trained> {
        let learner = self.untrained(self.seed, trainer.device)?;
        let learned =
            self.lesson(&learner, None).learn(&format!("scratch student, seed {}", self.seed), ADVICE, trainer)?;
        Ok(Trained { learner, learned, others: Vec::new(), layers: Vec::new() })
    }

    /// With companions, of which the teachers are trained.
    fn with(&self, teachers: Vec<Network>, init: u64, what: &str, trainer: &mut DynTrainer) -> Result<Trained> {
        let (config, dataset, device) = (self.config, self.dataset, trainer.device);
        let learner = self.untrained(init, device)?;
        let mut companions = config.spec.companions(&config.scheme, teachers, &learner.network, device, init)?;
        companions.prepare(&mut self.samples.chunks(learner.at_once).map(|chunk| learner.plain_input(chunk)))?;
        let learned = self.lesson(&learner, Some(&*companions)).learn(what, ADVICE, trainer)?;
        let said = other_logits(&learner, &*companions, &dataset.test)?;
        let of = |(answer, z): (Answer, Vec<f32>)| other(answer, &z, dataset.n_classes(), &dataset.test.labels);
        let others = companions.answers().into_iter().zip(said).map(of).collect();
        let layers = companions.layers().to_vec();
        Ok(Trained { learner, learned, others, layers })
    }

    /// Each from the one before it. The last is the student; its elders, and all of them together, answer beside it.
    fn generations(&self, scratch: Network, trainer: &mut DynTrainer) -> Result<Trained> {
        let (n_classes, test) = (self.dataset.n_classes(), &self.dataset.test);
        let n: usize = self.config.scheme.own.get("generations");
        let (mut all, mut others, mut seconds) = (Vec::new(), Vec::new(), 0.0);
        let mut next = |elder: &Network, generation: usize| -> Result<(Trained, Vec<f32>)> {
            let what = format!("generation {generation} of {n}, seed {}", self.seed);
            let trained = self.with(vec![elder.snapshot()?], seed_along(self.seed, generation), &what, trainer)?;
            seconds += trained.learned.seconds;
            let z = logits(&trained.learner, test)?;
            all.push(Tensor::from_f32(&Device::cpu(), [test.len(), n_classes], &z)?);
            Ok((trained, z))
        };
        let (mut trained, mut z) = next(&scratch, 1)?;
        let network = &trained.learner.network;
        let (n_parameters, macs) = (network.parameters.n_parameters(), network.macs);
        for generation in 2..=n {
            let answer = Answer { name: format!("generation {}", generation - 1), n_parameters, macs };
            others.push(other(answer, &z, n_classes, &test.labels));
            (trained, z) = next(&trained.learner.network, generation)?;
        }
        let together = combined(&all, TeacherMean::Probabilities, 1.0)?.to_vec()?;
        let (n_parameters, macs) = (n * n_parameters, n as u64 * macs);
        let answer = Answer { name: "all generations".into(), n_parameters, macs };
        others.push(other(answer, &together, n_classes, &test.labels));
        trained.learned.seconds = seconds;
        Ok(Trained { others, ..trained })
    }
}
