//! A shaped slice of a buffer on a device.

use super::Device;
use super::cpu::CpuBuffer;
use super::gpu::GpuBuffer;
use crate::error::{Error, Result};
use crate::shape::Shape;
use parking_lot::{MappedRwLockReadGuard, MappedRwLockWriteGuard, RwLockReadGuard, RwLockWriteGuard};
use std::sync::Arc;

/// What the 32-bit words of an array mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// Numbers.
    F32,
    /// Labels, indices, or four packed bytes.
    U32,
}

#[derive(Debug)]
pub(super) enum Storage {
    Cpu(CpuBuffer),
    Gpu(GpuBuffer),
}

/// Numbers on a device: contiguous, row-major, at most four axes. Cloning shares the buffer.
#[derive(Clone, Debug)]
pub struct Array {
    pub(super) storage: Arc<Storage>,
    /// In words; a multiple of 64 (256 bytes), as GPU bindings demand.
    pub(super) offset: usize,
    shape: Shape,
    dtype: DType,
}

/// Read access to an array on the CPU.
pub type CpuRef<'a> = MappedRwLockReadGuard<'a, [f32]>;
/// Write access to an array on the CPU.
pub type CpuRefMut<'a> = MappedRwLockWriteGuard<'a, [f32]>;

impl Array {
    /// An array with arbitrary content, from the pool. The kernel that fills it must assign every element.
    ///
    /// # Errors
    /// If the device has no memory left, or the adapter cannot bind a buffer that large.
    pub fn empty(device: &Device, shape: impl Into<Shape>, dtype: DType) -> Result<Array> {
        let shape = shape.into();
        let storage = match device {
            Device::Cpu(cpu) => Storage::Cpu(cpu.allocate(shape.n_elements())),
            Device::Gpu(gpu) => Storage::Gpu(gpu.allocate(shape.n_elements(), false)?),
        };
        Ok(Array { storage: Arc::new(storage), offset: 0, shape, dtype })
    }

    /// Copies `values` to the device.
    ///
    /// # Errors
    /// As [`Array::empty`], and if the number of values is not that of the shape.
    pub fn from_f32(device: &Device, shape: impl Into<Shape>, values: &[f32]) -> Result<Array> {
        Self::from_words(device, shape.into(), DType::F32, values, values.len())
    }

    /// Copies labels or indices to the device.
    ///
    /// # Errors
    /// As [`Array::from_f32`].
    pub fn from_u32(device: &Device, shape: impl Into<Shape>, values: &[u32]) -> Result<Array> {
        Self::from_words(device, shape.into(), DType::U32, bytemuck::cast_slice(values), values.len())
    }

    /// Copies bytes to the device, four to a word, the last word filled up with zeros; the shape is `[words]`.
    ///
    /// # Errors
    /// As [`Array::empty`].
    pub fn from_bytes(device: &Device, bytes: &[u8]) -> Result<Array> {
        let n_words = bytes.len().div_ceil(4).max(1);
        let mut words = vec![0u32; n_words];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self::from_u32(device, [n_words], &words)
    }

    fn from_words(device: &Device, shape: Shape, dtype: DType, words: &[f32], given: usize) -> Result<Array> {
        if given != shape.n_elements() {
            return Err(Error::op("from_slice", format!("{given} values for a tensor of shape {shape}")));
        }
        let storage = match device {
            Device::Cpu(cpu) => {
                let buffer = cpu.allocate(given);
                buffer.words.write()[..given].copy_from_slice(words);
                Storage::Cpu(buffer)
            }
            Device::Gpu(gpu) => {
                let buffer = gpu.allocate(given, true)?;
                gpu.upload(&buffer, 0, bytemuck::cast_slice(words))?;
                Storage::Gpu(buffer)
            }
        };
        Ok(Array { storage: Arc::new(storage), offset: 0, shape, dtype })
    }

    /// The part of this buffer that starts `offset` words further, under another shape.
    ///
    /// # Errors
    /// If the offset is not a multiple of 64 words or the part reaches beyond the array.
    pub fn slice(&self, offset: usize, shape: impl Into<Shape>) -> Result<Array> {
        let shape = shape.into();
        if !offset.is_multiple_of(64) || offset + shape.n_elements() > self.n_elements() {
            return Err(Error::op(
                "slice",
                format!("{} words at {offset} do not lie, 256-byte aligned, inside {}", shape.n_elements(), self.shape),
            ));
        }
        Ok(Array { storage: self.storage.clone(), offset: self.offset + offset, shape, dtype: self.dtype })
    }

