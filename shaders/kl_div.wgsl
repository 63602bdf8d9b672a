// y = T²·(1/N)·Σ_n Σ_c p_t·(ln p_t − ln p_s), p = softmax(logits/T)          dx = dy·T·(p_s − p_t)/N
//
// Shapes: student, teacher (n_rows, n_columns). forward writes one loss per row, which sum.wgsl adds up. Who owns a row: see
// rows.wgsl. CPU twin: src/ops/kl_div.rs
//
// With δ = ln p_t − ln p_s the terms p_t·δ have either sign and cancel, to noise where T is large. Since Σ p_s = Σ p_t,
//   Σ p_t·δ = Σ p_t·(δ + e^−δ − 1) = Σ p_t·δ²·curvature(−δ),
// in which no term is negative. Nor may δ be the difference of two rounded logarithms: with e = teacher − student − centre,
// centre = Σ p_s·(teacher − student), it is (e − T·ln Σ p_s·exp(e/T))/T, and the logarithm is of 1 + Σ p_s·(e/T)²·curvature(e/T).

struct Params {
    n_rows: u32,
    n_columns: u32,
    factor: f32,
    temperature: f32,
}

@group(0) @binding(0) var<storage, read> student: array<f32>;
@group(0) @binding(1) var<storage, read> teacher: array<f32>;
@group(0) @binding(2) var<storage, read_write> row_loss: array<f32>;

@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;

@group(1) @binding(0) var<uniform> params: Params;

// (eˣ − 1 − x)/x² for |x| ≤ ½, to the last digit: 1/2! + x/3! + x²/4! + …
fn curvature(x: f32) -> f32 {
    return 0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0 + x * (1.0 / 720.0 + x * (1.0 / 5040.0 + x / 40320.0)))));
}

// What a row's sums say of it.
struct Softened {
    first: u32,
    end: u32,
    largest_s: f32, total_s: f32,
    largest_q: f32, total_q: f32,
    centre: f32,
    is_close: bool,     // |e| ≤ T/2 for all classes
    shift: f32,         // T·ln Σ p_s·exp(e/T), where the row is close
}

fn p_student(row: Softened, i: u32) -> f32 {
    return exp((student[i] - row.largest_s) / params.temperature) / row.total_s;
}

fn p_teacher(row: Softened, i: u32) -> f32 {
    return exp((teacher[i] - row.largest_q) / params.temperature) / row.total_q;
}

fn soften(row: Row) -> Softened {
    let t = params.temperature;
    let first = row.row * params.n_columns;
    var sums = Softened(first, first + params.n_columns, -FLT_MAX, 0.0, -FLT_MAX, 0.0, 0.0, false, 0.0);
    for (var i = sums.first + row.lane; i < sums.end; i += ROW) {
        sums.largest_s = max(sums.largest_s, student[i]);
        sums.largest_q = max(sums.largest_q, teacher[i]);
    }
    sums.largest_s = max_of_row(row.lane, sums.largest_s);
    sums.largest_q = max_of_row(row.lane, sums.largest_q);
    for (var i = sums.first + row.lane; i < sums.end; i += ROW) {
        sums.total_s += exp((student[i] - sums.largest_s) / t);
        sums.total_q += exp((teacher[i] - sums.largest_q) / t);
    }
    sums.total_s = sum_of_row(row.lane, sums.total_s);
    sums.total_q = sum_of_row(row.lane, sums.total_q);
    for (var i = sums.first + row.lane; i < sums.end; i += ROW) {
        sums.centre += p_student(sums, i) * (teacher[i] - student[i]);
    }
    sums.centre = sum_of_row(row.lane, sums.centre);
    var widest = 0.0;
    var curved = 0.0;
    for (var i = sums.first + row.lane; i < sums.end; i += ROW) {
        let x = (teacher[i] - student[i] - sums.centre) / t;
        widest = max(widest, abs(x));
        curved += p_student(sums, i) * x * x * curvature(x);
    }
    sums.is_close = max_of_row(row.lane, widest) <= 0.5;
    sums.shift = t * log(1.0 + sum_of_row(row.lane, curved));
    return sums;
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let sums = soften(row);
    let t = params.temperature;
    var loss = 0.0;
    if sums.is_close {
        for (var i = sums.first + row.lane; i < sums.end; i += ROW) {
            // T·δ: its square times T² does not overflow.
            let w = teacher[i] - student[i] - sums.centre - sums.shift;
            loss += p_teacher(sums, i) * w * w * curvature(-w / t);
        }
    } else {
        let log_s = log(sums.total_s);
        let log_q = log(sums.total_q);
        for (var i = sums.first + row.lane; i < sums.end; i += ROW) {
            let ln_q = (teacher[i] - sums.largest_q) / t - log_q;
            let ln_s = (student[i] - sums.largest_s) / t - log_s;
            let d = ln_q - ln_s;
            let far = exp(ln_q) * d + (exp(ln_s) - exp(ln_q));
            // Rounding may make it negative; what is not a number stays.
            let kept = select(max(far, 0.0), far, is_nan(far));
            loss += t * t * select(kept, exp(ln_q) * d * d * curvature(-d), abs(d) <= 0.5);
        }
    }
    let total = sum_of_row(row.lane, loss);
    if row.exists && row.lane == 0u {
        row_loss[row.row] = total;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let row = row_of(flat_index(wid, nwg, lid.x), params.n_rows);
    let sums = soften(row);
    if row.exists {
        let t = params.temperature;
        let scale = dy[0] * params.factor;
        for (var i = sums.first + row.lane; i < sums.end; i += ROW) {
            // T·(p_s − p_t) = p_t·T·(e^−δ − 1)
            let w = teacher[i] - student[i] - sums.centre - sums.shift;
            let close = -p_teacher(sums, i) * w * (1.0 - w / t * curvature(-w / t));
            dx[i] = scale * select(t * (p_student(sums, i) - p_teacher(sums, i)), close, sums.is_close);
        }
    }
}
