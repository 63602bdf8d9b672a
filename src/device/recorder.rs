//! Launches that wait for their submission, and the submissions in flight.

use super::Counters;
use super::array::Array;
use super::kernel::Kernel;
use super::pipelines::Pipelines;
use super::trace::Tracer;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Instant;

/// Launches that are worth a submission of their own when the adapter has nothing to do: it starts while the rest of the step
/// is recorded.
const FEW: usize = 16;
/// Launches in a submission to an adapter that is at work, and parameter blocks in the arena. A submission costs the host as
/// much as encoding 25 launches; four times as many gain a fifth of a microsecond per launch, and hold a slow adapter for
/// longer than some systems allow.
pub(super) const MANY: usize = 64;
/// Launches that wait at most while kernels have to be compiled: a whole step of most models, so that all are compiled at
/// once. They are handed over in submissions of the usual sizes: one that takes seconds would be ended by some systems.
const MOST_WAITING: usize = 1024;
/// Bytes per parameter block; the alignment of dynamic offsets that every adapter accepts.
const SLOT_BYTES: usize = 256;
/// Submissions in flight before recording waits for the oldest.
const MAX_IN_FLIGHT: usize = 8;

/// The launches since the last submission, and the arena for the parameter blocks of one submission.
pub(super) struct Recorder {
    arena: wgpu::Buffer,
    arena_layout: wgpu::BindGroupLayout,
    arena_group: wgpu::BindGroup,
    launches: Vec<Launch>,
    /// A slot per launch.
    params: Vec<u8>,
    /// Host writes since the last submission: their staging memory lives until the next one.
    pub(super) n_uploads: usize,
    batch: u64,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    tracer: Option<Tracer>,
}

struct Launch {
    pipeline: usize,
    bind_group: wgpu::BindGroup,
    groups: [u32; 3],
}

