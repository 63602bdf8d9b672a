// Channels of one tensor among those of another.
//
//   put:  whole[n, first + c, i] = part[n, c, i]
//   take: part[n, c, i] = whole[n, first + c, i]
//   pad:  whole[n, first + c, i] = part[n, c, i], and 0 in all other channels
//
// Shapes: whole (N, C, plane), part (N, channels, plane). put, take: one invocation owns one element of the part. pad: of the
// whole. CPU twin: src/ops/channels.rs

struct Params {
    n: u32,
    c: u32,
    plane: u32,
    channels: u32,
    first: u32,
}

@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> target_values: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// Where in the whole an element of the part is.
fn in_whole(i: u32) -> u32 {
    let image = i / (params.channels * params.plane);
    return i + (image * (params.c - params.channels) + params.first) * params.plane;
}

@compute @workgroup_size(WG)
fn put(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n * params.channels * params.plane {
        target_values[in_whole(i)] = source[i];
    }
}

@compute @workgroup_size(WG)
fn take(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n * params.channels * params.plane {
        target_values[i] = source[in_whole(i)];
    }
}

@compute @workgroup_size(WG)
fn pad(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n * params.c * params.plane {
        let image = i / (params.c * params.plane);
        // Channels before the part wrap around to a large number.
        let channel = (i / params.plane) - image * params.c - params.first;
        let at = (image * params.channels + min(channel, params.channels - 1u)) * params.plane + i % params.plane;
        target_values[i] = select(0.0, source[at], channel < params.channels);
    }
}
