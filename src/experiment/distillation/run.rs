//! From a configuration to results: teachers, then pairs of students.

use super::config::DistillConfig;
use super::measure::{calibration_error, inference_ms, logits, omitted, predictions};
use super::results::{Arm, DistillResults, NetworkReport, StudentResult, StudentTerm, TeacherReport};
use super::student::Student;
use super::teacher::{Trained, load_weights, network, samples, trained};
use crate::continual::Learner;
use crate::data::Dataset;
use crate::device::Device;
use crate::distill::combined;
use crate::error::{Error, Result};
use crate::experiment::metrics::accuracy;
use crate::experiment::results::{RunFolder, TERMS_FILE};
use crate::experiment::sink::Sink;
use crate::models::Network;
use crate::tensor::Tensor;
use crate::training::{TermRecord, Trainer};
use std::sync::atomic::AtomicBool;

/// Trains or loads the teachers, then trains and measures pairs of students. Results are written after each student.
///
/// ```
/// use engram::experiment::distillation::{Arm, DistillConfig, distill};
/// use engram::experiment::sink::Silent;
/// use engram::{Device, data};
/// use std::sync::atomic::AtomicBool;
/// # let cache = std::env::temp_dir().join(format!("engram-doc-{}", std::process::id()));
/// let settings = [
///     ("teacher", "mlp"),
///     ("limit", "100"),
///     ("teacher_limit", "500"),
///     ("teacher_epochs", "2"),
///     ("epochs", "2"),
///     ("seeds", "1"),
/// #   ("teacher_cache", cache.to_str().unwrap()),
/// ];
/// let config = DistillConfig::of(&settings)?;
/// let dataset = data::spec("glyphs")?.load("unused: it is built in".as_ref())?;
/// let results = distill(&config, &dataset, &Device::cpu(), None, &mut Silent, &AtomicBool::new(false))?;
/// let (gain, _error) = results.comparisons()[0].gain(|student| student.accuracy);
/// println!("distilled − scratch: {:.1} points", 100.0 * gain);
/// # std::fs::remove_dir_all(cache).unwrap();
/// # Ok::<(), engram::Error>(())
/// ```
///
/// # Errors
/// [`Error::Interrupted`]; what does not fit together; a loss that is no longer a number.
pub fn distill(
    config: &DistillConfig,
    dataset: &Dataset,
    device: &Device,
    folder: Option<&RunFolder>,
    sink: &mut dyn Sink,
    interrupted: &AtomicBool,
) -> Result<DistillResults> {
    distill_beside(config, dataset, device, folder, &[], sink, interrupted)
}

/// The same, where these students from labels alone are known from another scheme's distillation and need not be trained.
///
/// # Errors
/// As [`distill`].
pub fn distill_beside(
    config: &DistillConfig,
    dataset: &Dataset,
    device: &Device,
    folder: Option<&RunFolder>,
    scratch: &[StudentResult],
    sink: &mut dyn Sink,
    interrupted: &AtomicBool,
) -> Result<DistillResults> {
    go_on(config, dataset, device, folder, (None, scratch), Trainer::new(device, sink, interrupted))
}

/// Goes on with a distillation that was interrupted, with the same configuration: finished students are kept, the one that
/// was in training begins again. Ends where an uninterrupted one does, but for times. Teachers come from the cache, or are
/// trained again.
///
/// # Errors
/// As [`distill`]; if all students are finished, or had another teacher.
pub fn resume(
    config: &DistillConfig,
    dataset: &Dataset,
    device: &Device,
    folder: &RunFolder,
    sink: &mut dyn Sink,
    interrupted: &AtomicBool,
) -> Result<DistillResults> {
    resume_beside(config, dataset, device, folder, &[], sink, interrupted)
}

