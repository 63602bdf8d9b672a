// y[i·N + j, d] = x[j, d] − x[i, d]          dx[k, d] = Σ_i dy[i·N + k, d] − Σ_j dy[k·N + j, d]
//
// Shapes: x (N, D), y (N·N, D). One invocation owns one element of the result. CPU twin: src/ops/pair_differences.rs

struct Params {
    n: u32,
    d: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let at = flat_index(wid, nwg, lid.x);
    if at < params.n * params.n * params.d {
        let pair = at / params.d;
        let d = at - pair * params.d;
        let i = pair / params.n;
        let j = pair - i * params.n;
        y[at] = x[j * params.d + d] - x[i * params.d + d];
    }
}

// x holds dy here, and y dx.
@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let at = flat_index(wid, nwg, lid.x);
    if at < params.n * params.d {
        let k = at / params.d;
        let d = at - k * params.d;
        var total = 0.0;
        for (var other = 0u; other < params.n; other++) {
            total += x[(other * params.n + k) * params.d + d] - x[(k * params.n + other) * params.d + d];
        }
        y[at] = total;
    }
}
