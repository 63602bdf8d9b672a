// The forward pass of batch_norm.wgsl on hardware, where planes are rows of `Values`, four loads under way at a time:
//   statistics  partials[c, s] = count, mean and Σ (x − mean)² of slice s
//   forward     joins partials, then y[n, c, i] = max(x[n, c, i] · scale + shift + residual, lowest)
//   whole       both in one dispatch, for channels short enough for one workgroup
// CPU twin: src/ops/batch_norm/cpu.rs::forward

@group(0) @binding(0) var<storage, read> x: array<Values>;
@group(0) @binding(1) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> residual: array<Values>;
@group(0) @binding(6) var<storage, read_write> y: array<Values>;

fn squares(v: Values, mean: f32) -> Values {
    let d = v - Values(mean);
    return d * d;
}

fn moments_of(slice: Slice) -> Moments {
    let step = WG / lanes();
    let further = step * params.c * params.inner;
    var seen = Moments(0.0, 0.0, 0.0);
    for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
        var n = slice.first + slice.lane / lanes();
        var at = plane(n, slice.c) + i;
        for (; n + 3u * step < slice.end; n += 4u * step) {
            let p = x[at];
            let q = x[at + further];
            let r = x[at + 2u * further];
            let s = x[at + 3u * further];
            let mean = sum_of((p + q) + (r + s)) / f32(4u * N_VALUES);
            let m2 = sum_of((squares(p, mean) + squares(q, mean)) + (squares(r, mean) + squares(s, mean)));
            seen = join(seen, Moments(f32(4u * N_VALUES), mean, m2));
            at += 4u * further;
        }
        for (; n < slice.end; n += step) {
            let mean = sum_of(x[at]) / f32(N_VALUES);
            seen = join(seen, Moments(f32(N_VALUES), mean, sum_of(squares(x[at], mean))));
            at += further;
        }
    }
    return join_all(slice.lane, seen, value(x[plane(slice.first, slice.c)], 0u));
}

// A pixel of a residual of another shape.
fn subsampled(n: u32, channel: u32, pixel: u32) -> f32 {
    let row = pixel / params.width;
    let column = pixel - row * params.width;
    let image_row = (n * params.residual_c + channel) * params.residual_h + row * params.residual_stride;
    let at = image_row * params.residual_w + column * params.residual_stride;
    return value(residual[at / N_VALUES], at % N_VALUES);
}

fn residual_at(n: u32, c: u32, i: u32, at: u32) -> Values {
    var added = Values(0.0);
    if params.residual_kind == 1u {
        added = residual[at];
    } else if params.residual_kind == 2u {
        // Below the first channel the difference wraps around to a large number.
        let channel = c - params.residual_first;
        if channel < params.residual_c {
            let pixel = i * N_VALUES;
            let last = params.inner * N_VALUES - 1u;
            added = first_of(
                subsampled(n, channel, pixel),
                subsampled(n, channel, min(pixel + 1u, last)),
                subsampled(n, channel, min(pixel + 2u, last)),
                subsampled(n, channel, min(pixel + 3u, last)),
            );
        }
    }
    return added;
}

fn normalized(channel: vec4<f32>, n: u32, c: u32, i: u32, at: u32) -> Values {
    let sum = fma(x[at], Values(channel.x), Values(channel.y)) + residual_at(n, c, i, at);
    return select(max(sum, Values(params.lowest)), sum, nans(sum));
}

fn write_slice(slice: Slice, channel: vec4<f32>) {
    let step = WG / lanes();
    let further = step * params.c * params.inner;
    for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
        var n = slice.first + slice.lane / lanes();
        var at = plane(n, slice.c) + i;
        for (; n + 3u * step < slice.end; n += 4u * step) {
            let p = normalized(channel, n, slice.c, i, at);
            let q = normalized(channel, n + step, slice.c, i, at + further);
            let r = normalized(channel, n + 2u * step, slice.c, i, at + 2u * further);
            let s = normalized(channel, n + 3u * step, slice.c, i, at + 3u * further);
            y[at] = p;
            y[at + further] = q;
            y[at + 2u * further] = r;
            y[at + 3u * further] = s;
            at += 4u * further;
        }
        for (; n < slice.end; n += step) {
            y[at] = normalized(channel, n, slice.c, i, at);
            at += further;
        }
    }
}

@compute @workgroup_size(WG)
fn statistics(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    let total = moments_of(slice);
    if slice.lane == 0u {
        partials[partial_at(slice.c, wid.y)] = vec4<f32>(total.count, total.mean, total.m2, 0.0);
    }
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    var of_batch = Moments(1.0, 0.0, 0.0);
    if params.batch == 1u {
        of_batch = join_partials(slice.lane, slice.c);
    }
    write_slice(slice, affine(slice.c, of_batch, wid.y == 0u && slice.lane == 0u));
}

@compute @workgroup_size(WG)
fn whole(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    let of_batch = moments_of(slice);
    write_slice(slice, affine(slice.c, of_batch, slice.lane == 0u));
}
