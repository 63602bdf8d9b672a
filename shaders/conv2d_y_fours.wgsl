// conv2d_y.wgsl where image rows lie in whole vec4s. CPU twin: none, it moves numbers for src/ops/conv2d/cpu.rs

@group(0) @binding(FIRST_BINDING + 1u) var<storage, read_write> y: array<vec4<f32>>;

fn put_four(at: u32, n: u32, value: vec4<f32>) {
    if params.adds != 0u {
        y[at / 4u] += value;
    } else {
        y[at / 4u] = value;
    }
}
