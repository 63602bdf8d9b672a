//! Floor 0: where numbers live and kernels run.
//!
//! A [`Device`] is the processor (`Cpu`) or one wgpu adapter (`Gpu`). An [`Array`] is a shaped slice of a buffer on a
//! device: it knows nothing of gradients. Ops `match` on the device: loops over slices on one side,
//! a launch of a [`Kernel`] on the other. Buffers come from a pool and return to it when dropped.

mod adapters;
mod array;
mod bind_groups;
mod cache;
mod column_sums;
mod cpu;
mod gpu;
mod hasher;
mod kernel;
mod pipelines;
mod pool;
mod precision;
mod primitives;
mod recorder;
mod settings;
mod text;
mod trace;

pub use adapters::{Adapter, Options, Selection, list as list_adapters};
pub use array::{Array, CpuRef, CpuRefMut, DType};
pub use column_sums::{AT_ONCE as COLUMN_SUMS_AT_ONCE, ColumnSum, KERNELS as COLUMN_SUM_KERNELS, column_sums};
pub use cpu::Cpu;
pub use gpu::Gpu;
pub use kernel::{Family, Grid, Kernel, MAX_TURNS, Workgroup};
pub use precision::{Matrices, Precision};
pub use primitives::{KERNELS as PRIMITIVE_KERNELS, PRELUDE, add_assign, copy, fill, scale};
pub use settings::{PLACE, PlaceSettings};
pub use trace::{KernelUse, Trace, table as kernel_table};

use crate::error::Result;
use std::sync::Arc;

/// Where tensors live and ops run. Cheap to clone.
///
/// ```
/// use engram::device::{Options, Selection};
/// use engram::Tensor;
/// // The best hardware adapter, else the CPU; `Selection::Gpu` takes a software adapter too.
/// let (device, _warning) = Selection::Auto.open(Options::default())?;
/// let x = Tensor::from_f32(&device, [2, 2], &[1.0, 2.0, 3.0, 4.0])?;
/// assert!(x.device().same(&device));
/// assert_eq!(x.matmul(&x)?.to_vec()?, [7.0, 10.0, 15.0, 22.0]);
/// # Ok::<(), engram::Error>(())
/// ```
#[derive(Clone, Debug)]
pub enum Device {
    /// Host memory and rayon's threads.
    Cpu(Arc<Cpu>),
    /// An open adapter.
    Gpu(Arc<Gpu>),
}

/// What a device has done since it was opened; the difference of two snapshots describes a training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernels recorded (0 on the CPU).
    pub dispatches: u64,
    /// Submissions to the queue (0 on the CPU).
    pub submissions: u64,
    /// Bytes of buffers newly created, as opposed to taken from the pool.
    pub allocated_bytes: u64,
    /// Buffers newly created.
    pub allocations: u64,
    /// Pipelines compiled (0 on the CPU).
    pub pipelines: u64,
    /// Bind groups created (0 on the CPU).
    pub bind_groups: u64,
    /// Bytes of buffers that exist now, in use or in the pool.
    pub held_bytes: u64,
    /// What the host spent its time on (all 0 on the CPU).
    pub host: HostTime,
}

/// Nanoseconds that the host spent on an adapter, apart from recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostTime {
    /// Compiling kernels.
    pub compiling: u64,
    /// Turning launches into commands of the driver.
    pub encoding: u64,
    /// Handing commands to the queue.
    pub submitting: u64,
    /// Waiting for the adapter because too much was in flight.
    pub waiting: u64,
}

impl Device {
    /// The processor.
    pub fn cpu() -> Device {
        Device::Cpu(Arc::default())
    }

    /// Waits until everything recorded so far has run.
    ///
    /// # Errors
    /// If the adapter was lost or ran out of memory on the way.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Device::Cpu(_) => Ok(()),
            Device::Gpu(gpu) => gpu.synchronize(),
        }
    }

    /// Hands recorded work to the adapter without waiting for it; does nothing on the CPU.
    ///
    /// # Errors
    /// If the adapter was lost.
    pub fn flush(&self) -> Result<()> {
        match self {
            Device::Cpu(_) => Ok(()),
            Device::Gpu(gpu) => gpu.flush(),
        }
    }

    /// How products are computed.
    pub fn precision(&self) -> Precision {
        match self {
            Device::Cpu(_) => Precision::Full,
            Device::Gpu(gpu) => gpu.precision(),
        }
    }

    /// What the device has done so far.
    pub fn counters(&self) -> Counters {
        match self {
            Device::Cpu(cpu) => cpu.counters(),
            Device::Gpu(gpu) => gpu.counters(),
        }
    }

    /// `cpu`, or the adapter's name and backend.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu(_) => match rayon::current_num_threads() {
                1 => "cpu (1 thread)".into(),
                n => format!("cpu ({n} threads)"),
            },
            Device::Gpu(gpu) => gpu.describe(),
        }
    }

    /// True if both handles mean the same device.
    pub fn same(&self, other: &Device) -> bool {
        match (self, other) {
            (Device::Cpu(_), Device::Cpu(_)) => true,
            (Device::Gpu(a), Device::Gpu(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
