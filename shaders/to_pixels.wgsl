// Rows of pixels and maps of channels: rows[n·plane + i, c] = maps[n, c, i]
//
// Shapes: rows (N·plane, C), maps (N, C, plane). One invocation owns one element of the result. CPU twin: src/ops/to_pixels.rs

struct Params {
    n: u32, // elements
    c: u32,
    plane: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn to_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let at = flat_index(wid, nwg, lid.x);
    if at < params.n {
        let row = at / params.c;
        let image = row / params.plane;
        let c = at - row * params.c;
        y[at] = x[(image * params.c + c) * params.plane + row - image * params.plane];
    }
}

@compute @workgroup_size(WG)
fn to_maps(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let at = flat_index(wid, nwg, lid.x);
    if at < params.n {
        let map = at / params.plane;
        let image = map / params.c;
        let i = at - map * params.plane;
        y[at] = x[(image * params.plane + i) * params.c + map - image * params.c];
    }
}
