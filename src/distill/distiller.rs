//! Teachers, a scheme and the layers they compare, ready to give the loss of a batch.

use super::{Compared, Layers, Scheme, SchemeSpec, Seen, Settings, Setup, View, combined};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::nn::{Loss, Parameters, Tap, Term};
use crate::ops::Mode;
use crate::tensor::{Tensor, no_grad};

/// What a student learns from.
///
/// ```
/// use engram::distill::{self, Distiller};
/// use engram::models::Network;
/// use engram::{Device, Tensor};
/// let device = Device::cpu();
/// let teacher = Network::new("cnn", [1, 28, 28], 10, &device, 1)?; // a trained one, in earnest
/// let student = Network::new("mlp", [1, 28, 28], 10, &device, 2)?;
/// let spec = distill::spec("hinton")?;
/// let distiller = Distiller::new(spec, spec.settings(), vec![teacher], &student, &device, 1)?;
///
/// let x = Tensor::from_f32(&device, [4, 1, 28, 28], &[0.5; 4 * 784])?;
/// let labels = Tensor::from_u32(&device, [4], &[0, 1, 2, 3])?;
/// let loss = distiller.loss(&student, &x, &labels, 0.0)?;
/// assert_eq!(loss.0.iter().map(|term| term.name).collect::<Vec<_>>(), ["ce", "kd"]);
/// student.parameters.backward(&loss.total()?)?;
/// # Ok::<(), engram::Error>(())
/// ```
pub struct Distiller {
    spec: &'static SchemeSpec,
    settings: Settings,
    teachers: Vec<Network>,
    scheme: Box<dyn Scheme>,
    student_taps: Vec<Tap>,
    teacher_taps: Vec<Tap>,
    layers: Vec<(String, String)>,
}

