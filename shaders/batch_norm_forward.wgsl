// The forward pass of batch_norm.wgsl on software adapters, in two dispatches:
//   statistics  partials[c, s] = count, mean and Σ (x − mean)² of slice s
//   forward     y[n, c, i] = max(x[n, c, i] · scale + shift + residual, lowest)
// CPU twin: src/ops/batch_norm/cpu.rs::forward

// As params.residual_kind; software adapters would run all branches of that.
override RESIDUAL: u32 = 0u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<vec4<f32>>;

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
        // Where the pivot is far from the rest, rounding could make the difference negative.
        let m2 = max(total.y - total.x * total.x / count, 0.0);
        partials[partial_at(slice.c, wid.y)] = vec4<f32>(count, pivot + total.x / count, m2, 0.0);
    }
}

@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

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
    var of_batch = Moments(1.0, 0.0, 0.0);
    if params.batch == 1u {
        of_batch = join_partials(slice.lane, c);
    }
    let channel = affine(c, of_batch, wid.y == 0u && slice.lane == 0u);
    let step = WG / lanes();
    for (var n = slice.first + slice.lane / lanes(); n < slice.end; n += step) {
        let start = plane(n, c);
        for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
            let value = fma(x[start + i], channel.x, channel.y) + residual_at(n, c, i, start + i);
            y[start + i] = select(max(value, params.lowest), value, is_nan(value));
        }
    }
}
