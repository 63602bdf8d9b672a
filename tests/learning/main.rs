//! Data, training and the methods that learn, driven through the library.
//! They share one binary, so that they are linked once and run side by side. A test that counts what the whole process does, or
//! measures time, has a file of its own beside this folder.

#[path = "../common/mod.rs"]
mod common;

mod companions;
mod data;
mod distill;
mod equivalences;
mod evaluation;
mod fields;
mod gd;
mod growing;
mod interruption;
mod masks;
mod methods;
mod metrics;
mod old_networks;
mod outputs;
mod penalties;
mod projections;
mod replay;
mod rows;
mod segment;
mod segmentation;
mod session;
mod steps;
mod trainer;
mod training;
mod variants;
mod vdfd;
