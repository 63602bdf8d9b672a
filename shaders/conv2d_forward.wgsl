// Convolution as an implicit matrix product: rows are out-channels, columns are output pixels of the whole batch.
//
//   sum[n, o, p, q] = Σ_{c, i} Σ_j w[o, c, i, j] · x[n, c, p·stride + i·dilation − padding, q·stride + j·dilation − padding]
//
// outer is c, inner is i, the depth is KW; the weight comes packed. Eight columns are eight neighbouring pixels of one row, so for
// stride and dilation 1 the next j needs one new pixel: the window slides. The holes of gemm_8x8.wgsl; sizes in conv2d.wgsl,
// what becomes of the sum in conv2d_bias.wgsl or conv2d_folded.wgsl.
// CPU twin: src/ops/conv2d/cpu.rs::forward

// True for stride and dilation 1: the window slides.
override SLIDING: bool = true;

@group(0) @binding(1) var<storage, read> x: array<f32>;

struct Columns {
    image: u32, // n
    row: u32,   // p
    q: u32,     // the first of eight output columns
}

struct Window {
    b0: vec4<f32>,
    b1: vec4<f32>,
    base: u32,  // where the image row starts in x
    x: u32,     // column of x of the first pixel for j = 0; wraps around left of the image
    width: u32, // columns of x that exist: 0 if the row does not
}

fn extent() -> Extent {
    let groups = params.n * params.p * ((params.q + 7u) / 8u);
    let window = params.kh * params.kw;
    return Extent(params.o, groups, params.kw, params.kh, 0u, params.c, 0u, window, params.kw, 1u);
}

fn columns_at(group: u32) -> Columns {
    let per_row = (params.q + 7u) / 8u;
    let row = group / per_row;
    let image = row / params.p;
    return Columns(image, row - image * params.p, 8u * (group - row * per_row));
}

fn start(columns: Columns, c: u32, i: u32) -> Window {
    // Above the image the difference wraps around to a large number.
    let row = columns.row * params.stride + i * params.dilation - params.padding;
    let width = select(0u, params.w, row < params.h);
    let base = ((columns.image * params.c + c) * params.h + min(row, params.h - 1u)) * params.w;
    let first = columns.q * params.stride - params.padding;
    var window = Window(vec4<f32>(0.0), vec4<f32>(0.0), base, first, width);
    if SLIDING {
        // Seven of the eight pixels; the first step brings the eighth.
        window.b0 = vec4<f32>(0.0, pixel(window, first), pixel(window, first + 1u), pixel(window, first + 2u));
        window.b1 = four(window, first + 3u, 1u);
    }
    return window;
}

fn advance(window: ptr<function, Window>, d: u32) {
    if SLIDING {
        (*window).b0 = vec4<f32>((*window).b0.yzw, (*window).b1.x);
        (*window).b1 = vec4<f32>((*window).b1.yzw, pixel(*window, (*window).x + d + 7u));
    } else {
        let first = (*window).x + d * params.dilation;
        (*window).b0 = four(*window, first, params.stride);
        (*window).b1 = four(*window, first + 4u * params.stride, params.stride);
    }
}

fn pixel(window: Window, column: u32) -> f32 {
    return select(0.0, x[window.base + min(column, params.w - 1u)], column < window.width);
}

fn four(window: Window, column: u32, step: u32) -> vec4<f32> {
    return vec4<f32>(
        pixel(window, column),
        pixel(window, column + step),
        pixel(window, column + 2u * step),
        pixel(window, column + 3u * step),
    );
}

fn store(m: u32, columns: Columns, c0: vec4<f32>, c1: vec4<f32>) {
    let by = affine(m);
    let at = ((columns.image * params.o + m) * params.p + columns.row) * params.q + columns.q;
    let n = params.q - columns.q;
    put(at, fma(c0.x, by.x, by.y));
    if n > 1u { put(at + 1u, fma(c0.y, by.x, by.y)); }
    if n > 2u { put(at + 2u, fma(c0.z, by.x, by.y)); }
    if n > 3u { put(at + 3u, fma(c0.w, by.x, by.y)); }
    if n > 4u { put(at + 4u, fma(c1.x, by.x, by.y)); }
    if n > 5u { put(at + 5u, fma(c1.y, by.x, by.y)); }
    if n > 6u { put(at + 6u, fma(c1.z, by.x, by.y)); }
    if n > 7u { put(at + 7u, fma(c1.w, by.x, by.y)); }
}
