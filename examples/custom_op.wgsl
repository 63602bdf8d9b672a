// y = x · σ(x), dy/dx = σ(x) · (1 + x · (1 − σ(x))). CPU twin: custom_op.rs
//
// Joined behind engram's prelude, which brings `flat_index` and `keep_inside`. One invocation owns four neighbouring
// elements of n; what lies behind the last element, up to a multiple of four, must stay zero.

struct Params { n: u32 }

// forward
@group(0) @binding(0) var<storage, read> x_in: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y_out: array<vec4<f32>>;

// backward
@group(0) @binding(0) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;

@group(1) @binding(0) var<uniform> params: Params;

fn sigmoid(x: vec4<f32>) -> vec4<f32> {
    // exp of numbers ≤ 0 only: it cannot overflow.
    let e = exp(-abs(x));
    return select(e, vec4<f32>(1.0), x >= vec4<f32>(0.0)) / (1.0 + e);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        y_out[i] = keep_inside(x_in[i] * sigmoid(x_in[i]), i, params.n);
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        let s = sigmoid(x[i]);
        dx[i] = keep_inside(dy[i] * s * (1.0 + x[i] * (1.0 - s)), i, params.n);
    }
}
