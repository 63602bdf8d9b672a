//! One open compute pass that collects dispatches, submitted every few dozen.

use super::Counters;
use super::array::Array;
use super::kernel::Kernel;
use super::trace::Tracer;
use std::collections::VecDeque;
use std::num::NonZeroU64;

/// Dispatches per submission: enough to hide its cost, few enough to keep the adapter busy from early on.
const SLOTS: usize = 64;
/// Bytes per parameter block; the alignment of dynamic offsets that every adapter accepts.
const SLOT_BYTES: usize = 256;
/// Submissions in flight before recording waits for the oldest.
const MAX_IN_FLIGHT: usize = 8;

/// The open pass, and the arena that holds the parameter blocks of its dispatches.
pub(super) struct Recorder {
    // Declared before the encoder, so that it also ends before it when the device is dropped.
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    arena: wgpu::Buffer,
    arena_layout: wgpu::BindGroupLayout,
    arena_group: wgpu::BindGroup,
    params: Vec<u8>,
    n_dispatches: usize,
    /// Host writes since the last submission: their staging memory lives until the next one.
    pub(super) n_uploads: usize,
    submission: u64,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    tracer: Option<Tracer>,
}

impl Recorder {
    pub(super) fn new(device: &wgpu::Device, tracer: Option<Tracer>) -> Recorder {
        let arena = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameter blocks"),
            size: (SLOTS * SLOT_BYTES) as u64,
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
            pass: None,
            encoder: None,
            arena,
            arena_layout,
            arena_group,
            params: Vec::with_capacity(SLOTS * SLOT_BYTES),
            n_dispatches: 0,
            n_uploads: 0,
            submission: 0,
            in_flight: VecDeque::new(),
            tracer,
        }
    }

    pub(super) fn arena_layout(&self) -> &wgpu::BindGroupLayout {
        &self.arena_layout
    }

    /// The number of the submission that is being recorded.
    pub(super) fn submission(&self) -> u64 {
        self.submission
    }

    pub(super) fn is_full(&self) -> bool {
        self.n_dispatches == SLOTS
    }

    pub(super) fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    #[allow(clippy::too_many_arguments)] // the parts of one dispatch, called from one place
    pub(super) fn record(
        &mut self,
        device: &wgpu::Device,
        kernel: &'static Kernel,
        pipeline: &wgpu::ComputePipeline,
        bind_group: &wgpu::BindGroup,
        bindings: &[&Array],
        params: &[u32],
        groups: [u32; 3],
    ) {
        assert!(4 * params.len() <= SLOT_BYTES, "bug: the parameter block of {} is too long", kernel.name);
        let offset = self.params.len();
        self.params.extend_from_slice(bytemuck::cast_slice(params));
        self.params.resize(offset + SLOT_BYTES, 0);

        let encoder = self
            .encoder
            .get_or_insert_with(|| device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()));
        if let Some(tracer) = &mut self.tracer {
            // Timestamps are taken at the borders of a pass, so each dispatch gets its own.
            self.pass = None;
            let timestamp_writes = tracer.begin(kernel.name, bindings, groups);
            let descriptor = wgpu::ComputePassDescriptor { label: Some(kernel.name), timestamp_writes };
            self.pass = Some(encoder.begin_compute_pass(&descriptor).forget_lifetime());
        }
        let pass = self.pass.get_or_insert_with(|| {
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime()
        });
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, bind_group, &[]);
        pass.set_bind_group(1, &self.arena_group, &[offset as u32]);
        pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        self.n_dispatches += 1;
    }

    /// Ends the pass and hands it to the queue. Does nothing if nothing was recorded or uploaded.
    pub(super) fn submit(&mut self, device: &wgpu::Device, queue: &wgpu::Queue, counters: &mut Counters) {
        if self.n_dispatches == 0 && self.n_uploads == 0 {
            return;
        }
        self.pass = None;
        queue.write_buffer(&self.arena, 0, &self.params);
        if let (Some(tracer), Some(encoder)) = (&self.tracer, &mut self.encoder) {
            tracer.resolve(encoder, self.n_dispatches);
        }
        let index = queue.submit(self.encoder.take().map(wgpu::CommandEncoder::finish));
        self.params.clear();
        self.n_uploads = 0;
        self.submission += 1;
        counters.submissions += 1;
        self.in_flight.push_back(index);
        if self.in_flight.len() > MAX_IN_FLIGHT {
            let oldest = self.in_flight.pop_front();
            // An error here is also reported through the device's error handler, which the caller checks.
            let _ = device.poll(wgpu::PollType::Wait { submission_index: oldest, timeout: None });
        }
        if let Some(tracer) = &mut self.tracer {
            tracer.report(device, self.n_dispatches);
        }
        self.n_dispatches = 0;
    }
}
