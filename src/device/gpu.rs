//! One wgpu adapter: buffers, pipelines, uploads and the only read-back.

use super::Counters;
use super::adapters::{Adapter, Options};
use super::array::Array;
use super::bind_groups::{BindGroups, MAX_BINDINGS};
use super::cache::DiskCache;
use super::kernel::{Grid, Kernel, MAX_TURNS};
use super::pipelines::Pipelines;
use super::pool::{FreeLists, size_class};
use super::precision::{Matrices, Precision};
use super::recorder::{Recorder, nanoseconds};
use super::trace::{KernelUse, Trace, Tracer};
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// An open adapter.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    limits: wgpu::Limits,
    software: bool,
    checked: bool,
    precision: Precision,
    matrices: Option<Matrices>,
    state: Mutex<State>,
    /// The first error the driver reported outside a call, or the reason why the device was lost.
    failure: Arc<Mutex<Option<String>>>,
}

struct State {
    free: FreeLists<RawBuffer>,
    /// Buffers that are written from the host: kept apart so that one can be found that no recorded kernel uses.
    free_uploads: FreeLists<RawBuffer>,
    staging: Option<wgpu::Buffer>,
    pipelines: Pipelines,
    cache: Option<DiskCache>,
    bind_groups: BindGroups,
    recorder: Recorder,
    counters: Counters,
    next_buffer_id: u64,
}

pub(super) struct RawBuffer {
    pub(super) raw: wgpu::Buffer,
    pub(super) id: u64,
    last_use: AtomicU64,
}

/// A storage buffer that returns to its pool when dropped.
pub(super) struct GpuBuffer {
    buffer: Option<RawBuffer>,
    class: usize,
    for_upload: bool,
    pub(super) gpu: Arc<Gpu>,
}

impl GpuBuffer {
    pub(super) fn raw(&self) -> &RawBuffer {
        self.buffer.as_ref().expect("bug: a dropped buffer is used")
    }
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            let mut state = self.gpu.state.lock();
            let lists = if self.for_upload { &mut state.free_uploads } else { &mut state.free };
            lists.give(self.class, buffer);
        }
    }
}

