//! A learner that is kept: what it knows does not depend on the order of learning, what it forgets leaves nothing behind, and its file
//! is whole or refused.

use engram::learner::frozen::{Fecam, FrozenKind, Ncm, Ranpac, Statistics, answers};
use engram::records::faults::{Fault, under};
use engram::rng::{Purpose, Rng};
use engram::session::{Backbone, Picture, Session, Settings, Way};
use engram::{Device, Error};
use std::path::Path;

const D: usize = 12;

/// `n` rows of features around a centre of the class.
fn features(class: u32, n: usize, key: u64) -> Vec<f32> {
    let mut centre = Rng::keyed(3, Purpose::Test, u64::from(class));
    let centre: Vec<f32> = (0..D).map(|_| centre.normal().abs()).collect();
    let mut rng = Rng::keyed(4, Purpose::Test, u64::from(class) << 32 | key);
    (0..n).flat_map(|_| centre.iter().map(|c| (c + 0.4 * rng.normal()).max(0.0)).collect::<Vec<_>>()).collect()
}

/// A name, and what makes one that has seen nothing.
type Kind = (&'static str, fn() -> Box<dyn Statistics>);

fn all_kinds() -> Vec<Kind> {
    vec![
        ("ncm", || Box::new(Ncm::new(D))),
        ("ranpac", || Box::new(Ranpac::new(D, 40, 1).unwrap())),
        ("fecam", || Box::new(Fecam::new(D))),
    ]
}

fn fitted(mut statistics: Box<dyn Statistics>, parts: &[(Vec<f32>, Vec<u32>)]) -> Box<dyn Statistics> {
    parts.iter().for_each(|(features, labels)| statistics.learn(features, labels).unwrap());
    statistics.fit().unwrap();
    statistics
}

fn class(label: u32, n: usize) -> (Vec<f32>, Vec<u32>) {
    (features(label, n, 0), vec![label; n])
}

fn near(a: &[f32], b: &[f32], to: f32) -> bool {
    let largest = a.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= to * largest)
}

#[test]
fn classes_learned_in_any_order_and_any_batches_are_those_learned_at_once() {
    for (name, build) in all_kinds() {
        let parts: Vec<_> = (0..4).map(|label| class(label, 30)).collect();
        let at_once = (
            parts.iter().flat_map(|part| part.0.clone()).collect(),
            parts.iter().flat_map(|part| part.1.clone()).collect(),
        );
        let at_once = fitted(build(), &[at_once]);
        let backwards: Vec<_> = parts.iter().rev().cloned().collect();
        let cut = parts.iter().flat_map(|(features, labels)| {
            let (a, b) = features.split_at(7 * D);
            [(a.to_vec(), labels[..7].to_vec()), (b.to_vec(), labels[7..].to_vec())]
        });
        let queries = [features(0, 9, 1), features(3, 9, 1)].concat();
        let expected = at_once.scores(&queries).unwrap();
        for parts in [parts.clone(), backwards, cut.collect()] {
            let scores = fitted(build(), &parts).scores(&queries).unwrap();
            assert!(near(&expected, &scores, 1e-5), "{name}: {expected:?}\n{scores:?}");
        }
        let right = answers(&expected, 4).iter().zip([[0; 9], [3; 9]].concat()).filter(|(a, b)| **a == *b).count();
        assert!(right >= 16, "{name}: {right} of 18 are right");
    }
}

#[test]
fn what_is_unlearned_leaves_nothing_behind() {
    for (name, build) in all_kinds() {
        let (two, third, more) = ([class(0, 30), class(1, 30)], class(2, 30), (features(1, 9, 5), vec![1; 9]));
        let never = fitted(build(), &two);
        let mut statistics = fitted(build(), &[&two[..], &[third.clone(), more.clone()]].concat());
        statistics.unlearn(&third.0, &third.1).unwrap();
        statistics.unlearn(&more.0, &more.1).unwrap();
        statistics.fit().unwrap();
        let queries = features(1, 20, 2);
        let (never, scores) = (never.scores(&queries).unwrap(), statistics.scores(&queries).unwrap());
        let known: Vec<f32> = scores.chunks_exact(3).flat_map(|row| row[..2].to_vec()).collect();
        assert!(near(&never, &known, 1e-5), "{name}");
        assert!(
            scores.chunks_exact(3).all(|row| row[2] == f32::NEG_INFINITY),
            "{name}: a class of which nothing is known"
        );
    }
}

#[test]
fn statistics_survive_a_checkpoint_bit_by_bit() {
    for (name, build) in all_kinds() {
        let before = fitted(build(), &[class(0, 20), class(1, 20)]);
        let mut after = build();
        before.kept().into_iter().for_each(|(name, values)| after.put_back(name, values));
        after.fit().unwrap();
        let queries = features(0, 10, 3);
        assert_eq!(before.scores(&queries).unwrap(), after.scores(&queries).unwrap(), "{name}");
    }
}

