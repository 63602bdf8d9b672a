// dy of conv2d_backward_weight_window.wgsl where its image rows lie in whole vec4s. CPU twin: none, it moves numbers for
// src/ops/conv2d/cpu.rs

@group(0) @binding(0) var<storage, read> dy: array<vec4<f32>>;

fn read_dy(at: u32, n: u32) -> vec4<f32> {
    if n > 0u {
        return dy[at / 4u];
    }
    return vec4<f32>(0.0);
}
