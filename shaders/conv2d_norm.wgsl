// What leaves a convolution into which a batch norm with running statistics is folded, with the residual sum and the ReLU after it:
//
//   y = max((sum + bias) · scale + shift + residual, lowest),   scale = gamma / √(var + ε), shift = beta − mean · scale
//
// Shapes: bias, gamma, beta (O), running (2, O): means, then variances; residual and y (N, O, P, Q). This file stands in place of
// conv2d_bias.wgsl; conv2d_folded.wgsl or conv2d_folded_fours.wgsl add the residual. CPU twin: src/ops/conv2d/cpu.rs::forward

// The first binding behind those that the sum is computed from.
const FIRST_BINDING: u32 = 2u;

@group(0) @binding(FIRST_BINDING) var<storage, read> bias: array<f32>;
@group(0) @binding(FIRST_BINDING + 1u) var<storage, read> gamma: array<f32>;
@group(0) @binding(FIRST_BINDING + 2u) var<storage, read> beta: array<f32>;
@group(0) @binding(FIRST_BINDING + 3u) var<storage, read> running: array<f32>;

// Factor and summand of an out-channel.
fn affine(o: u32) -> vec2<f32> {
    let scale = gamma[o] / sqrt(running[params.o + o] + params.epsilon);
    var mean = running[o];
    if params.has_bias != 0u {
        mean -= bias[o];
    }
    return vec2<f32>(scale, beta[o] - mean * scale);
}

// The larger of x and params.lowest; what is not a number stays, found by its bits as in the prelude's is_nan.
fn at_least_lowest(x: vec4<f32>) -> vec4<f32> {
    let nans = (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
    return select(max(x, vec4<f32>(params.lowest)), x, nans);
}
