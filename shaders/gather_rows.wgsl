// y[k] = x[indices[k]]          dx[r] = Σ over k with indices[k] = r of dy[k], in the order of k
//
// Shapes: x (n_rows, n_columns), indices (n_indices), y (n_indices, n_columns). One invocation owns one element of the
// result: backward gathers from all k, so nothing is scattered. CPU twin: src/ops/gather_rows.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    n_indices: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n_indices * params.n_columns {
        let k = i / params.n_columns;
        let row = min(indices[k], params.n_rows - 1u);
        y[i] = x[row * params.n_columns + i - k * params.n_columns];
    }
}

// x is dy here, y is dx.
@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n_rows * params.n_columns {
        let row = i / params.n_columns;
        let column = i - row * params.n_columns;
        var total = 0.0;
        for (var k = 0u; k < params.n_indices; k++) {
            if min(indices[k], params.n_rows - 1u) == row {
                total += x[k * params.n_columns + column];
            }
        }
        y[i] = total;
    }
}
