//! Tensors, operations, kernels and networks, on the CPU and on an adapter.
//! They share one binary, so that they are linked once and run side by side. A test that counts what the whole process does, or
//! measures time, has a file of its own beside this folder.

#[path = "../common/mod.rs"]
mod common;

mod autograd;
mod backbones;
mod custom;
mod matrices;
mod models;
mod numbers;
mod ops;
mod properties;
mod shaders;
