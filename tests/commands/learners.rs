//! The commands of learners as a person meets them: files that cannot be read, two at once, a full disk, a kill at any moment.

use crate::common::program::{fails, names, succeeds};
use engram::Device;
use engram::rng::{Purpose, Rng};
use engram::session::{Backbone, Picture, Session, Settings};
use std::path::Path;

/// Folders of pictures of one colour and some noise.
pub(super) fn folders(dir: &Path, classes: &[(&str, usize)]) {
    for (class, n) in classes {
        let path = dir.join(class);
        std::fs::create_dir_all(&path).unwrap();
        let mut rng = Rng::keyed(class.len() as u64, Purpose::Test, 0);
        for i in 0..*n {
            let mut pixel = |_, _| image::Rgb([class.len() as u8 * 30 + rng.below(20) as u8, i as u8, 90]);
            image::RgbImage::from_fn(32, 32, &mut pixel).save(path.join(format!("{i}.png"))).unwrap();
        }
    }
}

#[test]
fn files_that_are_no_pictures_are_left_out_and_said() {
    let dir = tempfile::tempdir().unwrap();
    folders(&dir.path().join("p"), &[("one", 1), ("three", 2), ("seventh", 6)]);
    std::fs::write(dir.path().join("p/one/broken.png"), b"\x89PNG\r\n\x1a\nnothing").unwrap();
    std::fs::write(dir.path().join("p/one/notes.txt"), b"notes").unwrap();
    let learned = succeeds(dir.path(), "learn a.engram --from p --device cpu");
    assert!(learned.err.contains("broken.png") && learned.err.contains("left out"), "{}", learned.err);
    assert!(learned.err.contains("note: left out: 1 "), "{}", learned.err);
    let json = succeeds(dir.path(), "inspect a.engram --json").out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let n: Vec<u64> = json["classes"].as_array().unwrap().iter().map(|c| c["pictures"].as_u64().unwrap()).collect();
    assert_eq!(n.iter().sum::<u64>(), 9, "{json}");
    // Nothing but what cannot be read: no file is made.
    folders(&dir.path().join("q"), &[("one", 0)]);
    std::fs::write(dir.path().join("q/one/broken.png"), b"no picture").unwrap();
    fails(dir.path(), "learn b.engram --from q --device cpu", 1, &["broken.png"]);
    assert!(!dir.path().join("b.engram").exists());
    fails(dir.path(), "classify a.engram p/one/broken.png --device cpu", 1, &["broken.png"]);
}

/// A class may be called `train`, and nothing beside a split vanishes.
#[test]
fn a_folder_called_train_may_be_a_class() {
    let dir = tempfile::tempdir().unwrap();
    folders(&dir.path().join("p"), &[("train", 3), ("bus", 3)]);
    let text = succeeds(dir.path(), "learn a.engram --from p --device cpu").out;
    assert!(text.contains("train") && text.contains("bus"), "{text}");
    folders(&dir.path().join("q/train"), &[("steam", 3), ("diesel", 3)]);
    folders(&dir.path().join("q"), &[("bus", 3)]);
    fails(dir.path(), "learn b.engram --from q --device cpu", 1, &["beside it bus"]);
}

#[test]
fn pictures_are_forgotten_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    folders(&dir.path().join("p"), &[("one", 3), ("three", 3)]);
    folders(&dir.path().join("q"), &[("seventh", 1)]);
    succeeds(dir.path(), "learn a.engram --from p --device cpu");
    let text =
        succeeds(dir.path(), "forget a.engram --picture p/one/0.png --picture p/one/0.png --picture p/three/1.png").out;
    assert!(text.contains("2 pictures are forgotten"), "{text}");
    fails(dir.path(), "forget a.engram --picture p/one/1.png --picture q/seventh/0.png", 2, &["never learned"]);
    let inspected = succeeds(dir.path(), "inspect a.engram --json").out;
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["pictures"], 4, "{inspected}");
}

/// `learn` says of the pictures for testing what `evaluate` says.
#[test]
fn pictures_for_testing_are_judged_as_evaluate_does() {
    let dir = tempfile::tempdir().unwrap();
    for part in ["train", "test"] {
        folders(&dir.path().join("p").join(part), &[("one", 3), ("three", 3)]);
    }
    folders(&dir.path().join("p/test"), &[("seventh", 2)]);
    let text = succeeds(dir.path(), "learn a.engram --from p --device cpu").out;
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat.contains("6 of them were learned") && flat.contains("2 pictures of classes that it does not know"),
        "{text}"
    );
    let learned = succeeds(dir.path(), "learn b.engram --from p --json --device cpu").out;
    let learned: serde_json::Value = serde_json::from_str(&learned).unwrap();
    assert_eq!((&learned["tested"]["learned"], &learned["tested"]["unknown"]), (&6.into(), &2.into()), "{learned}");
}

