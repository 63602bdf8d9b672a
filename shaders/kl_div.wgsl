// y = T²·(1/N)·Σ_n Σ_c p_t·(ln p_t − ln p_s), p = softmax(logits/T)          dx = dy·T·(p_s − p_t)/N
//
// Shapes: student, teacher (n_rows, n_columns). forward writes one loss per row, which sum.wgsl adds up.
// One invocation owns one row. CPU twin: src/ops/kl_div.rs

struct Params {
    n_rows: u32,
    n_columns: u32,
    factor: f32,
    temperature: f32,
}

@group(0) @binding(0) var<storage, read> student: array<f32>;
@group(0) @binding(1) var<storage, read> teacher: array<f32>;
@group(0) @binding(2) var<storage, read_write> row_loss: array<f32>;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> s: array<f32>;
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        let first = row * params.n_columns;
        let end = first + params.n_columns;
        let t = params.temperature;
        var largest_s = -FLT_MAX;
        var largest_q = -FLT_MAX;
        for (var i = first; i < end; i++) {
            largest_s = max(largest_s, student[i]);
            largest_q = max(largest_q, teacher[i]);
        }
        var total_s = 0.0;
        var total_q = 0.0;
        for (var i = first; i < end; i++) {
            total_s += exp((student[i] - largest_s) / t);
            total_q += exp((teacher[i] - largest_q) / t);
        }
        let log_s = log(total_s);
        let log_q = log(total_q);
        var loss = 0.0;
        for (var i = first; i < end; i++) {
            let ln_q = (teacher[i] - largest_q) / t - log_q;
            let ln_s = (student[i] - largest_s) / t - log_s;
            loss += exp(ln_q) * (ln_q - ln_s);
        }
        row_loss[row] = t * t * loss;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = flat_index(wid, nwg, lid.x);
    if row < params.n_rows {
        let first = row * params.n_columns;
        let end = first + params.n_columns;
        let t = params.temperature;
        var largest_s = -FLT_MAX;
        var largest_q = -FLT_MAX;
        for (var i = first; i < end; i++) {
            largest_s = max(largest_s, s[i]);
            largest_q = max(largest_q, q[i]);
        }
        var total_s = 0.0;
        var total_q = 0.0;
        for (var i = first; i < end; i++) {
            total_s += exp((s[i] - largest_s) / t);
            total_q += exp((q[i] - largest_q) / t);
        }
        let scale = dy[0] * params.factor * t;
        for (var i = first; i < end; i++) {
            dx[i] = scale * (exp((s[i] - largest_s) / t) / total_s - exp((q[i] - largest_q) / t) / total_q);
        }
    }
}
