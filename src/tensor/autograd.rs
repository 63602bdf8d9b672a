//! The tape: nodes, the backward walk, and the one place that decides whether a gradient is added.

use super::late::Late;
use super::{Inner, Origin, Tensor};
use crate::device::{self, Array, DType};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::fmt::Write as _;

/// The derivative of one op application.
pub trait Backward: Send + Sync {
    /// Given the gradient of the op's result, assigns the gradient of each input that wants one, at the destination the
    /// tape hands out. Never adds unless the tape says so ([`Destinations::place_or_sum`]).
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()>;
}

/// How a tensor was made.
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) inputs: Vec<Tensor>,
    pub(super) backward: Box<dyn Backward>,
}

/// Where a backward function puts the gradients of its op's inputs.
pub struct Destinations<'a> {
    inputs: &'a [Tensor],
    gradients: &'a HashMap<u64, Array>,
    late: &'a mut Late,
    written: Vec<(usize, Array)>,
}

impl Destinations<'_> {
    /// True if the gradient of input `i` is wanted.
    pub fn wants(&self, i: usize) -> bool {
        self.inputs[i].wants_gradient()
    }

    /// True if the op was given an input number `i`.
    pub fn has(&self, i: usize) -> bool {
        i < self.inputs.len()
    }

    /// Where to assign the gradient of input `i`: a parameter's own slice at its first use, else a fresh array.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn place(&mut self, i: usize) -> Result<Array> {
        let input = &self.inputs[i];
        let id = input.0.id;
        let first = !self.gradients.contains_key(&id) && !self.written.iter().any(|(j, _)| self.inputs[*j].0.id == id);
        let place = match &input.0.origin {
            Origin::Leaf { gradient: Some(slice) } if first => slice.clone(),
            _ => Array::empty(&input.device(), input.shape(), DType::F32)?,
        };
        self.written.push((i, place.clone()));
        Ok(place)
    }

    /// Where to assign so many rows, (rows, elements), of which the sum is the gradient of input `i`. The tape adds them up later, those
    /// of many ops in one launch; a single row goes where the gradient does.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn place_rows(&mut self, i: usize, n_rows: usize) -> Result<Array> {
        let place = self.place(i)?;
        if n_rows == 1 { Ok(place) } else { self.late.rows(self.inputs[i].0.id, &place, n_rows) }
    }

    /// For a kernel that can add: the sum of the gradients of input `i` so far and `true`, if it may be added to; else a place to assign
    /// to and `false`.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn place_or_sum(&mut self, i: usize) -> Result<(Array, bool)> {
        let id = self.inputs[i].0.id;
        self.late.settle(id)?;
        match self.gradients.get(&id) {
            // Else another tensor's gradient is the same array.
            Some(sum) if sum.is_unique() => Ok((sum.clone(), true)),
            _ => Ok((self.place(i)?, false)),
        }
    }

    /// Hands on an array that already is the gradient of input `i`.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn pass(&mut self, i: usize, gradient: &Array) -> Result<()> {
        match &self.inputs[i].0.origin {
            // A parameter's gradient belongs in its slice.
            Origin::Leaf { gradient: Some(_) } => device::copy(gradient, &self.place(i)?),
            _ => {
                self.written.push((i, gradient.clone()));
                Ok(())
            }
        }
    }
}

/// The gradients of one backward pass, by tensor.
pub struct Gradients(HashMap<u64, Array>);

impl Gradients {
    /// The gradient of a leaf; `None` if the loss does not depend on it.
    pub fn get(&self, tensor: &Tensor) -> Option<&Array> {
        self.0.get(&tensor.0.id)
    }
}

impl Tensor {
    /// The gradients of this single number with respect to every leaf that wants one.
    ///
    /// # Errors
    /// If the tensor is not a single number or depends on no such leaf.
    pub fn backward(&self) -> Result<Gradients> {
        if self.n_elements() != 1 {
            return Err(Error::op(
                "backward",
                format!("needs a single number, not a tensor of shape {}", self.shape()),
            ));
        }
        let one = Array::empty(&self.device(), self.shape(), DType::F32)?;
        device::fill(&one, 1.0)?;
        self.backward_with(one)
    }

