//! RCIL (Zhang et al., "Representation compensation networks for continual semantic segmentation", CVPR 2022): convolutions
//! have two branches. After each task both are folded into one, which then stays as it is, while the other goes on learning;
//! and means of the features over windows and channels are held at the old network's (pooled cube distillation).

use super::before::Before;
use super::mib::{START, UNBIASED};
use super::pixel_losses::{CUBES, distillation, pooled_channels, pooled_cube, start_new_classes};
use super::pixel_losses::{new_as_background, unbiased_cross_entropy, unbiased_distillation};
use super::plop::{places, schedule};
use super::spec::MASKS;
use super::{Batch, Keep, Keeps, Learner, Loss, Method, MethodSpec, MethodState, TaskData};
use crate::data::Scenario;
use crate::device;
use crate::error::{Error, Result};
use crate::models::{KEPT_BRANCH, Network};
use crate::nn::{Layer, Pass};
use crate::ops::Mode;
use crate::rng::{Purpose, Rng};
use crate::settings::Setting;
use crate::tensor::Tensor;
use std::collections::HashMap;

const KD_WEIGHT: Setting =
    Setting::number("kd_weight", "WEIGHT", "What the distillation of outputs is multiplied with").usually("100");

const CUBE_WEIGHT: Setting =
    Setting::number("cube_weight", "WEIGHT", "What pooled cubes of features are multiplied with").usually("0.01");

const LOGITS_WEIGHT: Setting =
    Setting::number("cube_logits_weight", "WEIGHT", "What pooled cubes of the logits are multiplied with")
        .usually("0.0005");

const CHANNELS_WEIGHT: Setting =
    Setting::number("channels_weight", "WEIGHT", "What means of the features over channels are multiplied with")
        .usually("0.01");

const DROPS: Setting =
    Setting::switch("drop_branches", "Whether each channel takes one branch, the other or both, at random in training")
        .usually("false");

struct Rcil {
    kd_weight: f32,
    cube_weight: f32,
    channels_weight: f32,
    logits_weight: f32,
    unbiased: bool,
    starts: bool,
    drops: bool,
    old: Before,
    frozen: Frozen,
}

/// The numbers among the parameters of a convolution that keeps: its weight and its bias.
fn keepers(network: &Network) -> Vec<[usize; 2]> {
    let names: HashMap<&str, usize> =
        network.parameters.places().enumerate().map(|(i, (parameter, _))| (parameter.name.as_str(), i)).collect();
    let weights = names.keys().filter_map(|name| name.strip_suffix(&format!("{KEPT_BRANCH}.weight")));
    let mut keepers: Vec<[usize; 2]> = weights
        .map(|conv| ["weight", "bias"].map(|part| names[format!("{conv}{KEPT_BRANCH}.{part}").as_str()]))
        .collect();
    keepers.sort_unstable();
    keepers
}

/// Folds the two branches of every convolution that has them: the one that keeps becomes (kept(x) + norm(conv(x)))/2, with the
/// batch norm's running statistics. In evaluation it then computes by itself what both computed together. Nothing in a network
/// without such convolutions.
///
/// # Errors
/// If no batch norm follows a branch, or the device was lost.
pub fn fold_branches(network: &Network) -> Result<()> {
    let parameters = network.parameters.to_host()?;
    let statistics: HashMap<String, Vec<f32>> = network.statistics.to_host()?.into_iter().collect();
    for [weight, bias] in keepers(network) {
        let (kept_name, shape, kept_weight) = &parameters[weight];
        let (bias_name, bias_shape, kept_bias) = &parameters[bias];
        let conv = kept_name.trim_end_matches(&format!("{KEPT_BRANCH}.weight")[..]);
        let (own, norm) = branch(network, conv)?;
        let [own, gamma, beta] = [own, norm.weight, norm.bias].map(|i| &parameters[i].2);
        let (mean, variance) =
            (&statistics[&format!("{}.running_mean", norm.name)], &statistics[&format!("{}.running_var", norm.name)]);
        let scales: Vec<f64> = (0..gamma.len())
            .map(|o| f64::from(gamma[o]) / (f64::from(variance[o]) + f64::from(norm.epsilon)).sqrt())
            .collect();
        let width = own.len() / scales.len();
        let both = kept_weight.iter().zip(own).enumerate();
        let folded: Vec<f32> = both
            .map(|(i, (kept, own))| ((f64::from(*kept) + scales[i / width] * f64::from(*own)) / 2.0) as f32)
            .collect();
        let shifted: Vec<f32> = (0..scales.len())
            .map(|o| ((f64::from(kept_bias[o]) + f64::from(beta[o]) - f64::from(mean[o]) * scales[o]) / 2.0) as f32)
            .collect();
        network.parameters.set(kept_name, shape, &folded)?;
        network.parameters.set(bias_name, bias_shape, &shifted)?;
    }
    Ok(())
}

