// Convolution as an implicit matrix product: rows are out-channels, columns are output pixels of the whole batch.
//
//   y[n, o, p, q] = b[o] + Σ_{i, j} Σ_c w[o, c, i, j] · x[n, c, p·stride + i − padding, q·stride + j − padding]
//
// Taps are the kernel positions (i, j), the depth is C. The holes of a gemm skeleton; one invocation owns a tile of
// out-channels and neighbouring pixels. CPU twin: src/ops/conv2d/cpu.rs::forward

struct Params {
    n: u32, c: u32, h: u32, w: u32,       // x (N, C, H, W)
    o: u32, kh: u32, kw: u32,             // weight (O, C, KH, KW)
    p: u32, q: u32,                       // y (N, O, P, Q)
    stride: u32,
    padding: u32,
    has_bias: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

struct Columns {
    image: vec4<u32>, // where the pixel's image starts in x
    y: vec4<u32>,     // top left corner of the patch, in the padded image
    x: vec4<u32>,
}

struct Tap {
    base: vec4<u32>,
    inside: vec4<bool>,
}

fn extent() -> Extent {
    return Extent(params.o, params.n * params.p * params.q, params.c, 0u, params.kh * params.kw);
}

fn rows_at(m: vec4<u32>) -> vec4<u32> {
    return m * (params.c * params.kh * params.kw);
}

fn columns_at(n: vec4<u32>) -> Columns {
    let pixels = params.p * params.q;
    let image = n / pixels;
    let pixel = n - image * pixels;
    let row = pixel / params.q;
    let column = pixel - row * params.q;
    return Columns(image * (params.c * params.h * params.w), row * params.stride, column * params.stride);
}

fn tap_at(columns: Columns, tap: u32) -> Tap {
    let i = tap / params.kw;
    let j = tap - i * params.kw;
    // Left of and above the image the difference wraps around to a large number.
    let at_y = columns.y + i - params.padding;
    let at_x = columns.x + j - params.padding;
    let inside = (at_y < vec4<u32>(params.h)) & (at_x < vec4<u32>(params.w));
    return Tap(select(columns.image, columns.image + at_y * params.w + at_x, inside), inside);
}

fn load_a(rows: vec4<u32>, tap: u32, d: u32) -> vec4<f32> {
    let at = rows + (d * params.kh * params.kw + tap);
    return vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}

fn load_b(tap: Tap, d: u32) -> vec4<f32> {
    let at = tap.base + d * params.h * params.w;
    return select(vec4<f32>(0.0), vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]), tap.inside);
}

fn store(m: u32, n: u32, value: vec4<f32>) {
    var b = 0.0;
    if params.has_bias != 0u { b = bias[m]; }
    put(m, n, value.x + b);
    put(m, n + 1u, value.y + b);
    put(m, n + 2u, value.z + b);
    put(m, n + 3u, value.w + b);
}

fn put(m: u32, n: u32, value: f32) {
    let pixels = params.p * params.q;
    let image = n / pixels;
    if image < params.n {
        y[(image * params.o + m) * pixels + n - image * pixels] = value;
    }
}
