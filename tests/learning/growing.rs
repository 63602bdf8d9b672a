//! Learners whose network is trained: what they keep is bounded and goes on from the file, what they forget is out of it, and a training
//! that is interrupted changes nothing.

use crate::common::complaint;
use crate::common::program::succeeds;
use engram::data::{self, Dataset};
use engram::experiment::kept::MEMORY_FILE;
use engram::experiment::saved::Predictor;
use engram::learner::frozen::FrozenKind;
use engram::rng::{Purpose, Rng};
use engram::serve::{Kept, Served};
use engram::session::{Backbone, Growing, Picture, Session, Settings, Way};
use engram::settings::Choose;
use engram::training::{Listener, Progress, Silent};
use engram::{Device, Error};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const ALL: [Growing; 3] = [Growing::Icarl, Growing::Er, Growing::DerPp];

/// A picture of one colour, by class, with noise.
fn picture(class: &str, i: usize) -> Picture {
    let hue = ["red", "green", "blue", "grey"].iter().position(|name| *name == class).unwrap();
    let mut rng = Rng::keyed(hue as u64, Purpose::Test, i as u64);
    let mut pixels = Vec::with_capacity(3072);
    for channel in 0..3 {
        let base = if channel == hue || hue == 3 { 150 } else { 30 };
        pixels.extend((0..1024).map(|_| base + rng.below(60) as u8));
    }
    Picture { name: format!("{class}-{i}.png"), pixels }
}

fn pictures(class: &str, range: std::ops::Range<usize>) -> Vec<(Picture, String)> {
    range.map(|i| (picture(class, i), class.to_string())).collect()
}

fn session(kind: Growing, memory: usize) -> Session {
    let settings = Settings { method: Some(Way::Growing(kind)), memory, steps: 4, ..Settings::default() };
    Session::new(Backbone::open("natural32", &Device::cpu()).unwrap(), settings).unwrap()
}

fn names(session: &Session) -> Vec<&str> {
    session.classes().iter().map(|class| class.name.as_str()).collect()
}

fn said(session: &Session, queries: &[Picture]) -> Vec<String> {
    let answers = session.classify(queries).unwrap();
    answers.iter().map(|answer| session.classes()[answer.ranked[0].label].name.clone()).collect()
}

#[test]
fn a_learner_grows_and_goes_on_from_its_file() {
    for kind in ALL {
        let mut first = session(kind, 12);
        let learned = first.learn([pictures("red", 0..6), pictures("green", 0..6)].concat()).unwrap();
        let counts: Vec<_> =
            learned.classes.iter().map(|class| (class.n_added, class.n_held_out, class.n_now)).collect();
        assert_eq!(counts, [(6, 1, 6); 2], "a fifth, one at least, judges");
        let before = first.backbone().network().to_safetensors().unwrap();
        assert_eq!(first.estimate().unwrap().n, 2);

        let (bytes, path) = (first.to_bytes().unwrap(), Path::new("a.engram"));
        let mut loaded = Session::of_bytes(&bytes, path, &Device::cpu()).unwrap();
        assert!(loaded.to_bytes().unwrap() == bytes, "{kind:?}");
        // Two classes have outputs, and a third gets one; nothing of the first pictures is handed in again.
        for session in [&mut first, &mut loaded] {
            session.learn([pictures("blue", 0..6), pictures("red", 4..8)].concat()).unwrap();
        }
        assert!(loaded.to_bytes().unwrap() == first.to_bytes().unwrap(), "{kind:?}: it goes on to the bit");
        assert!(first.backbone().network().to_safetensors().unwrap() != before, "the network was trained");
        assert_eq!(first.backbone().network().n_outputs, 3);
        // A class that more pictures come to is learned with the new ones.
        assert_eq!(names(&first), ["green", "red", "blue"]);
        let n: Vec<usize> = first.classes().iter().map(|class| class.n).collect();
        assert_eq!((n, first.n_pictures()), (vec![6, 8, 6], 20), "two pictures were known before");
        let queries = ["red", "green", "blue"].map(|class| picture(class, 50));
        let answers = first.classify(&queries).unwrap();
        assert!(answers.iter().all(|answer| answer.ranked.len() == 3));
        if kind == Growing::Icarl {
            assert_eq!(said(&first, &queries), ["red", "green", "blue"]);
        }
    }
}

