// channel_sum.wgsl on hardware: partials[s, c] = Σ_n Σ_i x[n, c, i] over slice s, per_slice whole images. column_sums.wgsl adds the
// slices up.
//
// Shapes: x (n_outer, n_channels, n_inner), partials (n_slices, n_channels). A workgroup owns one channel of one slice, `lanes` of its
// invocations lie side by side on a plane. CPU twin: src/ops/channel_sum.rs

struct Params {
    n_outer: u32,
    n_channels: u32,
    n_inner: u32,        // loads per plane
    per_slice: u32,      // images
    lanes: u32,          // a power of two
}

@group(0) @binding(0) var<storage, read> x: array<Values>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn planes(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let c = wid.x;
    let first = wid.y * params.per_slice;
    let end = min(first + params.per_slice, params.n_outer);
    let image = params.n_channels * params.n_inner;
    let step = WG / params.lanes;
    var total = Values(0.0);
    for (var i = lid.x % params.lanes; i < params.n_inner; i += params.lanes) {
        let column = c * params.n_inner + i;
        var n = first + lid.x / params.lanes;
        // Four loads under way at a time.
        for (; n + 3u * step < end; n += 4u * step) {
            let at = n * image + column;
            let further = step * image;
            total += (x[at] + x[at + further]) + (x[at + 2u * further] + x[at + 3u * further]);
        }
        for (; n < end; n += step) {
            total += x[n * image + column];
        }
    }
    let sum = add_up(lid.x, vec2<f32>(sum_of(total), 0.0));
    if lid.x == 0u {
        partials[wid.y * params.n_channels + c] = sum.x;
    }
}
