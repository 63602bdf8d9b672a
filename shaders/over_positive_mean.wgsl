// y = x/m, m the mean of the positive x (1 if there is none)          dx = dy/m − [x > 0]·Σ dy·x/(count·m²)
//
// Shapes: x, y (n_rows, n_columns); per row two numbers in rows: the sum of positive x and their count, and one in along: Σ dy·x.
//   rows, along:       the invocations of a row, see rows.wgsl
//   forward, backward: one invocation owns one element and adds up all rows' numbers in order
// CPU twin: src/ops/over_positive_mean.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
}

@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> row_numbers: array<f32>;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x_in: array<f32>;
@group(0) @binding(2) var<storage, read_write> along_rows: array<f32>;

@group(0) @binding(2) var<storage, read> totals: array<f32>;
@group(0) @binding(3) var<storage, read> along_sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    var total = 0.0;
    var count = 0.0;
    for (var i = row.row * params.n_columns + row.lane; i < (row.row + 1u) * params.n_columns; i += ROW) {
        if values[i] > 0.0 {
            total += values[i];
            count += 1.0;
        }
    }
    total = sum_of_row(row.lane, total);
    count = sum_of_row(row.lane, count);
    if row.exists && row.lane == 0u {
        row_numbers[2u * row.row] = total;
        row_numbers[2u * row.row + 1u] = count;
    }
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n_rows * params.n_columns {
        var total = 0.0;
        var count = 0.0;
        for (var row = 0u; row < params.n_rows; row++) {
            total += sums[2u * row];
            count += sums[2u * row + 1u];
        }
        y[i] = select(x[i], x[i] * (count / max(total, 1e-30)), count > 0.0);
    }
}

@compute @workgroup_size(WG)
fn along(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    var total = 0.0;
    for (var i = row.row * params.n_columns + row.lane; i < (row.row + 1u) * params.n_columns; i += ROW) {
        total += dy[i] * x_in[i];
    }
    total = sum_of_row(row.lane, total);
    if row.exists && row.lane == 0u {
        along_rows[row.row] = total;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n_rows * params.n_columns {
        var total = 0.0;
        var count = 0.0;
        var dot = 0.0;
        for (var row = 0u; row < params.n_rows; row++) {
            total += totals[2u * row];
            count += totals[2u * row + 1u];
            dot += along_sums[row];
        }
        let factor = select(1.0, count / max(total, 1e-30), count > 0.0);
        let pull = select(0.0, factor * factor * dot / max(count, 1.0), x_in[i] > 0.0);
        dx[i] = dy[i] * factor - pull;
    }
}