/// The same, where these students from labels alone are known.
///
/// # Errors
/// As [`resume`].
pub fn resume_beside(
    config: &DistillConfig,
    dataset: &Dataset,
    device: &Device,
    folder: &RunFolder,
    scratch: &[StudentResult],
    sink: &mut dyn Sink,
    interrupted: &AtomicBool,
) -> Result<DistillResults> {
    let earlier = DistillResults::read(folder)?;
    if earlier.as_ref().is_some_and(|earlier| earlier.complete) {
        let path = folder.path().display();
        return Err(Error::usage(format!("{path}: this distillation is complete, there is nothing to go on with")));
    }
    go_on(config, dataset, device, Some(folder), (earlier, scratch), Trainer::new(device, sink, interrupted))
}

fn go_on(
    config: &DistillConfig,
    dataset: &Dataset,
    device: &Device,
    folder: Option<&RunFolder>,
    (earlier, scratch): (Option<DistillResults>, &[StudentResult]),
    mut trainer: Trainer<dyn Sink + '_>,
) -> Result<DistillResults> {
    let all = samples(dataset, config.limit)?;
    check(config, dataset, device)?;
    let teachers = Teachers::ready(config, dataset, &mut trainer)?;
    let first = network(&config.student, config.student_width, dataset, device, config.seed)?;
    let mut results = teachers.results(config, dataset, describe(&first, device)?);
    if let Some(earlier) = earlier {
        same_teachers(&earlier, &results)?;
        results = earlier;
    }
    let is_known = |student: &&StudentResult| results.student(Arm::Scratch, student.seed, student.fraction).is_some();
    let new: Vec<StudentResult> = scratch.iter().filter(|student| !is_known(student)).cloned().collect();
    results.students.extend(new);
    trainer.listener.teachers_ready(&results);

    let n_classes = dataset.n_classes();
    for &fraction in &config.train_fraction {
        let limit = ((all.len() as f64 * fraction).round() as usize).max(n_classes);
        let mut kept = if fraction < 1.0 { samples(dataset, Some(limit))? } else { all.clone() };
        kept.retain(|&i| Some(dataset.train.labels[i as usize]) != config.omit_class);
        for seed in config.seed..config.seed + config.seeds as u64 {
            let mut scratch = None;
            for arm in [Arm::Scratch, Arm::Distilled] {
                if results.student(arm, seed, fraction).is_some() {
                    continue;
                }
                let student = Student { config, dataset, teachers: &teachers, arm, seed, fraction, samples: &kept };
                let network = student.train(scratch.take(), &mut results, &mut trainer)?;
                let n_planned = 2 * config.seeds * config.train_fraction.len();
                results.complete = results.students.len() == n_planned;
                if let Some(folder) = folder {
                    if arm == Arm::Distilled && seed == config.seed && fraction == config.train_fraction[0] {
                        folder.write_bytes("model.safetensors", &network.to_safetensors()?)?;
                    }
                    write(folder, &results)?;
                }
                trainer.listener.student_finished(&results);
                scratch = config.spec.has_generations().then_some(network);
            }
        }
    }
    Ok(results)
}

/// The teachers, trained and measured; none if the scheme needs none.
pub(super) struct Teachers {
    pub networks: Vec<Network>,
    reports: Vec<TeacherReport>,
    /// Of all test images, (n, classes), all teachers together.
    logits: Vec<f32>,
    /// To the test images.
    pub answers: Vec<u32>,
}

impl Teachers {
    fn ready(config: &DistillConfig, dataset: &Dataset, trainer: &mut Trainer<dyn Sink + '_>) -> Result<Teachers> {
        let (device, n_classes, labels) = (trainer.device, dataset.n_classes(), &dataset.test.labels);
        let mut all = Vec::new();
        for i in 0..config.teacher.len() {
            all.push(trained(config, dataset, i, trainer)?);
        }
        let (mut networks, mut reports, mut all_logits) = (Vec::new(), Vec::new(), Vec::new());
        for Trained { network, seconds_training, origin } in all {
            let learner = Learner::new(network, device, dataset)?.trained_by(config.training.batch_size);
            let z = logits(&learner, &dataset.test)?;
            reports.push(TeacherReport {
                network: describe(&learner.network, device)?,
                accuracy: accuracy(labels, &predictions(&z, n_classes)),
                calibration_error: calibration_error(&z, n_classes, labels),
                seconds_training,
                origin,
            });
            all_logits.push(Tensor::from_f32(&Device::cpu(), [labels.len(), n_classes], &z)?);
            networks.push(learner.subject.network);
        }
        let logits = match all_logits.is_empty() {
            true => Vec::new(),
            false => combined(&all_logits, config.scheme.teacher_mean, 1.0)?.to_vec()?,
        };
        let answers = predictions(&logits, n_classes);
        Ok(Teachers { networks, reports, logits, answers })
    }

