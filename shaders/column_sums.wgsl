// y[c] = Σ_n x[n, c]: the sums of the columns of a matrix, or of up to twelve matrices in one launch.
//
// Shapes: of each matrix x (n_rows, n_columns) and y (n_columns), columns counted in loads. All x lie in one buffer, and all y. A
// workgroup owns `lanes` columns of a matrix; each of its strips of `lanes` invocations adds every n_strips-th row, and halving joins
// the strips, in fixed order. CPU twin: src/device/column_sums.rs

struct Params {
    n_matrices: u32,
    lanes: u32,           // a power of two
    // Of each matrix: its first workgroup, where x starts, where y starts, n_rows.
    matrices: array<vec4<u32>, 12>,
    n_columns: array<vec4<u32>, 3>,
}

@group(0) @binding(0) var<storage, read> x: array<Values>;
@group(0) @binding(1) var<storage, read_write> y: array<Values>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> strips: array<Values, WG>;

@compute @workgroup_size(WG)
fn column_sums(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let group = wid.y * nwg.x + wid.x;
    var m = 0u;
    while m + 1u < params.n_matrices && params.matrices[m + 1u].x <= group {
        m++;
    }
    let matrix = params.matrices[m];
    let n_columns = params.n_columns[m / 4u][m % 4u];
    let n_rows = matrix.w;
    let n_strips = WG / params.lanes;
    let strip = lid.x / params.lanes;
    let c = (group - matrix.x) * params.lanes + lid.x % params.lanes;
    var total = Values(0.0);
    if c < n_columns {
        let further = n_strips * n_columns;
        var n = strip;
        var at = matrix.y + strip * n_columns + c;
        // Four loads under way at a time.
        for (; n + 3u * n_strips < n_rows; n += 4u * n_strips) {
            total += (x[at] + x[at + further]) + (x[at + 2u * further] + x[at + 3u * further]);
            at += 4u * further;
        }
        for (; n < n_rows; n += n_strips) {
            total += x[at];
            at += further;
        }
    }
    strips[lid.x] = total;
    workgroupBarrier();
    for (var half = n_strips / 2u; half > 0u; half /= 2u) {
        if strip < half {
            strips[lid.x] += strips[lid.x + half * params.lanes];
        }
        workgroupBarrier();
    }
    if strip == 0u && c < n_columns {
        y[matrix.z + c] = strips[lid.x];
    }
}
