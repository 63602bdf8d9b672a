// A for the input gradient of a convolution with stride 1, for gemm_a_fours.wgsl. That gradient is a convolution of dy with the weight
// turned by half a turn and its channels exchanged: to these files x is dy, c counts out-channels and o in-channels.
//
//   A[m, (c, i, j)] = w[c, m, KH − 1 − i, KW − 1 − j]          w (C, O, KH, KW)
//
// CPU twin: src/ops/conv2d/cpu.rs::backward_input

@group(0) @binding(0) var<storage, read> weight: array<f32>;

fn load_a(m: u32, k: u32) -> vec4<f32> {
    let channels = min(vec4<u32>(m) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.o - 1u));
    let window = params.kh * params.kw;
    let c = divide(k, window);
    let at = (c * params.o + channels) * window + (window - 1u - (k - c * window));
    return vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}
