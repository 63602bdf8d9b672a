// y[n] = factor · Σ_c x[n, c]          dx[n, c] = factor · dy[n]
//
// Shapes: x (n_rows, n_columns), y (n_rows). forward: one invocation owns one row, columns in order;
// backward: one invocation owns one element of dx. CPU twin: src/ops/row_sum.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    factor: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        var total = 0.0;
        for (var c = 0u; c < params.n_columns; c++) {
            total += x[row * params.n_columns + c];
        }
        y[row] = params.factor * total;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n_rows * params.n_columns {
        y[i] = params.factor * x[i / params.n_columns];
    }
}
