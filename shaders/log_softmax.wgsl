// y[n, c] = x[n, c]/T − ln Σ_k exp(x[n, k]/T)          dx = (dy − exp(y)·Σ_k dy)/T
//
// Shapes: x, y (n_rows, n_columns). One invocation owns one row. CPU twin: src/ops/log_softmax.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    temperature: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y_out: array<f32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        let first = row * params.n_columns;
        let end = first + params.n_columns;
        // The maximum is subtracted so that nothing overflows.
        var largest = -FLT_MAX;
        for (var i = first; i < end; i++) {
            largest = max(largest, x[i]);
        }
        var total = 0.0;
        for (var i = first; i < end; i++) {
            total += exp((x[i] - largest) / params.temperature);
        }
        let log_total = log(total);
        for (var i = first; i < end; i++) {
            y_out[i] = (x[i] - largest) / params.temperature - log_total;
        }
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        let first = row * params.n_columns;
        let end = first + params.n_columns;
        var total = 0.0;
        for (var i = first; i < end; i++) {
            total += dy[i];
        }
        for (var i = first; i < end; i++) {
            dx[i] = (dy[i] - exp(y[i]) * total) / params.temperature;
        }
    }
}
