// forward:  L·Lᵀ = x + εI of each symmetric matrix (L in the lower triangle), y = 2·Σ_k log L[k, k]
// backward: dx = dy·(x + εI)⁻¹ by solving L·z = e_c and Lᵀ·a = z for each column c
//
// Shapes: x, l, dx (n_rows, m, m); y, dy (n_rows). A matrix has the invocations of a row, see rows.wgsl; in the backward pass each of
// them solves for columns of its own. CPU twin: src/ops/log_det.rs

struct Params {
    n_rows: u32,
    m: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> l: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@group(0) @binding(0) var<storage, read> factor: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let m = params.m;
    let first = row.row * m * m;
    var total = 0.0;
    for (var k = 0u; k < m; k += 1u) {
        let pivot_row = first + k * m;
        var pivot = x[pivot_row + k] + params.epsilon;
        for (var j = 0u; j < k; j += 1u) {
            pivot -= l[pivot_row + j] * l[pivot_row + j];
        }
        let diagonal = sqrt(pivot);
        total += log(pivot);
        for (var i = k + row.lane; i < m && row.exists; i += ROW) {
            var value = x[first + i * m + k];
            for (var j = 0u; j < k; j += 1u) {
                value -= l[first + i * m + j] * l[pivot_row + j];
            }
            l[first + i * m + k] = select(value / diagonal, diagonal, i == k);
        }
        // The next column reads this one.
        if ROW > 1u {
            storageBarrier();
        }
    }
    if row.exists && row.lane == 0u {
        y[row.row] = total;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let m = params.m;
    let first = row.row * m * m;
    for (var c = row.lane; c < m && row.exists; c += ROW) {
        for (var i = 0u; i < m; i += 1u) {
            var value = select(0.0, 1.0, i == c);
            for (var j = c; j < i; j += 1u) {
                value -= factor[first + i * m + j] * dx[first + j * m + c];
            }
            dx[first + i * m + c] = select(0.0, value / factor[first + i * m + i], i >= c);
        }
        for (var i = m; i > 0u; i -= 1u) {
            let at = i - 1u;
            var value = dx[first + at * m + c];
            for (var j = i; j < m; j += 1u) {
                value -= factor[first + j * m + at] * dx[first + j * m + c];
            }
            dx[first + at * m + c] = value / factor[first + at * m + at];
        }
        for (var i = 0u; i < m; i += 1u) {
            dx[first + i * m + c] *= dy[row.row];
        }
    }
}
