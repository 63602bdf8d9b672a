// y = ln x for x > 0; dy/dx = 1/x. The holes of map.wgsl; CPU twin: src/ops/unary.rs

fn f(x: vec4<f32>) -> vec4<f32> {
    return log(x);
}

fn df(x: vec4<f32>, y: vec4<f32>) -> vec4<f32> {
    return 1.0 / x;
}
