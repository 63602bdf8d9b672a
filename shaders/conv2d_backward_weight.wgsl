// Gradient of a convolution with respect to its weight: rows are out-channels, columns are places (c, i, j) of a patch.
//
//   dw[o, c, i, j] = Σ_{n, p} Σ_q dy[n, o, p, q] · x[n, c, p·stride + i − padding, q·stride + j − padding]
//
// Taps are the image rows (n, p), the depth is Q. The taps are split over z: slice s of dw holds the sum over its own
// rows_per_slice taps, and channel_sum adds the slices in order. The holes of a gemm skeleton.
// CPU twin: src/ops/conv2d/cpu.rs::backward_weight

struct Params {
    n: u32, c: u32, h: u32, w: u32,       // x (N, C, H, W)
    o: u32, kh: u32, kw: u32,             // weight (O, C, KH, KW)
    p: u32, q: u32,                       // y (N, O, P, Q)
    stride: u32,
    padding: u32,
    rows_per_slice: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> dw: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

struct Columns {
    channel: vec4<u32>, // where the channel starts in an image of x
    i: vec4<u32>,
    j: vec4<u32>,
}

struct Tap {
    base: vec4<u32>,  // where the row starts in x
    x: vec4<u32>,     // column of x for q = 0
    inside: vec4<bool>,
}

fn extent() -> Extent {
    let first = slice * params.rows_per_slice;
    let end = min(first + params.rows_per_slice, params.n * params.p);
    return Extent(params.o, params.c * params.kh * params.kw, params.q, first, end);
}

fn rows_at(m: vec4<u32>) -> vec4<u32> {
    return m * (params.p * params.q);
}

fn columns_at(n: vec4<u32>) -> Columns {
    let window = params.kh * params.kw;
    let c = n / window;
    let place = n - c * window;
    let i = place / params.kw;
    return Columns(c * (params.h * params.w), i, place - i * params.kw);
}

fn tap_at(columns: Columns, tap: u32) -> Tap {
    let image = tap / params.p;
    let row = tap - image * params.p;
    let at_y = columns.i + (row * params.stride - params.padding);
    let inside = at_y < vec4<u32>(params.h);
    let base = columns.channel + image * (params.c * params.h * params.w);
    return Tap(select(base, base + at_y * params.w, inside), columns.j - params.padding, inside);
}

fn load_a(rows: vec4<u32>, tap: u32, d: u32) -> vec4<f32> {
    let image = tap / params.p;
    let at = rows + (image * (params.o * params.p * params.q) + (tap - image * params.p) * params.q + d);
    return vec4<f32>(dy[at.x], dy[at.y], dy[at.z], dy[at.w]);
}

fn load_b(tap: Tap, d: u32) -> vec4<f32> {
    let at_x = tap.x + d * params.stride;
    let inside = tap.inside & (at_x < vec4<u32>(params.w));
    let at = tap.base + select(vec4<u32>(0u), at_x, inside);
    return select(vec4<f32>(0.0), vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]), inside);
}

fn store(m: u32, n: u32, value: vec4<f32>) {
    put(m, n, value.x);
    put(m, n + 1u, value.y);
    put(m, n + 2u, value.z);
    put(m, n + 3u, value.w);
}

fn put(m: u32, n: u32, value: f32) {
    let patch_size = params.c * params.kh * params.kw;
    if n < patch_size {
        dw[(slice * params.o + m) * patch_size + n] = value;
    }
}
