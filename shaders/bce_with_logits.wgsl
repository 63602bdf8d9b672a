// y = mean of max(x, 0) − t·x + ln(1 + exp(−|x|))          dx = dy·(σ(x) − t)/(N·C)
//
// The holes of pair_loss.wgsl; e is only raised to numbers ≤ 0, so nothing overflows. CPU twin: src/ops/bce_with_logits.rs

fn f(x: f32, t: f32) -> f32 {
    return max(x, 0.0) - t * x + log(1.0 + exp(-abs(x)));
}

fn df(x: f32, t: f32) -> f32 {
    let e = exp(-abs(x));
    return select(e, 1.0, x >= 0.0) / (1.0 + e) - t;
}
