// A of a convolution's forward pass for gemm_a_fours.wgsl: any patches of the weight (O, C·KH·KW).
// CPU twin: none, it moves numbers for src/ops/conv2d/cpu.rs

@group(0) @binding(0) var<storage, read> weight: array<f32>;

fn load_a(m: u32, k: u32) -> vec4<f32> {
    let out_channels = min(vec4<u32>(m) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.o - 1u));
    let at = out_channels * params.c * params.kh * params.kw + k;
    return vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}