#[test]
fn two_at_once_and_files_that_are_no_learners_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    folders(&dir.path().join("p"), &[("one", 3), ("three", 3)]);
    succeeds(dir.path(), "learn a.engram --from p --device cpu");
    let whole = std::fs::read(dir.path().join("a.engram")).unwrap();
    {
        let _lock = engram::records::lock::Lock::of_file(&dir.path().join("a.engram")).unwrap();
        for command in ["learn a.engram --from p --device cpu", "forget a.engram one", "rename a.engram one two"] {
            fails(dir.path(), command, 2, &["a.engram"]);
        }
        succeeds(dir.path(), "inspect a.engram");
    }
    assert!(std::fs::read(dir.path().join("a.engram")).unwrap() == whole);
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(dir.path().join("damaged.engram"), damaged).unwrap();
    fails(dir.path(), "classify damaged.engram p/one --device cpu", 1, &["damaged.engram", "damaged"]);
    fails(dir.path(), "learn damaged.engram --from p --device cpu", 1, &["damaged.engram", "damaged"]);
    let at = whole.windows(12).position(|window| window == b"\\\"format\\\":1").unwrap();
    let mut newer = whole;
    newer[at + 11] = b'9';
    std::fs::write(dir.path().join("newer.engram"), newer).unwrap();
    fails(dir.path(), "learn newer.engram --from p --device cpu", 1, &["newer engram", "update"]);
}

#[test]
fn settings_of_a_training_are_refused_where_nothing_is_trained() {
    let dir = tempfile::tempdir().unwrap();
    folders(&dir.path().join("p"), &[("one", 4), ("three", 4)]);
    let learn = "learn a.engram --from p --device cpu";
    fails(dir.path(), &format!("{learn} --memory 10"), 2, &["--memory has no effect", "icarl, er and der++"]);
    fails(dir.path(), &format!("{learn} --steps 10 --method ncm"), 2, &["--steps has no effect"]);
    for n in ["0", "1000001"] {
        fails(dir.path(), &format!("{learn} --steps {n} --method er"), 2, &[&format!("--steps {n}"), "1000000"]);
    }
    fails(dir.path(), &format!("{learn} --exemplars 3 --method er"), 2, &["--exemplars", "--memory"]);
    let learned = succeeds(dir.path(), &format!("{learn} --method er --steps 2 --memory 8"));
    assert!(learned.out.contains("held out") && learned.out.contains("Told apart by er"), "{}", learned.out);
    assert!(learned.err.contains("steps"), "{}", learned.err);
    fails(dir.path(), &format!("{learn} --method ranpac"), 2, &["goes by er", "new file"]);
    let inspected = succeeds(dir.path(), "inspect a.engram --sheet a.png");
    assert!(inspected.out.contains("trained on from natural32"), "{}", inspected.out);
    let forgotten = succeeds(dir.path(), "forget a.engram one");
    assert!(forgotten.err.contains("weights have learned") && forgotten.err.contains("new file"), "{}", forgotten.err);
    fails(dir.path(), "merge a.engram three three", 2, &["itself"]);
}

#[test]
fn a_run_becomes_a_learner_by_one_command() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(
        dir.path(),
        "icarl --model mlp --width 0.2 --limit-per-task 60 --epochs 4 --memory 60 --device cpu --quiet --out run",
    );
    let learned = succeeds(dir.path(), "learn a.engram --from-run run --device cpu --steps 3");
    assert!(learned.out.contains("Told apart by icarl") && learned.out.contains("of 10 right"), "{}", learned.out);
    assert!(learned.out.contains("engram learn a.engram --from DIR"), "{}", learned.out);
    folders(&dir.path().join("p"), &[("one", 3), ("three", 3)]);
    let extended = succeeds(dir.path(), "learn a.engram --from p --device cpu");
    assert!(extended.err.contains(": 4 steps"), "{}", extended.err);
    assert!(extended.out.contains("12 classes"), "{}", extended.out);
    succeeds(dir.path(), "classify a.engram p/one --device cpu");
    fails(dir.path(), "learn a.engram --from-run run", 2, &["a.engram", "there is such a file"]);
    fails(dir.path(), "learn b.engram --from-run run --from p", 2, &["--from-run", "--from"]);
    fails(dir.path(), "learn b.engram --from-run run --backbone natural32", 2, &["--from-run", "--backbone"]);
    fails(dir.path(), "learn b.engram --from-run nowhere", 2, &["nowhere", "no such run folder"]);
    fails(dir.path(), "learn b.engram --from-run run --exemplars 3", 2, &["--exemplars", "--memory"]);
    assert!(!dir.path().join("b.engram").exists());
}

