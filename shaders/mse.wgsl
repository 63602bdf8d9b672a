// y = (1/n)·Σ (x − t)²          dx = dy·2·(x − t)/n
//
// The holes of pair_loss.wgsl. CPU twin: src/ops/mse.rs

fn f(x: f32, t: f32) -> f32 {
    return (x - t) * (x - t);
}

fn df(x: f32, t: f32) -> f32 {
    return 2.0 * (x - t);
}
