//! The program, run as a child process in a folder of the test: one file for each of its commands, or for what can go wrong with it.
//! They share one binary, so that they are linked once and run side by side. A test that counts what the whole process does, or
//! measures time, has a file of its own beside this folder.

#[path = "../common/mod.rs"]
mod common;

mod cli;
mod combinations;
mod compare;
mod distill;
mod export;
mod fetch;
mod fields;
mod interruption;
mod judge;
mod kill;
mod learners;
mod misuse;
mod pages;
mod predict;
mod protocols;
mod report;
mod resume;
mod sources;
mod strangers;
mod terminal;
mod tune;
