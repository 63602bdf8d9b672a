// Batch normalisation and what follows it: y = max(x̂ · weight + bias + residual, lowest), x̂ = (x − mean) / √(var + ε).
//
// Shapes: x, y (N, C, I) where I = H·W; weight, bias, mean, var (C). lowest is 0 with a ReLU and −FLT_MAX without.
// table (C) holds scale, shift, mean, inverse deviation of each channel: scale = weight / √(var + ε), shift = bias − mean · scale.
//
// The batch is cut into slices of whole images. A workgroup owns one channel of one slice; its invocations go over the
// pixels side by side. What is summed over a slice is a partial; whoever needs the sum over the batch joins the partials of
// its channel first, in order, so that no dispatch of its own is spent on it. The workgroups of slice 0 write what there is
// one of per channel. This file is shared by batch_norm_forward.wgsl and batch_norm_backward.wgsl.
// CPU twin: src/ops/batch_norm/cpu.rs

struct Params {
    n: u32, c: u32, inner: u32,
    n_slices: u32,
    per_slice: u32,       // images
    lanes: u32,           // a power of two, at least inner
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
}
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> sums: array<vec2<f32>, WG>;

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

// The sum over the invocations of the workgroup.
fn add_up(lane: u32, sum: vec2<f32>) -> vec2<f32> {
    sums[lane] = sum;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            sums[lane] += sums[lane + half];
        }
        workgroupBarrier();
    }
    let total = sums[0];
    workgroupBarrier();
    return total;
}
