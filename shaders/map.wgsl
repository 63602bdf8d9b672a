// Skeleton of an elementwise op.
//
//   forward:  y = f(x)            backward:  dx = dy · df(x, y)
//
// Shapes: any; n elements. One invocation owns four neighbouring elements. The op's own file fills the holes
//   fn f(x: vec4<f32>) -> vec4<f32>
//   fn df(x: vec4<f32>, y: vec4<f32>) -> vec4<f32>
// CPU twin: src/ops/map.rs

struct Params { n: u32 }

@group(0) @binding(0) var<storage, read> x_in: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y_out: array<vec4<f32>>;

@group(0) @binding(0) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        y_out[i] = keep_inside(f(x_in[i]), i, params.n);
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        dx[i] = keep_inside(dy[i] * df(x[i], y[i]), i, params.n);
    }
}
