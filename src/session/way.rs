//! What tells classes apart.

use crate::continual::{MethodSpec, spec};
use crate::error::Result;
use crate::learner::frozen::FrozenKind;
use crate::settings::Choose;

/// What tells classes apart, and whether features change with what is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Statistics of features that do not change: nothing is forgotten, and what is forgotten on purpose leaves nothing behind.
    Frozen(FrozenKind),
    /// A network that is trained on new pictures and on some that it keeps.
    Growing(Growing),
}

/// A method of continual learning that trains a learner's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growing {
    /// iCaRL.
    Icarl,
    /// Experience replay.
    Er,
    /// Dark experience replay that goes by labels too.
    DerPp,
}

const fn frozen(kind: FrozenKind, row: usize) -> (Way, &'static str, &'static str) {
    let (_, name, help) = FrozenKind::NAMED[row];
    (Way::Frozen(kind), name, help)
}

impl Choose for Way {
    const NAMED: &'static [(Self, &'static str, &'static str)] = &[
        frozen(FrozenKind::Ranpac, 0),
        frozen(FrozenKind::Ncm, 1),
        frozen(FrozenKind::Fecam, 2),
        (
            Way::Growing(Growing::Icarl),
            "icarl",
            "Trains the network: exemplars by herding, the old network as a teacher, nearest mean of exemplars",
        ),
        (Way::Growing(Growing::Er), "er", "Trains the network: new pictures together with random ones of a memory"),
        (
            Way::Growing(Growing::DerPp),
            "der++",
            "Trains the network: the same, held to what it said of remembered pictures when they came",
        ),
    ];
}

impl Way {
    /// Whether the network is trained.
    pub fn grows(self) -> bool {
        matches!(self, Way::Growing(_))
    }
}

impl Growing {
    /// The row of the method.
    ///
    /// # Errors
    /// Never: these methods are part of the crate.
    pub(super) fn spec(self) -> Result<&'static MethodSpec> {
        spec(Way::Growing(self).name())
    }
}
