// channel_sum.wgsl on hardware: y[c] = Σ_n Σ_i x[n, c, i], in one or two stages of fixed order.
//
// Shapes: x (n_outer, n_channels, n_inner), y (n_channels).
//   planes:   partials[s, c] = the sum of slice s, per_slice whole images, of channel c; a workgroup owns one of them,
//             `lanes` of its invocations lie side by side on a plane
//   columns:  y[c] = Σ_n x[n, c] where n_inner = 1: of a matrix, or of those partials. A workgroup owns `lanes` columns; each
//             of its strips of `lanes` invocations adds every n_strips-th row, and halving joins the strips
// CPU twin: src/ops/channel_sum.rs

struct Params {
    n_outer: u32,
    n_channels: u32,     // for columns: loads per row
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

@group(0) @binding(1) var<storage, read_write> y: array<Values>;

var<workgroup> strips: array<Values, WG>;

@compute @workgroup_size(WG)
fn columns(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let group = wid.y * nwg.x + wid.x;
    let n_strips = WG / params.lanes;
    let strip = lid.x / params.lanes;
    let c = group * params.lanes + lid.x % params.lanes;
    var total = Values(0.0);
    if c < params.n_channels {
        var n = strip;
        for (; n + 3u * n_strips < params.n_outer; n += 4u * n_strips) {
            let at = n * params.n_channels + c;
            let further = n_strips * params.n_channels;
            total += (x[at] + x[at + further]) + (x[at + 2u * further] + x[at + 3u * further]);
        }
        for (; n < params.n_outer; n += n_strips) {
            total += x[n * params.n_channels + c];
        }
    }
    strips[lid.x] = total;
    workgroupBarrier();
    for (var half = n_strips / 2u; half > 0u; half /= 2u) {
        if strip < half {
            strips[lid.x] += strips[lid.x + half * params.lanes];
        }
        workgroupBarrier();
    }
    if strip == 0u && c < params.n_channels {
        y[c] = strips[lid.x];
    }
}
