//! How many exemplars a class may keep.

use serde::{Deserialize, Serialize};

/// What becomes of K / n_seen when it does not divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// Up, as the original code does: the memory may exceed K by less than one exemplar per class.
    Ceil,
    /// Down, as the paper says "m = K/t".
    Floor,
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
