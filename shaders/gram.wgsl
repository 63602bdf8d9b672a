// y[n, i, j] = Σ_d x[n, i, d]·x[n, j, d]          dx[n, i, d] = Σ_j (dy[n, i, j] + dy[n, j, i])·x[n, j, d]
//
// Shapes: x (N, M, D), y (N, M, M). One invocation owns one element of the result. CPU twin: src/ops/gram.rs

struct Params {
    n: u32, // elements of the result
    m: u32,
    d: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x_in: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let at = flat_index(wid, nwg, lid.x);
    if at < params.n {
        let row = at / params.m; // n·M + i
        let j = at - row * params.m;
        let other = (row / params.m) * params.m + j;
        var total = 0.0;
        for (var d = 0u; d < params.d; d++) {
            total += x[row * params.d + d] * x[other * params.d + d];
        }
        y[at] = total;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let at = flat_index(wid, nwg, lid.x);
    if at < params.n {
        let row = at / params.d; // n·M + i
        let d = at - row * params.d;
        let first = (row / params.m) * params.m;
        let i = row - first;
        var total = 0.0;
        for (var j = 0u; j < params.m; j++) {
            let both = dy[row * params.m + j] + dy[(first + j) * params.m + i];
            total += both * x_in[(first + j) * params.d + d];
        }
        dx[at] = total;
    }
}