/// The batch norm of a branch.
struct Norm {
    name: String,
    weight: usize,
    bias: usize,
    epsilon: f32,
}

/// The weight of the convolution of this name, and the batch norm behind it.
fn branch(network: &Network, conv: &str) -> Result<(usize, Norm)> {
    let name_of = |i: usize| network.parameters.places().nth(i).map_or("", |(parameter, _)| &parameter.name);
    let own = format!("{conv}.weight");
    let found = network.layers().windows(2).find_map(|pair| match pair {
        [Layer::Conv { weight, .. }, Layer::BatchNorm { weight: gamma, bias, epsilon, .. }]
            if name_of(*weight) == own =>
        {
            let name = name_of(*gamma).trim_end_matches(".weight").into();
            Some((*weight, Norm { name, weight: *gamma, bias: *bias, epsilon: *epsilon }))
        }
        _ => None,
    });
    found.ok_or_else(|| {
        Error::usage(format!("the convolution '{conv}' has a second branch, but no batch norm follows it"))
    })
}

/// For the channels of each convolution with branches: the one alone, the other alone, or the mean of both, each with probability
/// 1/3.
fn choices(learner: &Learner, key: u64) -> Result<Vec<Tensor>> {
    let mut rng = Rng::keyed(learner.seed, Purpose::Branches, key);
    let tensors = learner.network.parameters.tensors();
    let of_channels = |[_, bias]: [usize; 2]| {
        let shape = tensors[bias].shape();
        let shares: Vec<f32> = (0..shape[0]).map(|_| rng.below(3) as f32 / 2.0).collect();
        Tensor::from_f32(&learner.device, shape, &shares)
    };
    keepers(&learner.network).into_iter().map(of_channels).collect()
}

/// Copies of the parameters that stay as they are in this task, with their numbers among the network's.
#[derive(Default)]
struct Frozen(Vec<(usize, Tensor)>);

impl Frozen {
    /// The learner's branches that keep, as they are now.
    fn now(learner: &Learner) -> Result<Frozen> {
        let tensors = learner.network.parameters.tensors();
        let copy = |i: usize| Ok((i, Tensor::from_f32(&learner.device, tensors[i].shape(), &tensors[i].to_vec()?)?));
        Ok(Frozen(keepers(&learner.network).into_iter().flatten().map(copy).collect::<Result<_>>()?))
    }
}

/// A checkpoint says only whether there are any: the network has their values.
impl Keep for Frozen {
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()> {
        state.put_json(name, &!self.0.is_empty());
        Ok(())
    }

    fn load(&mut self, name: &str, learner: &Learner, state: &mut MethodState) -> Result<()> {
        *self = if state.take_json(name)? { Frozen::now(learner)? } else { Frozen::default() };
        Ok(())
    }
}

impl Method for Rcil {
    fn begin_task(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.old.begin(learner, task)?;
        if task.n_old == 0 {
            return Ok(());
        }
        fold_branches(&learner.network)?;
        self.frozen = Frozen::now(learner)?;
        match self.starts && task.n_old < task.n_seen {
            true => start_new_classes(&learner.network, task.n_old, task.n_seen),
            false => Ok(()),
        }
    }

