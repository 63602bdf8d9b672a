//! `--trace`: one line per dispatch, and the time per kernel at the end.

use super::array::Array;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Timestamps of at most one submission.
const MAX_QUERIES: u32 = 128;

/// Collects what was dispatched and how long it took.
pub(super) struct Tracer {
    timer: Option<Timer>,
    /// Dispatches of the submission that is being recorded.
    pending: Vec<Line>,
    totals: BTreeMap<&'static str, Total>,
}

struct Timer {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readable: wgpu::Buffer,
    nanoseconds_per_tick: f32,
}

struct Line {
    kernel: &'static str,
    shapes: String,
    groups: [u32; 3],
}

#[derive(Default)]
struct Total {
    calls: u64,
    microseconds: f64,
}

impl Tracer {
    pub(super) fn new(device: &wgpu::Device, queue: &wgpu::Queue, timestamps: bool) -> Tracer {
        let timer = timestamps.then(|| {
            let buffer = |label, usage| {
                device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(label),
                    size: 8 * u64::from(MAX_QUERIES),
                    usage,
                    mapped_at_creation: false,
                })
            };
            Timer {
                queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("trace"),
                    ty: wgpu::QueryType::Timestamp,
                    count: MAX_QUERIES,
                }),
                resolved: buffer("timestamps", wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
                readable: buffer("timestamps", wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
                nanoseconds_per_tick: queue.get_timestamp_period(),
            }
        });
        Tracer { timer, pending: Vec::new(), totals: BTreeMap::new() }
    }

    /// Notes a dispatch; its pass writes these timestamps.
    pub(super) fn begin(
        &mut self,
        kernel: &'static str,
        bindings: &[&Array],
        groups: [u32; 3],
    ) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let first = 2 * self.pending.len() as u32;
        let shapes: Vec<String> = bindings.iter().map(|array| array.shape().to_string()).collect();
        self.pending.push(Line { kernel, shapes: shapes.join(" "), groups });
        self.timer.as_ref().map(|timer| wgpu::ComputePassTimestampWrites {
            query_set: &timer.queries,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        })
    }

    /// Makes the timestamps of a submission readable.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder, n_dispatches: usize) {
        if let Some(timer) = &self.timer {
            let n_queries = 2 * n_dispatches as u32;
            encoder.resolve_query_set(&timer.queries, 0..n_queries, &timer.resolved, 0);
            encoder.copy_buffer_to_buffer(&timer.resolved, 0, &timer.readable, 0, 8 * u64::from(n_queries));
        }
    }

    /// Waits for a submission and prints its lines to stderr.
    pub(super) fn report(&mut self, device: &wgpu::Device, n_dispatches: usize) {
        if n_dispatches == 0 {
            return;
        }
        let times = self.timer.as_ref().map(|timer| timer.read(device, n_dispatches));
        for (i, line) in self.pending.drain(..).enumerate() {
            let total = self.totals.entry(line.kernel).or_default();
            total.calls += 1;
            let mut time = String::from("-");
            if let Some(microseconds) = times.as_ref().and_then(|times| times.get(i)) {
                total.microseconds += microseconds;
                time = format!("{microseconds:.1}");
            }
            let [x, y, z] = line.groups;
            eprintln!("{:<26} {time:>9} µs  groups {x}×{y}×{z}  {}", line.kernel, line.shapes);
        }
    }

    /// Time per kernel, longest first.
    pub(super) fn summary(&self) -> String {
        let mut rows: Vec<_> = self.totals.iter().collect();
        rows.sort_by(|a, b| b.1.microseconds.total_cmp(&a.1.microseconds));
        let sum: f64 = rows.iter().map(|(_, total)| total.microseconds).sum();
        let mut text = format!("{:<26} {:>8} {:>12} {:>10} {:>6}\n", "kernel", "calls", "total ms", "µs/call", "share");
        for (kernel, total) in rows {
            let per_call = total.microseconds / total.calls as f64;
            let share = if sum > 0.0 { 100.0 * total.microseconds / sum } else { 0.0 };
            let _ = writeln!(
                text,
                "{kernel:<26} {:>8} {:>12.2} {per_call:>10.1} {share:>5.1}%",
                total.calls,
                total.microseconds / 1e3
            );
        }
        if self.timer.is_none() {
            text.push_str("(this adapter has no timestamps: times are unknown)\n");
        }
        text
    }
}

impl Timer {
    /// Microseconds per dispatch.
    fn read(&self, device: &wgpu::Device, n_dispatches: usize) -> Vec<f64> {
        let slice = self.readable.slice(..16 * n_dispatches as u64);
        slice.map_async(wgpu::MapMode::Read, |_| ());
        let mut times = Vec::new();
        if device.poll(wgpu::PollType::wait_indefinitely()).is_ok()
            && let Ok(view) = slice.get_mapped_range()
        {
            let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&view);
            let tick = f64::from(self.nanoseconds_per_tick) / 1e3;
            times = ticks.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64 * tick).collect();
        }
        self.readable.unmap();
        times
    }
}
