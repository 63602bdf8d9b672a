// y = −(1/N)·Σ_n ln softmax(x[n])[label[n]] over the first n_active outputs          dx = dy·(softmax(x) − onehot)/N
//
// Shapes: x (n_rows, n_columns), labels (n_rows). forward writes one loss per row, which sum.wgsl adds up.
// One invocation owns one row. CPU twin: src/ops/cross_entropy.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    factor: f32,
    n_active: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> row_loss: array<f32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

// A label that is not active makes the loss not a number, which the host notices.
fn nan_unless(valid: bool) -> f32 {
    return select(bitcast<f32>(0x7fc00000u | params.n_rows), 0.0, valid);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        let first = row * params.n_columns;
        let end = first + params.n_active;
        var largest = -FLT_MAX;
        for (var i = first; i < end; i++) {
            largest = max(largest, x[i]);
        }
        var total = 0.0;
        for (var i = first; i < end; i++) {
            total += exp(x[i] - largest);
        }
        let is_active = labels[row] < params.n_active;
        let label = min(labels[row], params.n_active - 1u);
        row_loss[row] = log(total) + largest - x[first + label] + nan_unless(is_active);
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        let first = row * params.n_columns;
        let end = first + params.n_active;
        var largest = -FLT_MAX;
        for (var i = first; i < end; i++) {
            largest = max(largest, logits[i]);
        }
        var total = 0.0;
        for (var i = first; i < end; i++) {
            total += exp(logits[i] - largest);
        }
        let label = first + targets[row];
        let scale = dy[0] * params.factor;
        for (var i = first; i < end; i++) {
            let p = exp(logits[i] - largest) / total;
            dx[i] = scale * select(p, p - 1.0, i == label) + nan_unless(targets[row] < params.n_active);
        }
        for (var i = end; i < first + params.n_columns; i++) {
            dx[i] = 0.0;
        }
    }
}
