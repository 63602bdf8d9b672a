// forward:  value = ‖q‖² + quadratic·‖d‖² − 2·Σ_k log L[k, k] of each task: q = Pᵀd, L·Lᵀ = P·Pᵀ + εI (L in the lower triangle)
// backward: dP = 2·dy·(d·qᵀ − (P·Pᵀ + εI)⁻¹·P) by solving L·z = p and Lᵀ·a = z for each column p of P; dd = 2·dy·(P·q + quadratic·d)
//
// Shapes: p, dp (n_rows, m, width); d, dd (n_rows, m); l (n_rows, m, m); q (n_rows, width); value (n_rows); dy (1). A task has the
// invocations of a row, see rows.wgsl. CPU twin: src/ops/variational_bound.rs

struct Params {
    n_rows: u32,
    m: u32,
    width: u32,
    epsilon: f32,
    quadratic: f32,
}

@group(0) @binding(0) var<storage, read> p: array<f32>;
@group(0) @binding(1) var<storage, read> d: array<f32>;
@group(0) @binding(2) var<storage, read_write> l: array<f32>;
@group(0) @binding(3) var<storage, read_write> q: array<f32>;
@group(0) @binding(4) var<storage, read_write> value: array<f32>;

@group(0) @binding(2) var<storage, read> factor: array<f32>;
@group(0) @binding(3) var<storage, read> product: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dp: array<f32>;
@group(0) @binding(6) var<storage, read_write> dd: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let m = params.m;
    let width = params.width;
    let first_p = row.row * m * width;
    let first_d = row.row * m;
    let first_l = row.row * m * m;
    var squares = 0.0;
    for (var w = row.lane; w < width && row.exists; w += ROW) {
        var sum = 0.0;
        for (var c = 0u; c < m; c += 1u) {
            sum += p[first_p + c * width + w] * d[first_d + c];
        }
        q[row.row * width + w] = sum;
        squares += sum * sum;
    }
    for (var c = row.lane; c < m; c += ROW) {
        squares += params.quadratic * d[first_d + c] * d[first_d + c];
    }
    for (var at = row.lane; at < m * m && row.exists; at += ROW) {
        let i = at / m;
        let j = at % m;
        var sum = select(0.0, params.epsilon, i == j);
        for (var w = 0u; w < width; w += 1u) {
            sum += p[first_p + i * width + w] * p[first_p + j * width + w];
        }
        l[first_l + at] = sum;
    }
    if ROW > 1u {
        storageBarrier();
    }
    // Column by column in place.
    var log_det = 0.0;
    for (var k = 0u; k < m; k += 1u) {
        let pivot_row = first_l + k * m;
        var pivot = l[pivot_row + k];
        for (var j = 0u; j < k; j += 1u) {
            pivot -= l[pivot_row + j] * l[pivot_row + j];
        }
        log_det += log(pivot);
        let diagonal = sqrt(pivot);
        // All have read the pivot before one of them writes there.
        if ROW > 1u {
            storageBarrier();
        }
        for (var i = k + row.lane; i < m && row.exists; i += ROW) {
            var sum = l[first_l + i * m + k];
            for (var j = 0u; j < k; j += 1u) {
                sum -= l[first_l + i * m + j] * l[pivot_row + j];
            }
            l[first_l + i * m + k] = select(sum / diagonal, diagonal, i == k);
        }
        if ROW > 1u {
            storageBarrier();
        }
    }
    let total = sum_of_row(row.lane, squares);
    if row.exists && row.lane == 0u {
        value[row.row] = total - log_det;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let m = params.m;
    let width = params.width;
    let first_p = row.row * m * width;
    let first_d = row.row * m;
    let first_l = row.row * m * m;
    let scale = 2.0 * dy[0];
    for (var w = row.lane; w < width && row.exists; w += ROW) {
        // Its column of dp holds z, then a, then the result.
        for (var i = 0u; i < m; i += 1u) {
            var sum = p[first_p + i * width + w];
            for (var j = 0u; j < i; j += 1u) {
                sum -= factor[first_l + i * m + j] * dp[first_p + j * width + w];
            }
            dp[first_p + i * width + w] = sum / factor[first_l + i * m + i];
        }
        for (var i = m; i > 0u; i -= 1u) {
            let k = i - 1u;
            var sum = dp[first_p + k * width + w];
            for (var j = i; j < m; j += 1u) {
                sum -= factor[first_l + j * m + k] * dp[first_p + j * width + w];
            }
            dp[first_p + k * width + w] = sum / factor[first_l + k * m + k];
        }
        let q_w = product[row.row * width + w];
        for (var i = 0u; i < m; i += 1u) {
            let at = first_p + i * width + w;
            dp[at] = scale * (d[first_d + i] * q_w - dp[at]);
        }
    }
    for (var c = row.lane; c < m && row.exists; c += ROW) {
        var sum = params.quadratic * d[first_d + c];
        for (var w = 0u; w < width; w += 1u) {
            sum += p[first_p + c * width + w] * product[row.row * width + w];
        }
        dd[first_d + c] = scale * sum;
    }
}
