//! Floor 4a: what a run leaves on disk, and how. Every file of a run folder is written and read through this module.
//!
//! - [`disk`] writes: under a temporary name that nobody else has, brought to the disk, renamed. A reader, a crash or a full
//!   disk never meets half a file, and a failed write leaves the earlier one whole. [`faults`] lets a test end a run at any of
//!   these steps.
//! - [`lock`] gives a folder one writer at a time.
//! - [`folder`] knows a run folder: its files by name, and what of them a new run removes.
//! - [`sealed`] reads: only regular files inside the folder, of a bounded size, with a checksum that says whether they are
//!   what was written. [`tensors`] does so for named tensors with a description.

pub mod disk;
pub mod faults;
pub mod folder;
mod json;
pub mod lock;
pub mod sealed;
pub mod tensors;

pub use disk::{behind_link, create_folder, create_numbered_folder, write_atomically};
pub use folder::RunFolder;
pub(crate) use json::flat_lists;
