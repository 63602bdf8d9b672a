// Mean and variance of batch_norm.wgsl: joining those of parts, and the line y = x · scale + shift that follows from them.
// Shared by the forward passes. A partial is (count, mean, Σ (x − mean)², unused) of one slice of one channel.
// CPU twin: src/ops/batch_norm/cpu.rs

@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
// The means of all channels, then their variances.
@group(0) @binding(3) var<storage, read_write> running: array<f32>;
@group(0) @binding(5) var<storage, read_write> table: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> joined: array<vec4<f32>>;

struct Moments {
    count: f32,
    mean: f32,
    m2: f32, // Σ (x − mean)²: a sum of squares, never below 0
}

// Of two parts together (Chan, Golub, LeVeque 1979).
fn join(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let share = b.count / max(count, 1.0);
    let d = b.mean - a.mean;
    return Moments(count, a.mean + d * share, a.m2 + b.m2 + d * d * a.count * share);
}

// Of what all invocations of a workgroup have. Differences to a pivot, a number of the mean's size, lose no digits.
fn join_all(lane: u32, own: Moments, pivot: f32) -> Moments {
    let sums = add_up(lane, vec2<f32>(own.count, own.count * (own.mean - pivot)));
    let mean = pivot + sums.y / sums.x;
    let d = own.mean - mean;
    let m2 = add_up(lane, vec2<f32>(own.m2 + own.count * d * d, 0.0)).x;
    return Moments(sums.x, mean, m2);
}

// Of a channel, from its partials: every invocation joins each WG-th of them in order, then the workgroup joins those.
fn join_partials(lane: u32, c: u32) -> Moments {
    var own = Moments(0.0, 0.0, 0.0);
    for (var s = lane; s < params.n_slices; s += WG) {
        let partial = joined[partial_at(c, s)];
        own = join(own, Moments(partial.x, partial.y, partial.z));
    }
    return join_all(lane, own, joined[partial_at(c, 0u)].y);
}

// The channel's row of the table. `writes` is true in one invocation per channel, which stores what there is one of.
fn affine(c: u32, of_batch: Moments, writes: bool) -> vec4<f32> {
    var mean = of_batch.mean;
    var variance = of_batch.m2 / of_batch.count;
    if params.batch == 0u {
        mean = running[c];
        variance = running[params.c + c];
    }
    let inverse = 1.0 / sqrt(variance + params.epsilon);
    let scale = weight[c] * inverse;
    let channel = vec4<f32>(scale, bias[c] - mean * scale, mean, inverse);
    if writes {
        table[c] = channel;
        if params.momentum > 0.0 {
            running[c] += params.momentum * (mean - running[c]);
            let unbiased = of_batch.m2 / max(of_batch.count - 1.0, 1.0);
            running[params.c + c] += params.momentum * (unbiased - running[params.c + c]);
        }
    }
    return channel;
}
