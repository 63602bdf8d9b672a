//! The network before a task, which methods of segmentation ask about each batch.

use super::{Batch, Held, Learner, MethodState, TaskData};
use crate::error::Result;
use crate::models::Network;
use crate::nn::{Output, Tap};
use crate::ops::Mode;
use crate::tensor::{Tensor, no_grad};

/// The network before this task; none in the first.
#[derive(Default)]
pub(super) struct Before(Option<Network>);

impl Before {
    /// Keeps a copy of the network as it is, if something was learnt before.
    pub fn begin(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        self.0 = (task.n_old > 0).then(|| learner.network.snapshot()).transpose()?;
        Ok(())
    }

    /// The network, if there is one.
    pub fn network(&self) -> Option<&Network> {
        self.0.as_ref()
    }

    /// What it says of a batch, with its values at `taps`, which are those of the learner's network.
    pub fn ask(&self, batch: &Batch, taps: &[Tap]) -> Result<Option<(Output, Vec<Tensor>)>> {
        self.0.as_ref().map(|old| no_grad(|| old.forward_with(&batch.x, Mode::Eval, taps))).transpose()
    }

    /// Its part of a checkpoint.
    pub fn keep(&self, state: &mut MethodState) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |old| state.keep_network("old", old))
    }

    /// Brings it back.
    pub fn restore(&mut self, learner: &Learner, state: &mut MethodState) -> Result<()> {
        self.0 = state.take_network("old", learner)?;
        Ok(())
    }

    /// What it takes.
    pub fn held(&self) -> Held {
        Held { old_network: self.0.as_ref().map_or(0, Network::bytes), ..Held::default() }
    }
}

impl Batch {
    /// How many classes count as background in the labels of this batch: the old ones, where new ones have come. With the same
    /// classes in every task there are none.
    pub(super) fn n_merged(&self) -> usize {
        if self.n_old < self.n_seen { self.n_old } else { 0 }
    }
}