#[test]
fn scores_by_hand() {
    let mut ncm = Ncm::new(2);
    ncm.learn(&[3.0, 0.0, 0.0, 2.0, 0.0, 1.0], &[0, 1, 1]).unwrap();
    ncm.fit().unwrap();
    let scores = ncm.scores(&[3.0, 4.0]).unwrap();
    assert!(near(&scores, &[0.6, 0.8], 1e-6), "{scores:?}");
    // With α = (0, 0), two independent features of one spread: the distance in units of it.
    let mut fecam = Fecam::new(2).with_alpha([0.0, 0.0]);
    // Squares, because features are replaced by their roots: ±1 around 2 in both, without correlation.
    fecam.learn(&[1.0, 1.0, 1.0, 9.0, 9.0, 1.0, 9.0, 9.0], &[0, 0, 0, 0]).unwrap();
    fecam.fit().unwrap();
    let scores = fecam.scores(&[4.0, 16.0]).unwrap();
    assert!(near(&scores, &[-4.0], 1e-6), "{scores:?}");
}

/// The smallest penalty that leaves a matrix to solve with is taken.
#[test]
fn pictures_that_are_the_same_are_learned() {
    let mut ranpac = Ranpac::new(D, 40, 1).unwrap();
    ranpac.lambda = 1e-30;
    let other: Vec<f32> = (0..D).map(|i| (i % 2) as f32).collect();
    ranpac.learn(&[&[1.0; D][..], &[1.0; D], &other].concat(), &[0, 0, 1]).unwrap();
    ranpac.fit().unwrap();
    let scores = ranpac.scores(&[1.0; D]).unwrap();
    assert!(ranpac.lambda > 1e-30 && scores[0] > scores[1], "{scores:?}");
}

/// Leave-one-out in closed form is what fitting n times gives.
#[test]
fn leaving_one_out_in_closed_form_is_leaving_one_out() {
    let parts = [class(0, 9), class(1, 8), class(2, 7)];
    let rows: Vec<f32> = parts.iter().flat_map(|part| part.0.clone()).collect();
    let labels: Vec<u32> = parts.iter().flat_map(|part| part.1.clone()).collect();
    let mut ranpac = Ranpac::new(D, 40, 1).unwrap();
    let closed = ranpac.leave_one_out(&rows, &labels).unwrap();
    for i in 0..labels.len() {
        let mut others = Ranpac::new(D, 40, 1).unwrap();
        others.lambda = ranpac.lambda;
        let (mut fewer, mut their) = (rows.clone(), labels.clone());
        fewer.drain(i * D..(i + 1) * D);
        their.remove(i);
        others.learn(&fewer, &their).unwrap();
        others.fit().unwrap();
        let scores = others.scores(&rows[i * D..(i + 1) * D]).unwrap();
        assert!(near(&scores, &closed[3 * i..3 * i + 3], 1e-3), "{i}: {scores:?} {:?}", &closed[3 * i..3 * i + 3]);
    }
}

/// A striped picture: the class decides about colour and direction, the number about the rest.
fn picture(class: &str, i: usize) -> Picture {
    let seed = class.bytes().fold(7u64, |sum, byte| sum * 31 + u64::from(byte));
    let mut rng = Rng::keyed(seed, Purpose::Test, i as u64);
    let (hue, step, across) = (seed % 3, 2 + seed % 5, seed % 2 == 0);
    let mut pixels = Vec::with_capacity(3072);
    for channel in 0..3 {
        for at in 0..1024u64 {
            let place = if across { at % 32 } else { at / 32 };
            let stripe = u64::from((place / step).is_multiple_of(2)) * 90;
            let colour = if channel == hue { 120 } else { 30 };
            pixels.push((colour + stripe) as u8 + rng.below(40) as u8);
        }
    }
    Picture { name: format!("{class}-{i}.png"), pixels }
}

fn pictures(class: &str, range: std::ops::Range<usize>) -> Vec<(Picture, String)> {
    range.map(|i| (picture(class, i), class.to_string())).collect()
}

fn session(method: Option<FrozenKind>) -> Session {
    let backbone = Backbone::open("natural32", &Device::cpu()).unwrap();
    let method = method.map(Way::Frozen);
    Session::new(backbone, Settings { method, exemplars: 3, ..Settings::default() }).unwrap()
}

const QUERIES: [(&str, usize); 4] = [("moss", 100), ("rust", 101), ("sky", 102), ("moss", 103)];

