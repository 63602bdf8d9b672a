// Gradient of a convolution with respect to its weight: rows are out-channels, columns are places (c, i, j) of a patch.
//
//   dw[o, c, i, j] = Σ_{n, p} Σ_q dy[n, o, p, q] · x[n, c, p·stride + i·dilation − padding, q·stride + j·dilation − padding]
//
// outer are the image rows (n, p), the depth is Q; dy comes packed. The rows are split over z: slice s of dw holds the sum
// over its own per_slice rows, and column_sums adds the slices in order.
// The holes of gemm_8x8.wgsl; sizes in conv2d.wgsl. CPU twin: src/ops/conv2d/cpu.rs::backward_weight

@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> dw: array<f32>;

struct Columns {
    first: u32,            // the first of eight places
    channel0: vec4<u32>,   // where the channel starts in an image of x
    channel1: vec4<u32>,
    i0: vec4<u32>,         // i·dilation
    i1: vec4<u32>,
    j0: vec4<u32>,         // j·dilation − padding; wraps around
    j1: vec4<u32>,
}

struct Window {
    b0: vec4<f32>,
    b1: vec4<f32>,
    base0: vec4<u32>,  // where the image rows start in x
    base1: vec4<u32>,
    width0: vec4<u32>, // columns of x that exist: 0 if the row does not
    width1: vec4<u32>,
    x0: vec4<u32>,     // columns of x at q
    x1: vec4<u32>,
}

fn extent() -> Extent {
    let first = slice * params.per_slice;
    let end = min(first + params.per_slice, params.n * params.p);
    return Extent(params.o, (patch_size() + 7u) / 8u, params.q, 1u, first, end, 0u, params.q, 0u, 1u);
}

fn patch_size() -> u32 {
    return params.c * params.kh * params.kw;
}

fn columns_at(group: u32) -> Columns {
    let window = params.kh * params.kw;
    // Surplus places compute a copy of the last one.
    let last = vec4<u32>(patch_size() - 1u);
    let n0 = min(8u * group + vec4<u32>(0u, 1u, 2u, 3u), last);
    let n1 = min(8u * group + vec4<u32>(4u, 5u, 6u, 7u), last);
    let c0 = n0 / window;
    let c1 = n1 / window;
    let i0 = (n0 - c0 * window) / params.kw;
    let i1 = (n1 - c1 * window) / params.kw;
    let j0 = (n0 - c0 * window - i0 * params.kw) * params.dilation - params.padding;
    let j1 = (n1 - c1 * window - i1 * params.kw) * params.dilation - params.padding;
    let pixels = params.h * params.w;
    return Columns(8u * group, c0 * pixels, c1 * pixels, i0 * params.dilation, i1 * params.dilation, j0, j1);
}

fn start(columns: Columns, image_row: u32, inner: u32) -> Window {
    let image = image_row / params.p;
    // Above the image the sum wraps around to a large number.
    let row = (image_row - image * params.p) * params.stride - params.padding;
    let y0 = columns.i0 + row;
    let y1 = columns.i1 + row;
    let height = vec4<u32>(params.h);
    let none = vec4<u32>(0u);
    let inside0 = y0 < height;
    let inside1 = y1 < height;
    let base = image * (params.c * params.h * params.w);
    return Window(
        vec4<f32>(0.0),
        vec4<f32>(0.0),
        base + columns.channel0 + select(none, y0, inside0) * params.w,
        base + columns.channel1 + select(none, y1, inside1) * params.w,
        select(none, vec4<u32>(params.w), inside0),
        select(none, vec4<u32>(params.w), inside1),
        columns.j0,
        columns.j1,
    );
}

fn advance(window: ptr<function, Window>, d: u32) {
    let x0 = (*window).x0 + d * params.stride;
    let x1 = (*window).x1 + d * params.stride;
    (*window).b0 = pixels((*window).base0, x0, (*window).width0);
    (*window).b1 = pixels((*window).base1, x1, (*window).width1);
}

fn pixels(base: vec4<u32>, column: vec4<u32>, width: vec4<u32>) -> vec4<f32> {
    let at = base + min(column, vec4<u32>(params.w - 1u));
    return select(vec4<f32>(0.0), vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]), column < width);
}

fn store(m: u32, columns: Columns, c0: vec4<f32>, c1: vec4<f32>) {
    let n = patch_size() - columns.first;
    let at = (slice * params.o + m) * patch_size() + columns.first;
    dw[at] = c0.x;
    if n > 1u { dw[at + 1u] = c0.y; }
    if n > 2u { dw[at + 2u] = c0.z; }
    if n > 3u { dw[at + 3u] = c0.w; }
    if n > 4u { dw[at + 4u] = c1.x; }
    if n > 5u { dw[at + 5u] = c1.y; }
    if n > 6u { dw[at + 6u] = c1.z; }
    if n > 7u { dw[at + 7u] = c1.w; }
}
