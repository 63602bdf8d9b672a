// y = √x for x ≥ 0; dy/dx = 1/(2y), and 0 at y = 0. The holes of map.wgsl; CPU twin: src/ops/unary.rs

fn f(x: vec4<f32>) -> vec4<f32> {
    return sqrt(x);
}

fn df(x: vec4<f32>, y: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(0.0), 0.5 / max(y, vec4<f32>(1e-30)), y > vec4<f32>(0.0));
}