/// Name and confidence of every class for a few pictures, by name.
fn answered(session: &Session) -> Vec<Vec<(String, u64)>> {
    let queries: Vec<Picture> = QUERIES.iter().map(|(class, i)| picture(class, *i)).collect();
    let answers = session.classify(&queries).unwrap();
    let named = |answer: &engram::session::Answer| {
        let mut named: Vec<(String, u64)> = answer
            .ranked
            .iter()
            .map(|one| (session.classes()[one.label].name.clone(), one.confidence.to_bits()))
            .collect();
        named.sort();
        named
    };
    answers.iter().map(named).collect()
}

#[test]
fn the_order_of_learning_leaves_no_trace() {
    for method in [None, Some(FrozenKind::Ncm), Some(FrozenKind::Fecam)] {
        let (mut forwards, mut backwards) = (session(method), session(method));
        for class in ["moss", "rust", "sky"] {
            forwards.learn(pictures(class, 0..6)).unwrap();
        }
        for class in ["sky", "rust", "moss"] {
            for i in (0..6).rev() {
                backwards.learn(pictures(class, i..i + 1)).unwrap();
            }
        }
        let (a, b) = (answered(&forwards), answered(&backwards));
        let close = |a: u64, b: u64| (f64::from_bits(a) - f64::from_bits(b)).abs() < 1e-5;
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            assert!(a.0 == b.0 && close(a.1, b.1), "{method:?}: {a:?} {b:?}");
        }
        assert_eq!(forwards.exemplars().len(), 9);
    }
}

#[test]
fn forgetting_is_never_having_seen() {
    let mut never = session(None);
    never.learn(pictures("moss", 0..8)).unwrap();
    never.learn(pictures("rust", 0..8)).unwrap();
    let before = answered(&never);
    let mut other = session(None);
    other.learn(pictures("moss", 0..8)).unwrap();
    other.learn(pictures("sky", 0..8)).unwrap();
    other.learn(pictures("rust", 0..9)).unwrap();
    assert_eq!(other.forget("sky").unwrap().n_pictures, 8);
    assert_eq!(other.forget_picture(&picture("rust", 8)).unwrap().n_pictures, 1);
    assert_eq!(answered(&other), before, "to the bit");
    assert_eq!(other.estimate(), never.estimate());
    // Nothing of it is left in the file.
    let bytes = other.to_bytes().unwrap();
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(holds(b"moss-0.png") && !holds(b"sky-0.png") && !holds(b"rust-8.png"));
    let [kept, gone] = ["moss", "sky"].map(|class| (0..8).filter(|i| holds(&picture(class, *i).pixels[..64])).count());
    assert_eq!((kept, gone), (3, 0), "exemplars of moss and of sky");
    // The last class can go, too.
    other.forget("moss").unwrap();
    assert_eq!(other.forget("rust").unwrap().n_classes, 1);
    assert!(other.classify(&[picture("moss", 1)]).unwrap_err().to_string().contains("knows no class"));
}

#[test]
fn known_pictures_are_counted_once_and_mistakes_are_mended() {
    let mut session = session(None);
    session.learn(pictures("moss", 0..5)).unwrap();
    let again = session.learn([pictures("moss", 3..7), pictures("rust", 0..3)].concat()).unwrap();
    let counts: Vec<_> =
        again.classes.iter().map(|class| (class.name.as_str(), class.is_new, class.n_added, class.n_known)).collect();
    assert_eq!(counts, [("moss", false, 2, 2), ("rust", true, 3, 0)]);
    let wrong: Vec<_> = (0..3).map(|i| (picture("rust", i), "iron".to_string())).collect();
    let moved = session.learn(wrong).unwrap();
    assert_eq!((moved.classes[0].n_moved, moved.classes[0].n_now), (3, 3));
    let names: Vec<&str> = session.classes().iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names, ["moss", "iron"], "a class from which everything was moved is gone");
    session.rename("iron", "rust").unwrap();
    assert!(session.rename("rust", "moss").unwrap_err().to_string().contains("merge"));
    assert_eq!(session.merge("rust", "moss").unwrap(), 10);
    let error = session.forget("mosss").unwrap_err();
    assert!(matches!(error, Error::Usage(_)) && error.to_string().contains("Did you mean 'moss'?"), "{error}");
}

#[test]
fn few_pictures_are_not_taken_for_proof() {
    let mut few = session(None);
    few.learn(pictures("moss", 0..2)).unwrap();
    assert!(few.estimate().is_none(), "one class");
    few.learn(pictures("rust", 0..1)).unwrap();
    let estimate = few.estimate().unwrap();
    assert_eq!((estimate.n, estimate.per_class[1]), (2, (0, 0)), "the only one of its class is not judged");
    let (low, _) = estimate.interval();
    assert!(low < 0.5, "two pictures prove nothing: {low}");
    assert_eq!(few.method(), Some(Way::Frozen(FrozenKind::Ncm)));
    few.learn([pictures("moss", 2..20), pictures("rust", 1..20)].concat()).unwrap();
    assert_eq!(few.method(), Some(Way::Frozen(FrozenKind::Ranpac)));
}

