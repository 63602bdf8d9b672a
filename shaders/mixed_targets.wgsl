// t[n, c] = σ(old[n, c]) for c < n_soft, else 1 where label[n] = c, else 0
//
// Shapes: old, t (n_rows, n_columns), labels (n_rows). One invocation owns one element of t.
// CPU twin: src/ops/mixed_targets.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    n_soft: u32,
}

@group(0) @binding(0) var<storage, read> old: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> t: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let i = flat_index(wid, nwg, lid.x);
    if i < params.n_rows * params.n_columns {
        let row = i / params.n_columns;
        let c = i - row * params.n_columns;
        if c < params.n_soft {
            // e is only raised to numbers ≤ 0, so nothing overflows.
            let e = exp(-abs(old[i]));
            t[i] = select(e, 1.0, old[i] >= 0.0) / (1.0 + e);
        } else {
            t[i] = select(0.0, 1.0, labels[row] == c);
        }
    }
}
