// y[n, c, i] = x[n, c, i] + bias[c]
//
// Shapes: x, y (N, C, inner); bias (C). One invocation owns one load of y. planes: whole loads lie in a plane; columns: where
// inner = 1, they lie in a row. CPU twin: src/ops/bias_add.rs

struct Params {
    n: u32,           // loads of y
    n_channels: u32,  // for columns in loads
    inner: u32,       // loads
}

@group(0) @binding(0) var<storage, read> x: array<Values>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(1) var<storage, read> biases: array<Values>;
@group(0) @binding(2) var<storage, read_write> y: array<Values>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn planes(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n {
        y[i] = x[i] + Values(bias[(i / params.inner) % params.n_channels]);
    }
}

@compute @workgroup_size(WG)
fn columns(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n {
        y[i] = x[i] + biases[i % params.n_channels];
    }
}
