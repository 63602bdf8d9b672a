// y = (1/n)·Σ (d²/2 if |d| < 1, else |d| − ½), d = x − t          dx = dy·clamp(d, −1, 1)/n
//
// The holes of pair_loss.wgsl. CPU twin: src/ops/smooth_l1.rs

fn f(x: f32, t: f32) -> f32 {
    let d = x - t;
    return select(abs(d) - 0.5, 0.5 * d * d, abs(d) < 1.0);
}

fn df(x: f32, t: f32) -> f32 {
    let d = x - t;
    return select(clamp(d, -1.0, 1.0), d, is_nan(d));
}
