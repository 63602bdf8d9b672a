// The backward pass of batch_norm.wgsl on hardware, where planes are rows of `Values`, four loads under way at a time.
// dz = dy where y > lowest, else 0.
//   reduce    partials[c, s] = Σ dz and Σ dz · (x − mean) of slice s
//   backward  joins partials: dbias = Σ dz, dweight = Σ dz · x̂,
//             dx = scale · (dz − (dbias + x̂ · dweight) / (N·I)), and scale · dz where mean and variance are running ones
//   whole     both in one dispatch, for channels short enough for one workgroup
// With a residual, whether y > lowest cannot be told from x: reduce_residual and whole_residual read y, and write dz, which is
// the residual's gradient; backward then reads it in place of dy. CPU twin: src/ops/batch_norm/cpu.rs::backward

@group(0) @binding(0) var<storage, read> dy: array<Values>;
@group(0) @binding(1) var<storage, read> x: array<Values>;
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dx: array<Values>;
@group(0) @binding(4) var<storage, read_write> dweight: array<f32>;
@group(0) @binding(5) var<storage, read_write> dbias: array<f32>;
@group(0) @binding(6) var<storage, read> joined: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> partials: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> y: array<Values>;
@group(0) @binding(5) var<storage, read_write> dz: array<Values>;
@group(0) @binding(6) var<storage, read> y_whole: array<Values>;
@group(0) @binding(7) var<storage, read_write> dz_whole: array<Values>;

// What of dy reaches the sum before the ReLU, which was z or is the result z.
fn passed(gradient: Values, z: Values) -> Values {
    return select(Values(0.0), gradient, (z > Values(params.lowest)) | nans(z));
}

// dy where the ReLU let x through.
fn gradient_at(channel: vec4<f32>, at: u32) -> Values {
    return passed(dy[at], fma(x[at], Values(channel.x), Values(channel.y)));
}

// The first place of an invocation in its slice, and how far apart the images are that it takes.
struct Walk {
    n: u32,
    at: u32,
    step: u32,
    further: u32,
}

fn walk(slice: Slice, i: u32) -> Walk {
    let step = WG / lanes();
    let n = slice.first + slice.lane / lanes();
    return Walk(n, plane(n, slice.c) + i, step, step * params.c * params.inner);
}

struct Sums {
    dz: Values,
    dz_x: Values,
}

fn add(sums: Sums, gradient: Values, x: Values, mean: f32) -> Sums {
    return Sums(sums.dz + gradient, fma(gradient, x - Values(mean), sums.dz_x));
}

fn total_of(lane: u32, sums: Sums) -> vec2<f32> {
    return add_up(lane, vec2<f32>(sum_of(sums.dz), sum_of(sums.dz_x)));
}

fn sums_of(slice: Slice, channel: vec4<f32>) -> vec2<f32> {
    var sums = Sums(Values(0.0), Values(0.0));
    for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
        var w = walk(slice, i);
        for (; w.n + 3u * w.step < slice.end; w.n += 4u * w.step) {
            let p = gradient_at(channel, w.at);
            let q = gradient_at(channel, w.at + w.further);
            let r = gradient_at(channel, w.at + 2u * w.further);
            let s = gradient_at(channel, w.at + 3u * w.further);
            sums = add(sums, p, x[w.at], channel.z);
            sums = add(sums, q, x[w.at + w.further], channel.z);
            sums = add(sums, r, x[w.at + 2u * w.further], channel.z);
            sums = add(sums, s, x[w.at + 3u * w.further], channel.z);
            w.at += 4u * w.further;
        }
        for (; w.n < slice.end; w.n += w.step) {
            sums = add(sums, gradient_at(channel, w.at), x[w.at], channel.z);
            w.at += w.further;
        }
    }
    return total_of(slice.lane, sums);
}

fn write_slice(slice: Slice, channel: vec4<f32>, total: vec2<f32>) {
    let line = along_and_rest(channel, total);
    for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
        var w = walk(slice, i);
        for (; w.n + 3u * w.step < slice.end; w.n += 4u * w.step) {
            let p = on_line(channel, line, gradient_at(channel, w.at), x[w.at]);
            let q = on_line(channel, line, gradient_at(channel, w.at + w.further), x[w.at + w.further]);
            let r = on_line(channel, line, gradient_at(channel, w.at + 2u * w.further), x[w.at + 2u * w.further]);
            let s = on_line(channel, line, gradient_at(channel, w.at + 3u * w.further), x[w.at + 3u * w.further]);
            dx[w.at] = p;
            dx[w.at + w.further] = q;
            dx[w.at + 2u * w.further] = r;
            dx[w.at + 3u * w.further] = s;
            w.at += 4u * w.further;
        }
        for (; w.n < slice.end; w.n += w.step) {
            dx[w.at] = on_line(channel, line, gradient_at(channel, w.at), x[w.at]);
            w.at += w.further;
        }
    }
}

