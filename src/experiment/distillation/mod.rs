//! A teacher, and pairs of students: one from labels alone, one from the teacher too, from the same initial weights, on the
//! same images in the same order.

mod config;
mod lesson;
mod measure;
pub mod presets;
mod results;
mod run;
mod teacher;

pub use config::{DistillConfig, recorded_by, rows};
pub use results::{
    Arm, Comparison, DistillResults, NetworkReport, Omitted, StudentResult, StudentTerm, TeacherReport, paired_gain,
};
pub use run::{check, distill, resume};
pub use teacher::{Asked, ask_teacher};
