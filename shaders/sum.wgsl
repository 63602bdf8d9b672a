// y = factor · Σ x in two stages of fixed order, without atomics.
//
// Shapes: x (n), partials (n_partials), y (1).
//   partial:  one invocation owns one partial sum: elements i, i + n_partials, i + 2·n_partials, …
//   finish:   one invocation adds the partials in order
//   backward: dx[i] = factor · dy[0]; one invocation owns one element of dx
// CPU twin: src/ops/sum.rs

struct Params {
    n: u32,
    factor: f32,
    n_partials: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn partial(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let owner = flat_index(wid, nwg, lid.x);
    if owner < params.n_partials {
        var total = 0.0;
        for (var i = owner; i < params.n; i += params.n_partials) {
            total += x[i];
        }
        y[owner] = total;
    }
}

@compute @workgroup_size(WG)
fn finish(@builtin(local_invocation_id) lid: vec3<u32>) {
    var total = 0.0;
    for (var i = 0u; i < params.n; i++) {
        total += x[i];
    }
    y[lid.x] = params.factor * total;
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n {
        y[i] = params.factor * x[0];
    }
}
