//! The losses of distillation as functions of tensors. A teacher's tensors get no gradient; every result has shape \[1\] and
//! is 0 where the student equals the teacher.
//!
//! Ops that are losses by themselves stay with the ops: Hinton's T²·KL is [`Tensor::kl_div`], the squared error of logits
//! [`Tensor::mse`].

use crate::device::Array;
use crate::error::{Error, Result};
use crate::nn;
use crate::ops::{BatchNorm, Conv2d, Mode};
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

/// How much each of m branches counts in their ensemble, (N, m), each row summing to 1: softmax(ReLU(BN(W·x̄ + b))), where x̄ are
/// the means of the channels of what the branches share (Lan et al. 2018). `parameters` are W (m, C), b, and γ and β of the
/// batch norm; shared (N, C, H, W) or (N, C); running statistics (2, m).
///
/// # Errors
/// If the shapes do not fit, or a batch of one image is to be its own statistics.
pub fn gate(shared: &Tensor, parameters: &[Tensor], running: &Array, mode: Mode) -> Result<Tensor> {
    let [weight, bias, norm_weight, norm_bias] = parameters else {
        return Err(Error::op("gate", format!("4 parameters are needed, and there are {}", parameters.len())));
    };
    let pooled = if shared.shape().len() == 4 { shared.global_avg_pool()? } else { shared.clone() };
    let norm = BatchNorm {
        weight: norm_weight,
        bias: norm_bias,
        running,
        mode,
        momentum: nn::MOMENTUM,
        epsilon: 1e-5,
        residual: None,
        relu: true,
    };
    pooled.linear(weight, Some(bias))?.batch_norm(&norm)?.softmax(1.0)
}

/// Σ_i g_i·z_i, row by row: weights g (N, m) and m logits (N, C) → (N, C).
///
/// # Errors
/// If the shapes do not fit.
pub fn weighted_sum(weights: &Tensor, logits: &[Tensor]) -> Result<Tensor> {
    let m = logits.len();
    let mut sum: Option<Tensor> = None;
    for (i, z) in logits.iter().enumerate() {
        // The i-th weight of each row, once per class: a product with a matrix whose i-th row is 1.
        let c = z.shape().rows_cols().1;
        let mut row = vec![0.0; m * c];
        row[i * c..(i + 1) * c].fill(1.0);
        let spread = weights.matmul(&Tensor::from_f32(&z.device(), [m, c], &row)?)?;
        let part = spread.mul(z)?;
        sum = Some(match sum {
            Some(sum) => sum.add(&part)?,
            None => part,
        });
    }
    sum.ok_or_else(|| Error::op("weighted_sum", "there is nothing to add"))
}

/// What a teacher's margin ReLU cuts at, in a channel whose values before the ReLU are normal with mean β and deviation |γ|, the
/// shift and scale of the batch norm before it (Heo et al. 2019): the mean of the negative ones, E\[x | x < 0\]; −3·|γ| where
/// fewer than one in a thousand is negative; min(β, 0) where γ = 0.
///
/// ```
/// use engram::distill::losses::margin;
/// assert!((margin(1.0, 0.0) + (2.0 / std::f64::consts::PI).sqrt()).abs() < 1e-9); // half of a normal distribution
/// assert_eq!(margin(-1.0, 4.0), -3.0);
/// assert_eq!((margin(0.0, 2.0), margin(0.0, -2.0)), (0.0, -2.0));
/// ```
pub fn margin(gamma: f64, beta: f64) -> f64 {
    let deviation = gamma.abs();
    if deviation == 0.0 {
        return beta.min(0.0);
    }
    let at = -beta / deviation;
    let negative = normal_below(at);
    if negative > 0.001 { beta - deviation * density(at) / negative } else { -3.0 * deviation }
}

/// The density of the standard normal distribution.
fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The part of the standard normal distribution below x: ½ + φ(x)·(x + x³/3 + x⁵/15 + …), to ten digits of ½.
fn normal_below(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum, mut k) = (x, x, 1.0);
    while sum + term != sum {
        k += 2.0;
        term *= x * x / k;
        sum += term;
    }
    0.5 + density(x) * sum
}

/// The teacher's side of the overhaul of features: max(x, margin) per channel. Shapes: x (N, C) or (N, C, H, W), margins (C).
///
/// # Errors
/// If there is not one margin per channel.
pub fn margin_relu(x: &Tensor, margins: &Tensor) -> Result<Tensor> {
    x.bias_add(&margins.scale(-1.0)?)?.relu()?.bias_add(margins)
}

/// The student's side: a 1×1 convolution without bias, or a product for vectors, and a batch norm of this batch. `parameters` are
/// the weight, and γ and β.
///
/// # Errors
/// If the shapes do not fit.
pub fn connected(student: &Tensor, parameters: &[Tensor], running: &Array) -> Result<Tensor> {
    let [weight, norm_weight, norm_bias] = parameters else {
        return Err(Error::op("connector", format!("3 parameters are needed, and there are {}", parameters.len())));
    };
    let norm = BatchNorm {
        weight: norm_weight,
        bias: norm_bias,
        running,
        mode: Mode::Train,
        momentum: nn::MOMENTUM,
        epsilon: 1e-5,
        residual: None,
        relu: false,
    };
    match weight.shape().len() {
        2 => student.linear(weight, None)?.batch_norm(&norm),
        _ => student.conv2d_batch_norm(weight, None, Conv2d::new(1, 0), &norm),
    }
}

/// The squared error of a stage, partial and summed over C, H and W, mean over the batch: Σ (r − t)² but where r ≤ t ≤ 0. Shapes:
/// both the same.
///
/// # Errors
/// If the shapes differ.
pub fn partial_error(connected: &Tensor, target: &Tensor) -> Result<Tensor> {
    let (_, d) = connected.shape().rows_cols();
    connected.partial_mse(target)?.scale(d as f32)
}
