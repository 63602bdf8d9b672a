//! Learning that trains the network: a [`Session`] as a client of the methods of `continual` and of the one training loop.
//!
//! All that a training changes is made beside the session and put in its place at the end: one that is interrupted, or fails, leaves
//! the session as it was.

use super::carried::{Carrying, network_of};
use super::grown::{Grown, bounded_held_out};
use super::memory::is_grey;
use super::{Class, ClassReport, Growing, Learned, Picture, Session};
use crate::continual::{Batch, Learner, Method, MethodSpec, TaskData};
use crate::data::{self, Augment};
use crate::error::{Error, Result};
use crate::experiment::PROTOCOL;
use crate::learner::ImageStore;
use crate::nn::Loss;
use crate::optim::Optimizer;
use crate::settings::{Origin, Setting, Values, resolve};
use crate::training::{Listener, Objective, Recipe, Step, TRAINING, Trainee, Trainer, batches_from};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Images of a step.
const BATCH: usize = 32;
/// So many passes at least, however many pictures there are: a method learns from each picture more than once.
const LEAST_PASSES: usize = 2;
/// Training pictures are moved by up to so many of their sides.
const SHIFTED: usize = 8;

/// A picture to be learned, with its digest and the name of its class.
pub(super) type New = (u128, Picture, String);

/// Which pictures come to which classes. Labels are those after learning: classes that nothing came to keep their order and come
/// first, because a method takes the others for the new ones.
struct Arrivals {
    classes: Vec<Class>,
    /// By label before.
    new_label: Vec<Option<u32>>,
    /// Classes that nothing came to.
    n_old: usize,
    /// By place in `new`: the label of pictures to be learned.
    labels: BTreeMap<usize, u32>,
    reports: Vec<ClassReport>,
}

impl Arrivals {
    fn of(new: &[New], classes: &[Class], learned: &BTreeMap<u128, u32>) -> Arrivals {
        let mut names: Vec<String> = classes.iter().map(|class| class.name.clone()).collect();
        let (mut reports, mut own, mut labels) =
            (Vec::<ClassReport>::new(), learned.clone(), BTreeMap::<usize, u32>::new());
        for (place, (digest, _, name)) in new.iter().enumerate() {
            let label = names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name.clone());
                names.len() - 1
            });
            let at = reports.iter().position(|report| report.name == *name).unwrap_or_else(|| {
                reports.push(ClassReport::empty(name, label >= classes.len()));
                reports.len() - 1
            });
            match own.insert(*digest, label as u32) {
                Some(before) if before as usize == label => reports[at].n_known += 1,
                before => {
                    let count = if before.is_some() { &mut reports[at].n_moved } else { &mut reports[at].n_added };
                    *count += 1;
                    labels.retain(|other, _| new[*other].0 != *digest);
                    labels.insert(place, label as u32);
                }
            }
        }
        let touched: BTreeSet<u32> = labels.values().copied().collect();
        let mut n = vec![0; names.len()];
        own.values().for_each(|&label| n[label as usize] += 1);
        let kept = (0..names.len() as u32).filter(|&label| n[label as usize] > 0);
        let (old, came): (Vec<u32>, Vec<u32>) = kept.partition(|label| !touched.contains(label));
        let order = [old.clone(), came].concat();
        let new_label = |label: u32| order.iter().position(|&own| own == label).map(|label| label as u32);
        labels.values_mut().for_each(|label| *label = new_label(*label).expect("bug: pictures of no class"));
        reports.iter_mut().for_each(|report| {
            report.n_now = names.iter().position(|name| *name == report.name).map_or(0, |label| n[label]);
        });
        Arrivals {
            classes: order
                .iter()
                .map(|&label| Class { name: names[label as usize].clone(), n: n[label as usize] })
                .collect(),
            new_label: (0..classes.len() as u32).map(new_label).collect(),
            n_old: old.len(),
            labels,
            reports,
        }
    }
}

/// A method with its settings and how it trains.
pub(super) struct Course {
    pub method: &'static MethodSpec,
    pub values: Values,
    pub training: Recipe,
}

/// What a step of a method's training needs.
struct Growth<'a> {
    learner: &'a Learner,
    method: &'a mut dyn Method,
    optimizer: Optimizer,
    task: &'a TaskData<'a>,
    /// Passes of earlier trainings: random numbers are not drawn twice.
    first_epoch: usize,
    batch: Option<Batch>,
}

const NO_BATCH: &str = "bug: a step without a batch";

