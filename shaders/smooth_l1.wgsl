// y = (1/n)·Σ (d²/2 if |d| < 1, else |d| − ½), d = x − t          dx = dy·clamp(d, −1, 1)/n
//
// Shapes: x, targets (n_rows, n_columns). forward writes one loss per row, which sum.wgsl adds up.
// One invocation owns one row. CPU twin: src/ops/smooth_l1.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    unused: f32,
    factor: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<f32>;
@group(0) @binding(2) var<storage, read_write> row_loss: array<f32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x_in: array<f32>;
@group(0) @binding(2) var<storage, read> t: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        let first = row * params.n_columns;
        var loss = 0.0;
        for (var i = first; i < first + params.n_columns; i++) {
            let d = x[i] - targets[i];
            loss += select(abs(d) - 0.5, 0.5 * d * d, abs(d) < 1.0);
        }
        row_loss[row] = loss;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        let first = row * params.n_columns;
        for (var i = first; i < first + params.n_columns; i++) {
            dx[i] = dy[0] * params.factor * clamp(x_in[i] - t[i], -1.0, 1.0);
        }
    }
}
