// y[n, p] = (1/C)·Σ_c x[n, c, p]²          dx[n, c, p] = 2·x[n, c, p]·dy[n, p]/C
//
// Shapes: x (N, C, plane), y (N, plane). One invocation owns one element of the result. CPU twin: src/ops/attention_map.rs

struct Params {
    n: u32, // elements of the result
    channels: u32,
    plane: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x_in: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n {
        let image = i / params.plane;
        let first = image * params.channels * params.plane + i % params.plane;
        var total = 0.0;
        for (var c = 0u; c < params.channels; c++) {
            let value = x[first + c * params.plane];
            total += value * value;
        }
        y[i] = total / f32(params.channels);
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n {
        let image = i / (params.channels * params.plane);
        dx[i] = 2.0 * x_in[i] * dy[image * params.plane + i % params.plane] / f32(params.channels);
    }
}
