// y = mean of max(x, 0) − t·x + ln(1 + exp(−|x|))          dx = dy·(σ(x) − t)/(N·C)
//
// Shapes: x, t (n_rows, n_columns). forward writes one sum per row, which sum.wgsl adds up. One invocation owns one row.
// CPU twin: src/ops/bce_with_logits.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    unused: u32,
    factor: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> t: array<f32>;
@group(0) @binding(2) var<storage, read_write> row_loss: array<f32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        var total = 0.0;
        for (var i = row * params.n_columns; i < (row + 1u) * params.n_columns; i++) {
            // e is only raised to numbers ≤ 0, so nothing overflows.
            total += max(x[i], 0.0) - t[i] * x[i] + log(1.0 + exp(-abs(x[i])));
        }
        row_loss[row] = total;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        let scale = dy[0] * params.factor;
        for (var i = row * params.n_columns; i < (row + 1u) * params.n_columns; i++) {
            let e = exp(-abs(logits[i]));
            let p = select(e, 1.0, logits[i] >= 0.0) / (1.0 + e);
            dx[i] = scale * (p - targets[i]);
        }
    }
}