    /// The part of a buffer from the first to the last word of these arrays, all of one buffer.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn around<'a>(arrays: impl Iterator<Item = &'a Array> + Clone) -> Array {
        let first = arrays.clone().min_by_key(|array| array.offset).expect("bug: around no array");
        let end = arrays.map(|array| array.offset + array.n_elements()).max().unwrap_or(0);
        Array { shape: Shape::from([end - first.offset]), ..first.clone() }
    }

    /// The same numbers under another shape of as many elements.
    ///
    /// # Errors
    /// If the shape has another number of elements.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Array> {
        let shape = shape.into();
        if shape.n_elements() != self.n_elements() {
            return Err(Error::op("reshape", format!("{} has not as many elements as {shape}", self.shape)));
        }
        Ok(Array { shape, ..self.clone() })
    }

    /// The device the numbers live on.
    pub fn device(&self) -> Device {
        match &*self.storage {
            Storage::Cpu(buffer) => Device::Cpu(buffer.cpu.clone()),
            Storage::Gpu(buffer) => Device::Gpu(buffer.gpu.clone()),
        }
    }

    /// Fails unless all live on one device.
    pub(crate) fn expect_same_device<'a>(
        &self,
        op: &'static str,
        others: impl IntoIterator<Item = &'a Array>,
    ) -> Result<()> {
        let device = self.device();
        match others.into_iter().all(|other| device.same(&other.device())) {
            true => Ok(()),
            false => Err(Error::op(op, "the inputs live on different devices")),
        }
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What the words mean.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The product of the sizes of all axes.
    pub fn n_elements(&self) -> usize {
        self.shape.n_elements()
    }

    /// True if no other array shares the buffer, so that it may be overwritten.
    pub fn is_unique(&self) -> bool {
        Arc::strong_count(&self.storage) == 1
    }

    /// The numbers, on the CPU.
    ///
    /// # Panics
    /// If the array lives on a GPU: ops reach this only in their CPU arm.
    pub fn cpu(&self) -> CpuRef<'_> {
        // An op may read two slices of one flat buffer, hence `read_recursive`.
        RwLockReadGuard::map(self.cpu_buffer().words.read_recursive(), |words| {
            &words[self.offset..self.offset + self.shape.n_elements()]
        })
    }

    /// Write access to the numbers, on the CPU.
    ///
    /// # Panics
    /// If the array lives on a GPU.
    pub fn cpu_mut(&self) -> CpuRefMut<'_> {
        RwLockWriteGuard::map(self.cpu_buffer().words.write(), |words| {
            &mut words[self.offset..self.offset + self.shape.n_elements()]
        })
    }

    fn cpu_buffer(&self) -> &CpuBuffer {
        match &*self.storage {
            Storage::Cpu(buffer) => buffer,
            Storage::Gpu(_) => panic!("bug: a GPU array was read as if it were on the CPU"),
        }
    }

    /// The GPU buffer.
    ///
    /// # Panics
    /// If the array lives on the CPU.
    pub(super) fn gpu_buffer(&self) -> &GpuBuffer {
        match &*self.storage {
            Storage::Gpu(buffer) => buffer,
            Storage::Cpu(_) => panic!("bug: a CPU array was bound to a GPU kernel"),
        }
    }

    /// Words that a binding of this array covers: whole `vec4`s.
    pub(super) fn bound_words(&self) -> usize {
        self.n_elements().next_multiple_of(4)
    }

    /// Copies the numbers to the host; waits for the adapter.
    ///
    /// # Errors
    /// If the adapter was lost. Also if the array holds labels ([`Array::to_u32`] reads those).
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        if self.dtype != DType::F32 {
            return Err(Error::op("to_vec", "the tensor holds integers: use to_u32"));
        }
        self.words()
    }

    /// Copies labels or indices to the host; waits for the adapter.
    ///
    /// # Errors
    /// If the adapter was lost, or the array holds numbers.
    pub fn to_u32(&self) -> Result<Vec<u32>> {
        if self.dtype != DType::U32 {
            return Err(Error::op("to_u32", "the tensor holds numbers: use to_vec"));
        }
        Ok(self.words()?.into_iter().map(f32::to_bits).collect())
    }

    fn words(&self) -> Result<Vec<f32>> {
        match &*self.storage {
            Storage::Cpu(_) => Ok(self.cpu().to_vec()),
            Storage::Gpu(buffer) => buffer.gpu.read(buffer, self.offset, self.n_elements()),
        }
    }

    /// Overwrites the numbers, after everything recorded so far has used the old ones.
    ///
    /// # Errors
    /// If there are more or fewer values than elements, or the adapter was lost.
    pub fn write(&self, values: &[f32]) -> Result<()> {
        if values.len() != self.n_elements() {
            return Err(Error::op("write", format!("{} values for a tensor of shape {}", values.len(), self.shape)));
        }
        match &*self.storage {
            Storage::Cpu(_) => self.cpu_mut().copy_from_slice(values),
            Storage::Gpu(buffer) => buffer.gpu.upload(buffer, self.offset, bytemuck::cast_slice(values))?,
        }
        Ok(())
    }
}
