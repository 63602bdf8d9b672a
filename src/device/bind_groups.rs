//! Bind groups, kept: a training step binds the same slices of the same buffers as the one before.

use super::array::Array;
use super::hasher::QuickMap;

/// Storage bindings per kernel that every adapter allows.
pub(super) const MAX_BINDINGS: usize = 8;
/// Bind groups kept before the cache starts over; a training loop needs a few hundred.
const MAX_BIND_GROUPS: usize = 16_384;

#[derive(Default)]
pub(super) struct BindGroups(QuickMap<Key, wgpu::BindGroup>);

/// The number of the layout; then for each binding the number of the buffer, and where it begins and how many words it has.
#[derive(PartialEq, Eq, Hash)]
struct Key(usize, [(u64, u64); MAX_BINDINGS]);

impl BindGroups {
    /// The group that binds these arrays, and whether it had to be made. `layout` is number `layout_number`.
    pub(super) fn get(
        &mut self,
        device: &wgpu::Device,
        (layout_number, layout): (usize, &wgpu::BindGroupLayout),
        arrays: &[&Array],
    ) -> (wgpu::BindGroup, bool) {
        let mut key = Key(layout_number, Default::default());
        for (slot, array) in key.1.iter_mut().zip(arrays) {
            // Both are below 2³², as no buffer of an adapter is larger.
            let range = (array.offset as u64) << 32 | array.bound_words() as u64;
            *slot = (array.gpu_buffer().raw().id, range);
        }
        if let Some(group) = self.0.get(&key) {
            return (group.clone(), false);
        }
        let entries: Vec<_> = (0..)
            .zip(arrays)
            .map(|(binding, array)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &array.gpu_buffer().raw().raw,
                    offset: 4 * array.offset as u64,
                    size: wgpu::BufferSize::new(4 * array.bound_words() as u64),
                }),
            })
            .collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
        let group = device.create_bind_group(&descriptor);
        if self.0.len() >= MAX_BIND_GROUPS {
            self.0.clear();
        }
        self.0.insert(key, group.clone());
        (group, true)
    }

    /// Lets go of all, and of the buffers they hold.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
