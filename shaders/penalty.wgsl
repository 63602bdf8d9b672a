// value: terms[i] = importance[i]·(w[i] − anchor[i])²          gradient: g[i] += factor·importance[i]·(w[i] − anchor[i])
//
// Shapes: all (n), the flat vectors of a model. One invocation owns four neighbouring elements. The terms are added up by
// sum.wgsl. CPU twin: src/ops/penalty.rs

struct Params {
    n: u32,
    factor: f32,
}

@group(0) @binding(0) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> anchor: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> importance: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> result: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn value(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        let d = w[i] - anchor[i];
        result[i] = keep_inside(importance[i] * d * d, i, params.n);
    }
}

@compute @workgroup_size(WG)
fn gradient(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        let d = params.factor * importance[i] * (w[i] - anchor[i]);
        result[i] = keep_inside(result[i] + d, i, params.n);
    }
}