impl Objective for Growth<'_> {
    type Batch = data::Batch;

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        vec![Trainee { parameters: &self.learner.network.parameters, optimizer: &mut self.optimizer }]
    }

    fn loss(&mut self, images: data::Batch, step: Step) -> Result<Loss> {
        let batch = Batch::of(self.learner, images, self.task, self.first_epoch + step.epoch(), step)?;
        let batch = self.batch.insert(batch);
        self.method.observe(self.learner, batch)
    }

    fn adjust_gradients(&mut self) -> Result<()> {
        self.method.adjust_gradients(self.learner, self.batch.as_ref().expect(NO_BATCH))
    }

    fn after_step(&mut self) -> Result<()> {
        let batch = self.batch.take().expect(NO_BATCH);
        self.method.after_step(self.learner, &batch)
    }
}

impl Session {
    /// Trains the network on pictures, some of which are held out, and on what the method keeps.
    pub(super) fn grow(
        &mut self,
        kind: Growing,
        new: &[New],
        listener: &mut dyn Listener,
        interrupted: &AtomicBool,
    ) -> Result<Learned> {
        let none = Grown::default();
        let before = self.grown.as_ref().unwrap_or(&none);
        let arrivals = Arrivals::of(new, &self.classes, &before.learned);
        if arrivals.labels.is_empty() {
            return Ok(Learned { classes: arrivals.reports });
        }
        let n_classes = arrivals.classes.len();
        if self.settings.memory < n_classes {
            return Err(Error::usage(format!(
                "a memory of {} pictures is less than one for each of {n_classes} classes: give at least --memory {n_classes}",
                self.settings.memory
            )));
        }
        let held_out = bounded_held_out(self, &arrivals.labels, new, &arrivals.new_label);
        let course = self.course_of(kind)?;
        let store = Store::of(self, &arrivals, new);
        let network = network_of(&self.backbone, n_classes, &self.rows_kept(&arrivals.new_label), self.settings.seed)?;
        let subject = self.backbone.subject_of(network)?.trained_by(BATCH);
        let mut learner = Learner::of(subject, Arc::new(store.images.images().clone()));
        learner.seed = self.settings.seed;
        learner.augment = self.augment(new);
        learner.flips &= learner.augment.flip;

        let boundaries = course.method.needs_boundaries;
        let is_old = |label: u32| !boundaries || (label as usize) < arrivals.n_old;
        let carrying = Carrying {
            sample: &|place| store.new_place.get(place as usize).copied().flatten(),
            label: &|label| arrivals.new_label.get(label as usize).copied().flatten().filter(|&label| is_old(label)),
            n_outputs: n_classes,
        };
        let mut method = self.carried(&course, &carrying)?;
        let task = store.task(&arrivals, &held_out, boundaries, before.n_trainings, interrupted);
        let n_new = self.train(&course, (&learner, method.as_mut()), &task, before.n_epochs, listener, interrupted)?;
        method.end_task(&learner, &task)?;

        let n_epochs = before.n_epochs + n_new;
        let mut learned = before.learned.clone();
        learned.values_mut().for_each(|label| *label = arrivals.new_label[*label as usize].unwrap_or(u32::MAX));
        learned.extend(arrivals.labels.iter().map(|(&place, &label)| (new[place].0, label)));
        let grown = Grown { learned, held_out, n_trainings: before.n_trainings + 1, n_epochs, ..Grown::default() };
        let mut reports = arrivals.reports;
        for report in &mut reports {
            let label = arrivals.classes.iter().position(|class| class.name == report.name);
            let is_held =
                |(&place, &own): (&usize, &u32)| Some(own as usize) == label && grown.held_out.contains(&new[place].0);
            report.n_held_out = arrivals.labels.iter().filter(|&entry| is_held(entry)).count();
        }
        let names = store.names(self, new);
        self.take_over(kind, arrivals.classes, grown, learner, (method, store.digests), &names)?;
        for report in &reports {
            self.note("learned", &report.name, report.n_added + report.n_moved);
        }
        Ok(Learned { classes: reports })
    }

    /// The method with what a person sets, and with what suits a trained network and a few pictures.
    pub(super) fn course_of(&self, kind: Growing) -> Result<Course> {
        let method = kind.spec()?;
        let memory = self.settings.memory.to_string();
        let batch = BATCH.to_string();
        let mut given = vec![
            ("memory", memory.as_str()),
            ("batch_size", batch.as_str()),
            ("epochs", "1"),
            ("optimizer", "adam"),
            ("lr", "0.001"),
            ("schedule", "cosine"),
            ("weight_decay", "1e-4"),
        ];
        if kind != Growing::Icarl {
            given.push(("memory_policy", "balanced"));
        }
        let all = TRAINING.iter().chain(PROTOCOL).chain(method.options);
        let rows: Vec<&'static Setting> = all.filter(|row| method.goes_by(row.name)).collect();
        let values = resolve(method.name, &rows, Values::of(&rows, &given, &Origin::Flag)?)?;
        Ok(Course { method, training: Recipe::of(&values)?, values })
    }

