//! From a complete run to a learner that goes on from it.

use super::carried::{Carrying, network_of};
use super::grown::Grown;
use super::memory::is_grey;
use super::{Backbone, Class, Session, Settings, Way};
use crate::continual::Learner;
use crate::data::labelled::class_name;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::experiment::kept::{KeptMemory, MEMORY_FILE};
use crate::experiment::saved::{self, ModelCard};
use crate::settings::Choose;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

impl Session {
    /// The learner that a complete run leads to: its network, its classes, the pictures and whatever else its method keeps. It answers
    /// as the run does, by the method's own classifier, and takes more pictures and classes by the same method. What was held out of
    /// the run for testing judges it, as far as the memory has room.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such run, or none that a learner can go on from: its method must be one of [`Growing`](super::Growing),
    /// its pictures have one class each, and its answers need no task; another if the folder is damaged.
    pub fn of_run(folder: &Path, device: &Device) -> Result<Session> {
        let card = saved::read_whole(folder)?;
        let kept = KeptMemory::read(folder, &card)?;
        let (Some(Way::Growing(kind)), Some(kept)) = (Way::named(&card.method), kept) else {
            return Err(cannot(folder, &card));
        };
        let damaged = |why: String| Error::file(folder.join(MEMORY_FILE), format!("damaged: {why}"));
        let settings = Settings {
            method: Some(Way::Growing(kind)),
            memory: kept.capacity,
            seed: kept.seed,
            ..Settings::default()
        };
        let mut session = Session::new(Backbone::of_run(folder, device)?, settings)?;
        let (images, channels) = (Arc::new(kept.pictures.images().clone()), card.input[0]);
        let mut method = {
            let course = session.course_of(kind)?;
            (course.method.build)(&course.values)
        };
        let as_it_was = session.backbone.subject_of(session.backbone.network().snapshot()?)?;
        method.restore(&Learner::of(as_it_was, images.clone()), kept.state).map_err(|e| damaged(e.to_string()))?;
        // Outputs of classes that never came are left behind.
        let n_classes = card.classes.len();
        method.renumber(&Carrying {
            sample: &|place| ((place as usize) < images.len()).then_some(place),
            label: &|label| ((label as usize) < n_classes).then_some(label),
            n_outputs: n_classes,
        })?;
        let rows: Vec<Option<usize>> = (0..n_classes).map(Some).collect();
        let network = network_of(&session.backbone, n_classes, &rows, kept.seed)?;
        let mut learner = Learner::of(session.backbone.subject_of(network)?, images.clone());
        learner.flips &= (0..images.len()).any(|i| !is_grey(images.image(i), channels));

        let classes = classes(&card, &kept.learned).map_err(|e| damaged(e.to_string()))?;
        let names = names(&classes, &images.labels, &kept.digests);
        let grown = Grown {
            learned: kept.learned,
            held_out: kept.held_out,
            n_trainings: kept.n_trainings,
            n_epochs: kept.n_epochs,
            ..Grown::default()
        };
        let of_classes: Vec<(String, usize)> = classes.iter().map(|class| (class.name.clone(), class.n)).collect();
        session.take_over(kind, classes, grown, learner, (method, kept.digests), &names)?;
        for (name, n) in of_classes {
            session.note("learned", &name, n);
        }
        Ok(session)
    }
}

/// Whether a learner can go on from the run of a method in this folder, by what lies there.
pub fn goes_on(folder: &Path, method: &str) -> bool {
    Way::named(method).is_some_and(Way::grows) && folder.join(MEMORY_FILE).is_file()
}

fn cannot(folder: &Path, card: &ModelCard) -> Error {
    let growing: Vec<&str> = Way::NAMED.iter().filter(|(way, ..)| way.grows()).map(|(_, name, _)| *name).collect();
    Error::usage(format!(
        "{}: a learner cannot go on from this run of {}: that takes a complete one of {} whose images have one class each, told apart \
         without the task. Its features alone: --backbone {}",
        folder.display(),
        card.method,
        growing.join(", "),
        folder.display()
    ))
}

/// By label.
fn classes(card: &ModelCard, learned: &BTreeMap<u128, u32>) -> Result<Vec<Class>> {
    let mut classes = Vec::new();
    for class in &card.classes {
        classes.push(Class { name: class_name(&class.name)?, n: 0 });
    }
    learned.values().for_each(|&label| classes[label as usize].n += 1);
    let distinct: BTreeSet<&str> = classes.iter().map(|class| class.name.as_str()).collect();
    match distinct.len() == classes.len() && classes.iter().all(|class| class.n > 0) {
        true => Ok(classes),
        false => Err(Error::usage("two classes have one name, or one has no picture")),
    }
}

/// The names of pictures whose files are not known: class and number.
fn names(classes: &[Class], labels: &[u32], digests: &[u128]) -> BTreeMap<u128, String> {
    let mut n = vec![0; classes.len()];
    let name = |(&label, &digest): (&u32, &u128)| {
        n[label as usize] += 1;
        (digest, format!("{} {}", classes[label as usize].name, n[label as usize]))
    };
    labels.iter().zip(digests).map(name).collect()
}
