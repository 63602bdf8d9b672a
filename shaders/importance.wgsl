// squares: total[i] += factor·g[i]²     magnitudes: total[i] += factor·|g[i]|     path: total[i] −= g[i]·(w[i] − before[i])
//
// Shapes: all (n), the flat vectors of a model. One invocation owns four neighbouring elements.
// CPU twin: src/ops/importance.rs

struct Params {
    n: u32,
    factor: f32,
}

@group(0) @binding(0) var<storage, read> g: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> total: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> before: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> integral: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn squares(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        total[i] = keep_inside(total[i] + params.factor * g[i] * g[i], i, params.n);
    }
}

@compute @workgroup_size(WG)
fn magnitudes(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        total[i] = keep_inside(total[i] + params.factor * abs(g[i]), i, params.n);
    }
}

@compute @workgroup_size(WG)
fn path(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        integral[i] = keep_inside(integral[i] - g[i] * (w[i] - before[i]), i, params.n);
    }
}
