//! Compiled kernels. A launch only notes which kernel it needs; what is missing is compiled when launches are handed over,
//! side by side: a driver takes tenths of a second for each, and a training step needs dozens.

use super::hasher::QuickMap;
use super::kernel::Kernel;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

/// Every kernel that was launched, with its pipeline once that is compiled.
pub(super) struct Pipelines {
    /// The layout of the parameter block: group 1 of every kernel.
    params_layout: wgpu::BindGroupLayout,
    /// Layouts of group 0 by access letters.
    layouts: Vec<(&'static str, wgpu::BindGroupLayout)>,
    entries: Vec<Entry>,
    /// By the address of the kernel (two crates may give theirs the same name), whether it has bounds checks, and whether it has the
    /// workgroups of a software adapter.
    by_kernel: QuickMap<(usize, [bool; 2]), usize>,
    /// Entries to compile, in the order of their first launch.
    missing: Vec<usize>,
}

struct Entry {
    kernel: &'static Kernel,
    checked: bool,
    software: bool,
    layout: usize,
    pipeline: Option<wgpu::ComputePipeline>,
}

/// Pipelines compiled at once; a driver's compiler takes some hundred megabytes for a large kernel.
const MAX_THREADS: usize = 16;
/// Drivers' compilers recurse deeply; the main thread usually has as much.
const STACK_BYTES: usize = 8 << 20;

impl Pipelines {
    pub(super) fn new(params_layout: wgpu::BindGroupLayout) -> Pipelines {
        Pipelines {
            params_layout,
            layouts: Vec::new(),
            entries: Vec::new(),
            by_kernel: QuickMap::default(),
            missing: Vec::new(),
        }
    }

    /// The number of a kernel's pipeline, which may have to be compiled yet.
    pub(super) fn number(
        &mut self,
        device: &wgpu::Device,
        kernel: &'static Kernel,
        checked: bool,
        software: bool,
    ) -> usize {
        let key = (std::ptr::from_ref(kernel).addr(), [checked, software]);
        if let Some(&number) = self.by_kernel.get(&key) {
            return number;
        }
        let number = self.entries.len();
        let layout = self.find_layout(device, kernel.bindings);
        self.entries.push(Entry { kernel, checked, software, layout, pipeline: None });
        self.by_kernel.insert(key, number);
        self.missing.push(number);
        number
    }

    /// The number of the layout of its group 0: the same for all kernels with the same access letters.
    pub(super) fn layout_of(&self, number: usize) -> usize {
        self.entries[number].layout
    }

    pub(super) fn layout(&self, layout: usize) -> &wgpu::BindGroupLayout {
        &self.layouts[layout].1
    }

    pub(super) fn any_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    /// A compiled pipeline.
    pub(super) fn get(&self, number: usize) -> &wgpu::ComputePipeline {
        self.entries[number].pipeline.as_ref().expect("bug: a kernel runs before it is compiled")
    }

    /// Compiles what is missing and returns how many that were, or what the compiler says of the first that is wrong.
    pub(super) fn compile_missing(
        &mut self,
        device: &wgpu::Device,
        cache: Option<&wgpu::PipelineCache>,
    ) -> Result<usize, String> {
        let missing = std::mem::take(&mut self.missing);
        let results: Vec<OnceLock<_>> = missing.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(at) = Some(next.fetch_add(1, Relaxed)).filter(|&at| at < missing.len()) {
                let _ = results[at].set(self.compile(device, &self.entries[missing[at]], cache));
            }
        };
        // Threads of their own: those of rayon would take on other work, which may wait for this device.
        let n_threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(missing.len());
        thread::scope(|scope| {
            for _ in 1..n_threads {
                // Without another thread this one does the work.
                let _ = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
            }
            work();
        });
        let results: Vec<_> = results.into_iter().filter_map(OnceLock::into_inner).collect();
        let n_compiled = results.len();
        for (number, result) in missing.into_iter().zip(results) {
            self.entries[number].pipeline = Some(result?);
        }
        Ok(n_compiled)
    }

    fn compile(
        &self,
        device: &wgpu::Device,
        entry: &Entry,
        cache: Option<&wgpu::PipelineCache>,
    ) -> Result<wgpu::ComputePipeline, String> {
        let Entry { kernel, checked, software, layout, .. } = *entry;
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(kernel.text().into()),
        };
        let module = if checked {
            device.create_shader_module(descriptor)
        } else {
            // SAFETY: every shader that is launched unchecked is part of this crate (`launch` is not public), guards its
            // own indices, has only loops that end, and is compared with its CPU twin on odd sizes by the tests, with
            // checks on and off.
            unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(self.layout(layout)), Some(&self.params_layout)],
            immediate_size: 0,
        });
        let constants = kernel.overrides(software);
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some(kernel.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: checked,
            },
            cache,
        });
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(format!("the driver reports: {error}")),
            None => Ok(pipeline),
        }
    }

    fn find_layout(&mut self, device: &wgpu::Device, bindings: &'static str) -> usize {
        if let Some(at) = self.layouts.iter().position(|(letters, _)| *letters == bindings) {
            return at;
        }
        let entries: Vec<_> = (0..)
            .zip(bindings.chars())
            .map(|(binding, access)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: access == 'r' },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some(bindings), entries: &entries };
        self.layouts.push((bindings, device.create_bind_group_layout(&descriptor)));
        self.layouts.len() - 1
    }
}
