//! The measuring side of a run: what a network answers to the test images of a task, among all candidates and with the task
//! known, and the numbers made of that.

use super::Run;
use crate::continual::{Candidates, Classifier, Learner, Method};
use crate::data::{Dataset, Scenario, Target, Task, TaskStream};
use crate::error::Result;
use crate::experiment::metrics::{accuracy, average_any_time_accuracy, confusion};
use crate::experiment::results::AnyTime;
use crate::experiment::saved::Class;
use std::collections::BTreeMap;
use std::ops::Range;

impl Run<'_> {
    /// The tasks that are asked about after phase `index`.
    pub(super) fn tasks_seen(&self, index: usize) -> &[Task] {
        let n = if self.config.method.sees_everything { self.stream.tasks.len() } else { index + 1 };
        &self.stream.tasks[..n]
    }

    fn answers(&self, classifiers: &[Classifier], task: &Task, n_seen: usize) -> Result<Vec<Answers>> {
        let n_candidates = match self.config.candidates {
            Candidates::Seen => n_seen,
            Candidates::All => self.stream.n_classes,
        };
        let asked = Asked { task, n_candidates };
        answers(&self.learner, &*self.method, classifiers, &self.dataset, &self.stream, asked)
    }

    /// What counts as the answer: in task-incremental learning the task is known.
    fn counted<'b>(&self, answers: &'b Answers) -> &'b [u32] {
        if self.config.stream.scenario == Scenario::Task { &answers.task_known } else { &answers.among_all }
    }

    /// One row of the accuracy matrix, and the confusion matrix, for every classifier.
    pub(super) fn evaluate(&mut self, index: usize, n_seen: usize) -> Result<()> {
        if self.dataset.target() == Target::Mask {
            return self.evaluate_masks(index, n_seen);
        }
        let classifiers = self.method.classifiers();
        let mut by_task = Vec::new();
        for task in self.tasks_seen(index) {
            by_task.push(self.answers(classifiers, task, n_seen)?);
        }
        let next = self.stream.tasks.get(self.tasks_seen(index).len());
        let next = next.map(|next| self.before(next)).transpose()?.unwrap_or_default();
        for (c, Classifier { name, .. }) in classifiers.iter().enumerate() {
            let of_task: Vec<&Answers> = by_task.iter().map(|answers| &answers[c]).collect();
            let row = |f: &dyn Fn(&Answers) -> f64| {
                let mut row: Vec<Option<f64>> = of_task.iter().map(|answers| Some(f(answers))).collect();
                row.resize(self.stream.tasks.len(), None);
                row
            };
            let truth: Vec<u32> = of_task.iter().flat_map(|answers| &answers.truth).copied().collect();
            let answered: Vec<u32> = of_task.iter().flat_map(|answers| self.counted(answers)).copied().collect();
            let open = row(&|answers| accuracy(&answers.truth, self.counted(answers)));
            let task_known = (self.config.stream.scenario == Scenario::Class && self.stream.tasks.len() > 1)
                .then(|| row(&|answers| accuracy(&answers.truth, &answers.task_known)));
            let result = self.metrics.classifiers.get_mut(*name).expect("bug: a classifier without results");
            result.task_known.extend(task_known);
            result.push(open, accuracy(&truth, &answered));
            if let (Some(&accuracy), Some(pair)) = (next.get(name), result.before.get_mut(index)) {
                pair[0] = accuracy;
            }
            result.confusion = confusion(&truth, &answered, n_seen);
        }
        if self.config.candidates == Candidates::All {
            let truth = by_task.iter().flat_map(|answers| &answers[0].truth);
            self.metrics.n_tested = counted_labels(truth, n_seen);
        }
        if index + 1 == self.phases.len() {
            self.end_any_time();
        }
        Ok(())
    }

    /// The accuracy on a task that has not been learnt, of each classifier that can answer then; none in class-incremental
    /// learning, where it is 0 by construction.
    pub(super) fn before(&self, task: &Task) -> Result<BTreeMap<&'static str, f64>> {
        if self.config.stream.scenario == Scenario::Class {
            return Ok(BTreeMap::new());
        }
        if self.dataset.target() == Target::Mask {
            let score = self.miou(std::slice::from_ref(task), self.stream.n_classes)?;
            return Ok(BTreeMap::from([(Classifier::NETWORK.name, score)]));
        }
        let is_able = |one: &&Classifier| !one.by_means && self.method.can_answer(one);
        let able: Vec<Classifier> = self.method.classifiers().iter().filter(is_able).copied().collect();
        let answers = self.answers(&able, task, self.stream.n_classes)?;
        let accuracy = |answers: &Answers| accuracy(&answers.truth, self.counted(answers));
        Ok(able.iter().map(|one| one.name).zip(answers.iter().map(accuracy)).collect())
    }

    /// The accuracy of the method's first classifier on what phase `index` brought.
    pub(super) fn accuracy_on_new(&self, index: usize, n_seen: usize) -> Result<f64> {
        let seen = self.tasks_seen(index);
        let new = if self.config.method.sees_everything { seen } else { &seen[index..] };
        if self.dataset.target() == Target::Mask {
            return self.miou(new, n_seen);
        }
        let (mut truth, mut answered) = (Vec::new(), Vec::new());
        for task in new {
            let answers = &self.answers(&self.method.classifiers()[..1], task, n_seen)?[0];
            truth.extend_from_slice(&answers.truth);
            answered.extend_from_slice(self.counted(answers));
        }
        Ok(accuracy(&truth, &answered))
    }

    /// b_i of forward transfer: the initial network on every task but the first.
    pub(super) fn measure_initial(&mut self) -> Result<()> {
        if self.config.method.sees_everything {
            return Ok(());
        }
        for task in 1..self.stream.tasks.len() {
            for (name, accuracy) in self.before(&self.stream.tasks[task])? {
                let result = self.metrics.classifiers.get_mut(name).expect("bug: a classifier without results");
                // The first of a pair is measured when the task before has been learnt.
                result.before.push([accuracy, accuracy]);
            }
        }
        Ok(())
    }

    /// Whenever so many more images were learnt from: what the method's own classifier answers now. Of classes that it has no
    /// mean of yet it knows nothing. `n_new` images have come since the last call.
    pub(super) fn measure_any_time(&mut self, index: usize, n_seen: usize, n_new: usize) -> Result<()> {
        let Some(n_batches) = self.config.eval_every else { return Ok(()) };
        let distance = n_batches.saturating_mul(self.config.training.batch_size);
        if self.n_images / distance == (self.n_images - n_new) / distance {
            return Ok(());
        }
        if self.dataset.target() == Target::Mask {
            let score = self.miou(self.tasks_seen(index), n_seen)?;
            self.push_any_time(score);
            return Ok(());
        }
        let (mut truth, mut answered) = (Vec::new(), Vec::new());
        for task in self.tasks_seen(index) {
            let answers = &self.answers(&self.method.classifiers()[..1], task, n_seen)?[0];
            truth.extend_from_slice(&answers.truth);
            answered.extend_from_slice(self.counted(answers));
        }
        self.push_any_time(accuracy(&truth, &answered));
        Ok(())
    }

    /// The end of the stream is the last point of the curve, whatever the distance to the one before.
    pub(super) fn end_any_time(&mut self) {
        if self.config.eval_every.is_none() {
            return;
        }
        let n_images = self.n_images;
        self.metrics.any_time.retain(|point| point.n_images < n_images);
        let own = self.method.classifiers()[0].name;
        let last = self.metrics.classifiers[own].seen_accuracy.last();
        self.push_any_time(*last.expect("bug: nothing was evaluated"));
    }

    /// What is to be said where any-time accuracy was asked for and the stream had no place for it but its end.
    pub(super) fn any_time_warning(&self) -> Option<String> {
        let n = self.config.eval_every.filter(|_| self.metrics.any_time.len() == 1)?;
        Some(format!(
            "--eval-every {n}: the stream has fewer batches, so that any-time accuracy is that of its end alone"
        ))
    }

    fn push_any_time(&mut self, accuracy: f64) {
        self.metrics.any_time.push(AnyTime { n_images: self.n_images, accuracy });
        let accuracies: Vec<f64> = self.metrics.any_time.iter().map(|point| point.accuracy).collect();
        self.metrics.average_any_time_accuracy = average_any_time_accuracy(&accuracies);
    }

    /// The labels seen so far, with the class or classes that have them.
    pub(super) fn classes_seen(&self) -> Vec<Class> {
        let name = |class: u32| self.dataset.class_names[class as usize].clone();
        let tasks = self.tasks_seen(self.metrics.memory_bytes.len() - 1);
        if tasks.iter().any(|task| !task.domains.is_empty()) {
            return tasks[0].classes.iter().map(|&class| Class { class, name: name(class) }).collect();
        }
        if self.config.stream.blurry > 0 {
            return self.all_classes.iter().map(|&class| Class { class, name: name(class) }).collect();
        }
        let mut classes: Vec<Class> = Vec::new();
        for task in tasks {
            for (label, &class) in (task.first_label..).zip(&task.classes) {
                match classes.get_mut(label) {
                    Some(known) if self.config.stream.scenario == Scenario::Domain => {
                        known.name += &format!("/{}", name(class))
                    }
                    Some(_) => {}
                    None => classes.push(Class { class, name: name(class) }),
                }
            }
        }
        classes
    }
}

