//! A structural fuzzer: every field of every file that engram writes and reads back is removed, emptied, made huge, or given another
//! type. Readers return a value or an error with a reason, and what they read can be used: nothing panics.

use crate::common::changes::{Parts, change_every_field, others, others_to_restore, temp, try_all, with};
use crate::common::program::{succeeds, unsealed};
use crate::common::runs::{Interrupt, Pairs, config_of, glyphs, shape_city};
use engram::campaign::compared;
use engram::continual;
use engram::data::{Dataset, Target};
use engram::experiment::checkpoint::CHECKPOINT_FILE;
use engram::experiment::kept::MEMORY_FILE;
use engram::experiment::results::RunFolder;
use engram::experiment::saved::Predictor;
use engram::experiment::sink::Silent;
use engram::experiment::{CONFIG_FILE, Config, complete, recorded_in, resume, run};
use engram::models::{self, LayerList, Network, Options};
use engram::report::{write_run, write_seeds};
use engram::session::{Backbone, Growing, Picture, Session, Settings, Way};
use engram::{Device, Error};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

const TINY: &str = "--limit-per-task 20 --epochs 1 --model mlp --width 0.05 --device cpu --threads 1 --quiet";

/// The same for files of JSON in a folder.
fn change_everything(folder: &Path, files: &[&str], read: impl Fn()) -> usize {
    let mut n = 0;
    for name in files {
        let path = folder.join(name);
        let whole = std::fs::read_to_string(&path).unwrap();
        n += change_every_field(&serde_json::from_str(&unsealed(&whole)).unwrap(), &others(), name, |changed| {
            std::fs::write(&path, changed.to_string()).unwrap();
            read();
        });
        std::fs::write(&path, whole).unwrap();
    }
    n
}

#[test]
fn no_field_of_a_run_makes_a_panic() {
    let dir = temp();
    succeeds(&dir, &format!("icarl {TINY} --memory 4 --max-tasks 2 --class-order 0,1,2,3 --out run"));
    let run = dir.path().join("run");
    let device = Device::cpu();
    let files = ["config.json", "metrics.json", "timing.json", "model.json", "exemplars/index.json"];
    let n = change_everything(&run, &files, || {
        let _ = write_run(&run);
        let _ = write_seeds(dir.path(), std::slice::from_ref(&run));
        let _ = complete(&run);
        let _ = compared(std::slice::from_ref(&run));
        if let Ok(recorded) = recorded_in(&run, CONFIG_FILE) {
            let _ = Config::resolve(engram::continual::spec("icarl").unwrap(), recorded.values);
        }
        if let Ok(predictor) = Predictor::load(&run, &device) {
            let [c, h, w] = predictor.card.input;
            for classifier in predictor.card.classifiers.clone() {
                let _ = predictor.predict(vec![0; c * h * w], &classifier);
            }
        }
    });
    assert!(n > 1000, "{n} changes only");
    write_run(&run).unwrap();
}

#[test]
fn no_field_of_a_distillation_makes_a_panic() {
    let dir = temp();
    let students =
        "--teacher mlp --teacher-limit 20 --teacher-epochs 1 --limit 20 --epochs 1 --seeds 1 --student-width 0.05";
    succeeds(&dir, &format!("distill {students} --train-fraction 1,0.5 --omit-class 3 --device cpu --quiet --out run"));
    let run = dir.path().join("run");
    let n = change_everything(&run, &["config.json", "metrics.json"], || {
        let _ = write_run(&run);
    });
    assert!(n > 500, "{n} changes only");
    write_run(&run).unwrap();
}

// ------------------------------------------------------------------------------------------------------- files with tensors

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| glyphs(40, 20));
static CITY: LazyLock<Dataset> = LazyLock::new(|| shape_city(2, 1, 4));

const SHORT: Pairs = &[
    ("model", "mlp"),
    ("width", "0.05"),
    ("classes_per_task", "4"),
    ("max_tasks", "2"),
    ("memory", "12"),
    ("epochs", "2"),
    ("batch_size", "8"),
    ("fisher_samples", "2"),
    ("memory_epochs", "2"),
];

