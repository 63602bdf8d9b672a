// y = −(1/N)·Σ_n ln softmax(x[n])[label[n]] over the first n_active outputs          dx = dy·(softmax(x) − onehot)/N
//
// Shapes: x (n_rows, n_columns), labels (n_rows). forward writes one loss per row, which sum.wgsl adds up.
// Who owns a row: see rows.wgsl. CPU twin: src/ops/cross_entropy.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    factor: f32,
    n_active: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> row_loss: array<f32>;

@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

// A label that is not active makes the loss not a number, which the host notices.
fn nan_unless(valid: bool) -> f32 {
    return select(bitcast<f32>(0x7fc00000u | params.n_rows), 0.0, valid);
}

// ln Σ exp(x) of the active outputs of a row is log(total) + largest.
struct Softmax {
    first: u32,
    end: u32,
    largest: f32,
    total: f32,
}

fn softmax(row: Row) -> Softmax {
    let first = row.row * params.n_columns;
    let end = first + params.n_active;
    var largest = -FLT_MAX;
    for (var i = first + row.lane; i < end; i += ROW) {
        largest = max(largest, x[i]);
    }
    largest = max_of_row(row.lane, largest);
    var total = 0.0;
    for (var i = first + row.lane; i < end; i += ROW) {
        total += exp(x[i] - largest);
    }
    return Softmax(first, end, largest, sum_of_row(row.lane, total));
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let sums = softmax(row);
    if row.exists && row.lane == 0u {
        let is_active = labels[row.row] < params.n_active;
        let label = min(labels[row.row], params.n_active - 1u);
        row_loss[row.row] = log(sums.total) + sums.largest - x[sums.first + label] + nan_unless(is_active);
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let sums = softmax(row);
    if row.exists {
        let label = sums.first + labels[row.row];
        let scale = dy[0] * params.factor;
        for (var i = sums.first + row.lane; i < sums.end; i += ROW) {
            let p = exp(x[i] - sums.largest) / sums.total;
            dx[i] = scale * select(p, p - 1.0, i == label) + nan_unless(labels[row.row] < params.n_active);
        }
        for (var i = sums.end + row.lane; i < sums.first + params.n_columns; i += ROW) {
            dx[i] = 0.0;
        }
    }
}
