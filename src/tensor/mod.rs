//! Floor 1: tensors that remember how they were made, and the gradient of one with respect to others.
//!
//! An op computes at once and, if a gradient can be wanted, hangs a named node on its result. [`Tensor::backward`] walks
//! the nodes newest first. Kernels assign; the tape adds (`autograd.rs`), or has a convolution add its input gradient.

mod autograd;
mod gradcheck;
mod late;

pub use autograd::{Backward, Destinations, Gradients};
pub use gradcheck::{GradientError, check_gradients, random_cotangent};

use crate::device::{Array, DType, Device};
use crate::error::{Error, Result};
use crate::shape::Shape;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Numbers (f32) or labels (u32) on a device, with at most four axes, and the op that made them. Cheap to clone.
///
/// ```
/// use engram::{Device, Tensor};
/// let x = Tensor::from_f32(&Device::cpu(), [3], &[1.0, 2.0, 3.0])?.with_gradient();
/// let y = x.mul(&x)?.sum()?; // 1 + 4 + 9
/// assert_eq!(y.to_vec()?, [14.0]);
/// let gradients = y.backward()?;
/// assert_eq!(gradients.get(&x).unwrap().to_vec()?, [2.0, 4.0, 6.0]); // dy/dx = 2x
/// # Ok::<(), engram::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor(Arc<Inner>);

struct Inner {
    /// A clock: an op's result has a larger id than its inputs.
    id: u64,
    array: Array,
    origin: Origin,
}

enum Origin {
    /// Data, or the result of an op none of whose inputs wants a gradient.
    Constant,
    /// A leaf whose gradient is wanted, with the place it is written to if it is a parameter of a flat buffer.
    Leaf {
        gradient: Option<Array>,
    },
    Node(autograd::Node),
}

static CLOCK: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
}

/// Runs `f` without recording: results inside have no history and hold nothing for a backward pass.
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.0);
        }
    }
    let _restore = Restore(RECORDING.replace(false));
    f()
}

/// True if what an op makes of these has a history: one of them wants a gradient, and it is not [`no_grad`].
pub(crate) fn is_recorded(inputs: &[&Tensor]) -> bool {
    RECORDING.get() && inputs.iter().any(|input| input.wants_gradient())
}

impl Tensor {
    fn new(array: Array, origin: Origin) -> Tensor {
        Tensor(Arc::new(Inner { id: CLOCK.fetch_add(1, Relaxed), array, origin }))
    }

    /// A tensor without history around these numbers.
    pub fn constant(array: Array) -> Tensor {
        Self::new(array, Origin::Constant)
    }

    /// A tensor from host values in row-major order.
    ///
    /// # Errors
    /// If the number of values is not that of the shape, or the device is out of memory.
    pub fn from_f32(device: &Device, shape: impl Into<Shape>, values: &[f32]) -> Result<Tensor> {
        Ok(Self::constant(Array::from_f32(device, shape, values)?))
    }

    /// A tensor of labels or indices.
    ///
    /// # Errors
    /// As [`Tensor::from_f32`].
    pub fn from_u32(device: &Device, shape: impl Into<Shape>, values: &[u32]) -> Result<Tensor> {
        Ok(Self::constant(Array::from_u32(device, shape, values)?))
    }

    /// The same numbers as a leaf whose gradient is wanted.
    pub fn with_gradient(&self) -> Tensor {
        Self::new(self.0.array.clone(), Origin::Leaf { gradient: None })
    }

    /// A parameter: a leaf whose first gradient is written straight into `gradient`.
    pub fn parameter(array: Array, gradient: Array) -> Tensor {
        Self::new(array, Origin::Leaf { gradient: Some(gradient) })
    }

    /// The result of an op. The node is made only if some input wants a gradient and recording is on.
    pub fn from_op<B: Backward + 'static>(
        name: &'static str,
        array: Array,
        inputs: &[&Tensor],
        backward: impl FnOnce() -> B,
    ) -> Tensor {
        if !is_recorded(inputs) {
            return Self::constant(array);
        }
        let inputs = inputs.iter().map(|&input| input.clone()).collect();
        Self::new(array, Origin::Node(autograd::Node { name, inputs, backward: Box::new(backward()) }))
    }

    /// True if a backward pass would reach this tensor.
    pub fn wants_gradient(&self) -> bool {
        !matches!(self.0.origin, Origin::Constant)
    }

    /// The same numbers cut off from their history.
    pub fn detach(&self) -> Tensor {
        Self::constant(self.0.array.clone())
    }

    /// The numbers without the history.
    pub fn array(&self) -> &Array {
        &self.0.array
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> Shape {
        self.0.array.shape()
    }

    /// The product of the sizes of all axes.
    pub fn n_elements(&self) -> usize {
        self.0.array.n_elements()
    }

    /// Where the numbers live.
    pub fn device(&self) -> Device {
        self.0.array.device()
    }

    /// Copies the numbers to the host; waits for the device.
    ///
    /// # Errors
    /// If the adapter was lost, or the tensor holds labels.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        self.0.array.to_vec()
    }

    /// Copies labels or indices to the host; waits for the device.
    ///
    /// # Errors
    /// If the adapter was lost, or the tensor holds numbers.
    pub fn to_u32(&self) -> Result<Vec<u32>> {
        self.0.array.to_u32()
    }

    /// The only number of a one-element tensor.
    ///
    /// # Errors
    /// If there are several.
    pub fn item(&self) -> Result<f32> {
        if self.n_elements() != 1 {
            return Err(Error::op("item", format!("a tensor of shape {} is not a single number", self.shape())));
        }
        Ok(self.to_vec()?[0])
    }

    /// Fails unless this tensor holds numbers (not labels).
    pub(crate) fn expect_f32(&self, op: &'static str) -> Result<()> {
        self.expect_dtype(op, DType::F32, "numbers")
    }

    /// Fails unless this tensor holds labels or indices.
    pub(crate) fn expect_u32(&self, op: &'static str) -> Result<()> {
        self.expect_dtype(op, DType::U32, "labels or indices (u32)")
    }

    fn expect_dtype(&self, op: &'static str, dtype: DType, what: &str) -> Result<()> {
        if self.0.array.dtype() != dtype {
            return Err(Error::op(op, format!("an input of shape {} does not hold {what}", self.shape())));
        }
        Ok(())
    }

    /// Fails unless both tensors live on one device.
    pub(crate) fn expect_same_device(&self, op: &'static str, other: &Tensor) -> Result<()> {
        self.array().expect_same_device(op, [other.array()])
    }

    /// The history as text, newest first: id, op, shape, ids of the inputs.
    pub fn graph(&self) -> String {
        autograd::print(self)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.0.origin {
            Origin::Constant => "constant",
            Origin::Leaf { .. } => "leaf",
            Origin::Node(node) => node.name,
        };
        write!(f, "Tensor({name}, {})", self.shape())
    }
}
