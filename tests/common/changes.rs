//! Changes of files that engram reads back: every field removed, emptied, made huge, or given another type, and every tensor spoiled.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tempfile::TempDir;

/// In main memory where there is such a place: files are written thousands of times.
pub fn temp() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

/// Where a value stands: keys and places, from the outside in.
pub type At = Vec<Result<String, usize>>;

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
pub fn with(value: &Value, at: &[Result<String, usize>], new: Option<&Value>) -> Value {
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
pub fn others() -> Vec<Option<Value>> {
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
pub fn others_to_restore() -> Vec<Option<Value>> {
    let values = [json!(null), json!(0), json!(u32::MAX), json!(u64::MAX), json!("x"), json!([]), json!({})];
    [None].into_iter().chain(values.into_iter().map(Some)).collect()
}

/// Changes every field of a value to each of `others`, and lets `read` look at each change. Returns how often.
pub fn change_every_field(whole: &Value, others: &[Option<Value>], name: &str, read: impl Fn(&Value)) -> usize {
    let mut all = Vec::new();
    places(whole, &mut Vec::new(), &mut all);
    let changes = all.iter().flat_map(|at| others.iter().map(move |other| (at, other)));
    let changed =
        |(at, other): (&At, &Option<Value>)| (format!("{other:.40?} at {at:?}"), with(whole, at, other.as_ref()));
    try_all(name, changes.map(changed), read)
}

/// Lets `read` look at every change, each with what it is. Returns how many there were.
pub fn try_all<T>(of: &str, changes: impl Iterator<Item = (String, T)>, read: impl Fn(&T)) -> usize {
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

/// The parts of a safetensors file.
#[derive(Clone)]
pub struct Parts {
    pub metadata: HashMap<String, String>,
    pub tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Parts {
    pub fn of(bytes: &[u8]) -> Parts {
        let metadata = SafeTensors::read_metadata(bytes).unwrap().1.metadata().clone().unwrap();
        let file = SafeTensors::deserialize(bytes).unwrap();
        let part = |view: &TensorView| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        let tensors = file.tensors().into_iter().map(|(name, view)| (name, part(&view))).collect();
        Parts { metadata, tensors }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let views = self
            .tensors
            .iter()
            .map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
        safetensors::serialize(views, Some(self.metadata.clone())).unwrap()
    }

    /// What a stranger computes, too: over a text, and over name and content of the tensors; `unit` bytes are counted as one.
    pub fn sum(&self, text: &str, unit: usize) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(text.as_bytes());
        for (name, (_, _, bytes)) in self.tensors.iter().filter(|(name, _)| *name != "checksum") {
            crc.update(format!("/{name}/{}/", bytes.len() / unit).as_bytes());
            crc.update(bytes);
        }
        crc.sum()
    }

    /// As a checkpoint with this state.
    pub fn checkpoint(&self, state: &Value) -> Vec<u8> {
        let text = state.to_string();
        let sum = format!("{:08x}", self.sum(&text, 4));
        Parts { metadata: HashMap::from([("state".into(), text), ("sum".into(), sum)]), ..self.clone() }.bytes()
    }

    /// With this description, as the file of a learner (`engram.session`) or of what a run keeps (`engram.memory`).
    pub fn described(&self, field: &str, description: &Value) -> Vec<u8> {
        let text = description.to_string();
        let sum = self.sum(&text, 1).to_be_bytes().to_vec();
        let mut parts = self.clone();
        parts.metadata = HashMap::from([(field.into(), text)]);
        parts.tensors.insert("checksum".into(), (Dtype::U8, vec![4], sum));
        parts.bytes()
    }

    /// Every tensor in turn missing, empty, a number longer, and not a number.
    pub fn spoiled(&self) -> Vec<(String, Parts)> {
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
