//! The CPU as a device: pooled vectors of 32-bit words.

use super::Counters;
use super::pool::{FreeLists, size_class};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Host memory. Threads are rayon's: an op runs in the pool that is current when it is called.
#[derive(Debug, Default)]
pub struct Cpu {
    free: Mutex<FreeLists<Vec<f32>>>,
    allocations: AtomicU64,
    allocated_bytes: AtomicU64,
}

impl Cpu {
    /// A buffer of at least `words` words with arbitrary content.
    pub(super) fn allocate(self: &Arc<Self>, words: usize) -> CpuBuffer {
        let class = size_class(words);
        let vec = self.free.lock().take(class).unwrap_or_else(|| {
            self.allocations.fetch_add(1, Relaxed);
            self.allocated_bytes.fetch_add(4 * class as u64, Relaxed);
            vec![0.0; class]
        });
        CpuBuffer { words: RwLock::new(vec), cpu: self.clone() }
    }

    pub(super) fn counters(&self) -> Counters {
        let allocated_bytes = self.allocated_bytes.load(Relaxed);
        Counters {
            allocations: self.allocations.load(Relaxed),
            allocated_bytes,
            held_bytes: allocated_bytes,
            ..Counters::default()
        }
    }
}

/// A vector that returns to its pool when dropped.
#[derive(Debug)]
pub struct CpuBuffer {
    pub(super) words: RwLock<Vec<f32>>,
    pub(super) cpu: Arc<Cpu>,
}

impl Drop for CpuBuffer {
    fn drop(&mut self) {
        let vec = std::mem::take(self.words.get_mut());
        self.cpu.free.lock().give(vec.len(), vec);
    }
}
