// Gradient of a convolution with respect to its input: rows are in-channels, columns are input pixels of the batch.
//
//   dx[n, c, u, v] = Σ_{i, j} Σ_o w[o, c, i, j] · dy[n, o, p, q]   where p·stride = u + padding − i, q·stride = v + padding − j
//
// Taps are the kernel positions (i, j), the depth is O; a tap adds nothing where stride does not divide.
// The holes of a gemm skeleton. CPU twin: src/ops/conv2d/cpu.rs::backward_input

struct Params {
    n: u32, c: u32, h: u32, w: u32,       // x (N, C, H, W)
    o: u32, kh: u32, kw: u32,             // weight (O, C, KH, KW)
    p: u32, q: u32,                       // y (N, O, P, Q)
    stride: u32,
    padding: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

struct Columns {
    image: vec4<u32>, // where the pixel's image starts in dy
    y: vec4<u32>,     // u + padding
    x: vec4<u32>,     // v + padding
}

struct Tap {
    base: vec4<u32>,
    inside: vec4<bool>,
}

fn extent() -> Extent {
    return Extent(params.c, params.n * params.h * params.w, params.o, 0u, params.kh * params.kw);
}

fn rows_at(m: vec4<u32>) -> vec4<u32> {
    return m * (params.kh * params.kw);
}

fn columns_at(n: vec4<u32>) -> Columns {
    let pixels = params.h * params.w;
    let image = n / pixels;
    let pixel = n - image * pixels;
    let row = pixel / params.w;
    let column = pixel - row * params.w;
    return Columns(image * (params.o * params.p * params.q), row + params.padding, column + params.padding);
}

fn tap_at(columns: Columns, tap: u32) -> Tap {
    let i = tap / params.kw;
    let j = tap - i * params.kw;
    // Left of and above the first output the difference wraps around to a large number.
    var at_y = columns.y - i;
    var at_x = columns.x - j;
    var inside = vec4<bool>(true);
    if params.stride > 1u {
        let row = at_y / params.stride;
        let column = at_x / params.stride;
        inside = (row * params.stride == at_y) & (column * params.stride == at_x);
        at_y = row;
        at_x = column;
    }
    inside = inside & (at_y < vec4<u32>(params.p)) & (at_x < vec4<u32>(params.q));
    return Tap(select(columns.image, columns.image + at_y * params.q + at_x, inside), inside);
}

fn load_a(rows: vec4<u32>, tap: u32, d: u32) -> vec4<f32> {
    let at = rows + (d * params.c * params.kh * params.kw + tap);
    return vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}

fn load_b(tap: Tap, d: u32) -> vec4<f32> {
    let at = tap.base + d * params.p * params.q;
    return select(vec4<f32>(0.0), vec4<f32>(dy[at.x], dy[at.y], dy[at.z], dy[at.w]), tap.inside);
}

fn store(m: u32, n: u32, value: vec4<f32>) {
    put(m, n, value.x);
    put(m, n + 1u, value.y);
    put(m, n + 2u, value.z);
    put(m, n + 3u, value.w);
}

fn put(m: u32, n: u32, value: f32) {
    let pixels = params.h * params.w;
    let image = n / pixels;
    if image < params.n {
        dx[(image * params.c + m) * pixels + n - image * pixels] = value;
    }
}
