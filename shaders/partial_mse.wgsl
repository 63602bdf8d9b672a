// y = (1/n)·Σ d², d = 0 where x ≤ t ≤ 0, else x − t               dx = dy·2·d/n
//
// The holes of pair_loss.wgsl. CPU twin: src/ops/partial_mse.rs

fn difference(x: f32, t: f32) -> f32 {
    return select(x - t, 0.0, x <= t && t <= 0.0);
}

fn f(x: f32, t: f32) -> f32 {
    let d = difference(x, t);
    return d * d;
}

fn df(x: f32, t: f32) -> f32 {
    return 2.0 * difference(x, t);
}
