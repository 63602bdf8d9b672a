// dy of conv2d_backward_weight_window.wgsl pixel by pixel. CPU twin: none, it moves numbers for src/ops/conv2d/cpu.rs

@group(0) @binding(0) var<storage, read> dy: array<f32>;

fn read_dy(at: u32, n: u32) -> vec4<f32> {
    var four = vec4<f32>(0.0);
    if n > 0u { four.x = dy[at]; }
    if n > 1u { four.y = dy[at + 1u]; }
    if n > 2u { four.z = dy[at + 2u]; }
    if n > 3u { four.w = dy[at + 3u]; }
    return four;
}
