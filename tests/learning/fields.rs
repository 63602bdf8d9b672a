//! A structural fuzzer: every field of every file that engram writes and reads back is removed, emptied, made huge, or given another
//! type. Readers return a value or an error with a reason, and what they read can be used: nothing panics.

use crate::common::program::{succeeds, unsealed};
use crate::common::runs::{Interrupt, Pairs, config_of, glyphs};
use engram::campaign::compared;
use engram::continual;
use engram::data::{Dataset, Target};
use engram::experiment::checkpoint::CHECKPOINT_FILE;
use engram::experiment::results::RunFolder;
use engram::experiment::saved::Predictor;
use engram::experiment::sink::Silent;
use engram::experiment::{CONFIG_FILE, Config, complete, recorded_in, resume, run};
use engram::models::{self, LayerList, Network, Options};
use engram::report::{write_run, write_seeds};
use engram::session::{Backbone, Growing, Picture, Session, Settings, Way};
use engram::{Device, Error};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

/// In main memory where there is such a place: files are written thousands of times.
fn temp() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

const TINY: &str = "--limit-per-task 20 --epochs 1 --model mlp --width 0.05 --device cpu --threads 1 --quiet";

/// Where a value stands: keys and places, from the outside in.
type At = Vec<Result<String, usize>>;

/// Every place in a value; of a list the first and the last.
fn places(value: &Value, at: &mut At, all: &mut Vec<At>) {
    all.push(at.clone());
    let inside: Vec<(Result<String, usize>, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (Ok(name.clone()), value)).collect(),
        Value::Array(values) => {
            let ends = if values.len() > 1 { vec![0, values.len() - 1] } else { (0..values.len()).collect() };
            ends.into_iter().map(|i| (Err(i), &values[i])).collect()
        }
        _ => Vec::new(),
    };
    for (step, value) in inside {
        at.push(step);
        places(value, at, all);
        at.pop();
    }
}

/// The value with something else in a place; `None` removes what stands there.
fn with(value: &Value, at: &[Result<String, usize>], new: Option<&Value>) -> Value {
    let Some((last, outer)) = at.split_last() else { return new.cloned().unwrap_or(Value::Null) };
    let mut changed = value.clone();
    let mut place = &mut changed;
    for step in outer {
        place = match step {
            Ok(name) => &mut place[name.as_str()],
            Err(i) => &mut place[*i],
        };
    }
    match (last, place, new) {
        (Ok(name), Value::Object(fields), None) => drop(fields.remove(name)),
        (Ok(name), Value::Object(fields), Some(new)) => drop(fields.insert(name.clone(), new.clone())),
        (Err(i), Value::Array(values), None) => drop(values.remove(*i)),
        (Err(i), Value::Array(values), Some(new)) => values[*i] = new.clone(),
        _ => unreachable!("a place of this value"),
    }
    changed
}

/// What a field may be in place of what it is.
fn others() -> Vec<Option<Value>> {
    let values = [
        json!(null),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(100_000),
        json!(u64::MAX),
        json!(u32::MAX),
        json!(1e308),
        json!(4294967296_u64),
        json!(true),
        json!(""),
        json!("../../secret"),
        json!("\u{1b}[2J\u{7}"),
        json!("x".repeat(100_000)),
        json!([]),
        json!({}),
        json!([null]),
        json!([[0.5, 0.5, 0.5], [1]]),
    ];
    [None].into_iter().chain(values.into_iter().map(Some)).collect()
}

/// The same for what is restored and not shown.
fn others_to_restore() -> Vec<Option<Value>> {
    let values = [json!(null), json!(0), json!(u32::MAX), json!(u64::MAX), json!("x"), json!([]), json!({})];
    [None].into_iter().chain(values.into_iter().map(Some)).collect()
}

/// Changes every field of a value to each of `others`, and lets `read` look at each change. Returns how often.
fn change_every_field(whole: &Value, others: &[Option<Value>], name: &str, read: impl Fn(&Value)) -> usize {
    let mut all = Vec::new();
    places(whole, &mut Vec::new(), &mut all);
    let changes = all.iter().flat_map(|at| others.iter().map(move |other| (at, other)));
    let changed =
        |(at, other): (&At, &Option<Value>)| (format!("{other:.40?} at {at:?}"), with(whole, at, other.as_ref()));
    try_all(name, changes.map(changed), read)
}

/// Lets `read` look at every change, each with what it is. Returns how many there were.
fn try_all<T>(of: &str, changes: impl Iterator<Item = (String, T)>, read: impl Fn(&T)) -> usize {
    let (mut n, mut panics) = (0, Vec::new());
    for (what, changed) in changes {
        n += 1;
        if catch_unwind(AssertUnwindSafe(|| read(&changed))).is_err() {
            panics.push(what);
        }
    }
    assert!(panics.is_empty(), "{} of {n} changes of {of} make a panic:\n{}", panics.len(), panics.join("\n"));
    n
}

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

/// The parts of a safetensors file.
#[derive(Clone)]
struct Parts {
    metadata: HashMap<String, String>,
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Parts {
        let metadata = SafeTensors::read_metadata(bytes).unwrap().1.metadata().clone().unwrap();
        let file = SafeTensors::deserialize(bytes).unwrap();
        let part = |view: &TensorView| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        let tensors = file.tensors().into_iter().map(|(name, view)| (name, part(&view))).collect();
        Parts { metadata, tensors }
    }