impl fmt::Debug for GpuBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "buffer {} of {} words", self.raw().id, self.class)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl Gpu {
    /// Opens an adapter with its own limits.
    pub(super) fn open(adapter: &Adapter, options: Options) -> Result<Gpu> {
        let Options { checked, trace, as_hardware, cache, precision } = options;
        let matrices = Matrices::of(adapter, precision, as_hardware)?;
        let mut wanted = wgpu::Features::empty();
        wanted.set(wgpu::Features::TIMESTAMP_QUERY, trace != Trace::Off);
        wanted.set(wgpu::Features::PIPELINE_CACHE, cache);
        let mut features = wanted & adapter.raw.features();
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if matrices.is_some_and(|matrices| !matrices.emulated) {
            features |= wgpu::Features::SHADER_F16 | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            // SAFETY: wgpu calls a feature experimental whose wrong use it does not catch. Of those only cooperative matrices
            // are asked for, and only kernels of this crate use them: every subgroup is whole and reaches each of
            // their instructions together, and they read and write inside slabs whose sizes and strides the same
            // constants give. The emulation runs the same index arithmetic with bounds checks in the tests.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("engram"),
            required_features: features,
            experimental_features,
            required_limits: adapter.raw.limits(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.raw.request_device(&descriptor))
            .map_err(|e| Error::Device(format!("{} refuses to open: {e}", adapter.info.name)))?;

        let failure = Arc::new(Mutex::new(None));
        let on_error = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            on_error.lock().get_or_insert_with(|| match error {
                wgpu::Error::OutOfMemory { .. } => OUT_OF_MEMORY.into(),
                other => format!("the driver reports: {other}"),
            });
        }));
        let on_lost = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                on_lost.lock().get_or_insert_with(|| {
                    format!(
                        "the adapter was lost ({message}). Often one dispatch took too long for the display driver: \
                         use a smaller --batch-size, or --device cpu; results written so far are whole"
                    )
                });
            }
        });

        let timestamps = features.contains(wgpu::Features::TIMESTAMP_QUERY);
        let tracer = (trace != Trace::Off).then(|| Tracer::new(&device, &queue, timestamps, trace == Trace::Lines));
        let software = adapter.is_software() && !as_hardware;
        let recorder = Recorder::new(&device, tracer);
        Ok(Gpu {
            software,
            info: adapter.info.clone(),
            limits: device.limits(),
            checked,
            precision,
            matrices,
            state: Mutex::new(State {
                free: FreeLists::default(),
                free_uploads: FreeLists::default(),
                staging: None,
                pipelines: Pipelines::new(recorder.arena_layout().clone()),
                cache: DiskCache::open(&device, &adapter.info),
                bind_groups: BindGroups::default(),
                recorder,
                counters: Counters::default(),
                next_buffer_id: 0,
            }),
            failure,
            device,
            queue,
        })
    }

    /// Name, kind and backend of the adapter.
    pub fn describe(&self) -> String {
        format!("{} ({:?})", self.info.name, self.info.backend)
    }

    /// True for a rasteriser that runs on the processor.
    pub fn is_software(&self) -> bool {
        self.software
    }

    /// How products are computed.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The units for small matrices that products run on, if they do.
    pub(crate) fn matrices(&self) -> Option<Matrices> {
        self.matrices
    }

    /// Shared memory of a workgroup, in bytes.
    pub(crate) fn shared_bytes(&self) -> usize {
        self.limits.max_compute_workgroup_storage_size as usize
    }

    /// What the driver says about itself.
    pub fn driver(&self) -> String {
        format!("{} {}", self.info.driver, self.info.driver_info).trim().to_string()
    }

    pub(super) fn counters(&self) -> Counters {
        self.state.lock().counters
    }

    /// `--trace`: the table of time per kernel, if tracing is on.
    pub fn trace_summary(&self) -> Option<String> {
        self.state.lock().recorder.tracer().as_ref().map(Tracer::summary)
    }

    /// Runs `f` and says what each kernel did meanwhile; a trace that was kept until then starts over.
    ///
    /// # Errors
    /// Those of `f`, and if the adapter was lost.
    pub fn profile(&self, f: impl FnOnce() -> Result<()>) -> Result<Vec<KernelUse>> {
        self.flush()?;
        let is_traced = {
            let mut state = self.state.lock();
            let tracer = state.recorder.tracer();
            let is_traced = tracer.is_some();
            tracer.get_or_insert_with(Tracer::counting).take();
            is_traced
        };
        let result = f().and_then(|()| self.flush());
        let mut state = self.state.lock();
        let tracer = state.recorder.tracer();
        let rows = tracer.as_mut().map(Tracer::take).unwrap_or_default();
        if !is_traced {
            *tracer = None;
        }
        result.map(|()| rows)
    }

    fn check(&self) -> Result<()> {
        match &*self.failure.lock() {
            Some(message) => Err(Error::Device(format!("{}: {message}", self.info.name))),
            None => Ok(()),
        }
    }

    /// Fails on llvmpipe where an invocation's loops would turn more than [`MAX_TURNS`] times: numbers would be wrong without a word.
    pub fn expect_turns(&self, op: &'static str, turns: usize) -> Result<()> {
        if turns <= MAX_TURNS || !self.software || !self.info.name.contains("llvmpipe") {
            return Ok(());
        }
        let name = &self.info.name;
        let what =
            format!("a loop of {turns} turns, and {name} leaves loops after 65,535: use --device cpu, which is faster");
        Err(Error::op(op, what))
    }

    /// Bytes of the largest tensor.
    pub fn max_bytes(&self) -> u64 {
        self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size)
    }

    /// A buffer of at least `words` words with arbitrary content. One `for_upload` is not used by any recorded kernel.
    pub(super) fn allocate(self: &Arc<Self>, words: usize, for_upload: bool) -> Result<GpuBuffer> {
        let class = size_class(words);
        let limit = self.max_bytes();
        if 4 * words.next_multiple_of(4) as u64 > limit {
            return Err(Error::Device(format!(
                "a tensor of {:.0} MiB does not fit: {} binds at most {:.0} MiB at once. Use a smaller --batch-size",
                mebibytes(4 * words as u64),
                self.info.name,
                mebibytes(limit)
            )));
        }
        let mut state = self.state.lock();
        let recycled = if for_upload {
            let waiting = state.recorder.batch();
            state
                .free_uploads
                .take_smallest(class, |buffer| (buffer.last_use.load(Relaxed) != waiting).then_some(buffer.id))
        } else {
            state.free.take_smallest(class, |buffer| Some(buffer.id))
        };
        let buffer = match recycled {
            Some(buffer) => buffer,
            None => self.create(&mut state, (4 * class as u64).min(limit))?,
        };
        Ok(GpuBuffer { buffer: Some(buffer), class, for_upload, gpu: self.clone() })
    }

    fn create(&self, state: &mut State, bytes: u64) -> Result<RawBuffer> {
        let create = || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let mut raw = create();
        if self.failure.lock().as_deref() == Some(OUT_OF_MEMORY) {
            // Buffers that wait in the pool are given up before the user is told.
            *self.failure.lock() = None;
            self.submit(state);
            state.bind_groups.clear();
            for buffer in state.free.drain().into_iter().chain(state.free_uploads.drain()) {
                state.counters.held_bytes -= buffer.raw.size();
            }
            self.wait()?;
            raw = create();
        }
        self.check()?;
        state.counters.allocations += 1;
        state.counters.allocated_bytes += bytes;
        state.counters.held_bytes += bytes;
        state.next_buffer_id += 1;
        Ok(RawBuffer { raw, id: state.next_buffer_id, last_use: AtomicU64::new(u64::MAX) })
    }

    /// Copies words from the host, after every recorded kernel that uses the buffer.
    pub(super) fn upload(&self, buffer: &GpuBuffer, offset: usize, bytes: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        // The queue runs `write_buffer` before the next submission: what is recorded but not submitted would see it.
        if buffer.raw().last_use.load(Relaxed) == state.recorder.batch() {
            self.submit(&mut state);
        }
        self.queue.write_buffer(&buffer.raw().raw, 4 * offset as u64, bytes);
        let State { recorder, counters, .. } = &mut *state;
        recorder.n_uploads += 1;
        if recorder.n_uploads >= MAX_UPLOADS {
            recorder.submit_uploads(&self.device, &self.queue, counters);
        }
        drop(state);
        self.check()
    }

    /// Compiles what has to be, and submits what waits. Errors are left for [`Gpu::check`].
    fn submit(&self, state: &mut State) {
        let State { recorder, pipelines, counters, cache, .. } = state;
        if pipelines.any_missing() {
            let started = Instant::now();
            match pipelines.compile_missing(&self.device, cache.as_ref().map(|cache| &cache.raw)) {
                Ok(n) => counters.pipelines += n as u64,
                Err(message) => {
                    self.failure.lock().get_or_insert(message);
                }
            }
            counters.host.compiling += nanoseconds(started);
        }
        if self.failure.lock().is_some() {
            recorder.discard();
        } else {
            recorder.submit(&self.device, &self.queue, pipelines, counters);
        }
    }

    /// Hands recorded work to the adapter.
    pub(super) fn flush(&self) -> Result<()> {
        self.submit(&mut self.state.lock());
        self.check()
    }

    pub(super) fn synchronize(&self) -> Result<()> {
        self.flush()?;
        self.wait()
    }

    fn wait(&self) -> Result<()> {
        self.device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|e| Error::Device(format!("{}: waiting for the adapter failed: {e}", self.info.name)))?;
        self.check()
    }

    /// Copies words to the host: the only read-back of the engine.
    pub(super) fn read(&self, buffer: &GpuBuffer, offset: usize, words: usize) -> Result<Vec<f32>> {
        let bytes = 4 * words as u64;
        let mut state = self.state.lock();
        self.submit(&mut state);
        self.check()?;
        let staging = match state.staging.take() {
            Some(staging) if staging.size() >= bytes => staging,
            _ => self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size: bytes.next_power_of_two().max(4096).min(self.limits.max_buffer_size),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
        };
        self.check()?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&buffer.raw().raw, 4 * offset as u64, &staging, 0, bytes);
        self.queue.submit([encoder.finish()]);
        let slice = staging.slice(..bytes);
        slice.map_async(wgpu::MapMode::Read, |_| ());
        self.wait()?;
        let values = slice
            .get_mapped_range()
            .map(|view| bytemuck::pod_collect_to_vec(&view))
            .map_err(|e| Error::Device(format!("{}: read-back failed: {e}", self.info.name)));
        staging.unmap();
        state.staging = Some(staging);
        values
    }

    /// Records one kernel of this crate.
    ///
    /// # Errors
    /// If the adapter was lost or the launch is too large.
    ///
    /// # Panics
    /// If the bindings are not those the kernel declares.
    pub(crate) fn launch(
        &self,
        kernel: &'static Kernel,
        bindings: &[&Array],
        params: &[u32],
        grid: Grid,
    ) -> Result<()> {
        self.record(kernel, self.checked, bindings, params, grid)
    }

    /// Records one kernel of your own. `bindings` are the tensors in the order the kernel declares them, none of them both
    /// read and written; `params` are the fields of its parameter block (at most 64), floats by their bits. The shader is
    /// compiled with bounds checks, which costs a little time: nobody has proved that it stays inside its tensors.
    ///
    /// # Errors
    /// If the adapter was lost or the launch is too large. Kernels are compiled when launches are handed over: text that is
    /// no valid WGSL is an error of a later launch or, at the latest, of the next [`Device::flush`](super::Device::flush),
    /// wait or read-back, in the compiler's words. After a lost adapter or wrong text the device refuses all further work.
    ///
    /// # Panics
    /// If the bindings are not those the kernel declares, more than 8, or not on this device.
    pub fn launch_checked(
        &self,
        kernel: &'static Kernel,
        bindings: &[&Array],
        params: &[u32],
        grid: Grid,
    ) -> Result<()> {
        self.record(kernel, true, bindings, params, grid)
    }

    fn record(
        &self,
        kernel: &'static Kernel,
        checked: bool,
        bindings: &[&Array],
        params: &[u32],
        grid: Grid,
    ) -> Result<()> {
        assert_eq!(bindings.len(), kernel.bindings.len(), "bug: {} got other bindings than it declares", kernel.name);
        assert!(bindings.len() <= MAX_BINDINGS, "bug: {} binds more than is portable", kernel.name);
        let software = self.software && kernel.workgroup.is_for_software(bindings, grid);
        let groups = grid.workgroups(kernel, software)?;
        let mut state = self.state.lock();
        let state = &mut *state;

        let pipeline = state.pipelines.number(&self.device, kernel, checked, software);
        let layout = state.pipelines.layout_of(pipeline);
        let layout = (layout, state.pipelines.layout(layout));
        let (bind_group, is_new) = state.bind_groups.get(&self.device, layout, bindings);
        let waiting = state.recorder.batch();
        for array in bindings {
            array.gpu_buffer().raw().last_use.store(waiting, Relaxed);
        }
        state.counters.bind_groups += u64::from(is_new);
        state.counters.dispatches += 1;
        state.recorder.record(kernel, pipeline, bind_group, bindings, params, groups);
        if state.recorder.is_full(&self.device, &state.pipelines) {
            self.submit(state);
            self.check()?;
        }
        Ok(())
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let State { cache, counters, .. } = self.state.get_mut();
        if let Some(cache) = cache.as_ref().filter(|_| counters.pipelines > 0) {
            cache.save();
        }
    }
}

/// Host writes before they are handed over: the memory they wait in is freed then.
const MAX_UPLOADS: usize = 64;
const OUT_OF_MEMORY: &str = "out of device memory. Use a smaller --batch-size, a smaller --model, or --device cpu";

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