impl Distiller {
    /// Checks that teachers, student and settings fit together. `seed` keys what a scheme trains along with the student.
    ///
    /// # Errors
    /// [`Error::Usage`]: T ≤ 0, weights that are all 0, other numbers of classes, other images, unknown layers, layers of other
    /// shapes, several teachers for a scheme of features or relations.
    pub fn new(
        spec: &'static SchemeSpec,
        settings: Settings,
        teachers: Vec<Network>,
        student: &Network,
        device: &Device,
        seed: u64,
    ) -> Result<Distiller> {
        settings.check(spec.name)?;
        let Some(teacher) = teachers.first() else { return Err(Error::usage("there is no teacher")) };
        for teacher in &teachers {
            if teacher.n_outputs != student.n_outputs {
                let (a, b) = (teacher.n_outputs, student.n_outputs);
                let message =
                    format!("the teacher '{}' has {a} classes and the student '{}' {b}", teacher.name, student.name);
                return Err(Error::usage(message));
            }
            if teacher.input != student.input {
                let show = |[c, h, w]: [usize; 3]| format!("{c}×{h}×{w}");
                let (a, b) = (show(teacher.input), show(student.input));
                return Err(Error::usage(format!("the teacher takes images of {a} and the student of {b}")));
            }
        }
        if spec.layers != Layers::None && teachers.len() > 1 {
            let message = format!("'{}' compares layers with one teacher; there are {}", spec.name, teachers.len());
            return Err(Error::usage(message));
        }
        let layers = match settings.layers.is_empty() {
            true => spec.layers.pairs(student, teacher)?,
            false if spec.layers == Layers::None => {
                return Err(Error::usage(format!("'{}' compares outputs: it takes no --layers", spec.name)));
            }
            false => settings.layers.clone(),
        };
        let (mut student_taps, mut teacher_taps, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        for (of_student, of_teacher) in &layers {
            let (tap, shape) = student.tap(of_student)?;
            student_taps.push(tap);
            let of_student = Compared { name: of_student.clone(), shape };
            let (tap, shape) = teacher.tap(of_teacher)?;
            teacher_taps.push(tap);
            pairs.push((of_student, Compared { name: of_teacher.clone(), shape }));
        }
        let scheme = (spec.build)(&Setup { device, pairs: &pairs, seed })?;
        Ok(Distiller { spec, settings, teachers, scheme, student_taps, teacher_taps, layers })
    }

    /// Names of the layers that are compared, of student and teacher.
    pub fn layers(&self) -> &[(String, String)] {
        &self.layers
    }

    /// What is trained along with the student, if anything.
    pub fn parameters(&self) -> Option<&Parameters> {
        self.scheme.parameters()
    }

    /// What the teachers say about a batch (N, C, H, W), without recording.
    ///
    /// # Errors
    /// If the images are of another size.
    pub fn ask(&self, x: &Tensor) -> Result<Seen> {
        no_grad(|| {
            let (mut logits, mut values) = (Vec::new(), Vec::new());
            for teacher in &self.teachers {
                let (output, tapped) =
                    teacher.forward_with(x, self.settings.teacher_mode.into(), &self.teacher_taps)?;
                logits.push(output.logits);
                values = tapped;
            }
            Ok(Seen { logits: combined(&logits, self.settings.teacher_mean, self.settings.temperature)?, values })
        })
    }

    /// The terms of the loss of a batch. Shapes: x (N, C, H, W), labels (N), u32. `progress` is the part of the training that
    /// is over, in 0..1.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn loss(&self, student: &Network, x: &Tensor, labels: &Tensor, progress: f32) -> Result<Loss> {
        let teacher = self.ask(x)?;
        let (output, values) = student.forward_with(x, Mode::Train, &self.student_taps)?;
        let student = Seen { logits: output.logits, values };
        let view = View { student: &student, teacher: &teacher, labels, progress };
        let Settings { temperature, .. } = self.settings;
        let mut terms = Vec::new();
        for (name, weight) in [("ce", self.settings.weight("ce")), ("kd", self.settings.weight("kd"))] {
            if weight != 0.0 {
                let value = match name {
                    "ce" => student.logits.cross_entropy(labels, student.logits.shape().rows_cols().1)?,
                    _ => student.logits.kl_div(&teacher.logits, temperature)?,
                };
                terms.push(Term { name, weight, value });
            }
        }
        if self.settings.weights.iter().any(|(name, weight)| !["ce", "kd"].contains(name) && *weight != 0.0) {
            terms.extend(self.scheme.terms(&view, &self.settings)?);
        }
        Ok(Loss(terms))
    }

    /// The row of the scheme.
    pub fn spec(&self) -> &'static SchemeSpec {
        self.spec
    }

    /// As set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Layers {
    /// The layers of student and teacher that are compared by default.
    fn pairs(self, student: &Network, teacher: &Network) -> Result<Vec<(String, String)>> {
        let both = |name: &str| (name.to_string(), name.to_string());
        let stages = |network: &Network| -> Vec<(String, [usize; 3])> {
            let stages = network.places().iter().filter(|place| place.name.starts_with("stage"));
            stages.map(|place| (place.name.clone(), place.shape)).collect()
        };
        match self {
            Layers::None => Ok(Vec::new()),
            Layers::Features => Ok(vec![both("features")]),
            Layers::LastStage => {
                let last = |network| stages(network).pop().map_or("features".to_string(), |(name, _)| name);
                Ok(vec![(last(student), last(teacher))])
            }
            Layers::Stages => {
                let theirs = stages(teacher);
                let twin = |(name, [_, h, w]): (String, [usize; 3])| {
                    let same = theirs.iter().rfind(|(_, [_, height, width])| (h, w) == (*height, *width) && h * w > 1);
                    same.map(|(twin, _)| (name, twin.clone()))
                };
                let pairs: Vec<_> = stages(student).into_iter().filter_map(twin).collect();
                match pairs.is_empty() {
                    false => Ok(pairs),
                    true => Err(Error::usage(format!(
                        "no stage of the student '{}' has maps of the height and width of a stage of the teacher '{}'",
                        student.name, teacher.name
                    ))),
                }
            }
        }
    }
}
