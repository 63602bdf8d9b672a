// Skeleton of softmax and its logarithm, row by row.
//
//   forward:  y = share((x − max x)/T, Σ exp((x − max x)/T))            backward:  dx = df(y, dy, Σ part(y, dy))/T
//
// Shapes: x, y (n_rows, n_columns). Who owns a row: see rows.wgsl. The op's own file fills the holes
//   fn share(x: f32, total: f32) -> f32
//   fn part(y: f32, dy: f32) -> f32
//   fn df(y: f32, dy: f32, total: f32) -> f32
// CPU twin: src/ops/softmax.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    temperature: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y_out: array<f32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

// The largest number of a row and Σ exp((x − largest)/T): it is subtracted so that nothing overflows.
fn soften(row: Row, first: u32) -> vec2<f32> {
    let end = first + params.n_columns;
    var largest = -FLT_MAX;
    for (var i = first + row.lane; i < end; i += ROW) {
        largest = max(largest, x[i]);
    }
    largest = max_of_row(row.lane, largest);
    var total = 0.0;
    for (var i = first + row.lane; i < end; i += ROW) {
        total += exp((x[i] - largest) / params.temperature);
    }
    return vec2<f32>(largest, sum_of_row(row.lane, total));
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let first = row.row * params.n_columns;
    let sums = soften(row, first);
    if row.exists {
        for (var i = first + row.lane; i < first + params.n_columns; i += ROW) {
            y_out[i] = share((x[i] - sums.x) / params.temperature, sums.y);
        }
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let first = row.row * params.n_columns;
    let end = first + params.n_columns;
    var of_lane = 0.0;
    for (var i = first + row.lane; i < end; i += ROW) {
        of_lane += part(y[i], dy[i]);
    }
    let total = sum_of_row(row.lane, of_lane);
    if row.exists {
        for (var i = first + row.lane; i < end; i += ROW) {
            dx[i] = df(y[i], dy[i], total) / params.temperature;
        }
    }
}
