// Where a convolution with a batch norm puts its result (conv2d_norm.wgsl): residual and ReLU. CPU twin: src/ops/conv2d/cpu.rs::forward

@group(0) @binding(FIRST_BINDING + 4u) var<storage, read> residual: array<f32>;
@group(0) @binding(FIRST_BINDING + 5u) var<storage, read_write> y: array<f32>;

fn put(at: u32, value: f32) {
    var sum = value;
    if params.has_residual != 0u {
        sum += residual[at];
    }
    y[at] = at_least_lowest(vec4<f32>(sum)).x;
}
