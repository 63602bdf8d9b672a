//! The ways to classify that a method offers.

use crate::error::Error;

/// One way to classify with what a method has learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classifier {
    /// As in results and on the command line.
    pub name: &'static str,
    /// What it goes by, in a few words.
    pub explanation: &'static str,
    /// True if it goes by class means, which a class has only once it was learnt.
    pub by_means: bool,
}

impl Classifier {
    /// The largest output of the network.
    pub const NETWORK: Classifier = Classifier { name: "network", explanation: "largest output", by_means: false };

    /// One that a method does not have.
    pub fn unknown(&self) -> Error {
        Error::usage(format!("there is no classifier '{}'", self.name))
    }
}