    /// The gradients of ⟨`cotangent`, self⟩ with respect to every leaf that wants one.
    ///
    /// # Errors
    /// If the shapes differ or the tensor depends on no such leaf.
    pub fn backward_with(&self, cotangent: Array) -> Result<Gradients> {
        if cotangent.shape() != self.shape() {
            return Err(Error::op("backward", format!("{} is not the shape {}", cotangent.shape(), self.shape())));
        }
        self.array().expect_same_device("backward", [&cotangent])?;
        if !self.wants_gradient() {
            return Err(Error::op("backward", "the tensor depends on nothing that wants a gradient"));
        }
        let mut gradients = HashMap::from([(self.0.id, cotangent)]);
        let mut late = Late::default();
        // Ids are a clock, so newest first is a topological order: whoever uses a tensor comes before it.
        let mut queue = BinaryHeap::from([ById(self.clone())]);
        let mut queued = HashSet::from([self.0.id]);
        while let Some(ById(tensor)) = queue.pop() {
            let Origin::Node(node) = &tensor.0.origin else { continue };
            let dy = gradients.remove(&tensor.0.id).expect("bug: a queued tensor has no gradient");
            late.settle(tensor.0.id)?;
            let (inputs, written) = (&node.inputs, Vec::new());
            let mut places = Destinations { inputs, gradients: &gradients, late: &mut late, written };
            node.backward.backward(&dy, &mut places)?;
            drop(dy);
            for (i, gradient) in places.written {
                let input = &node.inputs[i];
                accumulate(&mut gradients, &mut late, input, gradient)?;
                if queued.insert(input.0.id) {
                    queue.push(ById(input.clone()));
                }
            }
        }
        late.add_up()?;
        Ok(Gradients(gradients))
    }
}

/// Adds a gradient to what is there; an op may have done so in place ([`Destinations::place_or_sum`]).
fn accumulate(gradients: &mut HashMap<u64, Array>, late: &mut Late, input: &Tensor, gradient: Array) -> Result<()> {
    let Some(sum) = gradients.get_mut(&input.0.id) else {
        gradients.insert(input.0.id, gradient);
        return Ok(());
    };
    late.settle(input.0.id)?;
    let is_slice = matches!(input.0.origin, Origin::Leaf { gradient: Some(_) });
    if !is_slice && !sum.is_unique() {
        // Another tensor's gradient is the same array (`Destinations::pass`): it must not change.
        let own = Array::empty(&sum.device(), sum.shape(), DType::F32)?;
        device::copy(sum, &own)?;
        *sum = own;
    }
    device::add_assign(&gradient, sum)
}

/// Orders tensors by age.
struct ById(Tensor);

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.0.id == other.0.0.id
    }
}
impl Eq for ById {}
impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ById {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.0.id.cmp(&other.0.0.id)
    }
}

impl Drop for Inner {
    /// Takes a long history apart in a loop: the default would recurse once per op and overflow the stack.
    fn drop(&mut self) {
        let mut orphans = match &mut self.origin {
            Origin::Node(node) => std::mem::take(&mut node.inputs),
            _ => return,
        };
        while let Some(tensor) = orphans.pop() {
            if let Some(mut inner) = std::sync::Arc::into_inner(tensor.0)
                && let Origin::Node(node) = &mut inner.origin
            {
                orphans.append(&mut node.inputs);
            }
        }
    }
}

/// The history of a tensor as text, newest first.
pub(super) fn print(tensor: &Tensor) -> String {
    let mut found = BTreeMap::new();
    let mut stack = vec![tensor.clone()];
    while let Some(tensor) = stack.pop() {
        if let Origin::Node(node) = &tensor.0.origin {
            stack.extend(node.inputs.iter().filter(|input| !found.contains_key(&input.0.id)).cloned());
        }
        found.insert(tensor.0.id, tensor);
    }
    let mut text = String::new();
    for (id, tensor) in found.iter().rev() {
        let (name, inputs) = match &tensor.0.origin {
            Origin::Constant => ("constant", &[][..]),
            Origin::Leaf { .. } => ("leaf", &[][..]),
            Origin::Node(node) => (node.name, &node.inputs[..]),
        };
        let inputs: Vec<String> = inputs.iter().map(|input| format!("%{}", input.0.id)).collect();
        let _ = writeln!(text, "%{id} = {name}({}) : {}", inputs.join(", "), tensor.shape());
    }
    text
}
