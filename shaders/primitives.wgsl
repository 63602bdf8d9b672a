// Copy, fill, add, scale: what the tape itself needs.
//
// Shapes: any; n elements, four per invocation. One invocation owns four neighbouring elements of `destination`.
// CPU twin: src/device/primitives.rs

struct Params {
    n: u32,
    value: f32,
}

@group(0) @binding(0) var<storage, read> origin: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> destination: array<vec4<f32>>;
@group(0) @binding(0) var<storage, read_write> filled: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> params: Params;

// destination = origin. What is behind the end stays: a part of a vector may end inside a vec4 whose rest is in use.
@compute @workgroup_size(WG)
fn copy(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        let lane = vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u);
        destination[i] = select(destination[i], origin[i], lane < vec4<u32>(params.n));
    }
}

// filled = value
@compute @workgroup_size(WG)
fn fill(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        filled[i] = keep_inside(vec4<f32>(params.value), i, params.n);
    }
}

// destination += origin
@compute @workgroup_size(WG)
fn add_assign(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        destination[i] += keep_inside(origin[i], i, params.n);
    }
}

// destination = value * origin
@compute @workgroup_size(WG)
fn scale(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        destination[i] = keep_inside(params.value * origin[i], i, params.n);
    }
}