impl Recorder {
    pub(super) fn new(device: &wgpu::Device, tracer: Option<Tracer>) -> Recorder {
        let arena = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameter blocks"),
            size: (MANY * SLOT_BYTES) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let size = NonZeroU64::new(SLOT_BYTES as u64);
        let arena_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("parameter block"),
            entries: &[wgpu::BindGroupLayoutEntry {
                binding: 0,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Uniform,
                    has_dynamic_offset: true,
                    min_binding_size: None,
                },
                count: None,
            }],
        });
        let arena_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("parameter block"),
            layout: &arena_layout,
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &arena, offset: 0, size }),
            }],
        });
        Recorder {
            arena,
            arena_layout,
            arena_group,
            launches: Vec::with_capacity(MANY),
            params: Vec::with_capacity(MANY * SLOT_BYTES),
            n_uploads: 0,
            batch: 0,
            in_flight: VecDeque::new(),
            tracer,
        }
    }

    pub(super) fn arena_layout(&self) -> &wgpu::BindGroupLayout {
        &self.arena_layout
    }

    /// The number of the launches that wait, as a whole: another one once they are submitted.
    pub(super) fn batch(&self) -> u64 {
        self.batch
    }

    /// True if what waits should be submitted.
    pub(super) fn is_full(&self, device: &wgpu::Device, pipelines: &Pipelines) -> bool {
        let n = self.launches.len();
        if pipelines.any_missing() {
            return n >= MOST_WAITING;
        }
        n >= MANY
            || n.is_multiple_of(FEW)
                && matches!(device.poll(wgpu::PollType::Poll), Ok(status) if status.is_queue_empty())
    }

    pub(super) fn tracer(&mut self) -> &mut Option<Tracer> {
        &mut self.tracer
    }

    pub(super) fn record(
        &mut self,
        kernel: &'static Kernel,
        pipeline: usize,
        bind_group: wgpu::BindGroup,
        bindings: &[&Array],
        params: &[u32],
        groups: [u32; 3],
    ) {
        assert!(4 * params.len() <= SLOT_BYTES, "bug: the parameter block of {} is too long", kernel.name);
        self.params.extend_from_slice(bytemuck::cast_slice(params));
        self.launches.push(Launch { pipeline, bind_group, groups });
        self.params.resize(self.launches.len() * SLOT_BYTES, 0);
        if let Some(tracer) = &mut self.tracer {
            tracer.note(kernel, bindings, groups);
        }
    }

    /// Submits what waits; every kernel must be compiled. Does nothing if nothing was recorded or uploaded.
    pub(super) fn submit(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        pipelines: &Pipelines,
        counters: &mut Counters,
    ) {
        let (launches, params) = (std::mem::take(&mut self.launches), std::mem::take(&mut self.params));
        for (launches, params) in launches.chunks(MANY).zip(params.chunks(MANY * SLOT_BYTES)) {
            let commands = self.encode(device, pipelines, launches, counters);
            queue.write_buffer(&self.arena, 0, params);
            self.enqueue(device, queue, Some(commands), counters);
            if let Some(tracer) = &mut self.tracer {
                tracer.report(device, launches.len());
            }
        }
        self.submit_uploads(device, queue, counters);
        (self.launches, self.params) = (launches, params);
        self.discard();
    }

    /// Hands host writes over, without the launches that wait: no launch that waits uses what was written.
    pub(super) fn submit_uploads(&mut self, device: &wgpu::Device, queue: &wgpu::Queue, counters: &mut Counters) {
        if self.n_uploads > 0 {
            self.enqueue(device, queue, None, counters);
        }
    }

    /// Forgets what waits.
    pub(super) fn discard(&mut self) {
        if !self.launches.is_empty() {
            self.batch += 1;
        }
        self.launches.clear();
        self.params.clear();
        if let Some(tracer) = &mut self.tracer {
            tracer.discard();
        }
    }

    fn encode(
        &self,
        device: &wgpu::Device,
        pipelines: &Pipelines,
        launches: &[Launch],
        counters: &mut Counters,
    ) -> wgpu::CommandBuffer {
        let started = Instant::now();
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        // Timestamps are taken at the borders of a pass: each launch gets its own then.
        let timer = self.tracer.as_ref().filter(|tracer| tracer.is_timed());
        for (i, launches) in launches.chunks(if timer.is_some() { 1 } else { MANY }).enumerate() {
            let timestamp_writes = timer.and_then(|tracer| tracer.timestamps(i));
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            let mut current = None;
            for (j, Launch { pipeline, bind_group, groups: [x, y, z] }) in (i..).zip(launches) {
                if current.replace(pipeline) != Some(pipeline) {
                    pass.set_pipeline(pipelines.get(*pipeline));
                }
                pass.set_bind_group(0, bind_group, &[]);
                pass.set_bind_group(1, &self.arena_group, &[(j * SLOT_BYTES) as u32]);
                pass.dispatch_workgroups(*x, *y, *z);
            }
        }
        if let Some(tracer) = timer {
            tracer.resolve(&mut encoder, launches.len());
        }
        let commands = encoder.finish();
        counters.host.encoding += nanoseconds(started);
        commands
    }

    fn enqueue(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        commands: Option<wgpu::CommandBuffer>,
        counters: &mut Counters,
    ) {
        let started = Instant::now();
        self.in_flight.push_back(queue.submit(commands));
        self.n_uploads = 0;
        counters.submissions += 1;
        counters.host.submitting += nanoseconds(started);
        if self.in_flight.len() > MAX_IN_FLIGHT {
            let started = Instant::now();
            let oldest = self.in_flight.pop_front();
            // An error here is also reported through the device's error handler, which the caller checks.
            let _ = device.poll(wgpu::PollType::Wait { submission_index: oldest, timeout: None });
            counters.host.waiting += nanoseconds(started);
        }
    }
}

/// Since then.
pub(super) fn nanoseconds(started: Instant) -> u64 {
    started.elapsed().as_nanos() as u64
}