    fn observe(&mut self, learner: &Learner, batch: &Batch) -> Result<Loss> {
        let taps = places(learner)?;
        let mixes = if self.drops { choices(learner, batch.key)? } else { Vec::new() };
        let (output, values) =
            learner.network.pass(&batch.x, Pass { mode: Mode::Train, taps: &taps, mixes: &mixes })?;
        let (n_old, n_seen) = (batch.n_old, batch.n_seen);
        let n_merged = if self.unbiased { batch.n_merged() } else { 0 };
        let ce = match n_merged > 0 {
            true => unbiased_cross_entropy(&output.logits, &batch.labels, n_merged, n_seen)?,
            false => learner.cross_entropy(&output.logits, &batch.images.labels, n_seen)?,
        };
        let mut loss = Loss::single("cross_entropy", ce);
        let Some((said, old_values)) = self.old.ask(batch, &taps)? else { return Ok(loss) };
        let kd = match n_merged > 0 {
            true => unbiased_distillation(&output.logits, &said.logits, n_old, n_seen)?,
            false => distillation(&output.logits, &said.logits, n_old)?,
        };
        loss = loss.and("kd", self.kd_weight, kd);
        let factor = schedule(batch) / taps.len() as f32;
        let (last, features) = values.split_last().expect("bug: no logits");
        for (new, old) in features.iter().zip(&old_values) {
            loss = loss.and("cubes", self.cube_weight * factor, pooled_cube(new, old, CUBES)?);
            let channels = schedule(batch) / features.len() as f32;
            loss = loss.and("channels", self.channels_weight * channels, pooled_channels(new, old)?);
        }
        let old_logits = new_as_background(&old_values[features.len()], n_old, n_old)?;
        let cube = pooled_cube(&new_as_background(last, n_old, n_seen)?, &old_logits, CUBES)?;
        Ok(loss.and("cube_logits", self.logits_weight * factor, cube))
    }

    /// Decay and momentum must not move what stays.
    fn after_step(&mut self, learner: &Learner, _batch: &Batch) -> Result<()> {
        let tensors = learner.network.parameters.tensors();
        self.frozen.0.iter().try_for_each(|(i, kept)| device::copy(kept.array(), tensors[*i].array()))
    }

    fn keeps(&mut self) -> Keeps<'_> {
        vec![("old", &mut self.old), ("frozen", &mut self.frozen)]
    }
}

pub(super) const SPEC: MethodSpec = MethodSpec {
    name: "rcil",
    summary: "a branch of each convolution keeps what was learnt, pooled features are held (segmentation)",
    paper: "Zhang et al., CVPR 2022",
    equations: "L = −ln p̃(y) + λ·(−1/|Y_old| Σ_c q_old(c)·ln q̂(c)) + √(seen/new)·(λ_c·mean_k ‖P_k(f²) − P_k(f_old²)‖ + λ_C·‖P_C(f²) − \
                P_C(f_old²)‖), p̃ and q̂ as in MiB, P: means over windows of k = 4 to 24 pixels, and over three channels",
    memory: "the old network",
    expect: "Near PLOP. --model deeplab-lite-rc has the branches, at nearly twice the cost of a step; any other network is held by the \
             distillation alone.",
    deviations: &[
        "the branch that keeps is a convolution with a bias and without a batch norm from the start, so that folding is exact",
        "channels take one branch, the other or both at random only with --drop-branches true: the authors begin with trained weights, \
         where both branches say the same; with random ones the first task of shape-city then ends at 64 % in place of 90 %, as batch \
         norms meet other variances in evaluation",
        "channel pools have one weight for all features; that of the last features is smaller in the authors' code",
    ],
    targets: MASKS,
    needs_boundaries: true,
    options: &[KD_WEIGHT, CUBE_WEIGHT, CHANNELS_WEIGHT, LOGITS_WEIGHT, UNBIASED, START, DROPS],
    // The authors' runs on the cities of Cityscapes.
    in_scenario: &[(
        Scenario::Domain,
        &[("kd_weight", "0"), ("cube_weight", "5e-4"), ("channels_weight", "1e-4"), ("cube_logits_weight", "1e-4")],
    )],
    trade_off: &[("cube_weight", 0.1)],
    build: |settings| {
        Box::new(Rcil {
            kd_weight: settings.get("kd_weight"),
            cube_weight: settings.get("cube_weight"),
            channels_weight: settings.get("channels_weight"),
            logits_weight: settings.get("cube_logits_weight"),
            unbiased: settings.get("unbiased"),
            starts: settings.get("start_as_background"),
            drops: settings.get("drop_branches"),
            old: Before::default(),
            frozen: Frozen::default(),
        })
    },
    ..MethodSpec::BASE
};