#[test]
fn the_memory_is_bounded_and_forgotten_classes_are_out_of_it() {
    for kind in ALL {
        let mut session = session(kind, 6);
        session.learn([pictures("red", 0..8), pictures("green", 0..8)].concat()).unwrap();
        session.learn(pictures("blue", 0..8)).unwrap();
        let held_out = session.estimate().unwrap().n;
        assert!(held_out == 3 && session.exemplars().len() <= 6 + held_out, "{}", session.exemplars().len());
        assert!(session.merge("red", "blue").unwrap_err().to_string().contains("forget the class"));

        let (n_kept, holds) = (session.exemplars().len(), |session: &Session, part: &[u8]| {
            session.to_bytes().unwrap().windows(part.len()).any(|window| window == part)
        });
        let of_red = (0..8).filter(|i| holds(&session, &picture("red", *i).pixels)).count();
        assert!(of_red > 0);
        assert_eq!(session.forget("red").unwrap().n_pictures, 8);
        assert_eq!((names(&session), session.exemplars().len()), (vec!["green", "blue"], n_kept - of_red));
        assert!((0..8).all(|i| !holds(&session, &picture("red", i).pixels)), "{kind:?}: a picture is left");
        assert!(!holds(&session, b"red-"), "a name is left");
        assert_eq!(session.backbone().network().n_outputs, 2, "its output is left");
        assert_eq!(session.classify(&[picture("red", 50)]).unwrap()[0].ranked.len(), 2);
        // A picture that is not kept any more can be forgotten too; then it may come again.
        assert_eq!(session.forget_picture(&picture("green", 3)).unwrap().n_pictures, 1);
        assert!(session.forget_picture(&picture("green", 3)).is_err());
        assert_eq!(session.n_pictures(), 15);
        let bytes = session.to_bytes().unwrap();
        let mut loaded = Session::of_bytes(&bytes, Path::new("a.engram"), &Device::cpu()).unwrap();
        loaded.learn(pictures("green", 3..4)).unwrap();
        assert_eq!((loaded.n_pictures(), loaded.forget("green").unwrap().n_pictures), (16, 8));
        assert_eq!(loaded.forget("blue").unwrap().n_classes, 1);
        assert!(loaded.classify(&[picture("red", 0)]).is_err() && loaded.exemplars().is_empty());
    }
}

/// Wants the training to end after some steps.
struct Ends<'a>(usize, &'a AtomicBool);

impl Listener for Ends<'_> {
    fn progress(&mut self, progress: &Progress) {
        self.1.store(progress.batch >= self.0, Relaxed);
    }
}

#[test]
fn a_training_that_is_interrupted_changes_nothing() {
    let mut session = session(Growing::Er, 10);
    let never = AtomicBool::new(false);
    session.learn_with(pictures("red", 0..5), &mut Silent, &never).unwrap();
    let before = session.to_bytes().unwrap();
    let ended = AtomicBool::new(false);
    let error = session.learn_with(pictures("blue", 0..5), &mut Ends(2, &ended), &ended).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert!(session.to_bytes().unwrap() == before);
    let small = Picture { name: "small.png".into(), pixels: vec![0; 3] };
    assert!(session.learn(vec![(small, "blue".into())]).is_err());
    let tight = Settings { memory: 1, ..session.settings() };
    session.set(tight).unwrap();
    assert!(session.learn(pictures("blue", 0..5)).unwrap_err().to_string().contains("--memory 2"));
    assert_eq!(session.n_pictures(), 5);
}