const SHORT_ON_MASKS: Pairs = &[
    ("dataset", "shape-city"),
    ("scenario", "class"),
    ("steps", "3-1"),
    ("model", "fcn3"),
    ("width", "0.25"),
    ("max_tasks", "2"),
    ("epochs", "2"),
    ("batch_size", "8"),
    ("fisher_samples", "2"),
    ("jacobian_samples", "2"),
];

/// Goes on from every change of a checkpoint of a method: of all of it, or of what the method keeps in it.
fn change_checkpoint(spec: &'static continual::MethodSpec, target: Target, all: bool) -> usize {
    let (dir, device) = (temp(), Device::cpu());
    let (dataset, settings): (&Dataset, Pairs) = match target {
        Target::Class => (&GLYPHS, SHORT),
        Target::Mask => (&CITY, SHORT_ON_MASKS),
    };
    let config = config_of(spec, settings, &[]);
    let folder = RunFolder::create(&dir.path().join("run"), false).unwrap();
    let path = folder.path().join(CHECKPOINT_FILE);
    let flag = AtomicBool::new(false);
    // In the second task, or in the second half of the only one; before the second where that is learned without training.
    let after = match spec.name {
        "ncm" | "ranpac" | "fecam" => 5,
        "joint" if target == Target::Mask => 3,
        _ if spec.goes_by("epochs") => 6,
        _ => 3,
    };
    let stopped = run(&config, dataset, &device, Some(&folder), &mut Interrupt(after, &flag), &flag);
    assert!(matches!(stopped, Err(Error::Interrupted)), "{}: {stopped:?}", spec.name);
    let parts = Parts::of(&std::fs::read(&path).unwrap());
    let state: Value = serde_json::from_str(&parts.metadata["state"]).unwrap();
    let goes_on = |bytes: &[u8]| {
        let _ = std::fs::remove_file(folder.path().join("metrics.json"));
        std::fs::write(&path, bytes).unwrap();
        resume(&config, dataset, &device, &folder, &mut Silent, &AtomicBool::new(false)).is_ok()
    };
    assert!(goes_on(&parts.checkpoint(&state)), "{}: an unchanged checkpoint is refused", spec.name);
    let of = format!("{CHECKPOINT_FILE} of {}", spec.name);
    let with_state = |state: &Value| {
        goes_on(&parts.checkpoint(state));
    };
    let n = match all {
        true => change_every_field(&state, &others(), &of, with_state),
        false => change_every_field(&state["method"], &others_to_restore(), &of, |changed| {
            with_state(&with(&state, &[Ok("method".into())], Some(changed)));
        }),
    };
    let with_tensors = |parts: &Parts| {
        let lengths: BTreeMap<_, _> = parts.tensors.iter().map(|(name, part)| (name, part.2.len() / 4)).collect();
        goes_on(&parts.checkpoint(&with(&state, &[Ok("tensors".into())], Some(&json!(lengths)))));
    };
    n + try_all(&of, parts.spoiled().into_iter(), with_tensors)
}

#[test]
fn no_field_of_a_checkpoint_makes_a_panic() {
    let n = change_checkpoint(continual::spec("icarl").unwrap(), Target::Class, true);
    assert!(n > 1000, "{n} changes only");
}

/// Of every method on such a target, but for those whose whole checkpoint is changed above.
fn change_checkpoints(target: Target, but: &[&str]) {
    let methods = continual::ALL.iter().filter(|spec| spec.targets.contains(&target) && !but.contains(&spec.name));
    try_all("methods", methods.map(|spec| (spec.name.to_string(), spec)), |spec| {
        change_checkpoint(spec, target, false);
    });
}

#[test]
fn nothing_that_a_method_keeps_makes_a_panic() {
    // What iCaRL keeps, hybrid2 and hybrid3 too.
    change_checkpoints(Target::Class, &["icarl", "hybrid2", "hybrid3"]);
}

#[test]
fn nothing_that_a_method_keeps_of_masks_makes_a_panic() {
    change_checkpoints(Target::Mask, &[]);
}

