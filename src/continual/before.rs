//! The network before a task, which methods that distil ask about each batch.

use super::old_teacher::{Old, scheme};
use super::{Batch, Held, Keep, Learner, MethodState, Renumbering, TaskData};
use crate::distill::SchemeSpec;
use crate::error::Result;
use crate::models::Network;
use crate::nn::{Output, Tap};
use crate::ops::Mode;
use crate::settings::Values;
use crate::tensor::{Tensor, no_grad};

/// The network before this task; none in the first.
#[derive(Default)]
pub(super) struct Before {
    /// By which it teaches, in place of the method's own distillation.
    scheme: Option<&'static SchemeSpec>,
    old: Option<Old>,
}

impl Before {
    /// None yet, with the scheme that is set.
    pub fn with_scheme(settings: &Values) -> Before {
        Before { scheme: scheme(settings), old: None }
    }

    /// This network.
    pub fn of(network: Network) -> Before {
        Before { scheme: None, old: Some(Old::Plain(Box::new(network))) }
    }

    /// Keeps a copy of the network as it is, if something was learnt before.
    ///
    /// # Errors
    /// In the first task too, if the scheme does not suit the network.
    pub fn begin(&mut self, learner: &Learner, task: &TaskData) -> Result<()> {
        let wanted = task.n_old > 0 || self.scheme.is_some();
        let now = wanted.then(|| Old::of(self.scheme, learner.network.snapshot()?, learner)).transpose()?;
        self.old = now.filter(|_| task.n_old > 0);
        Ok(())
    }

    /// The network in its way of teaching, if there is one.
    pub fn teacher(&self) -> Option<&Old> {
        self.old.as_ref()
    }

    /// The network, if there is one.
    pub fn network(&self) -> Option<&Network> {
        self.old.as_ref().map(Old::network)
    }

    /// What it says of inputs.
    pub fn logits(&self, x: &Tensor) -> Result<Option<Tensor>> {
        self.network().map(|old| Ok(no_grad(|| old.forward(x, Mode::Eval))?.logits)).transpose()
    }

    /// What it says of a batch, with its values at `taps`, which are those of the learner's network.
    pub fn ask(&self, batch: &Batch, taps: &[Tap]) -> Result<Option<(Output, Vec<Tensor>)>> {
        self.network().map(|old| no_grad(|| old.forward_with(&batch.x, Mode::Eval, taps))).transpose()
    }
}

impl Keep for Before {
    fn save(&self, name: &str, state: &mut MethodState) -> Result<()> {
        self.network().map_or(Ok(()), |old| state.put_network(name, old))
    }

    fn load(&mut self, name: &str, learner: &Learner, state: &mut MethodState) -> Result<()> {
        let old = state.take_network(name, learner)?;
        self.old = old.map(|old| Old::of(self.scheme, old, learner)).transpose()?;
        Ok(())
    }

    fn count(&self, _learner: &Learner, held: &mut Held) {
        held.old_network += self.network().map_or(0, Network::bytes);
    }

    /// It is of the task before alone.
    fn renumber(&mut self, _to: &Renumbering) -> Result<()> {
        self.old = None;
        Ok(())
    }
}

impl Batch {
    /// How many classes count as background in the labels of this batch: the old ones, where new ones have come. With the same
    /// classes in every task there are none.
    pub(super) fn n_merged(&self) -> usize {
        if self.n_old < self.n_seen { self.n_old } else { 0 }
    }
}
