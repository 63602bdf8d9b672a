// What leaves a convolution: y = sum + bias. A part of its forward pass; conv2d_folded.wgsl may stand in its place.

@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// Factor and summand of an out-channel.
fn affine(o: u32) -> vec2<f32> {
    if params.has_bias == 0u {
        return vec2<f32>(1.0, 0.0);
    }
    return vec2<f32>(1.0, bias[o]);
}

fn put(at: u32, value: f32) {
    y[at] = value;
}
