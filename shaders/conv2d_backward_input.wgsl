// Gradient of a convolution with respect to its input: rows are in-channels, columns are input pixels of the batch.
//
//   dx[n, c, u, v] = Σ_{o, i} Σ_j w[o, c, i, j] · dy[n, o, p, q]   where p·stride = u + padding − i, q·stride = v + padding − j
//
// outer is o, inner is i, the depth is KW; the weight comes packed. Eight columns are eight neighbouring pixels of one row, so for
// stride 1 the next j needs one new pixel: the window slides. With a larger stride, pixels that it does not divide add
// nothing. The holes of a gemm skeleton. CPU twin: src/ops/conv2d/cpu.rs::backward_input

struct Params {
    n: u32, c: u32, h: u32, w: u32,       // x (N, C, H, W)
    o: u32, kh: u32, kw: u32,             // weight (O, C, KH, KW)
    p: u32, q: u32,                       // y (N, O, P, Q)
    stride: u32,
    padding: u32,
}

// True for stride 1: the window slides.
override SLIDING: bool = true;

@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

struct Columns {
    image: u32, // n
    row: u32,   // u
    v: u32,     // the first of eight input columns
}

struct Window {
    b0: vec4<f32>,
    b1: vec4<f32>,
    base: u32,  // where the row starts in dy
    x: u32,     // v + padding of the first pixel
    width: u32, // columns of dy that exist: 0 if the row does not
}

fn extent() -> Extent {
    let groups = params.n * params.h * ((params.w + 7u) / 8u);
    return Extent(params.c, groups, params.kw, params.kh, 0u, params.o);
}

fn columns_at(group: u32) -> Columns {
    let per_row = (params.w + 7u) / 8u;
    let row = group / per_row;
    let image = row / params.h;
    return Columns(image, row - image * params.h, 8u * (group - row * per_row));
}

fn start(columns: Columns, o: u32, i: u32) -> Window {
    // Above the first output the difference wraps around to a large number.
    let at_y = columns.row + params.padding - i;
    var row = at_y;
    if !SLIDING { row = at_y / params.stride; }
    let exists = row < params.p && (SLIDING || row * params.stride == at_y);
    let base = ((columns.image * params.o + o) * params.p + min(row, params.p - 1u)) * params.q;
    let first = columns.v + params.padding;
    var window = Window(vec4<f32>(0.0), vec4<f32>(0.0), base, first, select(0u, params.q, exists));
    if SLIDING {
        // Seven of the eight pixels; the first step brings the eighth from the left.
        window.b0 = four(window, first + 1u);
        window.b1 = vec4<f32>(pixel(window, first + 5u), pixel(window, first + 6u), pixel(window, first + 7u), 0.0);
    }
    return window;
}

fn advance(window: ptr<function, Window>, d: u32) {
    let first = (*window).x - d;
    if SLIDING {
        (*window).b1 = vec4<f32>((*window).b0.w, (*window).b1.xyz);
        (*window).b0 = vec4<f32>(pixel(*window, first), (*window).b0.xyz);
    } else {
        (*window).b0 = four(*window, first);
        (*window).b1 = four(*window, first + 4u);
    }
}

// dy at q·stride = x, which wraps around left of the first output.
fn pixel(window: Window, x: u32) -> f32 {
    var column = x;
    if !SLIDING { column = x / params.stride; }
    let exists = column < window.width && (SLIDING || column * params.stride == x);
    return select(0.0, dy[window.base + min(column, params.q - 1u)], exists);
}

fn four(window: Window, x: u32) -> vec4<f32> {
    return vec4<f32>(pixel(window, x), pixel(window, x + 1u), pixel(window, x + 2u), pixel(window, x + 3u));
}

fn store(m: u32, columns: Columns, c0: vec4<f32>, c1: vec4<f32>) {
    let at = ((columns.image * params.c + m) * params.h + columns.row) * params.w + columns.v;
    let n = params.w - columns.v;
    dx[at] = c0.x;
    if n > 1u { dx[at + 1u] = c0.y; }
    if n > 2u { dx[at + 2u] = c0.z; }
    if n > 3u { dx[at + 3u] = c0.w; }
    if n > 4u { dx[at + 4u] = c1.x; }
    if n > 5u { dx[at + 5u] = c1.y; }
    if n > 6u { dx[at + 6u] = c1.z; }
    if n > 7u { dx[at + 7u] = c1.w; }
}