#[test]
fn methods_are_not_changed_where_the_pictures_are_gone() {
    let mut frozen = Session::new(Backbone::open("natural32", &Device::cpu()).unwrap(), Settings::default()).unwrap();
    frozen.learn(pictures("red", 0..3)).unwrap();
    for kind in ALL {
        let wanted = Settings { method: Some(Way::Growing(kind)), ..frozen.settings() };
        let error = frozen.set(wanted).unwrap_err().to_string();
        assert!(error.contains(Way::Growing(kind).name()) && error.contains("new file"), "{error}");
    }
    frozen.set(Settings { method: Some(Way::Frozen(FrozenKind::Fecam)), ..frozen.settings() }).unwrap();
    assert_eq!(frozen.method(), Some(Way::Frozen(FrozenKind::Fecam)));
}

#[test]
fn a_smaller_memory_holds_from_the_next_learning_on() {
    for kind in ALL {
        let mut session = session(kind, 12);
        session.learn([pictures("red", 0..8), pictures("green", 0..8)].concat()).unwrap();
        let trained_on = |session: &Session| session.exemplars().len() - session.estimate().unwrap().n;
        assert!(trained_on(&session) > 6, "{kind:?}: {}", trained_on(&session));
        session.set(Settings { memory: 6, ..session.settings() }).unwrap();
        session.learn(pictures("blue", 0..8)).unwrap();
        assert!(trained_on(&session) <= 6, "{kind:?}: {}", trained_on(&session));
    }
}

// --------------------------------------------------------------------------------------------------------------- from a run

const SMALL: &str = "--model mlp --width 0.2 --limit-per-task 60 --epochs 4 --memory 60 --device cpu --quiet";

/// The test pictures of a built-in set, each `every`-th.
fn test_pictures(dataset: &Dataset, every: usize) -> Vec<Picture> {
    let picture = |i: usize| Picture { name: format!("{i}.png"), pixels: dataset.test.image(i).to_vec() };
    (0..dataset.test.len()).step_by(every).map(picture).collect()
}

#[test]
fn a_complete_run_goes_on_as_a_learner() {
    let (dir, device) = (tempfile::tempdir().unwrap(), Device::cpu());
    // Grey without mirror images, and in colour with them.
    for (dataset, model) in [("glyphs", SMALL.to_string()), ("shapes", SMALL.replace("mlp", "cnn"))] {
        let images = data::spec(dataset).unwrap().load(Path::new("unused")).unwrap();
        let queries = test_pictures(&images, 40);
        for kind in ALL {
            let method = Way::Growing(kind).name();
            let name = format!("{method}-{dataset}");
            succeeds(&dir, &format!("{method} --dataset {dataset} {model} --out {name}"));
            let run = dir.path().join(&name);
            let mut session = Session::of_run(&run, &device).unwrap();
            assert_eq!(session.settings().memory, 60);

            // It answers as the run does.
            let predictor = Predictor::load(&run, &device).unwrap();
            let pixels = queries.iter().flat_map(|picture| &picture.pixels).copied().collect();
            let by_run = predictor.predict(pixels, &predictor.card.classifiers[0]).unwrap();
            let by_run: Vec<&str> =
                by_run.iter().map(|ranked| predictor.card.classes[ranked[0].label].name.as_str()).collect();
            assert_eq!(said(&session, &queries), by_run, "{name}");

            // What judges it was not trained on, and what it keeps was.
            let is_in = |images: &data::Images, pixels: &[u8]| (0..images.len()).any(|i| images.image(i) == pixels);
            let n_judges = session.estimate().unwrap().n;
            let kept = session.exemplars().images();
            let of_test = (0..kept.len()).filter(|&i| is_in(&images.test, kept.image(i))).count();
            let of_train = (0..kept.len()).filter(|&i| is_in(&images.train, kept.image(i))).count();
            assert_eq!((n_judges, of_test), (session.classes().len(), n_judges), "{name}: one of each class");
            assert!(of_train > 40 && of_train <= 60 && of_test + of_train == kept.len(), "{name}: {of_train}");

            // It takes another class, without the run and its data set.
            let bytes = session.to_bytes().unwrap();
            let mut loaded = Session::of_bytes(&bytes, Path::new("a.engram"), &device).unwrap();
            let grey = |i: u8| Picture { name: format!("{i}.png"), pixels: vec![i; images.train.image_bytes()] };
            for session in [&mut session, &mut loaded] {
                session.set(Settings { steps: 2, ..session.settings() }).unwrap();
                let n = session.classes().len();
                let new = (0..8).map(|i| (grey(10 * i), "plain".to_string())).collect();
                session.learn(new).unwrap();
                assert_eq!((session.classes().len(), session.backbone().network().n_outputs), (n + 1, n + 1));
            }
            assert!(session.to_bytes().unwrap() == loaded.to_bytes().unwrap(), "{name}");
            // Pictures that the run learned are known.
            let again = Picture { name: "again".into(), pixels: images.train.image(0).to_vec() };
            assert_eq!(session.forget_picture(&again).unwrap().n_pictures, 1, "{name}");
        }
    }
}

