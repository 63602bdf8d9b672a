//! The measuring side of a run on images with masks: pixels counted by class and answer, and what follows from the counts. Void
//! pixels, and those of classes that have not come yet, do not count.

use super::Run;
use crate::continual::{Candidates, Classifier};
use crate::data::{Draw, NO_LABEL, Task, gather_labels};
use crate::device::Array;
use crate::error::Result;
use crate::experiment::metrics::{intersection_over_union, mean_iou, pixel_accuracy};
use crate::experiment::results::MaskScores;
use crate::experiment::segmented;
use crate::ops::count_confusion;
use std::ops::Range;

/// `counts[y][z]`: pixels of label y that label z was answered for.
type Counts = Vec<Vec<u32>>;

impl Run<'_> {
    /// The row of the matrix, the confusion matrix and the scores made of it, and pictures of some answers.
    pub(super) fn evaluate_masks(&mut self, index: usize, n_seen: usize) -> Result<()> {
        let seen = self.tasks_seen(index).to_vec();
        let mut total = vec![vec![0; self.stream.n_classes]; self.stream.n_classes];
        let mut row = vec![None; self.stream.tasks.len()];
        // Where tasks bring classes, all of them are tested on the same images.
        let n_passes = if self.stream.background_shift { 1 } else { seen.len() };
        for (i, task) in seen[..n_passes].iter().enumerate() {
            let counts = self.pixels(task, n_seen)?;
            row[i] = mean_iou(&intersection_over_union(&counts));
            add(&mut total, &counts);
        }
        let iou = intersection_over_union(&total);
        let of_labels = |labels: Range<usize>| mean_iou(&iou[labels]);
        let (mut old, mut new) = (None, None);
        if self.stream.background_shift {
            for (entry, task) in row.iter_mut().zip(&seen) {
                *entry = of_labels(task.first_label..task.first_label + task.classes.len());
            }
            let n_first = seen[0].classes.len();
            old = of_labels(0..n_first);
            new = if n_seen > n_first { of_labels(n_first..n_seen) } else { None };
        }
        let next = self.stream.tasks.get(seen.len()).map(|next| self.before(next)).transpose()?.unwrap_or_default();
        let accuracy = pixel_accuracy(&total);
        let network = self.method.classifiers()[0].name;
        let result = self.metrics.classifiers.get_mut(network).expect("bug: a classifier without results");
        result.push(row, mean_iou(&iou).unwrap_or(0.0));
        if let (Some(&score), Some(pair)) = (next.get(network), result.before.get_mut(index)) {
            pair[0] = score;
        }
        total.truncate(n_seen);
        total.iter_mut().for_each(|row| row.truncate(n_seen));
        result.confusion = total;
        result.masks = Some(MaskScores { iou: iou[..n_seen].to_vec(), old, new, pixel_accuracy: accuracy });
        if index + 1 == self.phases.len() {
            self.end_any_time();
        }
        self.show(index, n_seen)
    }

    /// The pooled mIoU of some tasks.
    pub(super) fn miou(&self, tasks: &[Task], n_seen: usize) -> Result<f64> {
        let mut total = vec![vec![0; self.stream.n_classes]; self.stream.n_classes];
        let n_passes = if self.stream.background_shift { 1 } else { tasks.len() };
        for task in &tasks[..n_passes] {
            add(&mut total, &self.pixels(task, n_seen)?);
        }
        Ok(mean_iou(&intersection_over_union(&total)).unwrap_or(0.0))
    }

    /// The label of each class in a test when `n_seen` of them have come.
    fn test_labels(&self, n_seen: usize) -> Vec<u32> {
        let known = |&label: &u32| if (label as usize) < n_seen { label } else { NO_LABEL };
        self.stream.label_of_class.iter().map(known).collect()
    }

    /// Of the test images of a task.
    fn pixels(&self, task: &Task, n_seen: usize) -> Result<Counts> {
        let (images, table) = (&self.dataset.test, self.test_labels(n_seen));
        let n = self.stream.n_classes;
        let n_candidates = if self.config.candidates == Candidates::All { n } else { n_seen };
        let counts = Array::from_u32(&self.learner.device, [n, n], &vec![0; n * n])?;
        self.learner.evaluate(images, &task.test, |first, output| {
            let scores = self.method.scores(&output, &Classifier::NETWORK)?;
            let samples = &task.test[first..first + scores.shape()[0]];
            let labels = gather_labels(images, samples, &vec![Draw::default(); samples.len()], &table);
            count_confusion(&scores.argmax_rows(n_candidates)?, &self.learner.targets(&labels)?, &counts)
        })?;
        Ok(counts.to_u32()?.chunks_exact(n).map(<[u32]>::to_vec).collect())
    }

    /// Pictures of some test images, with what is on them and what is answered.
    fn show(&self, index: usize, n_seen: usize) -> Result<()> {
        let Some(folder) = self.folder else { return Ok(()) };
        let images = &self.dataset.test;
        let shown = segmented::shown(images, self.dataset.domains.len());
        let truth = gather_labels(images, &shown, &vec![Draw::default(); shown.len()], &self.test_labels(n_seen));
        let mut answers = Vec::new();
        self.learner.evaluate(images, &shown, |_, output| {
            let scores = self.method.scores(&output, &Classifier::NETWORK)?;
            answers.extend(scores.argmax_rows(n_seen)?.to_u32()?);
            Ok(())
        })?;
        let mut class_of_label: Vec<u32> = vec![NO_LABEL; self.stream.n_classes];
        for (class, &label) in (0..).zip(&self.stream.label_of_class) {
            if label != NO_LABEL {
                class_of_label[label as usize] = class;
            }
        }
        let classes = |labels: &[u32]| segmented::classes(labels, &class_of_label);
        let sheet = segmented::sheet(images, &shown, &classes(&truth), &classes(&answers));
        folder.write_bytes(&segmented::file(index), &sheet)
    }
}

fn add(total: &mut Counts, counts: &Counts) {
    let pairs = total.iter_mut().flatten().zip(counts.iter().flatten());
    pairs.for_each(|(total, n)| *total = total.saturating_add(*n));
}
