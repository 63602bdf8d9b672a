//! Those a student learns with.

use crate::error::Result;
use crate::models::Network;
use crate::nn::{Loss, Parameters};
use crate::tensor::Tensor;
use crate::training::Step;

/// Something that answers beside the student once both are trained: a peer, a branch, an exit, all of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For a person, such as `exit 1 (stage1)`.
    pub name: String,
    /// Numbers that are learnt and used for it.
    pub n_parameters: usize,
    /// Multiply–accumulates of one image.
    pub macs: u64,
}

/// Those a student learns with beside labels: trained teachers, peers, branches, exits. [`SchemeSpec::companions`] makes them.
///
/// ```
/// use engram::distill::{self, Student};
/// use engram::models::Network;
/// use engram::optim::{Kind, Optimizer};
/// use engram::training::{Objective, Step, learn};
/// use engram::{Device, Tensor};
/// let device = Device::cpu();
/// let student = Network::new("cnn", [1, 16, 16], 3, &device, 1)?;
/// let spec = distill::spec("dml")?;
/// let peers = spec.companions(&spec.settings(), Vec::new(), &student, &device, 1)?;
///
/// let optimizer = |parameters: &_| Optimizer::new(Kind::Sgd, 0.9, 0.0, parameters);
/// let mut objective = Student::new(&student, Some(&*peers), optimizer)?;
/// let x = Tensor::from_f32(&device, [3, 1, 16, 16], &[[0.1; 256], [0.5; 256], [0.9; 256]].concat())?;
/// let labels = Tensor::from_u32(&device, [3], &[0, 1, 2])?;
/// let step = Step { index: 0, per_epoch: 1, n_epochs: 1 };
/// let loss = objective.loss((x.clone(), labels), step)?.total()?;
/// learn(&mut objective, &loss, 0.1)?; // both networks move
///
/// let names: Vec<String> = peers.answers().into_iter().map(|answer| answer.name).collect();
/// assert_eq!(names, ["peer 2", "all peers"]);
/// assert_eq!(*peers.answer(&student, &x)?[1].shape(), [3, 3]);
/// # Ok::<(), engram::Error>(())
/// ```
///
/// [`SchemeSpec::companions`]: super::SchemeSpec::companions
pub trait Companions {
    /// The terms of the loss of a batch, for everybody who is trained. Shapes: x (N, C, H, W), labels (N), u32.
    ///
    /// # Errors
    /// If the sizes do not fit.
    fn loss(&self, student: &Network, x: &Tensor, labels: &Tensor, step: Step) -> Result<Loss>;

    /// What is trained beside the student: always the same, in the same order.
    fn along(&self) -> Vec<&Parameters> {
        Vec::new()
    }

    /// Names of the layers that are compared, of student and teacher.
    fn layers(&self) -> &[(String, String)] {
        &[]
    }

    /// Before the first step: looks at the training images, (N, C, H, W) at a time, if it takes that.
    ///
    /// # Errors
    /// If one cannot be read.
    fn prepare(&mut self, _images: &mut dyn Iterator<Item = Result<Tensor>>) -> Result<()> {
        Ok(())
    }

    /// Who answers beside the student.
    fn answers(&self) -> Vec<Answer> {
        Vec::new()
    }

    /// The logits (N, classes) of each of them for images (N, C, H, W), without recording, by running statistics.
    ///
    /// # Errors
    /// If the images are of another size.
    fn answer(&self, _student: &Network, _x: &Tensor) -> Result<Vec<Tensor>> {
        Ok(Vec::new())
    }

    /// Whether each of the trained takes a step of its own on a batch, one after the other, the student first; then
    /// [`Companions::turn`] has their losses, and [`Companions::loss`] is not asked.
    fn in_turns(&self) -> bool {
        false
    }

    /// The loss of the trained one of this number, 0 for the student, once those before it have taken their steps.
    ///
    /// # Errors
    /// As [`Companions::loss`].
    fn turn(&self, _i: usize, student: &Network, x: &Tensor, labels: &Tensor, step: Step) -> Result<Loss> {
        self.loss(student, x, labels, step)
    }
}
