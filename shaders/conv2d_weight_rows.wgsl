// A of a convolution's forward pass for gemm_a_along_k.wgsl: patches of the weight (O, C·KH·KW) in whole vec4s.
// CPU twin: none, it moves numbers for src/ops/conv2d/cpu.rs

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;

fn a_row(m: u32) -> u32 {
    return min(m, params.o - 1u) * (params.c * params.kh * params.kw / 4u);
}
