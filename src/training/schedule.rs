//! How the learning rate changes over a training.

use super::Step;
use serde::{Deserialize, Serialize};

/// The learning rate of every step.
///
/// ```
/// use engram::training::{Fall, Schedule, Step, WarmUp};
/// let schedule = Schedule { lr: 0.1, fall: Fall::Cosine, warm_up: WarmUp::Epochs(1.0) };
/// let rate = |index| schedule.at(Step { index, per_epoch: 5, n_epochs: 3 });
/// assert_eq!([0, 1, 4, 5, 10].map(rate), [0.02, 0.04, 0.1, 0.1, 0.05]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The largest rate.
    pub lr: f32,
    /// How it falls.
    pub fall: Fall,
    /// How it rises before that.
    pub warm_up: WarmUp,
}

/// How a learning rate falls from its largest value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fall {
    /// It does not.
    #[default]
    Constant,
    /// It is multiplied by `factor` at the start of each of the epochs `at`, counted from 0.
    Steps {
        /// Epochs at whose start it drops.
        at: Vec<usize>,
        /// What it is multiplied with then.
        factor: f32,
    },
    /// lr·(1 + cos πp)/2, p the part of the steps after the warm-up that is over: to 0 at the end (Loshchilov & Hutter, ICLR
    /// 2017, without restarts).
    Cosine,
    /// lr·(1 − p)^0.9, p the part of the steps after the warm-up that is over: to 0 at the end ("poly"; Chen et al., "DeepLab",
    /// TPAMI 2018).
    Poly,
    /// A tenth in the first epoch, all of it in the second, then cosines from the largest rate to a hundredth of it over 1, 2, 4,
    /// … epochs, constant within an epoch (Loshchilov & Hutter, ICLR 2017; Prabhu et al., ECCV 2020).
    Restarts,
}

/// How a learning rate rises at the start of a training: linearly, step by step, to where the [`Fall`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WarmUp {
    /// Over so many epochs; 0 for none.
    Epochs(f64),
    /// Over this part of all steps, in 0..1.
    Fraction(f64),
}

impl Default for WarmUp {
    /// None.
    fn default() -> WarmUp {
        WarmUp::Epochs(0.0)
    }
}

/// The smallest rate of [`Fall::Restarts`], as a part of the largest.
const SMALLEST: f64 = 0.01;

impl Schedule {
    /// A rate that stays.
    pub fn constant(lr: f32) -> Schedule {
        Schedule { lr, ..Schedule::default() }
    }

    /// The learning rate of a step.
    pub fn at(&self, step: Step) -> f32 {
        let n_warm = self.warm_up.n_steps(step);
        let progress = step.index.saturating_sub(n_warm) as f64 / (step.n_steps() - n_warm).max(1) as f64;
        let rate = match &self.fall {
            Fall::Constant => self.lr,
            Fall::Steps { at, factor } => {
                let n_drops = at.iter().filter(|&&epoch| epoch <= step.epoch()).count();
                self.lr * factor.powi(n_drops as i32)
            }
            Fall::Cosine => (f64::from(self.lr) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())) as f32,
            Fall::Poly => (f64::from(self.lr) * (1.0 - progress).powf(0.9)) as f32,
            Fall::Restarts => restarting(step.epoch(), f64::from(self.lr)) as f32,
        };
        match step.index < n_warm {
            true => (f64::from(rate) * (step.index + 1) as f64 / n_warm as f64) as f32,
            false => rate,
        }
    }
}

impl WarmUp {
    fn n_steps(self, step: Step) -> usize {
        let n_steps = match self {
            WarmUp::Epochs(n) => n * step.per_epoch as f64,
            WarmUp::Fraction(part) => part * step.n_steps() as f64,
        };
        (n_steps.round() as usize).min(step.n_steps())
    }
}

fn restarting(epoch: usize, high: f64) -> f64 {
    let low = SMALLEST * high;
    match epoch {
        0 => 0.1 * high,
        1 => high,
        _ => {
            let cycle = (epoch - 1).ilog2();
            let (start, length) = ((1 << cycle) + 1, 1 << cycle);
            let done = (epoch - start) as f64 / f64::from(length);
            low + 0.5 * (high - low) * (1.0 + (std::f64::consts::PI * done).cos())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates at the start of some epochs.
    fn by_epoch<const N: usize>(schedule: &Schedule, epochs: [usize; N]) -> [f32; N] {
        epochs.map(|epoch| schedule.at(Step { index: 7 * epoch, per_epoch: 7, n_epochs: 100 }))
    }

    #[test]
    fn the_cosine_falls_to_zero() {
        let schedule = Schedule { fall: Fall::Cosine, ..Schedule::constant(0.1) };
        assert_eq!(by_epoch(&schedule, [0, 50, 100]), [0.1, 0.05, 0.0]);
        assert_eq!(by_epoch(&Schedule::constant(0.1), [0, 90]), [0.1, 0.1]);
    }

    #[test]
    fn poly_falls_by_a_power_of_what_is_left() {
        let schedule = Schedule { fall: Fall::Poly, ..Schedule::constant(0.1) };
        assert_eq!(by_epoch(&schedule, [0, 50, 100]), [0.1, 0.053_588_673, 0.0]);
    }

    #[test]
    fn the_rate_drops_at_its_steps() {
        let schedule = Schedule { fall: Fall::Steps { at: vec![49, 63], factor: 0.2 }, ..Schedule::constant(2.0) };
        let rates = by_epoch(&schedule, [0, 48, 49, 62, 63, 69]);
        assert_eq!(rates, [2.0, 2.0, 0.4, 0.4, 2.0 * 0.2f32.powi(2), 2.0 * 0.2f32.powi(2)]);
    }

    #[test]
    fn a_warm_up_rises_to_where_the_fall_begins() {
        let rates = |fall: Fall, warm_up| {
            let schedule = Schedule { fall, warm_up, lr: 0.8 };
            [0, 1, 2, 3, 4, 6, 8].map(|index| schedule.at(Step { index, per_epoch: 4, n_epochs: 2 }))
        };
        let steps = Fall::Steps { at: vec![1], factor: 0.5 };
        assert_eq!(rates(steps, WarmUp::Fraction(0.25)), [0.4, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4]);
        assert_eq!(rates(Fall::Constant, WarmUp::Epochs(0.5)), [0.4, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]);
        assert_eq!(rates(Fall::Cosine, WarmUp::Epochs(1.0)), [0.2, 0.4, 0.6, 0.8, 0.8, 0.4, 0.0]);
        // A training that ends before its warm-up does.
        assert_eq!(rates(Fall::Cosine, WarmUp::Epochs(9.0))[..3], [0.1, 0.2, 0.3]);
    }

    #[test]
    fn restarts_by_hand() {
        // Warm-up, the largest; then cycles of 1, 2 and 4 epochs that begin at the largest.
        let schedule = Schedule { fall: Fall::Restarts, ..Schedule::constant(0.05) };
        let rates = by_epoch(&schedule, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let (low, high) = (0.0005f32, 0.05f32);
        let middle = (low + high) / 2.0;
        let quarter = low + 0.5 * (high - low) * (1.0 + 0.5f32.sqrt());
        let expected = [0.1 * high, high, high, high, middle, high, quarter, middle, high + low - quarter, high];
        for (epoch, (rate, expected)) in rates.into_iter().zip(expected).enumerate() {
            assert!((rate - expected).abs() < 1e-7, "epoch {epoch}: {rate} is not {expected}");
        }
    }
}
