// y[0] = 1 / the number of labels that are not IGNORE; 1 if there is none
//
// Shapes: labels (n), flags (n), y (1). mark: one invocation owns four labels, and sum.wgsl adds the flags up. finish: a single
// invocation. CPU twin: src/ops/share_of_labels.rs

struct Params {
    n: u32,
}

const IGNORE: vec4<u32> = vec4<u32>(0xffffffffu);

@group(0) @binding(0) var<storage, read> labels: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> flags: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn mark(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        flags[i] = keep_inside(select(vec4<f32>(1.0), vec4<f32>(0.0), labels[i] == IGNORE), i, params.n);
    }
}

@group(0) @binding(0) var<storage, read> total: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn finish(@builtin(local_invocation_id) lid: vec3<u32>) {
    y[lid.x] = 1.0 / clamp(total[0], 1.0, f32(params.n));
}
