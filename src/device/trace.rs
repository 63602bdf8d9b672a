//! What kernels do: how often they run, the bytes they move, and, where the adapter has timestamps, how long they take.

use super::array::Array;
use super::kernel::Kernel;
use super::recorder::MANY;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A timestamp before and after each launch of a submission.
const MAX_QUERIES: u32 = 2 * MANY as u32;

/// What a device keeps a record of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trace {
    /// Nothing.
    #[default]
    Off,
    /// Launches, bytes and time of each kernel.
    Totals,
    /// The same, and every launch on stderr.
    Lines,
}

/// What the launches of one kernel did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelUse {
    /// Its name.
    pub kernel: &'static str,
    /// How often it ran.
    pub dispatches: u64,
    /// Bytes of the tensors it reads only: what was bound, each once.
    pub read_bytes: u64,
    /// Bytes of the tensors it writes, or changes in place: each once too.
    pub written_bytes: u64,
    /// How long it ran, on a device that was opened with a trace and has timestamps.
    pub microseconds: Option<f64>,
}

impl KernelUse {
    /// The same for one of so many times.
    #[must_use]
    pub fn per(self, times: u64) -> KernelUse {
        KernelUse {
            kernel: self.kernel,
            dispatches: self.dispatches / times,
            read_bytes: self.read_bytes / times,
            written_bytes: self.written_bytes / times,
            microseconds: self.microseconds.map(|microseconds| microseconds / times as f64),
        }
    }
}

/// Collects what was launched.
pub(super) struct Tracer {
    timer: Option<Timer>,
    prints: bool,
    /// Launches that wait for their submission.
    pending: Vec<Line>,
    totals: BTreeMap<&'static str, KernelUse>,
}

struct Timer {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readable: wgpu::Buffer,
    nanoseconds_per_tick: f32,
}

struct Line {
    kernel: &'static str,
    /// Bytes read, bytes written.
    bytes: [u64; 2],
    shapes: String,
    groups: [u32; 3],
}

impl Tracer {
    /// A tracer that measures time if the device has `timestamps`, and prints a line per launch if it `prints`.
    pub(super) fn new(device: &wgpu::Device, queue: &wgpu::Queue, timestamps: bool, prints: bool) -> Tracer {
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
        Tracer { timer, prints, pending: Vec::new(), totals: BTreeMap::new() }
    }

    /// A tracer that only counts.
    pub(super) fn counting() -> Tracer {
        Tracer { timer: None, prints: false, pending: Vec::new(), totals: BTreeMap::new() }
    }

    /// Notes a launch.
    pub(super) fn note(&mut self, kernel: &'static Kernel, bindings: &[&Array], groups: [u32; 3]) {
        let mut bytes = [0, 0];
        for (access, array) in kernel.bindings.chars().zip(bindings) {
            bytes[usize::from(access != 'r')] += 4 * array.bound_words() as u64;
        }
        let shapes = match self.prints {
            true => bindings.iter().map(|array| array.shape().to_string()).collect::<Vec<_>>().join(" "),
            false => String::new(),
        };
        self.pending.push(Line { kernel: kernel.name, bytes, shapes, groups });
    }

    /// True if each launch needs a pass of its own, with [`Tracer::timestamps`].
    pub(super) fn is_timed(&self) -> bool {
        self.timer.is_some()
    }

