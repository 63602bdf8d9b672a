// y = max(x, 0); dy/dx = 1 for y > 0, else 0 (also at the kink). What is not a number stays so, with a derivative of 1, as in
// PyTorch: a divergence must reach the loss. The holes of map.wgsl; CPU twin: src/ops/unary.rs

fn f(x: vec4<f32>) -> vec4<f32> {
    return select(max(x, vec4<f32>(0.0)), x, are_nan(x));
}

fn df(x: vec4<f32>, y: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(1.0), (y > vec4<f32>(0.0)) | are_nan(y));
}
