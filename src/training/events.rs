//! What a training tells while it works. Whoever starts it decides what becomes of the events.

/// A training begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// What is trained, such as `distilled student, seed 2`.
    pub what: String,
    /// Steps of the whole training, those before an interruption included.
    pub n_steps: usize,
}

/// A batch is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// The running epoch, from 0.
    pub epoch: usize,
    /// Batches done so far, all epochs together.
    pub batch: usize,
    /// The loss of the batch; `None` where it has not been read from the device.
    pub loss: Option<f32>,
}

/// Listens to a training. Every event may be ignored.
pub trait Listener {
    /// A training begins.
    fn training(&mut self, _started: &Started) {}
    /// A batch is done.
    fn progress(&mut self, _progress: &Progress) {}
    /// Something that may spoil the results.
    fn warning(&mut self, _text: &str) {}
}

/// Ignores everything: for tests and for use as a library.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Listener for Silent {}
