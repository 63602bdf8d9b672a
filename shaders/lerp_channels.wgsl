// Between two feature maps, channel by channel.
//
//   forward:  y[n, c, i] = (1 - w[c])·a[n, c, i] + w[c]·b[n, c, i]
//   backward: da = (1 - w[c])·dy; db = w[c]·dy, where of_b is 1
//
// Shapes: a, b, y, dy, dx (N, C, inner); w (C). One invocation owns one load of y or dx; whole loads lie in a plane.
// CPU twin: src/ops/lerp_channels.rs

struct Params {
    n: u32,  // loads of y
    n_channels: u32,
    inner: u32,  // loads of a plane
    of_b: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Values>;
@group(0) @binding(1) var<storage, read> b: array<Values>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<Values>;

@group(0) @binding(0) var<storage, read> dy: array<Values>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<Values>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n {
        let share = w[(i / params.inner) % params.n_channels];
        y[i] = (1.0 - share) * a[i] + share * b[i];
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n {
        let share = weight[(i / params.inner) % params.n_channels];
        dx[i] = select(1.0 - share, share, params.of_b == 1u) * dy[i];
    }
}
