// Skeleton of an op of two tensors of one shape: y = f(a, b).
//
// Shapes: any; n elements. One invocation owns four neighbouring elements of y. The op's own file fills the hole
//   fn f(a: vec4<f32>, b: vec4<f32>) -> vec4<f32>
// CPU twin: src/ops/zip.rs

struct Params { n: u32 }

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if 4u * i < params.n {
        y[i] = keep_inside(f(a[i], b[i]), i, params.n);
    }
}
