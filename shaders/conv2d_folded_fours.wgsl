// conv2d_folded.wgsl where image rows lie in whole vec4s. CPU twin: src/ops/conv2d/cpu.rs::forward

@group(0) @binding(FIRST_BINDING + 4u) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(FIRST_BINDING + 5u) var<storage, read_write> y: array<vec4<f32>>;

fn put_four(at: u32, n: u32, value: vec4<f32>) {
    var sum = value;
    if params.has_residual != 0u {
        sum += residual[at / 4u];
    }
    y[at / 4u] = at_least_lowest(sum);
}
