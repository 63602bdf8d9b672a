// y[n] = x[n] / max(‖x[n]‖, ε)          dx[n] = (dy[n] − y[n]·⟨y[n], dy[n]⟩) / ‖x[n]‖
//
// dx of a row of zeros is 0. Shapes: x, y (n_rows, n_columns). Invocations of a row: see rows.wgsl.
// CPU twin: src/ops/l2_normalize.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
}

@group(0) @binding(0) var<storage, read> x_in: array<f32>;
@group(0) @binding(1) var<storage, read_write> y_out: array<f32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

// Shorter rows are divided by this instead of by their length.
const EPSILON: f32 = 1e-12;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let first = row.row * params.n_columns;
    let end = first + params.n_columns;
    var squares = 0.0;
    for (var i = first + row.lane; i < end; i += ROW) {
        squares += x_in[i] * x_in[i];
    }
    let length = max(sqrt(sum_of_row(row.lane, squares)), EPSILON);
    for (var i = first + row.lane; i < end && row.exists; i += ROW) {
        y_out[i] = x_in[i] / length;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let first = row.row * params.n_columns;
    let end = first + params.n_columns;
    var squares = 0.0;
    var along = 0.0;
    for (var i = first + row.lane; i < end; i += ROW) {
        squares += x[i] * x[i];
        along += y[i] * dy[i];
    }
    let length = sqrt(sum_of_row(row.lane, squares));
    along = sum_of_row(row.lane, along);
    if !(length > EPSILON) { along = 0.0; }
    for (var i = first + row.lane; i < end && row.exists; i += ROW) {
        // A row of zeros points nowhere.
        dx[i] = select((dy[i] - y[i] * along) / max(length, EPSILON), 0.0, length == 0.0);
    }
}
