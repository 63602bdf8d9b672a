// y[n, c, i] = x[n, c, i] + bias[c]
//
// Shapes: x, y (N, C, inner); bias (C). One invocation owns one element of y. CPU twin: src/ops/bias_add.rs

struct Params {
    n: u32,
    n_channels: u32,
    inner: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n {
        y[i] = x[i] + bias[(i / params.inner) % params.n_channels];
    }
}
