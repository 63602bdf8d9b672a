//! How a learner does on pictures whose classes are known: `evaluate`, and the pictures for testing of `learn`.

use super::{AccuracyJson, ClassJson, From, classes_json, opened, print_json, tell_left_out};
use crate::cli::DeviceArgs;
use crate::error::{Error, Result};
use crate::report::{accuracy_text, confusions_text};
use crate::session::{Estimate, Judged, Picture, Session, read_labelled};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Args)]
pub struct EvaluateArgs {
    /// The learner
    #[arg(value_name = "FILE")]
    learner: PathBuf,
    #[command(flatten)]
    from: From,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// How a learner did on pictures whose classes are known.
pub(super) struct JudgedPictures {
    estimate: Estimate,
    /// Pictures of its classes.
    n_own: usize,
    /// Pictures that it has learned.
    n_learned: usize,
    /// Pictures of classes that it does not know, and those of them that it called none of its own.
    n_foreign: usize,
    n_foreign_refused: usize,
    /// Pictures of its classes that it called none of them.
    n_own_refused: usize,
}

/// `None` if there is no picture.
pub(super) fn judged(session: &Session, pictures: Vec<(Picture, String)>) -> Result<Option<JudgedPictures>> {
    if pictures.is_empty() {
        return Ok(None);
    }
    let (pictures, classes): (Vec<_>, Vec<String>) = pictures.into_iter().unzip();
    let given = session.classify(&pictures)?;
    let (mut truth, mut said) = (Vec::new(), Vec::new());
    let (mut n_foreign, mut n_foreign_refused, mut n_own_refused) = (0, 0, 0);
    for (answer, class) in given.iter().zip(&classes) {
        match session.classes().iter().position(|known| known.name == *class) {
            Some(label) => {
                truth.push(label as u32);
                said.push(answer.ranked[0].label as u32);
                n_own_refused += usize::from(!answer.is_known);
            }
            None => {
                n_foreign += 1;
                n_foreign_refused += usize::from(!answer.is_known);
            }
        }
    }
    let n_learned = pictures.iter().filter(|picture| session.has_learned(picture)).count();
    let n_own = truth.len();
    let estimate = Estimate::of(Judged::HeldOut, session.classes().len(), &truth, &said);
    Ok(Some(JudgedPictures { estimate, n_own, n_learned, n_foreign, n_foreign_refused, n_own_refused }))
}

/// Judges a learner on pictures whose classes are known.
pub fn evaluate(args: &EvaluateArgs) -> Result<()> {
    let found = args.from.found()?;
    let device = opened(&args.device)?;
    let session = Session::load(&args.learner, &device)?;
    let has_tests = found.pictures.iter().any(|picture| picture.is_test);
    let read = read_labelled(found.pictures.iter().filter(|picture| picture.is_test == has_tests), session.frame());
    tell_left_out(&found, &read.unreadable);
    let Some(judged) = judged(&session, read.pictures)? else {
        return Err(Error::usage("no picture was found to judge it on"));
    };
    if args.json {
        return print_json(&EvaluatedJson::new(&session, &judged));
    }
    print!("{}", judged_text(&session, &judged));
    Ok(())
}

/// How it did, and what to know of the pictures that it was judged on.
pub(super) fn judged_text(session: &Session, judged: &JudgedPictures) -> String {
    let mut text = match judged.n_own {
        0 => "none of these pictures is of a class that it knows\n".to_string(),
        _ => accuracy_text(&judged.estimate) + "\n",
    };
    if judged.n_learned > 0 {
        text +=
            &format!("{} of them were learned: of new pictures fewer are right. Judge on others\n", judged.n_learned);
    }
    text += &confusions_text(session, &judged.estimate);
    if judged.n_own_refused > 0 {
        text += &format!("{} of them called none of its classes\n", judged.n_own_refused);
    }
    if judged.n_foreign > 0 {
        let (n, refused) = (judged.n_foreign, judged.n_foreign_refused);
        text += &format!("{n} pictures of classes that it does not know: {refused} called none of its classes\n");
    }
    text
}

#[derive(Serialize)]
pub(super) struct EvaluatedJson<'a> {
    accuracy: AccuracyJson,
    classes: Vec<ClassJson<'a>>,
    /// Of the pictures asked about, those that were learned.
    learned: usize,
    own_called_none: usize,
    unknown: usize,
    unknown_called_none: usize,
}

impl<'a> EvaluatedJson<'a> {
    pub fn new(session: &'a Session, judged: &JudgedPictures) -> EvaluatedJson<'a> {
        EvaluatedJson {
            accuracy: AccuracyJson::of(&judged.estimate),
            classes: classes_json(session, Some(&judged.estimate)),
            learned: judged.n_learned,
            own_called_none: judged.n_own_refused,
            unknown: judged.n_foreign,
            unknown_called_none: judged.n_foreign_refused,
        }
    }
}
