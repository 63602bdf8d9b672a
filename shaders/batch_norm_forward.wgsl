// The forward pass of batch_norm.wgsl, in two dispatches:
//   statistics  partials[s, c] = mean and Σ (x − mean)² of slice s
//   forward     y[n, c, i] = max(x[n, c, i] · scale + shift + residual, lowest)
// CPU twin: src/ops/batch_norm/cpu.rs::forward

// 0: none; 1: of y's own shape; 2: with fewer channels or a larger image.
override RESIDUAL: u32 = 0u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<vec2<f32>>;

@compute @workgroup_size(WG)
fn statistics(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    // Differences to a number of the right size lose no digits.
    let pivot = x[plane(slice.first, slice.c)];
    var sum = vec2<f32>(0.0);
    let step = WG / lanes();
    for (var n = slice.first + slice.lane / lanes(); n < slice.end; n += step) {
        let start = plane(n, slice.c);
        for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
            let d = x[start + i] - pivot;
            sum += vec2<f32>(d, d * d);
        }
    }
    let total = add_up(slice.lane, sum);
    if slice.lane == 0u {
        let count = f32((slice.end - slice.first) * params.inner);
        partials[wid.y * params.c + slice.c] = vec2<f32>(pivot + total.x / count, total.y - total.x * total.x / count);
    }
}

@group(0) @binding(1) var<storage, read> joined: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
// The means of all channels, then their variances.
@group(0) @binding(4) var<storage, read_write> running: array<f32>;
@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> table: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;

fn images_of(s: u32) -> f32 {
    return f32(min(params.per_slice, params.n - s * params.per_slice));
}

// Mean and Σ (x − mean)² of the batch (Chan, Golub, LeVeque 1979).
fn join(lane: u32, c: u32) -> vec2<f32> {
    var sum = vec2<f32>(0.0);
    for (var s = lane; s < params.n_slices; s += WG) {
        sum.x += joined[s * params.c + c].x * images_of(s);
    }
    let mean = add_up(lane, sum).x / f32(params.n);
    sum = vec2<f32>(0.0);
    for (var s = lane; s < params.n_slices; s += WG) {
        let partial = joined[s * params.c + c];
        let d = partial.x - mean;
        sum.x += partial.y + d * d * images_of(s) * f32(params.inner);
    }
    return vec2<f32>(mean, add_up(lane, sum).x);
}

fn residual_at(n: u32, c: u32, i: u32, at: u32) -> f32 {
    if RESIDUAL == 0u {
        return 0.0;
    }
    if RESIDUAL == 1u {
        return residual[at];
    }
    // Below the first channel the difference wraps around to a large number.
    let channel = c - params.residual_first;
    let row = i / params.width;
    let column = i - row * params.width;
    let image_row = (n * params.residual_c + min(channel, params.residual_c - 1u)) * params.residual_h + row * params.residual_stride;
    let value = residual[image_row * params.residual_w + column * params.residual_stride];
    return select(0.0, value, channel < params.residual_c);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    let c = slice.c;
    let count = f32(params.n) * f32(params.inner);
    let of_batch = join(slice.lane, c);
    var mean = of_batch.x;
    var variance = of_batch.y / count;
    if params.batch == 0u {
        mean = running[c];
        variance = running[params.c + c];
    }
    let inverse = 1.0 / sqrt(variance + params.epsilon);
    let scale = weight[c] * inverse;
    let shift = bias[c] - mean * scale;
    if wid.y == 0u && slice.lane == 0u {
        table[c] = vec4<f32>(scale, shift, mean, inverse);
        if params.momentum > 0.0 {
            running[c] += params.momentum * (mean - running[c]);
            let unbiased = of_batch.y / max(count - 1.0, 1.0);
            running[params.c + c] += params.momentum * (unbiased - running[params.c + c]);
        }
    }
    let step = WG / lanes();
    for (var n = slice.first + slice.lane / lanes(); n < slice.end; n += step) {
        let start = plane(n, c);
        for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
            let value = fma(x[start + i], scale, shift) + residual_at(n, c, i, start + i);
            y[start + i] = max(value, params.lowest);
        }
    }
}