/// The answers of one classifier to the test images of one task.
#[derive(Clone, Debug, Default)]
struct Answers {
    /// The label of each image.
    pub truth: Vec<u32>,
    /// Its answer among the candidates.
    pub among_all: Vec<u32>,
    /// Its answer among the labels of the task.
    pub task_known: Vec<u32>,
}

/// What is asked: about the test images of `task`, when `n_candidates` classes may be answered.
struct Asked<'a> {
    task: &'a Task,
    n_candidates: usize,
}

/// Stands where a classifier knows no class that it could answer. It is no label.
const NO_ANSWER: u32 = u32::MAX;

/// Answers by each of `classifiers`. Labels a classifier has no score for yet are never answered.
fn answers(
    learner: &Learner,
    method: &dyn Method,
    classifiers: &[Classifier],
    dataset: &Dataset,
    stream: &TaskStream,
    Asked { task, n_candidates }: Asked,
) -> Result<Vec<Answers>> {
    let images = &dataset.test;
    let label = |&sample: &u32| stream.label_of_class[images.labels[sample as usize] as usize];
    let truth: Vec<u32> = task.test.iter().map(label).collect();
    let mut answers = vec![Answers { truth, ..Answers::default() }; classifiers.len()];
    let own = task.first_label..task.first_label + task.classes.len();
    learner.evaluate(images, &task.test, |_, output| {
        for (answers, classifier) in answers.iter_mut().zip(classifiers) {
            if !method.can_answer(classifier) {
                let n = answers.among_all.len() + output.logits.shape()[0];
                answers.among_all.resize(n, NO_ANSWER);
                answers.task_known.resize(n, NO_ANSWER);
                continue;
            }
            let scores = method.scores(&output, classifier)?;
            let width = scores.shape()[1];
            for row in scores.to_vec()?.chunks_exact(width) {
                answers.among_all.push(largest(row, 0..n_candidates.min(width)));
                answers.task_known.push(largest(row, own.start.min(width)..own.end.min(width)));
            }
        }
        Ok(())
    })?;
    Ok(answers)
}

/// How many images have each label below `n`.
fn counted_labels<'a>(labels: impl Iterator<Item = &'a u32>, n: usize) -> Vec<u32> {
    let mut counts = vec![0; n];
    labels.for_each(|&label| counts[label as usize] += 1);
    counts
}

/// The first place in `range` of the largest score.
fn largest(scores: &[f32], range: Range<usize>) -> u32 {
    if range.is_empty() {
        return NO_ANSWER;
    }
    let best = range.clone().fold(range.start, |best, i| if scores[i] > scores[best] { i } else { best });
    best as u32
}
