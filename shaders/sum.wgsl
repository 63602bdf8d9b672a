// y = factor · Σ x in two stages of fixed order, without atomics.
//
// Shapes: x (n), partials (n_partials), y (1).
//   wide:     on hardware, both stages: a workgroup owns one partial sum, of every n_partials-th row of 256 vec4s; the last
//             stage has one workgroup
//   partial:  on software adapters, one invocation owns one partial sum: elements i, i + n_partials, i + 2·n_partials, …
//   finish:   there, one invocation adds the partials in order
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

@group(0) @binding(0) var<storage, read> quads: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn wide(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let n_quads = (params.n + 3u) / 4u;
    let step = params.n_partials * WG;
    var total = vec4<f32>(0.0);
    var i = wid.x * WG + lid.x;
    // Four loads under way at a time. None of them is the last quad, which may be padded.
    for (; i + 3u * step + 1u < n_quads; i += 4u * step) {
        total += (quads[i] + quads[i + step]) + (quads[i + 2u * step] + quads[i + 3u * step]);
    }
    for (; i < n_quads; i += step) {
        total += keep_inside(quads[i], i, params.n);
    }
    let sum = add_up(lid.x, total.xy + total.zw);
    if lid.x == 0u {
        y[wid.x] = params.factor * (sum.x + sum.y);
    }
}

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

@group(0) @binding(1) var<storage, read_write> dx: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        dx[i] = keep_inside(vec4<f32>(params.factor * x[0]), i, params.n);
    }
}