/// A small network of a run keeps it short.
#[test]
fn a_class_of_five_thousand_pictures_is_learned() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = "er --dataset glyphs --model mlp --limit-per-task 10 --epochs 1 --device cpu --quiet --out run";
    succeeds(dir.path(), tiny);
    let backbone = Backbone::open(dir.path().join("run").to_str().unwrap(), &Device::cpu()).unwrap();
    let mut session = Session::new(backbone, Settings::default()).unwrap();
    let picture = |class: u64, i: usize| {
        let mut rng = Rng::keyed(class, Purpose::Test, i as u64);
        let pixels = (0..784).map(|at| ((at % 28 > 14) == (class == 0)) as u8 * 200 + rng.below(50) as u8).collect();
        (Picture { name: format!("{i}.png"), pixels }, format!("class {class}"))
    };
    session.learn((0..5000).map(|i| picture(0, i)).collect()).unwrap();
    session.learn(vec![picture(1, 0), picture(1, 1)]).unwrap();
    let n: Vec<usize> = session.classes().iter().map(|class| class.n).collect();
    assert_eq!(n, [5000, 2]);
    assert!(session.estimate().unwrap().n > 500);
    let answers = session.classify(&[picture(0, 9000).0, picture(1, 9000).0]).unwrap();
    let labels: Vec<usize> = answers.iter().map(|answer| answer.ranked[0].label).collect();
    assert_eq!(labels, [0, 1]);
    let path = dir.path().join("a.engram");
    session.save(&path).unwrap();
    assert_eq!(Session::load(&path, &Device::cpu()).unwrap().n_pictures(), 5002);
}

#[test]
fn a_data_set_becomes_folders_of_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let said = succeeds(dir.path(), "datasets pictures glyphs out --per-class 3 --test-per-class 2 --seed 4").out;
    assert_eq!(said, "out: 30 pictures in train, 20 in test\n");
    let [train, again] = ["out/train/0", "again/train/0"].map(|path| dir.path().join(path));
    assert_eq!(names(&train).len(), 3);
    fails(dir.path(), "datasets pictures glyphs out", 2, &["out exists"]);
    fails(dir.path(), "datasets pictures glyphs x --per-class 0", 2, &["--per-class"]);
    succeeds(dir.path(), "datasets pictures glyphs again --per-class 3 --test-per-class 0 --seed 4");
    assert_eq!(names(&train), names(&again), "drawn by the seed");
    succeeds(dir.path(), "datasets pictures glyphs other --per-class 3 --test-per-class 0 --seed 5");
    assert_ne!(names(&train), names(dir.path().join("other/train/0")));
    // A picture is the image of the data set.
    let dataset = engram::data::spec("glyphs").unwrap().load("".as_ref()).unwrap();
    let name = &names(&train)[0];
    let i: usize = name.trim_end_matches(".png").parse().unwrap();
    let picture = image::open(train.join(name)).unwrap().into_luma8();
    assert_eq!((picture.into_raw(), dataset.train.labels[i]), (dataset.train.image(i).to_vec(), 0));
    std::fs::create_dir(dir.path().join("left.part")).unwrap();
    fails(dir.path(), "datasets pictures glyphs left", 2, &["left.part", "remove it"]);
    succeeds(dir.path(), "learn a.engram --from out --device cpu");
}

/// A learner holds pictures: who may read it is not decided anew by every change, and a link leads to the one file that there is.
#[cfg(unix)]
#[test]
fn a_change_keeps_who_may_read_the_file_and_follows_links() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    folders(&dir.path().join("p"), &[("one", 3), ("three", 3)]);
    succeeds(dir.path(), "learn a.engram --from p --device cpu");
    let file = dir.path().join("a.engram");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink("a.engram", dir.path().join("link.engram")).unwrap();
    succeeds(dir.path(), "rename link.engram one two");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(dir.path().join("link.engram").is_symlink());
    assert!(succeeds(dir.path(), "inspect a.engram").out.contains("two"));
}
