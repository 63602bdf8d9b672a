//! What a distillation leaves, and the numbers that compare its arms.

use crate::distill::{self, SchemeSpec};
use crate::error::{Error, Result};
use crate::experiment::metrics::mean_sd;
use crate::experiment::results::RunFolder;
use crate::records::sealed;
use crate::training::TermRecord;
use serde::{Deserialize, Serialize};
use std::path::Path;

const METRICS: &str = "metrics.json";

/// From what a student learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// Labels alone.
    Scratch,
    /// What the scheme brings, too.
    Distilled,
}

/// A network as such.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkReport {
    /// Its name, and its width if that is not 1.
    pub name: String,
    /// Numbers that are learnt.
    pub n_parameters: usize,
    /// Multiply–accumulates of one image's forward pass.
    pub macs: u64,
    /// Milliseconds per image, batch 1.
    pub ms_batch_1: f64,
    /// Milliseconds per image, batch 128.
    pub ms_batch_128: f64,
}

/// A teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeacherReport {
    /// What it is.
    pub network: NetworkReport,
    /// On the test images, as a fraction.
    pub accuracy: f64,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// Of its training, wherever that took place; `None` for a file.
    pub seconds_training: Option<f64>,
    /// Where its weights come from.
    pub origin: String,
}

/// How a network does on the class that the students were not shown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Omitted {
    /// Which.
    pub class: u32,
    /// Its test images.
    #[serde(default)]
    pub n_images: usize,
    /// The part of them that is right.
    pub accuracy_of_class: f64,
    /// What is added to its logit so that the accuracy on all test images is best.
    pub bias: f32,
    /// On all test images, with the bias.
    pub corrected_accuracy: f64,
    /// On those of the class, with the bias.
    pub corrected_accuracy_of_class: f64,
}

/// What answers beside a student: a peer, a branch, an exit, a generation, all of them together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherResult {
    /// For a person, such as `exit 1 (stage1)`.
    pub name: String,
    /// On the test images, as a fraction.
    pub accuracy: f64,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// Numbers that are learnt and used for it.
    pub n_parameters: usize,
    /// Multiply–accumulates of one image.
    pub macs: u64,
}

/// A trained student.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudentResult {
    /// From what it learned.
    pub arm: Arm,
    /// Keys its initial weights and the order of its images.
    pub seed: u64,
    /// The part of the images.
    pub fraction: f64,
    /// Their number.
    pub n_images: usize,
    /// On the test images, after the last epoch, as a fraction.
    pub accuracy: f64,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// The part of the test images on which student and teacher answer the same, if there is a teacher.
    pub agreement: Option<f64>,
    /// Of training.
    pub seconds_training: f64,
    /// The class that was left out, if one was.
    pub omitted: Option<Omitted>,
    /// What else the training leaves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<OtherResult>,
}

/// A term of a student's loss at a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudentTerm {
    /// The student's seed.
    pub seed: u64,
    /// The part of the images.
    pub fraction: f64,
    /// The term, with the norm of its gradient.
    #[serde(flatten)]
    pub record: TermRecord,
}

/// The content of `metrics.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistillResults {
    /// The scheme's name.
    pub scheme: String,
    /// The data set's name.
    pub dataset: String,
    /// Layers of student and teacher that were compared.
    pub layers: Vec<(String, String)>,
    /// None for a scheme that needs none.
    pub teachers: Vec<TeacherReport>,
    /// Accuracy of the teachers together.
    pub teacher_accuracy: Option<f64>,
    /// How they do on the class that the students are not shown.
    #[serde(default)]
    pub teacher_omitted: Option<Omitted>,
    /// What both arms train.
    pub student: NetworkReport,
    /// In order of training: by fraction, by seed, scratch first.
    pub students: Vec<StudentResult>,
    /// At about ten steps of each distillation.
    pub terms: Vec<StudentTerm>,
    /// Bytes of all buffers once the first student has learned by the scheme: the most that was needed at once.
    #[serde(default)]
    pub held_bytes: u64,
    /// Whether all pairs are done.
    pub complete: bool,
}

/// Scratch against distilled at one fraction of the images, pairs only.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison<'a> {
    /// The part of the images.
    pub fraction: f64,
    /// Their number.
    pub n_images: usize,
    /// By seed.
    pub scratch: Vec<&'a StudentResult>,
    /// By seed.
    pub distilled: Vec<&'a StudentResult>,
}

