//! A learner in its file, served.

use super::{Answer, Class, Guess, Nearest, Served};
use crate::data::pictures::Frame;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::records::lock::Lock;
use crate::session::{Learned, NOT_UNLEARNED, Picture, Session, Way};
use std::path::{Path, PathBuf};

/// A session with the file that it lies in, which nobody else changes meanwhile.
pub struct Kept {
    session: Session,
    path: PathBuf,
    device: Device,
    _lock: Lock,
}

impl Kept {
    /// Reads the file.
    ///
    /// # Errors
    /// As [`Session::load`]; if another process is about to change the file.
    pub fn open(path: &Path, device: &Device) -> Result<Kept> {
        let lock = Lock::of_file(path)?;
        let session = Session::load(path, device)?;
        Ok(Kept { session, path: path.into(), device: device.clone(), _lock: lock })
    }

    /// What is served.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Writes what was changed; where that fails, goes back to what the file has.
    fn save(&mut self) -> Result<()> {
        self.session.save(&self.path).inspect_err(|_| {
            if let Ok(before) = Session::load(&self.path, &self.device) {
                self.session = before;
            }
        })
    }
}

impl Served for Kept {
    fn frame(&self) -> Frame {
        self.session.frame()
    }

    fn classes(&self) -> Vec<Class> {
        self.session.classes().iter().map(|class| Class { name: class.name.clone(), pictures: class.n }).collect()
    }

    fn classify(&mut self, pictures: &[Picture], top_k: usize) -> Result<Vec<Answer>> {
        let name = |label: usize| self.session.classes()[label].name.clone();
        let answers = self.session.classify(pictures)?.into_iter().map(|answer| Answer {
            classes: answer
                .ranked
                .iter()
                .take(top_k)
                .map(|one| Guess { name: name(one.label), confidence: one.confidence })
                .collect(),
            is_known: answer.is_known,
            nearest: Some(Nearest {
                file: answer.nearest.name.clone(),
                class: name(answer.nearest.label),
                similarity: answer.nearest.similarity,
            }),
        });
        Ok(answers.collect())
    }

    fn learn(&mut self, class: &str, pictures: Vec<Picture>) -> Result<Vec<String>> {
        if self.session.method().or(self.session.settings().method).is_some_and(Way::grows) {
            return Err(Error::usage(
                "this learner trains its network on what it learns, which takes minutes: stop the server and use engram learn",
            ));
        }
        let named = pictures.into_iter().map(|picture| (picture, class.to_string())).collect();
        let learned = self.session.learn(named)?;
        self.save()?;
        Ok(notes(&learned))
    }

    fn forget(&mut self, class: &str) -> Result<Vec<String>> {
        let grows = self.session.method().is_some_and(Way::grows);
        self.session.forget(class)?;
        self.save()?;
        Ok(if grows { vec![format!("Of {class}: {NOT_UNLEARNED}.")] } else { Vec::new() })
    }
}

/// What is not as the person may think.
fn notes(learned: &Learned) -> Vec<String> {
    let mut notes = Vec::new();
    let pictures = |n: usize| if n == 1 { "1 picture".to_string() } else { format!("{n} pictures") };
    for class in &learned.classes {
        if class.n_known > 0 {
            notes.push(format!("{} of {} known already.", pictures(class.n_known), class.name));
        }
        if class.n_moved > 0 {
            notes.push(format!("{} moved here from another class.", pictures(class.n_moved)));
        }
    }
    notes
}