    pub fn are_there(&self) -> bool {
        !self.networks.is_empty()
    }

    /// What is known before the first student.
    fn results(&self, config: &DistillConfig, dataset: &Dataset, student: NetworkReport) -> DistillResults {
        let labels = &dataset.test.labels;
        let on_omitted = |class| omitted(&self.logits, dataset.n_classes(), labels, class);
        DistillResults {
            scheme: config.spec.name.into(),
            dataset: dataset.name.clone(),
            layers: Vec::new(),
            teachers: self.reports.clone(),
            teacher_accuracy: self.are_there().then(|| accuracy(labels, &self.answers)),
            teacher_omitted: config.omit_class.filter(|_| self.are_there()).map(on_omitted),
            student,
            students: Vec::new(),
            terms: Vec::new(),
            held_bytes: 0,
            complete: false,
        }
    }
}

/// Finds out what does not fit, before anything is trained.
///
/// # Errors
/// As [`distill`].
pub fn check(config: &DistillConfig, dataset: &Dataset, device: &Device) -> Result<()> {
    let student = network(&config.student, config.student_width, dataset, device, config.seed)?;
    let mut teachers = Vec::new();
    for (i, name) in config.teacher.iter().enumerate() {
        let teacher = network(name, config.teacher_width, dataset, device, config.teacher_seed)?;
        if let Some(file) = config.teacher_weights.get(i) {
            load_weights(&teacher, file)?;
        }
        teachers.push(teacher);
    }
    for limit in [config.limit, config.teacher_limit] {
        samples(dataset, limit)?;
    }
    if config.spec.has_generations() {
        teachers.push(student.snapshot()?);
    }
    config.spec.companions(&config.scheme, teachers, &student, device, config.seed).map(drop)
}

/// Rounding differs from device to device, but not by so much.
const SAME_TEACHER: f64 = 0.005;

fn same_teachers(earlier: &DistillResults, now: &DistillResults) -> Result<()> {
    let (Some(earlier), Some(now)) = (earlier.teacher_accuracy, now.teacher_accuracy) else { return Ok(()) };
    if (earlier - now).abs() <= SAME_TEACHER {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the finished students had a teacher of {:.1} % accuracy, and this one has {:.1} %: begin a new distillation",
        100.0 * earlier,
        100.0 * now
    )))
}

fn describe(network: &Network, device: &Device) -> Result<NetworkReport> {
    let width = network.options.width;
    Ok(NetworkReport {
        name: if width == 1.0 { network.name.clone() } else { format!("{}, width {width}", network.name) },
        n_parameters: network.parameters.n_parameters(),
        macs: network.macs,
        ms_batch_1: inference_ms(network, device, 1)?,
        ms_batch_128: inference_ms(network, device, 128)?,
    })
}

fn write(folder: &RunFolder, results: &DistillResults) -> Result<()> {
    let mut csv = String::from("seed,fraction,step,epoch,term,weight,value,gradient_norm\n");
    for StudentTerm { seed, fraction, record } in &results.terms {
        let TermRecord { step, epoch, term, weight, value, gradient_norm } = record;
        let norm = gradient_norm.map(|norm| norm.to_string()).unwrap_or_default();
        csv += &format!("{seed},{fraction},{step},{epoch},{term},{weight},{value},{norm}\n");
    }
    folder.write_bytes(TERMS_FILE, csv.as_bytes())?;
    folder.write_sealed("metrics.json", results)
}
