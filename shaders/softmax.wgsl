// y[n, c] = exp(x[n, c]/T) / Σ_k exp(x[n, k]/T); dx = y·(dy − Σ_k y·dy)/T. The holes of softmax_rows.wgsl.
// CPU twin: src/ops/softmax.rs

fn share(x: f32, total: f32) -> f32 {
    return exp(x) / total;
}

fn part(y: f32, dy: f32) -> f32 {
    return y * dy;
}

fn df(y: f32, dy: f32, total: f32) -> f32 {
    return y * (dy - total);
}
