// y[n, c] = x[n, c]/T − ln Σ_k exp(x[n, k]/T); dx = (dy − exp(y)·Σ_k dy)/T. The holes of softmax_rows.wgsl.
// CPU twin: src/ops/log_softmax.rs

fn share(x: f32, total: f32) -> f32 {
    return x - log(total);
}

fn part(y: f32, dy: f32) -> f32 {
    return dy;
}

fn df(y: f32, dy: f32, total: f32) -> f32 {
    return dy - exp(y) * total;
}
