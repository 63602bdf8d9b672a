// y = 1 / (1 + exp(−x)); dy/dx = y·(1 − y). The holes of map.wgsl; CPU twin: src/ops/unary.rs

fn f(x: vec4<f32>) -> vec4<f32> {
    // e is only raised to numbers ≤ 0, so nothing overflows.
    let e = exp(-abs(x));
    return select(e, vec4<f32>(1.0), x >= vec4<f32>(0.0)) / (1.0 + e);
}

fn df(x: vec4<f32>, y: vec4<f32>) -> vec4<f32> {
    return y * (1.0 - y);
}
