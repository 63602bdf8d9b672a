// Skeleton of a loss that is a mean over pairs of numbers.
//
//   forward:  y = (1/n)·Σ f(x, t)            backward:  dx = dy·df(x, t)/n
//
// Shapes: x, t (n_rows, n_columns). forward writes one sum per row, which sum.wgsl adds up; factor is 1/n. Who owns
// a row: see rows.wgsl. The op's own file fills the holes
//   fn f(x: f32, t: f32) -> f32
//   fn df(x: f32, t: f32) -> f32
// CPU twin: src/ops/pair_loss.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    factor: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> t: array<f32>;
@group(0) @binding(2) var<storage, read_write> row_loss: array<f32>;

@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let end = (row.row + 1u) * params.n_columns;
    var loss = 0.0;
    for (var i = row.row * params.n_columns + row.lane; i < end; i += ROW) {
        loss += f(x[i], t[i]);
    }
    let total = sum_of_row(row.lane, loss);
    if row.exists && row.lane == 0u {
        row_loss[row.row] = total;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    if row.exists {
        let scale = dy[0] * params.factor;
        for (var i = row.row * params.n_columns + row.lane; i < (row.row + 1u) * params.n_columns; i += ROW) {
            dx[i] = scale * df(x[i], t[i]);
        }
    }
}
