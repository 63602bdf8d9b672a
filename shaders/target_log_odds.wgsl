// y[n] = x[n, l]/T − ln Σ_{c ≠ l} exp(x[n, c]/T), l = label[n]          dx[n, l] = dy/T, dx[n, c] = −dy·q[c]/T
//
// Shapes: x (n_rows, n_columns), labels (n_rows), y (n_rows); q is the softmax without the target.
// One invocation owns one row. CPU twin: src/ops/target_log_odds.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    temperature: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

// A label that is no class makes the result not a number, which the host notices.
fn nan_unless(valid: bool) -> f32 {
    return select(bitcast<f32>(0x7fc00000u | params.n_rows), 0.0, valid);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        let first = row * params.n_columns;
        let end = first + params.n_columns;
        let target_at = first + min(labels[row], params.n_columns - 1u);
        var largest = -FLT_MAX;
        for (var i = first; i < end; i++) {
            if i != target_at {
                largest = max(largest, x[i]);
            }
        }
        var total = 0.0;
        for (var i = first; i < end; i++) {
            if i != target_at {
                total += exp((x[i] - largest) / params.temperature);
            }
        }
        y[row] = (x[target_at] - largest) / params.temperature - log(total) + nan_unless(labels[row] < params.n_columns);
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        let first = row * params.n_columns;
        let end = first + params.n_columns;
        let target_at = first + min(targets[row], params.n_columns - 1u);
        var largest = -FLT_MAX;
        for (var i = first; i < end; i++) {
            if i != target_at {
                largest = max(largest, logits[i]);
            }
        }
        var total = 0.0;
        for (var i = first; i < end; i++) {
            if i != target_at {
                total += exp((logits[i] - largest) / params.temperature);
            }
        }
        let step = dy[row] / params.temperature + nan_unless(targets[row] < params.n_columns);
        for (var i = first; i < end; i++) {
            let share = exp((logits[i] - largest) / params.temperature) / total;
            dx[i] = step * select(-share, 1.0, i == target_at);
        }
    }
}
