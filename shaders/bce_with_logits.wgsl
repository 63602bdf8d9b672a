// y = mean of max(x, 0) − t·x + ln(1 + exp(−|x|))          dx = dy·(σ(x) − t)/(N·C)
//
// The holes of pair_loss.wgsl; e is only raised to numbers ≤ 0, so nothing overflows. CPU twin: src/ops/bce_with_logits.rs

// ln(1 + e) = 2·artanh(s), s = e/(2 + e), for e in 0..1: a sum 1 + e would lose the digits of a small e. What the series leaves out
// is below a rounding error.
fn log_1_plus(e: f32) -> f32 {
    let s = e / (2.0 + e);
    let z = s * s;
    let series = 1.0 + z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0 + z * (1.0 / 11.0 + z / 13.0)))));
    return 2.0 * s * series;
}

fn f(x: f32, t: f32) -> f32 {
    return max(x, 0.0) - t * x + log_1_plus(exp(-abs(x)));
}

fn df(x: f32, t: f32) -> f32 {
    let e = exp(-abs(x));
    return select(e, 1.0, x >= 0.0) / (1.0 + e) - t;
}
