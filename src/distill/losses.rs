//! The losses of distillation as functions of tensors. A teacher's tensors get no gradient; every result has shape \[1\] and
//! is 0 where the student equals the teacher.
//!
//! Ops that are losses by themselves stay with the ops: Hinton's T²·KL is [`Tensor::kl_div`], the squared error of logits
//! [`Tensor::mse`].

use crate::error::Result;
use crate::tensor::Tensor;

/// Weights of hard labels and of the teacher. Sources write one number for both and mean opposite things by it, hence the
/// constructors.
///
/// ```
/// use engram::distill::losses::Weights;
/// assert_eq!(Weights::alpha_on_ce(0.25), Weights { ce: 0.25, kd: 0.75 });
/// assert_eq!(Weights::alpha_on_kd(0.25), Weights { ce: 0.75, kd: 0.25 });
/// assert_eq!(Weights::kd_plus_lambda_ce(0.25), Weights { ce: 0.25, kd: 1.0 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of the cross-entropy with the labels.
    pub ce: f32,
    /// Of T²·KL(teacher‖student).
    pub kd: f32,
}

impl Weights {
    /// α·CE + (1 − α)·T²·KL: torchdistill's `KDLoss`.
    pub fn alpha_on_ce(alpha: f32) -> Weights {
        Weights { ce: alpha, kd: 1.0 - alpha }
    }

    /// (1 − α)·CE + α·T²·KL: Gou et al.'s survey, Distiller-style code, haitongli's repository.
    pub fn alpha_on_kd(alpha: f32) -> Weights {
        Weights { ce: 1.0 - alpha, kd: alpha }
    }

    /// T²·KL + λ·CE: Hinton et al. 2015, who weigh the labels "considerably lower".
    pub fn kd_plus_lambda_ce(lambda: f32) -> Weights {
        Weights { ce: lambda, kd: 1.0 }
    }
}

/// T² · (KL of target against the rest, KL among the rest): the two parts of Zhao et al. 2022, "Decoupled knowledge
/// distillation", whose weights are α and β there. Shapes: both logits (N, C), labels (N), u32. All in log space: finite for
/// any logits.
///
/// # Errors
/// If the shapes do not fit, or T is not positive.
pub fn decoupled(student: &Tensor, teacher: &Tensor, labels: &Tensor, temperature: f32) -> Result<(Tensor, Tensor)> {
    let odds = student.target_log_odds(labels, temperature)?;
    let n = odds.n_elements();
    let (odds, teacher_odds) = (odds.reshape([n, 1])?, teacher.target_log_odds(labels, temperature)?.reshape([n, 1])?);
    // KL(b_t‖b_s) of two outcomes is the cross-entropy of their log-odds less the teacher's own entropy.
    let p_teacher = teacher_odds.sigmoid()?;
    let entropy = teacher_odds.bce_with_logits(&p_teacher)?;
    let target = odds.bce_with_logits(&p_teacher)?.sub(&entropy)?.scale(temperature * temperature)?;
    // A logit of −1e30 takes the target out of both distributions.
    let without = teacher.mixed_targets(labels, 0)?.scale(-1e30)?;
    let rest = student.add(&without)?.kl_div(&teacher.add(&without)?, temperature)?;
    Ok((target, rest))
}

/// Mean squared difference of the attention maps of two stacks of feature maps, each the mean over channels of squared values
/// and of length 1: Zagoruyko and Komodakis 2017, in the form of their code. Shapes: (N, C, H, W), where only C may differ.
///
/// # Errors
/// If N, H or W differ.
pub fn attention(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let map = |x: &Tensor| x.attention_map()?.l2_normalize();
    map(student)?.mse(&map(teacher)?)
}

/// Huber's loss between the distances of all pairs of samples, each divided by the mean of the positive ones: RKD-D of Park
/// et al. 2019. Shapes: (N, D) and (N, D′).
///
/// # Errors
/// If the numbers of samples differ.
pub fn relation_distance(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let distances = |x: &Tensor| x.squared_distances(x)?.sqrt()?.over_positive_mean();
    distances(student)?.smooth_l1(&distances(teacher)?)
}

/// Huber's loss between the cosines of the angles of all triples of samples: RKD-A of Park et al. 2019. Shapes: (N, D) and
/// (N, D′); N³ numbers are held.
///
/// # Errors
/// If the numbers of samples differ.
pub fn relation_angle(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let angles = |x: &Tensor| {
        let (n, d) = x.shape().rows_cols();
        x.pair_differences()?.l2_normalize()?.reshape([n, n, d])?.gram()
    };
    angles(student)?.smooth_l1(&angles(teacher)?)
}

/// ‖ΔG‖²/N², where the rows of G are the similarities of a sample to all, brought to length 1: Tung and Mori 2019. Shapes:
/// (N, …), where only N must be the same.
///
/// # Errors
/// If the numbers of samples differ.
pub fn similarity(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let similarities = |x: &Tensor| {
        let x = flat(x)?;
        x.matmul_transposed(false, &x, true)?.l2_normalize()
    };
    similarities(student)?.mse(&similarities(teacher)?)
}

/// A vector per sample.
pub(super) fn flat(x: &Tensor) -> Result<Tensor> {
    let (n, d) = x.shape().rows_cols();
    if x.shape().len() == 2 { Ok(x.clone()) } else { x.reshape([n, d]) }
}
