//! **engram**: a deep learning engine written from scratch for continual learning. Tensors with gradients run WGSL compute
//! shaders through wgpu, or plain Rust on the CPU; models, loaders and methods of continual learning stand on top.
//!
//! The modules below are listed in reading order, bottom up. A module uses only what lies below it; a test says so.
//! Shaders lie in `shaders/`, one file per op, beside the files of the same name in `src/ops/`.
//!
//! What is deliberately absent:
//! - `device` knows nothing of gradients, `tensor` of no particular op, `ops` of no layer, `data` of no model; a method
//!   never sees a future task.
//! - There is one training loop (`training`): methods, students and teachers are objectives that it is led through. One place adds
//!   gradients (`tensor`): kernels assign.
//! - A run is no [`Session`](session::Session), and a session no run: both lead the same methods through the one loop, the one over a
//!   stream that is known beforehand, the other over pictures when they come. A complete run becomes a session.
//! - Only `cli` reads a command line. A text anywhere names a setting as people type it, by `--` and its name: the rows of
//!   `settings` make flags of names, and a test compares texts with rows.
//! - Randomness enters only through `rng`, keyed by (seed, purpose, counter): an unused draw shifts nothing. The same seed
//!   on the same kind of processor or adapter gives the same bits, whatever the number of threads.
//! - There are no stride views, no tensors but of f32 and u32 (f16 is what `--precision mixed` rounds factors to inside a kernel),
//!   no graph rewriting, no float atomics.

#![warn(missing_docs)]

// The error enum, with exit codes.
pub mod error;
// What may be set, as rows.
pub mod settings;
// Sizes of up to four axes.
pub mod shape;
// Keyed random numbers.
pub mod rng;
// Eigenvectors, singular values, Cholesky, in f64.
pub mod linalg;
// Buffers, kernels, adapters.
pub mod device;
// Tensors and the tape.
pub mod tensor;
// The op table: values, derivatives, kernels, cases.
pub mod ops;
// Parameters in one flat buffer, and layers.
pub mod nn;
// SGD and Adam.
pub mod optim;
// The model table.
pub mod models;
// Loaders and downloads, the built-in sets, task streams.
pub mod data;
// The run folder: written whole, locked, checked when it is read.
pub mod records;
// The one training loop: plan, objective, schedule, events.
pub mod training;
// A network with its input pipeline, pictures that are kept, classifiers of frozen features.
pub mod learner;
// Knowledge distillation: losses, schemes, teachers.
pub mod distill;
// Continual-learning methods.
pub mod continual;
// Configuration, the course over tasks and pairs, metrics, saved models.
pub mod experiment;
// A learner that is kept: learn, classify, forget, one file.
pub mod session;
// Many runs: seeds, grids, reproduction.
pub mod campaign;
// Console tables, curves, summaries, report.html.
pub mod report;
// A web page and JSON in front of something that learns.
pub mod serve;
// The command line.
pub mod cli;

pub use device::Device;
pub use error::{Error, Result};
pub use tensor::Tensor;
