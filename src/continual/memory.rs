//! How many exemplars a class may keep, and which.

use crate::settings::{Setting, choices};

choices! {
    /// What becomes of K / n_seen when it does not divide.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Rounding {
        /// Up, as the original code does: the memory may exceed K by less than one exemplar per class.
        Ceil = "ceil",
        /// Down, as the paper says: m = K/t.
        Floor = "floor",
    }
}

choices! {
    /// How exemplars are chosen.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Herding {
        #[default]
        /// Algorithm 4 of the iCaRL paper: the sample that brings the mean of those chosen closest to the class mean.
        Paper = "paper",
        /// The authors' code: w grows by μ − φ(x), and the sample of the largest w·φ(x) is next.
        Original = "original",
    }
}

/// K.
pub const MEMORY: Setting = Setting::whole("memory", "K", "K, the exemplars kept over all classes")
    .between(0, 1 << 30)
    .follows("by data set: see below");

/// For methods whose budget is shared out.
pub const MEMORY_ROUNDING: Setting =
    Setting::choice::<Rounding>("memory_rounding", "HOW", "What becomes of K/classes when it does not divide")
        .usually("ceil");

/// For methods that herd.
pub const HERDING: Setting = Setting::choice::<Herding>("herding", "HOW", "How exemplars are chosen").usually("paper");

/// Draws of [`original_herding`] at most.
const MAX_DRAWS: usize = 1000;

/// Herding (Welling 2009) as iCaRL's code has it: w ← μ; then again and again the sample of largest w·φ(x) is drawn and
/// w ← w + μ − φ(x). A sample that is drawn again is not chosen again. Features are n rows of length `d` and of norm 1; the
/// result has `m` rows' numbers in the order of choice, or fewer if 1,000 draws do not bring forth that many.
pub fn original_herding(features: &[f32], d: usize, m: usize) -> Vec<u32> {
    let n = features.len() / d;
    let mut mean = vec![0.0f64; d];
    for row in features.chunks_exact(d) {
        for (mean, &x) in mean.iter_mut().zip(row) {
            *mean += f64::from(x) / n as f64;
        }
    }
    let mut w = mean.clone();
    let mut chosen = Vec::new();
    let mut is_chosen = vec![false; n];
    for _ in 0..MAX_DRAWS {
        if chosen.len() == m.min(n) {
            break;
        }
        let product = |row: &[f32]| row.iter().zip(&w).map(|(&x, w)| f64::from(x) * w).sum::<f64>();
        let products: Vec<f64> = features.chunks_exact(d).map(product).collect();
        let best = (1..n).fold(0, |best, i| if products[i] > products[best] { i } else { best });
        if !is_chosen[best] {
            is_chosen[best] = true;
            chosen.push(best as u32);
        }
        for ((w, mean), &x) in w.iter_mut().zip(&mean).zip(&features[best * d..(best + 1) * d]) {
            *w += mean - f64::from(x);
        }
    }
    chosen
}

/// m, the exemplars each of `n_seen` classes may keep of a budget of K.
pub fn exemplars_per_class(budget: usize, n_seen: usize, rounding: Rounding) -> usize {
    match rounding {
        Rounding::Ceil => budget.div_ceil(n_seen),
        Rounding::Floor => budget / n_seen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three directions of the plane: μ = (0, 1/3)·…, worked out by hand.
    #[test]
    fn original_herding_passes_over_what_it_has_chosen() {
        // φ = (1, 0), (−1, 0), (0, 1): μ = (0, 1/3). w = μ: products 0, 0, 1/3: draw 2; w = (0, −1/3).
        // Products 0, 0, −1/3: draw 0; w = (−1, 0). Products −1, 1, 0: draw 1.
        let features = [1.0, 0.0, -1.0, 0.0, 0.0, 1.0];
        assert_eq!(original_herding(&features, 2, 3), [2, 0, 1]);
        assert_eq!(original_herding(&features, 2, 2), [2, 0]);
        // With copies of one direction the first of them wins again and again, and counts once: μ = (2.6, 0.8)/3. w = μ:
        // products 0.867, 0.867, 0.733: draw 0. w = 2μ − (1, 0): 0.733, 0.733, 0.867: draw 2. w = 3μ − (1.6, 0.8) = (1, 0):
        // 1, 1, 0.6: 0 again, and so on.
        let copies = [1.0, 0.0, 1.0, 0.0, 0.6, 0.8];
        assert_eq!(original_herding(&copies, 2, 3), [0, 2]);
    }

    #[test]
    fn the_budget_holds() {
        assert_eq!(exemplars_per_class(2000, 30, Rounding::Ceil), 67);
        assert_eq!(exemplars_per_class(2000, 30, Rounding::Floor), 66);
        for n_seen in 1..=100 {
            assert!(exemplars_per_class(2000, n_seen, Rounding::Floor) * n_seen <= 2000);
            assert!(exemplars_per_class(2000, n_seen, Rounding::Ceil) * n_seen < 2000 + n_seen);
        }
    }
}