    /// Where the pass of a launch writes its timestamps; launches are counted within their submission.
    pub(super) fn timestamps(&self, launch: usize) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        self.timer.as_ref().map(|timer| wgpu::ComputePassTimestampWrites {
            query_set: &timer.queries,
            beginning_of_pass_write_index: Some(2 * launch as u32),
            end_of_pass_write_index: Some(2 * launch as u32 + 1),
        })
    }

    /// Makes the timestamps of a submission readable.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder, n_launches: usize) {
        if let Some(timer) = &self.timer {
            let n_queries = 2 * n_launches as u32;
            encoder.resolve_query_set(&timer.queries, 0..n_queries, &timer.resolved, 0);
            encoder.copy_buffer_to_buffer(&timer.resolved, 0, &timer.readable, 0, 8 * u64::from(n_queries));
        }
    }

    /// Adds up the launches of a submission, the oldest of those noted; waits for their times if there are any.
    pub(super) fn report(&mut self, device: &wgpu::Device, n_launches: usize) {
        let times = self.timer.as_ref().map(|timer| timer.read(device, n_launches));
        for (i, line) in self.pending.drain(..n_launches).enumerate() {
            let Line { kernel, bytes: [read, written], shapes, groups } = line;
            let microseconds = times.as_ref().and_then(|times| times.get(i).copied());
            let none = KernelUse { kernel, dispatches: 0, read_bytes: 0, written_bytes: 0, microseconds: None };
            let total = self.totals.entry(kernel).or_insert(none);
            total.dispatches += 1;
            total.read_bytes += read;
            total.written_bytes += written;
            if let Some(microseconds) = microseconds {
                *total.microseconds.get_or_insert_default() += microseconds;
            }
            if self.prints {
                let time = microseconds.map_or("-".into(), |time| format!("{time:.1}"));
                let [x, y, z] = groups;
                eprintln!("{kernel:<26} {time:>9} µs  groups {x}×{y}×{z}  {shapes}");
            }
        }
    }

    /// Forgets launches that will not be submitted.
    pub(super) fn discard(&mut self) {
        self.pending.clear();
    }

    /// What was added up so far, which starts over; the longest first, then those that move most.
    pub(super) fn take(&mut self) -> Vec<KernelUse> {
        sorted(std::mem::take(&mut self.totals).into_values().collect())
    }

    /// A table of all so far.
    pub(super) fn summary(&self) -> String {
        let mut text = table(&sorted(self.totals.values().cloned().collect()));
        if self.timer.is_none() {
            text.push_str("(this adapter has no timestamps: times are unknown)\n");
        }
        text
    }
}

fn sorted(mut rows: Vec<KernelUse>) -> Vec<KernelUse> {
    let bytes = |row: &KernelUse| row.read_bytes + row.written_bytes;
    let time = |row: &KernelUse| row.microseconds.unwrap_or(0.0);
    rows.sort_by(|a, b| time(b).total_cmp(&time(a)).then(bytes(b).cmp(&bytes(a))));
    rows
}

/// A line per kernel, and one for all.
pub fn table(rows: &[KernelUse]) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let sum = |what: fn(&KernelUse) -> u64| rows.iter().map(what).sum();
    let all = KernelUse {
        kernel: "all",
        dispatches: sum(|row| row.dispatches),
        read_bytes: sum(|row| row.read_bytes),
        written_bytes: sum(|row| row.written_bytes),
        microseconds: rows.iter().filter_map(|row| row.microseconds).reduce(|a, b| a + b),
    };
    let mut text = format!("{:<25} {:>5} {:>8} {:>8}", "kernel", "calls", "MiB read", "written");
    if all.microseconds.is_some() {
        let _ = write!(text, " {:>9} {:>7} {:>5} {:>6}", "total ms", "µs/call", "GB/s", "share");
    }
    text.push('\n');
    for row in rows.iter().chain([&all]) {
        let KernelUse { kernel, dispatches, read_bytes, written_bytes, microseconds } = row;
        let _ = write!(text, "{kernel:<25} {dispatches:>5} {:>8.2} {:>8.2}", mib(*read_bytes), mib(*written_bytes));
        if let (Some(time), Some(whole)) = (microseconds, all.microseconds) {
            let (ms, per_call) = (time / 1e3, time / *dispatches as f64);
            let (rate, share) = ((read_bytes + written_bytes) as f64 / time / 1e3, 100.0 * time / whole);
            let _ = write!(text, " {ms:>9.3} {per_call:>7.1} {rate:>5.0} {share:>5.1}%");
        }
        text.push('\n');
    }
    text
}

impl Timer {
    /// Microseconds per launch.
    fn read(&self, device: &wgpu::Device, n_launches: usize) -> Vec<f64> {
        let slice = self.readable.slice(..16 * n_launches as u64);
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