fn on_line(channel: vec4<f32>, line: vec2<f32>, gradient: Values, x: Values) -> Values {
    return fma(gradient, Values(channel.x), fma(x, Values(line.x), Values(line.y)));
}

fn write_parameters(c: u32, channel: vec4<f32>, total: vec2<f32>) {
    dbias[c] = total.x;
    dweight[c] = total.y * channel.w;
}

@compute @workgroup_size(WG)
fn reduce(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    let total = sums_of(slice, table[slice.c]);
    if slice.lane == 0u {
        partials[partial_at(slice.c, wid.y)] = total;
    }
}

@compute @workgroup_size(WG)
fn reduce_residual(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    let mean = table[slice.c].z;
    var sums = Sums(Values(0.0), Values(0.0));
    for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
        var w = walk(slice, i);
        for (; w.n + w.step < slice.end; w.n += 2u * w.step) {
            let p = passed(dy[w.at], y[w.at]);
            let q = passed(dy[w.at + w.further], y[w.at + w.further]);
            sums = add(add(sums, p, x[w.at], mean), q, x[w.at + w.further], mean);
            dz[w.at] = p;
            dz[w.at + w.further] = q;
            w.at += 2u * w.further;
        }
        for (; w.n < slice.end; w.n += w.step) {
            let p = passed(dy[w.at], y[w.at]);
            sums = add(sums, p, x[w.at], mean);
            dz[w.at] = p;
            w.at += w.further;
        }
    }
    let total = total_of(slice.lane, sums);
    if slice.lane == 0u {
        partials[partial_at(slice.c, wid.y)] = total;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    let channel = table[slice.c];
    var sum = vec2<f32>(0.0);
    for (var s = slice.lane; s < params.n_slices; s += WG) {
        sum += joined[partial_at(slice.c, s)];
    }
    let total = add_up(slice.lane, sum);
    if wid.y == 0u && slice.lane == 0u {
        write_parameters(slice.c, channel, total);
    }
    write_slice(slice, channel, total);
}

@compute @workgroup_size(WG)
fn whole(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    let channel = table[slice.c];
    let total = sums_of(slice, channel);
    if slice.lane == 0u {
        write_parameters(slice.c, channel, total);
    }
    write_slice(slice, channel, total);
}

@compute @workgroup_size(WG)
fn whole_residual(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let slice = slice_of(wid, lid);
    let channel = table[slice.c];
    var sums = Sums(Values(0.0), Values(0.0));
    for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
        var w = walk(slice, i);
        for (; w.n + w.step < slice.end; w.n += 2u * w.step) {
            let p = passed(dy[w.at], y_whole[w.at]);
            let q = passed(dy[w.at + w.further], y_whole[w.at + w.further]);
            sums = add(add(sums, p, x[w.at], channel.z), q, x[w.at + w.further], channel.z);
            dz_whole[w.at] = p;
            dz_whole[w.at + w.further] = q;
            w.at += 2u * w.further;
        }
        for (; w.n < slice.end; w.n += w.step) {
            let p = passed(dy[w.at], y_whole[w.at]);
            sums = add(sums, p, x[w.at], channel.z);
            dz_whole[w.at] = p;
            w.at += w.further;
        }
    }
    let total = total_of(slice.lane, sums);
    if slice.lane == 0u {
        write_parameters(slice.c, channel, total);
    }
    let line = along_and_rest(channel, total);
    // Each invocation reads what it wrote itself.
    for (var i = slice.lane % lanes(); i < params.inner; i += lanes()) {
        var w = walk(slice, i);
        for (; w.n + w.step < slice.end; w.n += 2u * w.step) {
            let p = on_line(channel, line, dz_whole[w.at], x[w.at]);
            let q = on_line(channel, line, dz_whole[w.at + w.further], x[w.at + w.further]);
            dx[w.at] = p;
            dx[w.at + w.further] = q;
            w.at += 2u * w.further;
        }
        for (; w.n < slice.end; w.n += w.step) {
            dx[w.at] = on_line(channel, line, dz_whole[w.at], x[w.at]);
            w.at += w.further;
        }
    }
}