#[test]
fn no_field_of_a_learner_makes_a_panic() {
    let (dir, device) = (temp(), Device::cpu());
    succeeds(&dir, &format!("finetune {TINY} --max-tasks 2 --class-order 0,1,2,3 --out run"));
    let run = dir.path().join("run");
    let picture = |class: usize, i: usize| {
        let pixels = (0..784).map(|at| (at * (class + 2) % 256) as u8 ^ i as u8).collect();
        Picture { name: format!("{class}-{i}.png"), pixels }
    };
    let pictures = |class: usize| (0..4).map(|i| (picture(class, i), format!("class{class}"))).collect::<Vec<_>>();
    for method in [None, Some(Way::Growing(Growing::Icarl))] {
        let settings = Settings { method, exemplars: 2, memory: 6, steps: 2, ..Settings::default() };
        let backbone = Backbone::open(run.to_str().unwrap(), &device).unwrap();
        let mut session = Session::new(backbone, settings).unwrap();
        session.learn([pictures(0), pictures(1)].concat()).unwrap();
        let parts = Parts::of(&session.to_bytes().unwrap());
        let described: Value = serde_json::from_str(&parts.metadata["engram.session"]).unwrap();
        let used = |bytes: &[u8]| {
            let Ok(mut session) = Session::of_bytes(bytes, Path::new("a.engram"), &device) else { return false };
            let _ = session.classify(&[picture(0, 9)]);
            let _ = session.learn(pictures(2));
            let _ = session.to_bytes();
            true
        };
        let whole = |parts: &Parts, described: &Value| parts.described("engram.session", described);
        assert!(used(&whole(&parts, &described)), "an unchanged learner is refused");
        let of = format!("a learner by {method:?}");
        let n = change_every_field(&described, &others_to_restore(), &of, |changed| {
            used(&whole(&parts, changed));
        });
        assert!(n > 200, "{n} changes only");
        try_all(&of, parts.spoiled().into_iter(), |parts| {
            used(&whole(parts, &described));
        });
    }
}

#[test]
fn no_field_of_what_a_run_keeps_makes_a_panic() {
    let (dir, device) = (temp(), Device::cpu());
    for method in ["icarl", "er", "der++"] {
        let options = "--memory 8 --max-tasks 2 --class-order 0,1,2,3";
        succeeds(&dir, &format!("{method} {TINY} {options} --out {method}"));
        let run = dir.path().join(method);
        let path = run.join(MEMORY_FILE);
        let parts = Parts::of(&std::fs::read(&path).unwrap());
        let described: Value = serde_json::from_str(&parts.metadata["engram.memory"]).unwrap();
        let pictures: Vec<_> = (0..3)
            .map(|i| (Picture { name: format!("{i}.png"), pixels: vec![40 * i; 784] }, "new".to_string()))
            .collect();
        let used = |parts: &Parts, described: &Value| {
            std::fs::write(&path, parts.described("engram.memory", described)).unwrap();
            let Ok(mut session) = Session::of_run(&run, &device) else { return false };
            let _ = session.set(Settings { steps: 1, ..session.settings() });
            let _ = session.learn(pictures.clone());
            let _ = session.to_bytes();
            true
        };
        assert!(used(&parts, &described), "an unchanged memory of {method} is refused");
        let of = format!("what {method} keeps");
        let n = change_every_field(&described, &others_to_restore(), &of, |changed| {
            used(&parts, changed);
        });
        assert!(n > 50, "{n} changes only");
        try_all(&of, parts.spoiled().into_iter(), |parts| {
            used(parts, &described);
        });
    }
}

#[test]
fn no_field_of_a_list_of_layers_makes_a_panic() {
    for name in ["mlp", "cnn", "resnet20", "preact-resnet18", "fcn3"] {
        let spec = models::spec(name).unwrap();
        let list = LayerList::of_model(spec, spec.input, &Options { width: 0.05, ..Options::default() }).unwrap();
        let whole: Value = serde_json::from_str(&list.to_text()).unwrap();
        change_every_field(&whole, &others(), name, |changed| {
            if let Ok(list) = LayerList::from_json(changed, "net.json") {
                let _ = Network::from_list("net.json", &list, list.input, 3, &Device::cpu(), 1);
            }
        });
    }
}
