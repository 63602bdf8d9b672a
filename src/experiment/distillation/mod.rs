//! Pairs of students: one from labels alone, one by a scheme too, from the same initial weights, on the same images in the same
//! order; and the teachers before them, if the scheme has some.

mod config;
mod lesson;
mod measure;
pub mod presets;
mod results;
mod run;
mod schemes;
mod student;
mod teacher;

pub use config::{DistillConfig, recorded_by, rows};
pub use results::{
    Arm, Comparison, DistillResults, NetworkReport, Omitted, OtherResult, StudentResult, StudentTerm, TeacherReport,
    paired_gain,
};
pub use run::{check, distill, distill_beside, resume, resume_beside};
pub use schemes::{Standing, Verdict, answer as schemes_answer, csv as schemes_csv};
pub use teacher::{Asked, ask_teacher};
