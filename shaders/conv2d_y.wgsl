// Where a convolution puts its result, or adds it as an input gradient. CPU twin: none, it moves numbers for src/ops/conv2d/cpu.rs

@group(0) @binding(FIRST_BINDING + 1u) var<storage, read_write> y: array<f32>;

fn put(at: u32, value: f32) {
    if params.adds != 0u {
        y[at] += value;
    } else {
        y[at] = value;
    }
}
