// y[n] = factor · Σ_c x[n, c]          dx[n, c] = factor · dy[n]
//
// Shapes: x (n_rows, n_columns), y (n_rows). forward: who owns a row, see rows.wgsl; backward: one invocation owns one load of
// dx. CPU twin: src/ops/row_sum.rs

struct Params {
    n_rows: u32,
    n_columns: u32,   // for backward in loads
    factor: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<Values>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let first = row.row * params.n_columns;
    var part = 0.0;
    for (var i = first + row.lane; i < first + params.n_columns; i += ROW) {
        part += x[i];
    }
    let total = sum_of_row(row.lane, part);
    if row.exists && row.lane == 0u {
        y[row.row] = params.factor * total;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n_rows * params.n_columns {
        dx[i] = Values(params.factor * x[i / params.n_columns]);
    }
}
