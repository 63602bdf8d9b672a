// z[n, i, j] = dy[n, i, j] + dy[n, j, i]: what the gradient of a stack of y = x·xᵀ multiplies x with, dx[n] = z[n]·x[n].
//
// Shapes: dy (N, M, M), z the same. One invocation owns one element of z; the products are those of matmul.
// CPU twin: src/ops/gram.rs

struct Params {
    n: u32, // elements of z
    m: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read_write> z: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn add_transpose(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let at = flat_index(wid, nwg, lid.x);
    if at < params.n {
        let row = at / params.m; // n·M + i
        let j = at - row * params.m;
        let i = row % params.m;
        z[at] = dy[at] + dy[(row - i + j) * params.m + i];
    }
}