impl DistillResults {
    /// What a distillation has left in its folder; `None` if no student is finished.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn read(folder: &RunFolder) -> Result<Option<DistillResults>> {
        if folder.path().join(METRICS).symlink_metadata().is_err() {
            return Ok(None);
        }
        DistillResults::of_folder(folder.path()).map(Some)
    }

    /// The results in a folder, wherever the folder is from.
    ///
    /// # Errors
    /// If they cannot be read, were damaged, or are none.
    pub fn of_folder(folder: &Path) -> Result<DistillResults> {
        let results: DistillResults = sealed::read_json(folder, METRICS)?;
        let share = |x: &f64| (0.0..=1.0).contains(x);
        let good = |student: &StudentResult| {
            let shares = [student.accuracy, student.calibration_error, student.agreement.unwrap_or_default()];
            let others = student.others.iter().all(|other| share(&other.accuracy) && share(&other.calibration_error));
            others
                && shares.iter().all(share)
                && student.n_images > 0
                && student.fraction > 0.0
                && student.fraction <= 1.0
        };
        let teachers_are_good = results.teachers.iter().all(|teacher| share(&teacher.accuracy));
        if results.students.iter().all(good) && teachers_are_good && results.teacher_accuracy.iter().all(share) {
            return Ok(results);
        }
        Err(Error::file(folder.join(METRICS), "damaged: it holds a share that is none"))
    }

    /// The row of the scheme, if this version has it.
    pub fn spec(&self) -> Option<&'static SchemeSpec> {
        distill::spec(&self.scheme).ok()
    }

    /// What the terms of the loss weighed at the first step that was written down, beside the labels' own: name, and weight times
    /// value over that of the cross-entropy. The first pair's.
    pub fn first_terms(&self) -> Vec<(String, f64)> {
        let Some(first) = self.terms.first() else { return Vec::new() };
        let same = |term: &&StudentTerm| {
            (term.seed, term.fraction, term.record.step) == (first.seed, first.fraction, first.record.step)
        };
        let mut sums: Vec<(String, f64)> = Vec::new();
        for TermRecord { term, weight, value, .. } in self.terms.iter().filter(same).map(|term| &term.record) {
            let weighted = f64::from(*weight) * f64::from(*value);
            match sums.iter_mut().find(|(name, _)| name == term) {
                Some((_, sum)) => *sum += weighted,
                None => sums.push((term.clone(), weighted)),
            }
        }
        let Some((_, ce)) = sums.iter().find(|(name, ce)| name == "ce" && *ce > 0.0).cloned() else {
            return Vec::new();
        };
        sums.into_iter().filter(|(name, _)| name != "ce").map(|(name, sum)| (name, sum / ce)).collect()
    }

    /// The student of this arm, if it is finished.
    pub fn student(&self, arm: Arm, seed: u64, fraction: f64) -> Option<&StudentResult> {
        self.students.iter().find(|s| (s.arm, s.seed, s.fraction) == (arm, seed, fraction))
    }

    /// One row per fraction that has at least one pair.
    pub fn comparisons(&self) -> Vec<Comparison<'_>> {
        let mut rows: Vec<Comparison> = Vec::new();
        for scratch in self.students.iter().filter(|student| student.arm == Arm::Scratch) {
            let Some(distilled) = self.student(Arm::Distilled, scratch.seed, scratch.fraction) else { continue };
            let at = rows.iter().position(|row| row.fraction == scratch.fraction).unwrap_or_else(|| {
                let (fraction, n_images) = (scratch.fraction, scratch.n_images);
                rows.push(Comparison { fraction, n_images, scratch: Vec::new(), distilled: Vec::new() });
                rows.len() - 1
            });
            rows[at].scratch.push(scratch);
            rows[at].distilled.push(distilled);
        }
        rows
    }
}

impl Comparison<'_> {
    /// Mean and standard deviation over seeds.
    pub fn mean_sd(&self, arm: Arm, number: fn(&StudentResult) -> f64) -> (f64, f64) {
        let students = if arm == Arm::Scratch { &self.scratch } else { &self.distilled };
        mean_sd(&students.iter().map(|student| number(student)).collect::<Vec<_>>())
    }

    /// The names of what answers beside the distilled students, with the mean over seeds of a number of each.
    pub fn others(&self, number: fn(&OtherResult) -> f64) -> Vec<(&OtherResult, f64, f64)> {
        let Some(first) = self.distilled.first() else { return Vec::new() };
        let of = |name: &str| -> Vec<f64> {
            let all = self.distilled.iter().flat_map(|student| &student.others);
            all.filter(|other| other.name == name).map(number).collect()
        };
        let rows = first.others.iter().map(|other| (other, mean_sd(&of(&other.name))));
        rows.map(|(other, (mean, sd))| (other, mean, sd)).collect()
    }

    /// [`paired_gain`] of a number.
    pub fn gain(&self, number: fn(&StudentResult) -> f64) -> (f64, Option<f64>) {
        let pairs: Vec<f64> = self.scratch.iter().zip(&self.distilled).map(|(a, b)| number(b) - number(a)).collect();
        paired_gain(&pairs)
    }
}

/// Mean of differences of pairs and its standard error sd/√n; no error from a single pair.
pub fn paired_gain(differences: &[f64]) -> (f64, Option<f64>) {
    let (mean, sd) = mean_sd(differences);
    (mean, (differences.len() > 1).then(|| sd / (differences.len() as f64).sqrt()))
}