#[test]
fn a_file_holds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("parts.engram");
    for method in [None, Some(FrozenKind::Ncm), Some(FrozenKind::Fecam)] {
        let mut session = session(method);
        session.learn([pictures("moss", 0..7), pictures("rust", 0..7), pictures("sky", 0..7)].concat()).unwrap();
        session.save(&path).unwrap();
        let mut loaded = Session::load(&path, &Device::cpu()).unwrap();
        assert_eq!(answered(&loaded), answered(&session));
        assert!(loaded.to_bytes().unwrap() == session.to_bytes().unwrap());
        // It goes on like the one that was never saved.
        loaded.learn(pictures("snow", 0..4)).unwrap();
        session.learn(pictures("snow", 0..4)).unwrap();
        assert!(loaded.to_bytes().unwrap() == session.to_bytes().unwrap());
    }
}

/// Two networks of one name are two backbones.
#[test]
fn backbones_are_told_apart_by_their_weights() {
    let open = || Backbone::open("natural32", &Device::cpu()).unwrap();
    let (a, b) = (open(), open());
    assert!(a.is_same(&b).unwrap());
    b.network().parameters.set("bn1.bias", &[16], &[0.5; 16]).unwrap();
    assert!(a.name() == b.name() && !a.is_same(&b).unwrap());
}

#[test]
fn damaged_files_are_refused_with_one_clear_message() {
    let mut session = session(None);
    session.learn([pictures("moss", 0..5), pictures("rust", 0..5)].concat()).unwrap();
    let (whole, path) = (session.to_bytes().unwrap(), Path::new("parts.engram"));
    let load = |bytes: &[u8]| Session::of_bytes(bytes, path, &Device::cpu());
    assert!(load(&whole).is_ok());
    let mut rng = Rng::keyed(5, Purpose::Test, 0);
    for _ in 0..200 {
        let mut bytes = whole.clone();
        let at = rng.below(bytes.len() as u32) as usize;
        match rng.below(3) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes.truncate(at),
            _ => drop(bytes.drain(at..(at + 1 + rng.below(50) as usize).min(whole.len()))),
        }
        let error = load(&bytes).err().unwrap_or_else(|| panic!("a change at {at} was not noticed")).to_string();
        assert!(error.starts_with("parts.engram: ") && error.lines().count() == 1, "{error}");
    }
    let at = whole.windows(12).position(|window| window == b"\\\"format\\\":1").unwrap();
    let mut newer = whole.clone();
    newer[at + 11] = b'9';
    assert!(load(&newer).err().unwrap().to_string().contains("newer engram"));
    assert!(load(b"").err().unwrap().to_string().contains("no learner of engram"));
}

#[test]
fn a_write_that_fails_anywhere_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("parts.engram");
    let mut session = session(Some(FrozenKind::Ncm));
    session.learn(pictures("moss", 0..3)).unwrap();
    session.save(&path).unwrap();
    let old = std::fs::read(&path).unwrap();
    session.learn(pictures("rust", 0..3)).unwrap();
    let new = session.to_bytes().unwrap();
    let n_steps = under(Fault::None, || session.save(&path)).1;
    assert!(n_steps >= 5);
    for step in 0..n_steps {
        for fault in [Fault::FailsAt(step), Fault::FullFrom(step), Fault::KilledAt(step)] {
            std::fs::write(&path, &old).unwrap();
            assert!(under(fault, || session.save(&path)).0.is_err());
            let left = std::fs::read(&path).unwrap();
            assert!(left == old || left == new, "{fault:?} leaves half a file");
        }
    }
}

#[test]
fn classes_of_any_size_are_learned() {
    let mut session = session(Some(FrozenKind::Ranpac));
    session.learn(pictures("moss", 0..1)).unwrap();
    session.learn([pictures("rust", 0..2), pictures("sky", 0..1100)].concat()).unwrap();
    let n: Vec<usize> = session.classes().iter().map(|class| class.n).collect();
    assert_eq!(n, [1, 2, 1100]);
    let estimate = session.estimate().unwrap();
    assert_eq!(estimate.judged, engram::session::Judged::HeldOut);
    assert!(
        estimate.per_class[0].0 == 0 && estimate.per_class[1].0 == 1 && estimate.per_class[2].0 == 220,
        "{estimate:?}"
    );
    let wrong = Picture { name: "small.png".into(), pixels: vec![0; 10] };
    assert!(session.learn(vec![(wrong, "sky".into())]).unwrap_err().to_string().contains("small.png"));
    assert!(session.learn(vec![(picture("a", 1), " ".into())]).is_err());
    assert_eq!(session.n_pictures(), 1103, "an error changes nothing");
}