#[test]
fn a_run_that_cannot_go_on_is_refused() {
    let (dir, device) = (tempfile::tempdir().unwrap(), Device::cpu());
    let run = |command: &str| {
        succeeds(&dir, &format!("{command} {SMALL} --force --out run"));
        dir.path().join("run")
    };
    let words = ["icarl, er, der++", "--backbone"];
    complaint(Session::of_run(&run("a-gem"), &device), &words);
    complaint(Session::of_run(&run("er --scenario task"), &device), &words);
    complaint(Session::of_run(&run("er --scenario permuted --tasks 2"), &device), &words);
    complaint(Session::of_run(&dir.path().join("nothing"), &device), &["no such run folder"]);

    // Of four classes six never came: they have no output in the learner.
    let folder = run("icarl --max-tasks 2");
    let session = Session::of_run(&folder, &device).unwrap();
    assert_eq!((session.classes().len(), session.backbone().network().n_outputs), (4, 4));
    let path = folder.join(MEMORY_FILE);
    let whole = std::fs::read(&path).unwrap();
    for place in [whole.len() / 3, whole.len() - 9] {
        let mut damaged = whole.clone();
        damaged[place] ^= 4;
        std::fs::write(&path, damaged).unwrap();
        complaint(Session::of_run(&folder, &device), &["memory.safetensors", "damaged"]);
    }
    // That of another run.
    std::fs::write(&path, std::fs::read(run("icarl --max-tasks 2 --seed 2").join(MEMORY_FILE)).unwrap()).unwrap();
    let other = std::fs::read(&path).unwrap();
    std::fs::write(run("icarl --max-tasks 2").join(MEMORY_FILE), other).unwrap();
    complaint(Session::of_run(&folder, &device), &["memory.safetensors", "other weights"]);
    std::fs::remove_file(&path).unwrap();
    complaint(Session::of_run(&folder, &device), &words);
}

#[test]
fn a_picture_that_moves_is_learned_as_what_it_is_now() {
    let mut session = session(Growing::DerPp, 8);
    session.learn([pictures("red", 0..4), pictures("green", 0..4)].concat()).unwrap();
    let wrong: Vec<_> = (0..4).map(|i| (picture("green", i), "blue".to_string())).collect();
    let report = session.learn(wrong).unwrap();
    assert_eq!((report.classes[0].n_moved, report.classes[0].n_now), (4, 4));
    assert_eq!(names(&session), ["red", "blue"], "a class from which everything was moved is gone");
    assert_eq!(session.learn(pictures("red", 0..4)).unwrap().classes[0].n_known, 4);
}

/// It answers behind a server, which has no minutes to train in.
#[test]
fn a_served_learner_does_not_train() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.engram");
    let mut session = session(Growing::Icarl, 8);
    session.learn([pictures("red", 0..3), pictures("green", 0..3)].concat()).unwrap();
    session.save(&path).unwrap();
    let mut kept = Kept::open(&path, &Device::cpu()).unwrap();
    assert_eq!(kept.classify(&[picture("red", 9)], 1).unwrap()[0].classes[0].name, "red");
    let error = kept.learn("red", vec![picture("red", 9)]).unwrap_err();
    assert!(matches!(error, Error::Usage(_)) && error.to_string().contains("engram learn"), "{error}");
    kept.forget("green").unwrap();
    drop(kept);
    assert_eq!(names(&Session::load(&path, &Device::cpu()).unwrap()), ["red"]);
}
