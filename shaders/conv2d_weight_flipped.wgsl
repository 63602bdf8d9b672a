// A for the input gradient of a convolution with stride 1, for gemm_a_fours.wgsl. That gradient is a convolution of dy with the weight
// turned by half a turn and its channels exchanged: to these files x is dy, c counts out-channels and o in-channels.
//
//   A[m, (c, i, j)] = w[c, m, KW − 1 − i, KW − 1 − j]          w (C, O, KW, KW)
//
// CPU twin: src/ops/conv2d/cpu.rs::backward_input

@group(0) @binding(0) var<storage, read> weight: array<f32>;

fn load_a(m: u32, k: u32) -> vec4<f32> {
    let channels = min(vec4<u32>(m) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.o - 1u));
    let c = k / (KW * KW);
    let at = (c * params.o + channels) * (KW * KW) + (KW * KW - 1u - (k - c * KW * KW));
    return vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}