    /// Passes over what is trained on: by the number of steps, so that ten pictures train as long as a thousand.
    fn epochs(&self, course: &Course, learner: &Learner, method: &dyn Method, task: &TaskData) -> usize {
        let samples = method.training_set(task);
        let batches = self.recipe(course, 1).batches(learner.images(), samples, Vec::new(), learner.augment, 0, 0);
        self.settings.steps.div_ceil(batches.batches_per_epoch().max(1)).max(LEAST_PASSES)
    }

    fn recipe(&self, course: &Course, epochs: usize) -> Recipe {
        Recipe { epochs, drop_last: true, ..course.training.clone() }
    }

    /// Trains, and returns the number of passes.
    fn train(
        &self,
        course: &Course,
        (learner, method): (&Learner, &mut dyn Method),
        task: &TaskData,
        first_epoch: usize,
        listener: &mut dyn Listener,
        interrupted: &AtomicBool,
    ) -> Result<usize> {
        method.begin_task(learner, task)?;
        let epochs = self.epochs(course, learner, method, task);
        let recipe = self.recipe(course, epochs);
        let labels: Vec<u32> = (0..task.n_seen as u32).collect();
        let samples = method.training_set(task);
        let batches =
            recipe.batches(learner.images(), samples, labels, learner.augment, self.settings.seed, first_epoch);
        let mut plan = recipe.plan("the network", &batches);
        plan.advice = "The learner is as it was before; let it learn into a new file".into();
        let optimizer = recipe.optimizer(&learner.network.parameters)?;
        let mut growth = Growth { learner, method, optimizer, task, first_epoch, batch: None };
        Trainer::new(&learner.device, listener, interrupted).run(&plan, batches_from(batches, 0)?, &mut growth)?;
        Ok(epochs)
    }

    /// Crops, and where pictures have colour mirror images.
    fn augment(&self, new: &[New]) -> Augment {
        let [channels, height, width] = self.input();
        let coloured = new.iter().any(|(_, picture, _)| !is_grey(&picture.pixels, channels));
        let known = self.known.values().any(|known| !known.is_grey);
        let flip = self.backbone.flips() && (coloured || known);
        Augment { pad: (height.min(width) / SHIFTED) as u32, flip, scale: false }
    }
}

/// The pictures of a training: those that are kept, then the new ones.
struct Store {
    images: ImageStore,
    digests: Vec<u128>,
    /// By place among the exemplars before.
    new_place: Vec<Option<u32>>,
}

impl Store {
    fn of(session: &Session, arrivals: &Arrivals, new: &[New]) -> Store {
        let (mut images, mut digests, mut new_place) = (ImageStore::new(session.input()), Vec::new(), Vec::new());
        let again: BTreeSet<u128> = arrivals.labels.keys().map(|&place| new[place].0).collect();
        let kept = session.exemplars.images();
        for (place, digest) in session.exemplar_digests.iter().enumerate() {
            let label = arrivals.new_label[kept.labels[place] as usize].filter(|_| !again.contains(digest));
            new_place.push(label.map(|label| {
                digests.push(*digest);
                images.push(kept.image(place), label) as u32
            }));
        }
        for (&place, &label) in &arrivals.labels {
            digests.push(new[place].0);
            images.push(&new[place].1.pixels, label);
        }
        Store { images, digests, new_place }
    }

    /// What a method is told: of each class that pictures came to those that are trained on. A method that must be told where a task
    /// ends learns a class in one task: what was kept of it comes again.
    fn task<'a>(
        &self,
        arrivals: &Arrivals,
        held_out: &BTreeSet<u128>,
        boundaries: bool,
        index: usize,
        interrupted: &'a AtomicBool,
    ) -> TaskData<'a> {
        let (n_seen, n_kept) = (arrivals.classes.len(), self.digests.len() - arrivals.labels.len());
        let mut samples = vec![Vec::new(); n_seen - arrivals.n_old];
        for (place, (digest, &label)) in self.digests.iter().zip(&self.images.images().labels).enumerate() {
            let comes = boundaries || place >= n_kept;
            if comes && label as usize >= arrivals.n_old && !held_out.contains(digest) {
                samples[label as usize - arrivals.n_old].push(place as u32);
            }
        }
        let (labels, label_of_class) = (arrivals.n_old..n_seen, (0..n_seen as u32).collect());
        TaskData { index, samples, n_old: arrivals.n_old, n_seen, label_of_class, labels, is_last: false, interrupted }
    }

    /// The names of the files.
    fn names(&self, session: &Session, new: &[New]) -> BTreeMap<u128, String> {
        let known = session.known.iter().map(|(digest, known)| (*digest, known.name.clone()));
        known.chain(new.iter().map(|(digest, picture, _)| (*digest, picture.name.clone()))).collect()
    }
}
