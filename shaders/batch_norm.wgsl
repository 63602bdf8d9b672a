// Batch normalisation and what follows it: y = max(x̂ · weight + bias + residual, lowest), x̂ = (x − mean) / √(var + ε).
//
// Shapes: x, y (N, C, I) where I = H·W; weight, bias, mean, var (C). lowest is 0 with a ReLU and −FLT_MAX without.
// table (C) holds scale, shift, mean, inverse deviation of each channel: scale = weight / √(var + ε), shift = bias − mean · scale.
//
// The batch is cut into slices of whole images. A workgroup owns one channel of one slice; its invocations go over the
// pixels side by side. What is summed over a slice is a partial; whoever needs the sum over the batch joins the partials of
// its channel first, in order, so that no dispatch of its own is spent on it. The workgroups of slice 0 write what there is
// one of per channel. This file is shared by batch_norm_forward.wgsl, batch_norm_backward.wgsl (software adapters) and
// batch_norm_forward_wide.wgsl, batch_norm_backward_wide.wgsl (hardware). CPU twin: src/ops/batch_norm/cpu.rs

struct Params {
    n: u32, c: u32,
    inner: u32,           // loads per plane: its pixels, or groups of four of them
    n_slices: u32,
    per_slice: u32,       // images
    lanes: u32,           // a power of two, at least inner where that is less than a workgroup
    batch: u32,           // 1: statistics of the batch; 0: running ones
    epsilon: f32,
    momentum: f32,        // weight of the batch in the running statistics; 0 leaves them alone
    lowest: f32,
    // A residual may have fewer channels and a larger image (option A of He et al. 2016): every stride-th pixel of it is
    // added, to the channels from residual_first on.
    width: u32,           // columns of y
    residual_stride: u32,
    residual_c: u32, residual_h: u32, residual_w: u32,
    residual_first: u32,
    residual_kind: u32,   // 0: none; 1: of y's own shape; 2: with fewer channels or a larger image
    count: f32,           // N·H·W
}
@group(1) @binding(0) var<uniform> params: Params;

struct Slice {
    c: u32,
    first: u32, // image
    end: u32,
    lane: u32,
}

fn slice_of(wid: vec3<u32>, lid: vec3<u32>) -> Slice {
    let first = wid.y * params.per_slice;
    return Slice(wid.x, first, min(first + params.per_slice, params.n), lid.x);
}

// Where the pixels of an image's channel start.
fn plane(image: u32, c: u32) -> u32 {
    return (image * params.c + c) * params.inner;
}

// Invocations side by side on a plane; the others take the next images.
fn lanes() -> u32 {
    return min(params.lanes, WG);
}

// Where a partial lies: those of a channel side by side.
fn partial_at(c: u32, s: u32) -> u32 {
    return c * params.n_slices + s;
}

// dx = scale · dz + along · x + rest, from a channel of the table, Σ dz and Σ dz · (x − mean).
fn along_and_rest(channel: vec4<f32>, sums: vec2<f32>) -> vec2<f32> {
    let per_pixel = f32(params.batch) / params.count;
    let along = -channel.x * channel.w * channel.w * sums.y * per_pixel;
    return vec2<f32>(along, -channel.x * sums.x * per_pixel - along * channel.z);
}