    fn bytes(&self) -> Vec<u8> {
        let views = self
            .tensors
            .iter()
            .map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
        safetensors::serialize(views, Some(self.metadata.clone())).unwrap()
    }

    /// What a stranger computes, too: over a text, and over name and content of the tensors; `unit` bytes are counted as one.
    fn sum(&self, text: &str, unit: usize) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(text.as_bytes());
        for (name, (_, _, bytes)) in self.tensors.iter().filter(|(name, _)| *name != "checksum") {
            crc.update(format!("/{name}/{}/", bytes.len() / unit).as_bytes());
            crc.update(bytes);
        }
        crc.sum()
    }

    /// As a checkpoint with this state.
    fn checkpoint(&self, state: &Value) -> Vec<u8> {
        let text = state.to_string();
        let sum = format!("{:08x}", self.sum(&text, 4));
        Parts { metadata: HashMap::from([("state".into(), text), ("sum".into(), sum)]), ..self.clone() }.bytes()
    }

    /// As a learner with this description.
    fn learner(&self, description: &Value) -> Vec<u8> {
        let text = description.to_string();
        let sum = self.sum(&text, 1).to_be_bytes().to_vec();
        let mut parts = self.clone();
        parts.metadata = HashMap::from([("engram.session".into(), text)]);
        parts.tensors.insert("checksum".into(), (Dtype::U8, vec![4], sum));
        parts.bytes()
    }

    /// Every tensor in turn missing, empty, a number longer, and not a number.
    fn spoiled(&self) -> Vec<(String, Parts)> {
        let mut all = Vec::new();
        for (name, (dtype, shape, bytes)) in self.tensors.iter().filter(|(name, _)| *name != "checksum") {
            let size = if *dtype == Dtype::U8 { 1 } else { 4 };
            let n = bytes.len() / size;
            let numbers = [&vec![0; 0], &[&bytes[..], &vec![0xff; size]].concat(), &vec![0xff; bytes.len()]];
            let shapes = [vec![0], vec![n + 1], shape.clone()];
            let mut parts = self.clone();
            parts.tensors.remove(name);
            all.push((format!("'{name}' missing"), parts.clone()));
            for (bytes, shape) in numbers.into_iter().zip(shapes) {
                parts.tensors.insert(name.clone(), (*dtype, shape, bytes.clone()));
                all.push((format!("'{name}' of {} bytes", bytes.len()), parts.clone()));
            }
        }
        all
    }
}

static GLYPHS: LazyLock<Dataset> = LazyLock::new(|| glyphs(40, 20));

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

/// Goes on from every change of a checkpoint of a method: of all of it, or of what the method keeps in it.
fn change_checkpoint(spec: &'static continual::MethodSpec, all: bool) -> usize {
    let (dir, device) = (temp(), Device::cpu());
    let config = config_of(spec, SHORT, &[]);
    let folder = RunFolder::create(&dir.path().join("run"), false).unwrap();
    let path = folder.path().join(CHECKPOINT_FILE);
    let flag = AtomicBool::new(false);
    // In the second task, or in the second half of the only one; before the second where that is learned without training.
    let after = match spec.name {
        "ncm" | "ranpac" | "fecam" => 5,
        _ if spec.goes_by("epochs") => 6,
        _ => 3,
    };
    let stopped = run(&config, &GLYPHS, &device, Some(&folder), &mut Interrupt(after, &flag), &flag);
    assert!(matches!(stopped, Err(Error::Interrupted)), "{}: {stopped:?}", spec.name);
    let parts = Parts::of(&std::fs::read(&path).unwrap());
    let state: Value = serde_json::from_str(&parts.metadata["state"]).unwrap();
    let goes_on = |bytes: &[u8]| {
        let _ = std::fs::remove_file(folder.path().join("metrics.json"));
        std::fs::write(&path, bytes).unwrap();
        resume(&config, &GLYPHS, &device, &folder, &mut Silent, &AtomicBool::new(false)).is_ok()
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
    let n = change_checkpoint(continual::spec("icarl").unwrap(), true);
    assert!(n > 1000, "{n} changes only");
}

#[test]
fn nothing_that_a_method_keeps_makes_a_panic() {
    // What iCaRL keeps, hybrid2 and hybrid3 too, is changed with the rest of its checkpoint.
    let of_classes = continual::ALL
        .iter()
        .filter(|spec| spec.targets.contains(&Target::Class) && !["icarl", "hybrid2", "hybrid3"].contains(&spec.name));
    try_all("methods", of_classes.map(|spec| (spec.name.to_string(), spec)), |spec| {
        change_checkpoint(spec, false);
    });
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
        assert!(used(&parts.learner(&described)), "an unchanged learner is refused");
        let of = format!("a learner by {method:?}");
        let n = change_every_field(&described, &others_to_restore(), &of, |changed| {
            used(&parts.learner(changed));
        });
        assert!(n > 200, "{n} changes only");
        try_all(&of, parts.spoiled().into_iter(), |parts| {
            used(&parts.learner(&described));
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
