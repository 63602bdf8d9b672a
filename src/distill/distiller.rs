//! Teachers, a scheme and the layers they compare, ready to give the loss of a batch.

use super::{Build, Companions, Compared, Layers, Scheme, SchemeSpec, Seen, Settings, Setup, View, combined};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::nn::{Loss, Parameters, Tap, Term};
use crate::ops::Mode;
use crate::tensor::{Tensor, no_grad};
use crate::training::Step;

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
        Self::built(spec, settings, teachers, student, device, Some(seed))
    }

    /// An earlier state of a network as the teacher of what becomes of it, by the scheme's usual settings. Both are of one
    /// architecture: nothing is trained along, values are compared as they are.
    ///
    /// # Errors
    /// [`Error::Usage`] if the scheme finds nothing in the network that it could compare.
    pub fn of_twins(
        spec: &'static SchemeSpec,
        teacher: Network,
        student: &Network,
        device: &Device,
    ) -> Result<Distiller> {
        let distiller = Self::built(spec, spec.settings(), vec![teacher], student, device, None)?;
        match distiller.scheme.wants_to_see() {
            true => Err(Error::usage(format!(
                "'{}' has no batch norm before a ReLU that '{}' compares: choose a model with batch norms, such as resnet20",
                student.name, spec.name
            ))),
            false => Ok(distiller),
        }
    }

    /// `seed` keys what is trained along; without one nothing is.
    fn built(
        spec: &'static SchemeSpec,
        settings: Settings,
        teachers: Vec<Network>,
        student: &Network,
        device: &Device,
        seed: Option<u64>,
    ) -> Result<Distiller> {
        let Build::Teacher(build) = spec.build else {
            return Err(Error::usage(format!("'{}' has no teacher: it is made by SchemeSpec::companions", spec.name)));
        };
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
        let (twins, seed) = (seed.is_none(), seed.unwrap_or_default());
        let scheme = build(&Setup { device, pairs: &pairs, teacher, twins, seed })?;
        Ok(Distiller { spec, settings, teachers, scheme, student_taps, teacher_taps, layers })
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
        let weight = self.settings.weight("ce");
        let mut terms = Vec::new();
        if weight != 0.0 {
            let value = student.logits.cross_entropy(labels, student.logits.shape().rows_cols().1)?;
            terms.push(Term { name: "ce", weight, value });
        }
        terms.extend(self.terms(&student, &teacher, labels, progress)?);
        Ok(Loss(terms))
    }

    /// The terms of it that come from the teacher, for what a student says and what [`Distiller::ask`] gave.
    ///
    /// # Errors
    /// As [`Distiller::loss`].
    pub fn terms(&self, student: &Seen, teacher: &Seen, labels: &Tensor, progress: f32) -> Result<Vec<Term>> {
        let (mut terms, weight) = (Vec::new(), self.settings.weight("kd"));
        if weight != 0.0 {
            let value = student.logits.kl_div(&teacher.logits, self.settings.temperature)?;
            terms.push(Term { name: "kd", weight, value });
        }
        if self.settings.weights.iter().any(|(name, weight)| !["ce", "kd"].contains(name) && *weight != 0.0) {
            let view = View { student, teacher, labels, progress };
            terms.extend(self.scheme.terms(&view, &self.settings)?);
        }
        Ok(terms)
    }

    /// Where the student's values are taken that are compared.
    pub fn student_taps(&self) -> &[Tap] {
        &self.student_taps
    }

    /// The first teacher.
    pub fn teacher(&self) -> &Network {
        &self.teachers[0]
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

impl Companions for Distiller {
    fn loss(&self, student: &Network, x: &Tensor, labels: &Tensor, step: Step) -> Result<Loss> {
        Distiller::loss(self, student, x, labels, step.progress() as f32)
    }

    fn along(&self) -> Vec<&Parameters> {
        self.parameters().into_iter().collect()
    }

    fn layers(&self) -> &[(String, String)] {
        &self.layers
    }

    fn prepare(&mut self, images: &mut dyn Iterator<Item = Result<Tensor>>) -> Result<()> {
        if self.scheme.wants_to_see() {
            for x in images {
                let seen = self.ask(&x?)?;
                self.scheme.see(&seen)?;
            }
        }
        Ok(())
    }
}

impl Layers {
    /// The layers of student and teacher that are compared by default.
    fn pairs(self, student: &Network, teacher: &Network) -> Result<Vec<(String, String)>> {
        let both = |name: &str| (name.to_string(), name.to_string());
        let stages = |network: &Network| -> Vec<(String, [usize; 3])> {
            network.stages().into_iter().map(|place| (place.name.clone(), place.shape)).collect()
        };
        match self {
            Layers::None => Ok(Vec::new()),
            Layers::Features => Ok(vec![both("features")]),
            Layers::LastStage => {
                let last = |network| stages(network).pop().map_or("features".to_string(), |(name, _)| name);
                Ok(vec![(last(student), last(teacher))])
            }
            Layers::Stages | Layers::StagesBeforeRelu => {
                let theirs = stages(teacher);
                let (least, mark) = if self == Layers::Stages { (2, "") } else { (1, ":pre") };
                let twin = |(name, [_, h, w]): (String, [usize; 3])| {
                    let same =
                        theirs.iter().rfind(|(_, [_, height, width])| (h, w) == (*height, *width) && h * w >= least);
                    same.map(|(twin, _)| (format!("{name}{mark}"), format!("{twin}{mark}")))
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
