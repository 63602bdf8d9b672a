// y[n, i] = the first column c < n_active where sign · x[n, c, i] is smallest
//
// Shapes: x (N, n_columns, plane), y (n_rows) = (N, plane); plane is 1 for a matrix. sign is 1 for argmin, −1 for argmax. One
// invocation owns one row. CPU twin: src/ops/argmin.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    plane: u32,
    n_active: u32,
    sign: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        let first = row + row / params.plane * (params.n_columns - 1u) * params.plane;
        var best = 0u;
        var best_value = params.sign * x[first];
        for (var c = 1u; c < params.n_active; c++) {
            let value = params.sign * x[first + c * params.plane];
            if value < best_value {
                best = c;
                best_value = value;
            }
        }
        y[row] = best;
    }
}
